//! TLS 1.3: the relay's certificate, and those of its clients.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::NoStream;
use crate::settings::TlsSettings;

/// Permission of anybody but the owner and its group.
const OTHERS: u32 = 0o007;
/// Plaintext that waits in a connection to be encrypted and sent; the rest waits in the client's session.
const BUFFER_BYTES: usize = 16 * 1024;

/// An encrypted stream.
pub(in crate::relay) type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Why TLS does not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read, or has nothing of what it should have.
    #[error("cannot read {what} file {path}")]
    File {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Certificate and key are no pair, or of a kind that is not supported.
    #[error("cannot use certificate {cert} with key {key}")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The CAs of clients.
    #[error("cannot use client CA {path}")]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The certificate in use.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsSettings,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn open(files: TlsSettings) -> Result<Self, TlsError> {
        let current = RwLock::new(Arc::new(read(&files)?));
        Ok(Self { files, current })
    }

    /// Reads the files again, for new connections. If they cannot be used, those of before stay.
    pub(crate) fn reload(&self) {
        match read(&self.files) {
            Ok(config) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                info!(cert = %self.files.cert.display(), "certificates read again");
            }
            Err(err) => warn!(error = %crate::chain(&err), "the certificates stay as they were"),
        }
    }

    /// Goes through the handshake; gives the stream and whom the client's certificate names, if it has one.
    pub(super) async fn accept(&self, tcp: TcpStream) -> Result<(TlsStream, Option<Arc<str>>), NoStream> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        let limit =
            |connection: &mut rustls::ServerConnection| connection.set_buffer_limit(Some(BUFFER_BYTES));
        let stream = TlsAcceptor::from(config).accept_with(tcp, limit).await.map_err(NoStream::Tls)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let name =
            certificate.map(|certificate| name_in(certificate).ok_or(NoStream::Nameless)).transpose()?;
        Ok((stream, name))
    }
}

fn read(files: &TlsSettings) -> Result<ServerConfig, TlsError> {
    let certificates = read_certificates("certificate", &files.cert)?;
    let key = read_key(&files.key)?;
    let provider = Arc::new(ring::default_provider());
    let verifier = match &files.client_ca {
        Some(path) => client_verifier(path, &provider)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let pair = |source| TlsError::Pair { cert: files.cert.clone(), key: files.key.clone(), source };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(pair)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(pair)?;
    // A fleet that reconnects resumes without a signature each; the state is in the clients' tickets. With certificates of
    // clients there are no tickets: each connection shows that the certificate is still good.
    match ring::Ticketer::new() {
        Ok(ticketer) if files.client_ca.is_none() => config.ticketer = ticketer,
        _ => config.send_tls13_tickets = 0,
    }
    Ok(config)
}

fn client_verifier(
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

fn read_certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File { what, path: path.to_owned(), source };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|err| failed(err.into()))?;
    if certificates.is_empty() { Err(failed("it has no PEM certificate".into())) } else { Ok(certificates) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    if fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & OTHERS != 0) {
        warn!(path = %path.display(), "others can read the key of the relay's certificate: chmod 600");
    }
    PrivateKeyDer::from_pem_file(path).map_err(|err| TlsError::File {
        what: "key",
        path: path.to_owned(),
        source: err.into(),
    })
}

/// Whom a certificate names: its first DNS name, else its common name. It was verified before.
fn name_in(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let names = certificate.tbs_certificate.get::<SubjectAltName>().ok().flatten();
    let dns = names.iter().flat_map(|(_, names)| &names.0).find_map(|name| match name {
        GeneralName::DnsName(name) => Some(AsRef::<str>::as_ref(name).to_owned()),
        _ => None,
    });
    dns.or_else(|| common_name(&certificate)).map(Into::into)
}

fn common_name(certificate: &Certificate) -> Option<String> {
    const COMMON_NAME: &str = "2.5.4.3";
    let parts = certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let name = { parts }.find(|part| part.oid.to_string() == COMMON_NAME)?;
    std::str::from_utf8(name.value.value()).ok().map(str::to_owned)
}
