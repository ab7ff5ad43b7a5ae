//! The fleet's own CA, and the issuer in its name that the broker is given.
//!
//! Two levels, so that what lies on the machine that is always on can speak for the broker's own names and for nothing else:
//! who lets a browser or a telephone believe the CA takes no risk beyond the fleet. The broker makes the certificates that
//! it shows by itself (`broker::tls`), so none ever runs out.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use schemas::{id::FleetId, time::UnixTime};

/// As for the root document: longer than the hardware, since a CA that runs out would lock every node out at once.
const LIFETIME_SECS: u64 = 30 * 365 * 86_400;
/// For machines whose clocks are a little behind.
const BACKDATED_SECS: u64 = 86_400;
/// The extension that says for which names an issuer may speak.
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
const SEQUENCE: u8 = 0x30;
/// `permittedSubtrees [0]`
const PERMITTED_SUBTREES: u8 = 0xa0;
/// `dNSName [2]`
const DNS_NAME: u8 = 0x82;
/// `iPAddress [7]`
const IP_ADDRESS: u8 = 0x87;
/// Names of the broker for who is on its machine.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Certificates and keys, all PEM.
pub(super) struct Ca {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) issuer_certificate: String,
    pub(super) issuer_key: String,
    /// What the broker may call itself.
    pub(super) names: Vec<String>,
}

impl Ca {
    /// Makes a CA, and an issuer for a broker with these DNS names and addresses.
    pub(super) fn new(fleet: &FleetId, names: Vec<String>, now: UnixTime) -> Result<Self> {
        let mut names = names;
        names.extend(LOCAL.map(str::to_owned));
        let mut known = std::collections::BTreeSet::new();
        names.retain(|name| known.insert(name.clone()));

        let authority = authority(&format!("Deploybus {fleet} CA"), now);
        let key = KeyPair::generate().context("cannot make a key for TLS")?;
        let what = "cannot make the CA of TLS";
        let certificate = authority.self_signed(&key).context(what)?.pem();

        let mut issuer = self::authority(&format!("Deploybus {fleet} broker"), now);
        issuer.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        issuer.use_authority_key_identifier_extension = true;
        issuer.custom_extensions = vec![name_constraints(&names)];
        let issuer_key = KeyPair::generate().context("cannot make a key for TLS")?;
        let signed = issuer.signed_by(&issuer_key, &Issuer::from_params(&authority, &key)).context(what)?;
        Ok(Self {
            certificate,
            key: key.serialize_pem(),
            issuer_certificate: signed.pem(),
            issuer_key: issuer_key.serialize_pem(),
            names,
        })
    }
}

fn authority(name: &str, now: UnixTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let date = |time: UnixTime| date_time_ymd(1970, 1, 1) + Duration::from_secs(time.0);
    params.not_before = date(now.minus_secs(BACKDATED_SECS));
    params.not_after = date(now.plus_secs(LIFETIME_SECS));
    params
}

/// The only names that the issuer may speak for (RFC 5280, 4.2.1.10). Not marked critical, which rcgen would do: mbedTLS, and
/// with it every microcontroller, refuses a whole chain for a critical extension that it does not know. Who knows it heeds it
/// either way: rustls, OpenSSL, Go and the browsers do.
fn name_constraints(names: &[String]) -> CustomExtension {
    let subtrees = names.iter().flat_map(|name| der(SEQUENCE, &general_name(name)));
    let permitted = der(PERMITTED_SUBTREES, &subtrees.collect::<Vec<_>>());
    CustomExtension::from_oid_content(NAME_CONSTRAINTS, der(SEQUENCE, &permitted))
}

fn general_name(name: &str) -> Vec<u8> {
    match name.parse::<IpAddr>() {
        // The address and a mask for all of it.
        Ok(IpAddr::V4(address)) => der(IP_ADDRESS, &[address.octets(), [0xff; 4]].concat()),
        Ok(IpAddr::V6(address)) => der(IP_ADDRESS, &[address.octets(), [0xff; 16]].concat()),
        Err(_) => der(DNS_NAME, name.as_bytes()),
    }
}

/// A value of DER: tag, length, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len().to_be_bytes();
    let len = &len[len.iter().take_while(|byte| **byte == 0).count()..];
    let mut value = vec![tag];
    if content.len() < 0x80 {
        value.push(content.len() as u8);
    } else {
        value.push(0x80 | len.len() as u8);
        value.extend(len);
    }
    value.extend(content);
    value
}
