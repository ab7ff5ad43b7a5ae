//! Certificates for one test, and clients that use them.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
};

use broker::TlsSettings;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tempfile::TempDir;

use crate::client::{Client, Duplex};

/// A CA with a folder of what it signed.
pub(crate) struct Pki {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM files.
#[derive(Clone)]
pub(crate) struct Certified {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for a client of this DNS name.
    pub(crate) fn of(&self, name: &str) -> Certified {
        self.sign(name, |params| {
            params.subject_alt_names = CertificateParams::new([name.into()]).unwrap().subject_alt_names;
        })
    }

    /// A certificate that names a client in its subject only.
    pub(crate) fn of_common_name(&self, name: &str) -> Certified {
        self.sign(name, |params| params.distinguished_name.push(DnType::CommonName, name))
    }

    /// A certificate that is over.
    pub(crate) fn expired(&self, name: &str) -> Certified {
        self.sign(name, |params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    /// A certificate for a relay on this machine.
    fn of_this_machine(&self) -> Certified {
        self.sign("localhost", |params| {
            let names = ["localhost".into(), "127.0.0.1".into()];
            params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
        })
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Certified {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let path = |end: &str| self.folder.path().join(format!("{name}-{end}.pem"));
        let certified = Certified { cert: path("cert"), key: path("key") };
        fs::write(&certified.cert, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(&certified.key, key.serialize_pem()).unwrap();
        certified
    }

    /// Settings for a relay with a certificate of this CA.
    pub(crate) fn settings(&self, client_ca: Option<&Self>) -> TlsSettings {
        let Certified { cert, key } = self.of_this_machine();
        TlsSettings { cert, key, names: Vec::new(), client_ca: client_ca.map(Self::ca) }
    }

    /// Settings for a relay that makes its certificates itself, as an issuer of this CA.
    pub(crate) fn issuing(&self) -> TlsSettings {
        let Certified { cert, key } = self.sign("issuer", |params| {
            params.distinguished_name.push(DnType::CommonName, "test issuer");
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        });
        TlsSettings { cert, key, names: vec!["localhost".into(), "127.0.0.1".into()], client_ca: None }
    }

    /// A TLS client that believes this CA.
    pub(crate) fn client(&self, address: SocketAddr, certified: Option<&Certified>) -> Client {
        Client::over(address, |tcp| self.wrap(tcp, certified))
    }

    pub(crate) fn wrap(&self, tcp: TcpStream, certified: Option<&Certified>) -> Box<dyn Duplex> {
        let config = self.config(&[&rustls::version::TLS13], certified);
        let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        Box::new(StreamOwned::new(connection, tcp))
    }

    pub(crate) fn config(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        certified: Option<&Certified>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match certified {
            None => builder.with_no_client_auth(),
            Some(Certified { cert, key }) => {
                let chain = vec![CertificateDer::from_pem_file(cert).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        }
    }

    /// Puts what another CA signed in the place of this one's certificate for the relay.
    pub(crate) fn replace(&self, other: &Self) {
        let (ours, theirs) = (self.path_of_relay(), other.of_this_machine());
        fs::copy(theirs.cert, ours.cert).unwrap();
        fs::copy(theirs.key, ours.key).unwrap();
    }

    pub(crate) fn path_of_relay(&self) -> Certified {
        let path = |end: &str| Path::new(self.folder.path()).join(format!("localhost-{end}.pem"));
        Certified { cert: path("cert"), key: path("key") }
    }
}
