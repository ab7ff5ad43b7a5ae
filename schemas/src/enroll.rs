//! How a node that made its own key asks to be let into a fleet, and how people see that it is this one.

use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{
    codec::{self, CodecError},
    id::{Digest, FleetId, NodeId, PublicKey, Seq},
    seal::{Document, Head, Own, SecretKey},
};

/// What goes before the values that a token proves.
const DOMAIN: &[u8] = b"deploybus/1 enroll\0";
/// Words that people compare: 96 bits, more than anybody can try while the other side waits.
const WORDS: usize = 6;

/// A node asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What every document has in common.
    pub head: Head,
    /// What it would like to be called.
    pub node: NodeId,
    /// The key that it made; it has signed the request, too.
    pub key: PublicKey,
    /// SHA-256 of the token by which it will log in to the relay.
    pub login: Digest,
    /// The number of the record that it has and in which it wants another `login`: it counts once, since the next record has
    /// another number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<Seq>,
    /// Proves that it knows the one-time token of an invitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Digest>,
}

impl Document for Request {
    const TYPE: &'static str = "enroll";
    const MAX_BYTES: usize = 4 * 1024;

    fn head(&self) -> &Head {
        &self.head
    }
}

impl Own for Request {
    fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// HMAC-SHA256 of all that is asked for, with the token of an invitation.
fn proof(token: &str, fleet: &FleetId, node: &NodeId, key: &PublicKey, login: &Digest) -> Digest {
    Digest(mac(token, fleet, node, key, login).finalize().into_bytes().into())
}

/// Whether the request was made by who knows `token`; in constant time.
pub fn is_proven(request: &Request, token: &str) -> bool {
    let Request { head, node, key, login, proof, .. } = request;
    proof.is_some_and(|proof| mac(token, &head.fleet, node, key, login).verify_slice(&proof.0).is_ok())
}

fn mac(token: &str, fleet: &FleetId, node: &NodeId, key: &PublicKey, login: &Digest) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(token.as_bytes()).expect("HMAC takes keys of any length");
    for part in [DOMAIN, fleet.as_str().as_bytes(), b"\0", node.as_str().as_bytes(), b"\0", &key.0, &login.0]
    {
        mac.update(part);
    }
    mac
}

/// Six words that both sides show, made of the root that the node believes and the key that it made: when they are the same,
/// nobody in between has put in another of either. As proquints (Wilkerson, arXiv:0901.4016): 16 bits are a word that can be
/// read out.
pub fn words(root: &Digest, key: &PublicKey) -> String {
    let digest = Digest::of(&[&root.0[..], &key.0].concat());
    let words: Vec<String> = digest.0.chunks(2).take(WORDS).map(|pair| word(pair[0], pair[1])).collect();
    words.join(" ")
}

fn word(high: u8, low: u8) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    let bits = u16::from_be_bytes([high, low]);
    let consonant = |shift: u32| char::from(CONSONANTS[usize::from(bits >> shift & 15)]);
    let vowel = |shift: u32| char::from(VOWELS[usize::from(bits >> shift & 3)]);
    [consonant(12), vowel(10), consonant(6), vowel(4), consonant(0)].iter().collect()
}

/// What the broker answers a node that asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The signed record of the node that has this key, as the bus has it; empty until there is one.
    #[serde(with = "serde_bytes")]
    pub record: Vec<u8>,
    /// The chain of root documents, as the bus has it.
    #[serde(with = "serde_bytes")]
    pub trust: Vec<u8>,
}

impl Welcome {
    /// Most bytes of a welcome: a record and a chain.
    pub const MAX_BYTES: usize = 96 * 1024;

    /// Reads a welcome; what is in it is to be verified.
    ///
    /// # Errors
    /// When the bytes are too many or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, Self::MAX_BYTES)
    }

    /// The welcome as it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

/// A request of the node that has `key`.
pub fn request(head: Head, node: NodeId, key: &SecretKey, login: Digest, token: Option<&str>) -> Request {
    let public = key.public();
    let proof = token.map(|token| proof(token, &head.fleet, &node, &public, &login));
    Request { head, node, key: public, login, renews: None, proof }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{seal::Signed, time::UnixTime};

    fn asked(token: Option<&str>) -> (Request, SecretKey) {
        let key = SecretKey::from_seed(&[7; 32]);
        let head = Head::new("home".parse().unwrap(), UnixTime(1));
        (request(head, "pi-1".parse().unwrap(), &key, Digest::of(b"login"), token), key)
    }

    #[test]
    fn a_request_is_signed_by_the_key_that_it_names() {
        let (request, key) = asked(None);
        let fleet = "home".parse().unwrap();
        assert_eq!(*Signed::seal(&request, std::slice::from_ref(&key)).verify_own(&fleet).unwrap(), request);
        let other = SecretKey::from_seed(&[8; 32]);
        assert!(Signed::seal(&request, &[other]).verify_own(&fleet).is_err());
        assert!(Signed::seal(&request, &[key]).verify_own(&"other".parse().unwrap()).is_err());
    }

    #[test]
    fn a_token_proves_this_request_and_no_other() {
        let (request, _) = asked(Some("token"));
        assert!(is_proven(&request, "token") && !is_proven(&request, "guess"));
        let key = SecretKey::from_seed(&[8; 32]).public();
        assert!(!is_proven(&Request { key, ..request.clone() }, "token"));
        assert!(!is_proven(&Request { login: Digest::of(b"x"), ..request.clone() }, "token"));
        assert!(!is_proven(&Request { node: "pi-2".parse().unwrap(), ..request }, "token"));
        assert!(!is_proven(&asked(None).0, "token"));
    }

    #[test]
    fn words_can_be_read_out_and_change_with_either_side() {
        // The example of the paper: 127.0.0.1.
        assert_eq!([word(127, 0), word(0, 1)], ["lusab", "babad"]);
        let (root, key) = (Digest::of(b"root"), PublicKey([1; 32]));
        let said = words(&root, &key);
        assert_eq!(said.split(' ').count(), WORDS);
        assert!(said != words(&Digest::of(b"other"), &key) && said != words(&root, &PublicKey([2; 32])));
    }
}
