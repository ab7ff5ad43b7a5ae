//! Whom TLS believes: one CA of one's own, or those that the whole world uses.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{self, CertificateDer, pem::PemObject},
    time_provider::TimeProvider,
};
use schemas::time::UnixTime;

/// Why a text is no CA.
#[derive(Debug, thiserror::Error)]
#[error("it has no usable PEM certificate of a CA")]
pub struct InvalidCa(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Whom TLS believes, and from when on.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

impl Tls {
    /// Believes nobody but the CAs of `pem`. No certificate is judged by an earlier time than `earliest`: a Pi has no
    /// battery, and a clock that was not set yet must not keep it from its bus.
    ///
    /// # Errors
    /// When `pem` has no certificate of a CA.
    pub fn pinned(pem: &[u8], earliest: UnixTime) -> Result<Self, InvalidCa> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| InvalidCa(error.into()))?;
            roots.add(certificate).map_err(|error| InvalidCa(error.into()))?;
        }
        if roots.is_empty() {
            return Err(InvalidCa("nothing in it begins with -----BEGIN CERTIFICATE-----".into()));
        }
        Ok(Self::new(roots, earliest))
    }

    /// Believes the CAs that browsers believe.
    pub fn public(earliest: UnixTime) -> Self {
        Self::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(), earliest)
    }

    fn new(roots: RootCertStore, earliest: UnixTime) -> Self {
        let (provider, clock) = (Arc::new(ring::default_provider()), Arc::new(Clock { earliest }));
        let config = ClientConfig::builder_with_details(provider, clock)
            .with_safe_default_protocol_versions()
            .expect("ring has all that TLS 1.2 and 1.3 need")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(Arc::new(config))
    }

    /// The same in the words of the library.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

/// The clock of the system, which never shows less than what is known to be past.
#[derive(Debug)]
struct Clock {
    earliest: UnixTime,
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<pki_types::UnixTime> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Some(pki_types::UnixTime::since_unix_epoch(since.max(Duration::from_secs(self.earliest.0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_certificate_is_no_ca() {
        for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(Tls::pinned(pem.as_bytes(), UnixTime(0)), Err(InvalidCa(_))), "{pem}");
        }
    }

    #[test]
    fn a_clock_that_was_not_set_shows_what_is_known_to_be_past() {
        let shown = |earliest| Clock { earliest: UnixTime(earliest) }.current_time().unwrap().as_secs();
        let now = shown(0);
        assert!(now > 1_700_000_000);
        assert_eq!(shown(now + 3_600), now + 3_600);
    }
}
