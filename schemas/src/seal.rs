//! The signed envelope. What came from outside is [`Signed`]; only `verify` makes it [`Verified`].
//!
//! Signed are the bytes `"deploybus/1" 00 <type> 00 u64be(len p) p`: with type and length inside, no document can pass
//! for another and no tail can be added. The bytes that were sent are what is verified; nothing is decoded before
//! that and nothing is encoded again for it.

use std::{collections::BTreeSet, fmt, marker::PhantomData, ops::Deref};

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::{
    codec::{self, CodecError},
    id::{Digest, FleetId, KeyId, PublicKey, Signature},
    reason::Reason,
    root::{Role, Trust},
    time::UnixTime,
};

/// The document major that this version writes and reads.
pub const SPEC: u32 = 1;
/// First bytes of everything that is signed.
const DOMAIN: &[u8] = b"deploybus/1";
/// Room for key ids, signatures and CBOR heads around a document.
const ENVELOPE_OVERHEAD_BYTES: usize = 4 * 1024;
/// More signatures than any threshold needs; bounds the work that a hostile envelope can ask for.
pub(crate) const MAX_SIGNATURES: usize = 16;

/// What every document has in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Document major; a newer one than [`SPEC`] is refused.
    pub spec: u32,
    /// The fleet it is for.
    pub fleet: FleetId,
    /// When it was signed; also the floor of the clock of nodes that have none.
    pub issued_at: UnixTime,
    /// Names of fields that a reader must know to be allowed to act on the document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

impl Head {
    /// The head of a document that is signed now.
    pub fn new(fleet: FleetId, issued_at: UnixTime) -> Self {
        Self { spec: SPEC, fleet, issued_at, crit: Vec::new() }
    }
}

/// A kind of document that can be signed.
pub trait Document: Serialize + DeserializeOwned {
    /// Goes into the signed bytes, so that no document passes for another.
    const TYPE: &'static str;
    /// Most bytes of the encoded document.
    const MAX_BYTES: usize;

    /// What every document has in common.
    fn head(&self) -> &Head;
}

/// A document that one of the fleet's roles signs.
pub trait RoleDocument: Document {
    /// Whose signatures it needs.
    const ROLE: Role;
}

/// A document that names the key which signs it.
pub trait Own: Document {
    /// That key.
    fn key(&self) -> &PublicKey;
}

/// Why a signed document is not believed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No envelope or no such document in it.
    #[error("{0} is unreadable")]
    Malformed(&'static str, #[source] CodecError),
    /// Too few valid signatures.
    #[error("{document} has {valid} of {threshold} valid signatures")]
    Signatures {
        /// Which kind of document.
        document: &'static str,
        /// Keys of the role whose signature is right.
        valid: usize,
        /// Keys that the role asks for.
        threshold: usize,
    },
    /// A key of the role is one of the few that sign anything.
    #[error("key {0} is weak")]
    WeakKey(KeyId),
    /// Signed for another fleet.
    #[error("{document} is for fleet {fleet}")]
    WrongFleet {
        /// Which kind of document.
        document: &'static str,
        /// Whose it is.
        fleet: FleetId,
    },
    /// Written by a newer version.
    #[error("{document} has version {spec}, this program reads up to {SPEC}")]
    SpecTooNew {
        /// Which kind of document.
        document: &'static str,
        /// Its version.
        spec: u32,
    },
    /// A field that must be understood is not.
    #[error("{document} needs a reader that knows `{field}`")]
    UnknownCritical {
        /// Which kind of document.
        document: &'static str,
        /// The field.
        field: String,
    },
}

impl SealError {
    /// The code that reports carry.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Malformed(_, CodecError::TooLarge { .. }) => Reason::TooLarge,
            Self::Malformed(..) => Reason::Malformed,
            Self::Signatures { valid: 0, .. } => Reason::BadSignature,
            Self::Signatures { .. } => Reason::TooFewSignatures,
            Self::WeakKey(_) => Reason::WeakKey,
            Self::WrongFleet { .. } => Reason::WrongFleet,
            Self::SpecTooNew { .. } => Reason::SpecTooNew,
            Self::UnknownCritical { .. } => Reason::UnknownCritical,
        }
    }
}

