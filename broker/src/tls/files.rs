//! Certificates and keys as they lie in files.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tracing::warn;
use zeroize::Zeroizing;

use super::TlsError;

/// Permission of anybody but the owner and its group.
const OTHERS: u32 = 0o007;

/// Who believes what the CAs of `path` signed, and asks nobody for a certificate.
pub(super) fn client_verifier(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    let failed = |source| TlsError::ClientCa { path: path.to_owned(), source };
    for certificate in read_certificates("client CA", path)? {
        roots.add(certificate).map_err(|err| failed(err.into()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|err| failed(err.into()))
}

/// All certificates of a file.
pub(super) fn read_certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File { what, path: path.to_owned(), source };
    let pem = fs::read(path).map_err(|err| failed(err.into()))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = read.map_err(|err| failed(err.into()))?;
    if certificates.is_empty() { Err(failed("it has no PEM certificate".into())) } else { Ok(certificates) }
}

/// A key; who may read it is looked at.
pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    if fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & OTHERS != 0) {
        warn!(path = %path.display(), "others can read the key of the certificate: chmod 600");
    }
    let failed = |source| TlsError::File { what: "key", path: path.to_owned(), source };
    let pem = Zeroizing::new(fs::read(path).map_err(|err| failed(err.into()))?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|err| match err {
        pem::Error::NoItemsFound => failed("it has no PEM key".into()),
        err => failed(err.into()),
    })
}
