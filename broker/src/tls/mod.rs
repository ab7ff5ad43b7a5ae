//! TLS 1.3: the certificate of relay and store, and those of their clients.

mod files;
mod issue;
mod name;

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};
use schemas::time::UnixTime;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use self::{
    files::{client_verifier, read_certificates, read_key},
    issue::{IssueError, issue},
    name::name_in,
};
use crate::{clock, settings::TlsSettings};

/// A client that has not finished a handshake after this long is cut off.
pub(crate) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Plaintext that waits in a connection to be encrypted and sent; the rest waits in the client's session.
const BUFFER_BYTES: usize = 16 * 1024;
/// When a person should see to a certificate that nobody renews by itself.
const WARN_SECS: u64 = 30 * 86_400;
/// How often that is said.
const WARN_EVERY_SECS: u64 = 86_400;

/// An encrypted stream.
pub(crate) type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

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
    /// Certificate and key are no pair.
    #[error("certificate {cert} was made with another key than {key}")]
    OtherKey {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Certificate and key are of a kind that is not supported.
    #[error("cannot use certificate {cert} with key {key}")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The certificate is an issuer's, and none can be made with it.
    #[error("cannot issue a certificate with {cert} and {key}")]
    Issue {
        /// The issuer's certificate.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
        /// Why not.
        source: IssueError,
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

impl TlsError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::File { .. } => {
                "`publisher init --host NAME` makes it: copy it here, or correct [tls] in the settings; this user must be able to read it"
            }
            Self::OtherKey { .. } | Self::Pair { .. } => {
                "name the key that was made with this certificate in [tls] of the settings"
            }
            Self::Issue { .. } => {
                "copy both files again from `broker` in the publisher's folder; with a certificate of others leave out `names`"
            }
            Self::ClientCa { .. } => {
                "name a PEM file with the certificates of CAs as `client_ca` in [tls] of the settings"
            }
        }
    }
}

/// The certificate in use.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsSettings,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// How the files looked when they were read.
    stamps: Vec<Option<Stamp>>,
    /// Until when the certificate in use counts.
    expires: UnixTime,
    /// Until when that of the file counts.
    file_expires: UnixTime,
    warned_at: UnixTime,
}

/// What changes when a file does.
type Stamp = (Option<SystemTime>, u64, u64);

impl Tls {
    /// Reads the files.
    pub(crate) fn open(files: TlsSettings) -> Result<Self, TlsError> {
        let current = RwLock::new(read(&files, clock::now())?);
        Ok(Self { files, current })
    }

    /// Reads the files again, for new connections. If they cannot be used, those of before stay.
    pub(crate) fn reload(&self) {
        self.reload_at(clock::now());
    }

    /// Does that if a file has changed or the certificate in use has to be renewed.
    pub(crate) fn look(&self) {
        let now = clock::now();
        let (is_changed, is_due) = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            // What counts as long as its issuer's cannot be made better here.
            let is_due = current.expires < current.file_expires && issue::is_due(now, current.expires);
            (current.stamps != stamps(&self.files), is_due)
        };
        if is_changed || is_due {
            self.reload_at(now);
        }
        self.warn_of_the_end(now);
    }

    fn reload_at(&self, now: UnixTime) {
        // Taken before: a file that changes meanwhile is read once more.
        let stamps = stamps(&self.files);
        match read(&self.files, now) {
            Ok(read) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
                info!(cert = %self.files.cert.display(), "certificates read again");
            }
            Err(err) => {
                self.current.write().unwrap_or_else(PoisonError::into_inner).stamps = stamps;
                warn!(error = %crate::chain(&err), "the certificates stay as they were");
            }
        }
    }

    fn warn_of_the_end(&self, now: UnixTime) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if now.plus_secs(WARN_SECS) > current.file_expires
            && now >= current.warned_at.plus_secs(WARN_EVERY_SECS)
        {
            current.warned_at = now;
            warn!(cert = %self.files.cert.display(), expires = %current.file_expires, "a certificate has to be renewed");
        }
    }

    /// Goes through the handshake.
    pub(crate) async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config);
        let limit =
            |connection: &mut rustls::ServerConnection| connection.set_buffer_limit(Some(BUFFER_BYTES));
        TlsAcceptor::from(config).accept_with(tcp, limit).await
    }
}

/// A certificate that was verified, and names nobody.
#[derive(Debug, thiserror::Error)]
#[error("client's certificate names nobody")]
pub(crate) struct Nameless;

/// Whom the client's certificate names, if it has one.
pub(crate) fn client_name(stream: &TlsStream) -> Result<Option<Arc<str>>, Nameless> {
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    certificate.map(|certificate| name_in(certificate).ok_or(Nameless)).transpose()
}

fn stamps(files: &TlsSettings) -> Vec<Option<Stamp>> {
    let all = [&files.cert, &files.key].into_iter().chain(&files.client_ca);
    let stamp = |metadata: fs::Metadata| (metadata.modified().ok(), metadata.len(), metadata.ino());
    all.map(|path| fs::metadata(path).ok().map(stamp)).collect()
}

fn read(files: &TlsSettings, now: UnixTime) -> Result<Current, TlsError> {
    let stamps = stamps(files);
    let (mut certificates, mut key) = (read_certificates("certificate", &files.cert)?, read_key(&files.key)?);
    let (_, file_expires) = issue::validity(&certificates[0]).map_err(|source| unusable(files, source))?;
    let mut expires = file_expires;
    if !files.names.is_empty() {
        let issued =
            issue(&certificates, &key, &files.names, now).map_err(|source| unusable(files, source))?;
        (certificates, key, expires) = (issued.chain, issued.key, issued.expires);
    }
    let config = Arc::new(config(files, certificates, key)?);
    Ok(Current { config, stamps, expires, file_expires, warned_at: UnixTime(0) })
}

fn unusable(files: &TlsSettings, source: IssueError) -> TlsError {
    TlsError::Issue { cert: files.cert.clone(), key: files.key.clone(), source }
}

fn config(
    files: &TlsSettings,
    certificates: Vec<CertificateDer<'static>>,
    secret: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = match &files.client_ca {
        Some(path) => client_verifier(path, &provider)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let (cert, key) = (&files.cert, &files.key);
    let pair = |source| match source {
        rustls::Error::InconsistentKeys(_) => TlsError::OtherKey { cert: cert.clone(), key: key.clone() },
        source => TlsError::Pair { cert: cert.clone(), key: key.clone(), source },
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        // Microcontrollers speak TLS 1.2 (mbedTLS): with rustls that is forward secret and authenticated as well.
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(pair)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, secret)
        .map_err(pair)?;
    // A fleet that reconnects resumes without a signature each; the state is in the clients' tickets. With certificates of
    // clients there are no tickets: each connection shows that the certificate is still good.
    match ring::Ticketer::new() {
        Ok(ticketer) if files.client_ca.is_none() => config.ticketer = ticketer,
        _ => {
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
    }
    Ok(config)
}
