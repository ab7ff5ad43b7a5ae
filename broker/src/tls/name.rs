//! Whom the certificate of a client names.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Whom a certificate names: its first DNS name, else its common name. It was verified before.
pub(super) fn name_in(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let names = certificate.tbs_certificate.get::<SubjectAltName>().ok().flatten();
    let dns = names.iter().flat_map(|(_, names)| &names.0).find_map(|name| match name {
        GeneralName::DnsName(name) => Some(AsRef::<str>::as_ref(name).to_owned()),
        _ => None,
    });
    dns.or_else(|| common_name(&certificate)).map(Into::into)
}

pub(super) fn common_name(certificate: &Certificate) -> Option<String> {
    const COMMON_NAME: &str = "2.5.4.3";
    let parts = certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let name = { parts }.find(|part| part.oid.to_string() == COMMON_NAME)?;
    std::str::from_utf8(name.value.value()).ok().map(str::to_owned)
}
