//! The written forms of a secret key. Pure.
//!
//! ```text
//! 64 hexadecimal digits                       the file of a key that nothing but its owner's account protects
//! a line with the public key, then PKCS#8     a file with a passphrase; `openssl pkey` reads it, too
//! numbered lines with check digits            a sheet of paper, to be typed again
//! ```

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use pkcs8::{
    EncryptedPrivateKeyInfo, LineEnding, ObjectIdentifier, PrivateKeyInfo, SecretDocument, pkcs5::pbes2,
    spki::AlgorithmIdentifierRef,
};
use schemas::{
    id::{Digest, PublicKey},
    seal::SecretKey,
};
use zeroize::Zeroizing;

use super::passphrase::Passphrase;

/// id-Ed25519 (RFC 8410, section 3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// What stands before the seed in a private key: an OCTET STRING of 32 bytes (RFC 8410, section 7).
const OCTET_STRING: [u8; 2] = [0x04, 0x20];
const SEED_BYTES: usize = 32;
/// The most that openssl opens without being told to use more memory: 16 MiB.
const SCRYPT_LOG_N: u8 = 14;
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
const PLAIN: &str = "PRIVATE KEY";
const PEM: &str = "-----BEGIN ";
const PUBLIC: &str = "public key: ";
/// Bytes of the seed on one line of paper, and hexadecimal digits that check them.
const PAPER_BYTES: usize = 4;
const CHECK_DIGITS: usize = 4;

/// The file of a key, as hexadecimal digits or encrypted.
pub(super) fn write(key: &SecretKey, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>> {
    match passphrase {
        None => Ok(Zeroizing::new(format!("{}\n", *hex(&key.seed())))),
        Some(passphrase) => encrypted(key, passphrase),
    }
}

/// The public half, where it can be seen without a passphrase.
pub(super) fn public(text: &str) -> Option<PublicKey> {
    if !is_encrypted(text) {
        return read(text, None).ok().map(|key| key.public());
    }
    text.lines().find_map(|line| line.strip_prefix(PUBLIC))?.parse().ok()
}

/// Whether a passphrase is needed.
pub(super) fn is_encrypted(text: &str) -> bool {
    text.lines().any(|line| line.trim_end() == format!("{PEM}{ENCRYPTED}-----"))
}

/// The key of any of the forms. Text of the file is in no error.
pub(super) fn read(text: &str, passphrase: Option<&Passphrase>) -> Result<SecretKey> {
    if text.contains(PEM) {
        return pem(text, passphrase);
    }
    if text.lines().filter(|line| !line.trim().is_empty()).count() > 1 {
        return from_paper(text);
    }
    // A seed and a digest are both 32 bytes and have the same hexadecimal form.
    match text.trim().parse::<Digest>() {
        Ok(seed) => Ok(SecretKey::from_seed(&seed.0)),
        Err(_) => bail!("it is not 64 hexadecimal digits"),
    }
}

/// The lines of a sheet of paper: each is checked by itself, so that a slip is found where it is.
pub(super) fn paper(key: &SecretKey) -> Zeroizing<String> {
    let mut lines = Zeroizing::new(String::new());
    let seed = key.seed();
    for (number, bytes) in (1..).zip(seed.chunks_exact(PAPER_BYTES)) {
        let digits = Zeroizing::new(bytes.iter().fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        }));
        let (left, right) = digits.split_at(PAPER_BYTES);
        let _ = writeln!(lines, "{number}: {left} {right}  {}", check(number, &digits));
    }
    lines
}

fn from_paper(text: &str) -> Result<SecretKey> {
    let mut digits = Zeroizing::new(String::new());
    let mut expected = 1;
    for line in text.lines() {
        let Some((number, rest)) = line.split_once(':') else { continue };
        let Ok(number) = number.trim().parse::<u32>() else { continue };
        ensure!(number == expected, "line {expected} is missing");
        expected += 1;
        let rest: Zeroizing<String> =
            Zeroizing::new(rest.split_whitespace().collect::<String>().to_lowercase());
        let is_whole = rest.is_ascii() && rest.len() == 2 * PAPER_BYTES + CHECK_DIGITS;
        let (seed, digits_of_check) = if is_whole { rest.split_at(2 * PAPER_BYTES) } else { ("", "") };
        ensure!(is_whole && check(number, seed) == digits_of_check, "line {number} has a slip");
        digits.push_str(seed);
    }
    let seed = digits.parse::<Digest>().ok().context("it is neither a key file nor a sheet of paper")?;
    Ok(SecretKey::from_seed(&seed.0))
}

fn check(number: u32, digits: &str) -> String {
    let mut check = Digest::of(format!("deploybus paper {number} {digits}").as_bytes()).to_string();
    check.truncate(CHECK_DIGITS);
    check
}