/// Keys of which so many must have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<PublicKey>,
    threshold: usize,
}

impl KeySet {
    /// `threshold` of `keys`; a threshold of 0 counts as 1, and a key that is listed twice counts once.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>, threshold: usize) -> Self {
        let keys: BTreeSet<_> = keys.into_iter().collect();
        Self { keys: keys.into_iter().collect(), threshold: threshold.max(1) }
    }

    /// The keys, each once.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How many of them must have signed.
    pub fn threshold(&self) -> usize {
        self.threshold
    }
}

/// A secret key; its bytes are wiped when it is dropped.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key that `seed` stands for; 32 random bytes for a new key.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// What [`Self::from_seed`] takes.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public().id())
    }
}

/// `{ p: bytes, s: [[key id, signature], …] }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Envelope {
    p: serde_bytes::ByteBuf,
    s: Vec<(KeyId, Signature)>,
}

/// A document of kind `T` that nobody has verified yet. It gives nothing but `verify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    envelope: Envelope,
    kind: PhantomData<fn() -> T>,
}

/// A document that can be shown and nothing else.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Unverified<T>(T);

/// A document whose signatures, fleet and version were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    document: T,
    digest: Digest,
}

impl<T> Verified<T> {
    /// SHA-256 of the document's bytes: how other documents name it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The document by itself.
    pub fn into_inner(self) -> T {
        self.document
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.document
    }
}

impl<T: Document> Signed<T> {
    /// Most bytes of an envelope of this kind.
    pub const MAX_BYTES: usize = T::MAX_BYTES + ENVELOPE_OVERHEAD_BYTES;

    /// Signs `document` with all of `keys`.
    pub fn seal(document: &T, keys: &[SecretKey]) -> Self {
        let p = serde_bytes::ByteBuf::from(codec::encode(document));
        let mut signed = Self { envelope: Envelope { p, s: Vec::new() }, kind: PhantomData };
        signed.sign(keys);
        signed
    }

    /// Adds the signatures of `keys` under the same bytes: the document and its digest stay what they are. A key that
    /// signed before signs anew.
    pub fn sign(&mut self, keys: &[SecretKey]) {
        let message = signed_bytes(T::TYPE, &self.envelope.p);
        for key in keys {
            let id = key.public().id();
            self.envelope.s.retain(|(signer, _)| *signer != id);
            self.envelope.s.push((id, Signature(key.0.sign(&message).to_bytes())));
        }
    }

    /// Forgets the signatures of all keys but those of `keep`: the room of an envelope is bounded.
    pub fn retain_signatures(&mut self, keep: impl Fn(KeyId) -> bool) {
        self.envelope.s.retain(|(signer, _)| keep(*signer));
    }

