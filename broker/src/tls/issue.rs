//! The certificate that the broker makes for itself, signed by the issuer that its fleet's CA made for it.
//!
//! Nothing of it lies on the disk and nobody has to think of it: whoever believes the CA believes the next one too.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use schemas::time::UnixTime;
use x509_cert::{Certificate, der::Decode};

use super::name::common_name;

/// How long such a certificate counts: long enough for a broker that is off for a month, short enough for those who
/// judge by it (825 days is the most that Apple takes).
const LIFETIME_SECS: u64 = 90 * 86_400;
/// What is left of it when the next one is made.
const RENEW_SECS: u64 = 60 * 86_400;

/// Why no certificate is made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// It cannot be read.
    #[error("the certificate is none of X.509")]
    Certificate(#[from] x509_cert::der::Error),
    /// It was not made by `publisher`.
    #[error("the certificate names its owner otherwise than by a common name")]
    Subject,
    /// The key, or what it signs.
    #[error("the key cannot sign certificates")]
    Key(#[from] rcgen::Error),
}

/// A certificate that was made here.
pub(super) struct Issued {
    /// The certificate, and its issuer's.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub(super) key: PrivateKeyDer<'static>,
    /// Until when it counts.
    pub(super) expires: UnixTime,
}

/// Makes a certificate for `names`. It counts from when its issuer's does: nodes whose clocks are not set yet judge it by
/// a time that may be long past.
pub(super) fn issue(
    issuer: &[CertificateDer<'static>],
    issuer_key: &PrivateKeyDer<'_>,
    names: &[String],
    now: UnixTime,
) -> Result<Issued, IssueError> {
    let certificate = Certificate::from_der(&issuer[0])?;
    let (begins, ends) = validity(&issuer[0])?;
    let mut of_issuer = CertificateParams::default();
    of_issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    of_issuer.distinguished_name = named(&common_name(&certificate).ok_or(IssueError::Subject)?);
    let issuer_key = KeyPair::try_from(issuer_key)?;

    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = named(&names[0]);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // A Pi that just started may have no idea of the time either.
    let expires = now.max(begins).plus_secs(LIFETIME_SECS).min(ends);
    params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(begins.0);
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(expires.0);
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &Issuer::from_params(&of_issuer, issuer_key))?;
    let mut chain = vec![leaf.der().clone()];
    chain.extend(issuer.iter().cloned());
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| IssueError::Subject)?;
    Ok(Issued { chain, key, expires })
}

/// Whether the next certificate has to be made: in time, and at once when a clock was set that was far behind.
pub(super) fn is_due(now: UnixTime, expires: UnixTime) -> bool {
    now.plus_secs(RENEW_SECS) > expires
}

/// From when to when a certificate counts.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Result<(UnixTime, UnixTime), IssueError> {
    let validity = Certificate::from_der(certificate)?.tbs_certificate.validity;
    let time = |time: x509_cert::time::Time| UnixTime(time.to_unix_duration().as_secs());
    Ok((time(validity.not_before), time(validity.not_after)))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const BEGINS: UnixTime = UnixTime(1_700_000_000);

    /// An issuer that counts for a year.
    fn issuer(subject: DistinguishedName) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(BEGINS.0);
        params.not_after = params.not_before + Duration::from_secs(365 * DAY);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    #[test]
    fn a_certificate_counts_from_its_issuers_begin_and_not_beyond_its_end() {
        let (issuer, key) = issuer(named("issuer"));
        for (now, left) in [(0, 90), (BEGINS.0, 90), (BEGINS.0 + 100 * DAY, 190), (BEGINS.0 + 360 * DAY, 365)]
        {
            let issued = issue(&issuer, &key, &["bus.lan".into()], UnixTime(now)).unwrap();
            let expected = (BEGINS, BEGINS.plus_secs(left * DAY));
            assert_eq!(validity(&issued.chain[0]).unwrap(), expected);
            assert_eq!((issued.expires, issued.chain.len()), (expected.1, 2));
        }
    }

    #[test]
    fn the_next_one_is_made_in_time_and_when_the_clock_was_set() {
        let expires = BEGINS.plus_secs(90 * DAY);
        for (now, due) in
            [(0, false), (BEGINS.0 + 29 * DAY, false), (BEGINS.0 + 31 * DAY, true), (u64::MAX, true)]
        {
            assert_eq!(is_due(UnixTime(now), expires), due, "{now}");
        }
    }

    #[test]
    fn an_issuer_of_others_is_refused() {
        let (issuer, key) = issuer(DistinguishedName::new());
        let issued = issue(&issuer, &key, &["bus.lan".into()], BEGINS);
        assert!(matches!(issued, Err(IssueError::Subject)));
        let rubbish = [CertificateDer::from(b"rubbish".to_vec())];
        let issued = issue(&rubbish, &key, &["bus.lan".into()], BEGINS);
        assert!(matches!(issued, Err(IssueError::Certificate(_))));
    }
}