fn encrypted(key: &SecretKey, passphrase: &Passphrase) -> Result<Zeroizing<String>> {
    let mut private = Zeroizing::new([0; OCTET_STRING.len() + SEED_BYTES]);
    private[..OCTET_STRING.len()].copy_from_slice(&OCTET_STRING);
    private[OCTET_STRING.len()..].copy_from_slice(&*key.seed());
    let algorithm = AlgorithmIdentifierRef { oid: ED25519, parameters: None };
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    for bytes in [&mut salt, &mut iv] {
        getrandom::fill(bytes).context("cannot get random numbers from the system")?;
    }
    let failed = |error: pkcs8::Error| anyhow::anyhow!("cannot encrypt the key: {error}");
    let cost = pkcs8::pkcs5::scrypt::Params::new(SCRYPT_LOG_N, 8, 1, 32)
        .map_err(|error| anyhow::anyhow!("cannot encrypt the key: {error}"))?;
    let how = pbes2::Parameters::scrypt_aes256cbc(cost, &salt, &iv).map_err(|error| failed(error.into()))?;
    let document = PrivateKeyInfo::new(algorithm, &*private)
        .encrypt_with_params(how, passphrase.text().as_bytes())
        .map_err(failed)?;
    let pem = document.to_pem(ENCRYPTED, LineEnding::LF).map_err(|error| failed(error.into()))?;
    Ok(Zeroizing::new(format!("{PUBLIC}{}\n{}", key.public(), *pem)))
}

fn pem(text: &str, passphrase: Option<&Passphrase>) -> Result<SecretKey> {
    let unreadable = "it is not a private key in PEM";
    let (label, document) = SecretDocument::from_pem(text).ok().context(unreadable)?;
    let document = match (label, passphrase) {
        (PLAIN, _) => document,
        (ENCRYPTED, Some(passphrase)) => {
            let info = EncryptedPrivateKeyInfo::try_from(document.as_bytes()).ok().context(unreadable)?;
            info.decrypt(passphrase.text().as_bytes()).ok().context("the passphrase is wrong")?
        }
        (ENCRYPTED, None) => bail!("it has a passphrase"),
        _ => bail!(unreadable),
    };
    let info: PrivateKeyInfo<'_> = document.decode_msg().ok().context(unreadable)?;
    let seed = info.private_key.strip_prefix(&OCTET_STRING).filter(|_| info.algorithm.oid == ED25519);
    let seed = seed.and_then(|seed| seed.try_into().ok()).context("it is not an ed25519 key")?;
    Ok(SecretKey::from_seed(seed))
}

fn hex(bytes: &[u8; SEED_BYTES]) -> Zeroizing<String> {
    Zeroizing::new(Digest(*bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        SecretKey::from_seed(&[7; 32])
    }

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.to_owned())
    }

    #[test]
    fn every_form_gives_the_key_back() {
        let secret = passphrase("correct horse battery");
        let plain = write(&key(), None).unwrap();
        let encrypted = write(&key(), Some(&secret)).unwrap();
        let paper = paper(&key());
        for (text, passphrase) in [(&plain, None), (&encrypted, Some(&secret)), (&paper, None)] {
            assert_eq!(read(text, passphrase).unwrap().public(), key().public());
            assert_eq!(public(text), Some(key().public()));
        }
        assert!(is_encrypted(&encrypted) && !is_encrypted(&plain) && !is_encrypted(&paper));
        assert!(!encrypted.contains(plain.trim()));
    }

    #[test]
    fn an_encrypted_file_opens_with_its_passphrase_alone() {
        let text = write(&key(), Some(&passphrase("correct horse battery"))).unwrap();
        let error = |passphrase: Option<&Passphrase>| read(&text, passphrase).unwrap_err().to_string();
        assert_eq!(error(Some(&passphrase("wrong"))), "the passphrase is wrong");
        assert_eq!(error(None), "it has a passphrase");
    }

    #[test]
    fn paper_is_typed_as_people_type_and_slips_are_found_where_they_are() {
        let sheet = paper(&key());
        assert_eq!(sheet.lines().next().unwrap(), format!("1: 0707 0707  {}", check(1, "07070707")));
        let typed = format!("ROOT key\n\n{}", sheet.to_uppercase().replace(' ', "  "));
        assert_eq!(read(&typed, None).unwrap().public(), key().public());
        let error = |text: &str| read(text, None).unwrap_err().to_string();
        assert_eq!(error(&sheet.replacen("2: 0707", "2: 0770", 1)), "line 2 has a slip");
        assert_eq!(error(&sheet.replacen("3:", "4:", 1)), "line 3 is missing");
        let (first, last) = sheet.trim_end().rsplit_once('\n').unwrap();
        assert_eq!(error(first), "it is neither a key file nor a sheet of paper");
        assert_eq!(error(&format!("{first}\n{}ä", last.trim_end())), "line 8 has a slip");
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_quoted() {
        for text in
            ["5ec2e7", "-----BEGIN PRIVATE KEY-----\n5ec2e7\n-----END PRIVATE KEY-----\n", "5ec2e7\n5ec2e7"]
        {
            let error = read(text, None).unwrap_err().to_string();
            assert!(!error.contains("5ec2e7"), "{error}");
        }
    }
}