    /// Which of `keys` have signed: what they signed is checked.
    pub fn signers<'a>(&self, keys: &'a KeySet) -> Vec<&'a PublicKey> {
        let has_signed = |key: &&PublicKey| self.check_signatures(&KeySet::new([**key], 1)).is_ok();
        keys.keys.iter().filter(has_signed).collect()
    }

    /// Reads an envelope; what is in it stays closed until it is verified.
    ///
    /// # Errors
    /// When the bytes are too many or no envelope.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let envelope = codec::decode(bytes, Self::MAX_BYTES).map_err(|e| SealError::Malformed(T::TYPE, e))?;
        Ok(Self { envelope, kind: PhantomData })
    }

    /// The envelope as it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&self.envelope)
    }

    /// SHA-256 of the document's bytes: how other documents name it.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.envelope.p)
    }

    /// Verifies a document that a node signs by its key alone.
    ///
    /// # Errors
    /// When the signature, the fleet or the version is wrong.
    pub fn verify_by(&self, key: &PublicKey, fleet: &FleetId) -> Result<Verified<T>, SealError> {
        self.verify_keys(&KeySet::new([*key], 1), fleet)
    }

    /// Verifies a document that any one of several keys may sign.
    ///
    /// # Errors
    /// When none has, or the fleet or the version is wrong.
    pub(crate) fn verify_any<'a>(
        &self,
        keys: impl Iterator<Item = &'a PublicKey>,
        fleet: &FleetId,
    ) -> Result<Verified<T>, SealError> {
        self.verify_keys(&KeySet::new(keys.copied(), 1), fleet)
    }

    /// Reads without verifying, for people who look at messages.
    ///
    /// # Errors
    /// When the document is unreadable.
    pub fn peek(&self) -> Result<Unverified<T>, SealError> {
        self.open().map(Unverified)
    }

    /// Verifies the signatures of `keys`, then opens the document.
    pub(crate) fn verify_keys(&self, keys: &KeySet, fleet: &FleetId) -> Result<Verified<T>, SealError> {
        self.check_signatures(keys)?;
        let document = self.open()?;
        if document.head().fleet != *fleet {
            return Err(SealError::WrongFleet { document: T::TYPE, fleet: document.head().fleet.clone() });
        }
        Ok(Verified { document, digest: self.digest() })
    }

    /// Each key counts once toward the threshold.
    pub(crate) fn check_signatures(&self, keys: &KeySet) -> Result<(), SealError> {
        if self.envelope.p.len() > T::MAX_BYTES {
            let (len, limit) = (self.envelope.p.len(), T::MAX_BYTES);
            return Err(SealError::Malformed(T::TYPE, CodecError::TooLarge { len, limit }));
        }
        let message = signed_bytes(T::TYPE, &self.envelope.p);
        let mut valid = BTreeSet::new();
        for (id, signature) in self.envelope.s.iter().take(MAX_SIGNATURES) {
            let Some(key) = keys.keys.iter().find(|key| key.id() == *id) else { continue };
            let verifying = verifying_key(key)?;
            let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
            if verifying.verify_strict(&message, &signature).is_ok() {
                valid.insert(*key);
            }
        }
        let (valid, threshold) = (valid.len(), keys.threshold);
        if valid < threshold {
            return Err(SealError::Signatures { document: T::TYPE, valid, threshold });
        }
        Ok(())
    }

    /// Decodes the document, oldest questions first: a newer version may have another shape.
    pub(crate) fn open(&self) -> Result<T, SealError> {
        #[derive(Deserialize)]
        struct Peek {
            head: Head,
        }
        let malformed = |e| SealError::Malformed(T::TYPE, e);
        let Peek { head } = codec::decode(&self.envelope.p, T::MAX_BYTES).map_err(malformed)?;
        if head.spec > SPEC {
            return Err(SealError::SpecTooNew { document: T::TYPE, spec: head.spec });
        }
        // This version knows no critical field.
        if let Some(field) = head.crit.into_iter().next() {
            return Err(SealError::UnknownCritical { document: T::TYPE, field });
        }
        codec::decode(&self.envelope.p, T::MAX_BYTES).map_err(malformed)
    }
}

impl<T: RoleDocument> Signed<T> {
    /// Verifies a document against the keys of its role.
    ///
    /// # Errors
    /// When signatures, fleet or version are wrong.
    pub fn verify(&self, trust: &Trust) -> Result<Verified<T>, SealError> {
        self.verify_keys(trust.keys(T::ROLE), trust.fleet())
    }
}

impl<T: Own> Signed<T> {
    /// Verifies it by the key that it names.
    ///
    /// # Errors
    /// When it is unreadable, or not signed by its own key, or for another fleet.
    pub fn verify_own(&self, fleet: &FleetId) -> Result<Verified<T>, SealError> {
        self.verify_by(self.open()?.key(), fleet)
    }
}

impl<T> Serialize for Signed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.envelope.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Signed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { envelope: Envelope::deserialize(deserializer)?, kind: PhantomData })
    }
}

/// The key as a point of the curve, unless it is none or one of the few that sign anything.
pub(crate) fn verifying_key(key: &PublicKey) -> Result<VerifyingKey, SealError> {
    let weak = || SealError::WeakKey(key.id());
    let verifying = VerifyingKey::from_bytes(&key.0).map_err(|_| weak())?;
    if verifying.is_weak() { Err(weak()) } else { Ok(verifying) }
}

fn signed_bytes(kind: &str, p: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DOMAIN.len() + kind.len() + 10 + p.len());
    bytes.extend_from_slice(DOMAIN);
    bytes.push(0);
    bytes.extend_from_slice(kind.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&(p.len() as u64).to_be_bytes());
    bytes.extend_from_slice(p);
    bytes
}
