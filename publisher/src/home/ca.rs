//! The fleet's own CA, and the issuer in its name that the broker is given.
//!
//! Two levels, so that what lies on the machine that is always on can speak for the broker's own names and for nothing else:
//! who lets a browser or a telephone believe the CA takes no risk beyond the fleet. The broker makes the certificates that
//! it shows by itself (`broker::tls`), so none ever runs out.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};
use schemas::{id::FleetId, time::UnixTime};

/// As for the root document: longer than the hardware, since a CA that runs out would lock every node out at once.
const LIFETIME_SECS: u64 = 30 * 365 * 86_400;
/// For machines whose clocks are a little behind.
const BACKDATED_SECS: u64 = 86_400;
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
        let permitted_subtrees = names.iter().map(|name| subtree(name)).collect();
        issuer.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
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

fn subtree(name: &str) -> GeneralSubtree {
    match name.parse::<IpAddr>() {
        Ok(address) => {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, prefix))
        }
        Err(_) => GeneralSubtree::DnsName(name.to_owned()),
    }
}
