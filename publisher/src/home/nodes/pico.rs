//! All that a Pico W must have on its flash to be a node: what runs there, where the bus is, whom it believes, its secrets.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Result;
use bus_client::bus::BusUrl;
use pkcs8::der::Document;
use schemas::{
    id::{FleetId, NodeId},
    time::UnixTime,
};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{CA, Home, files};
use crate::problem::{Advise as _, problem};

/// What runs on a Pico, by its path there.
const PROGRAM: [(&str, &str); 7] = [
    ("main.py", include_str!("../../../../pico-w/main.py")),
    ("lib/deploy_guard.py", include_str!("../../../../pico-w/lib/deploy_guard.py")),
    ("lib/deploy_client.py", include_str!("../../../../pico-w/lib/deploy_client.py")),
    ("lib/deploy_mqtt.py", include_str!("../../../../pico-w/lib/deploy_mqtt.py")),
    ("lib/deploy_trust.py", include_str!("../../../../pico-w/lib/deploy_trust.py")),
    ("lib/deploy_cbor.py", include_str!("../../../../pico-w/lib/deploy_cbor.py")),
    ("lib/deploy_ed25519.py", include_str!("../../../../pico-w/lib/deploy_ed25519.py")),
];
/// Asked for the time where nothing else is said.
const NTP: &str = "pool.ntp.org";

/// What the command line says about a Pico W.
pub(crate) struct PicoPlace {
    /// Name and password of the Wi-Fi.
    pub(crate) wifi: (String, Zeroizing<String>),
    /// Where the bus is, if that is not what the fleet's settings say.
    pub(crate) bus: Option<BusUrl>,
    /// What it is asked the time.
    pub(crate) ntp: Option<String>,
    /// What kind of device it is, where that is not to be found out there.
    pub(crate) platform: Option<String>,
}

/// `/deploy/config.json`. It has secrets in it.
#[derive(Serialize)]
struct Config<'a> {
    node: &'a NodeId,
    fleet: &'a FleetId,
    host: &'a str,
    port: u16,
    password: &'a str,
    key: &'a str,
    wifi: [Network<'a>; 1],
    ntp: &'a str,
    /// The clock of a Pico is never before it.
    made_at: UnixTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a str>,
}

#[derive(Serialize)]
struct Network<'a> {
    ssid: &'a str,
    password: &'a str,
}

impl Home {
    /// Writes all that the Pico W of a node needs into the folder `out`, as it is to lie on the Pico; gives the paths there.
    pub(crate) fn write_pico(
        &self,
        node: &NodeId,
        place: &PicoPlace,
        out: &Path,
        now: UnixTime,
    ) -> Result<Vec<&'static str>> {
        let folder = self.node_folder(node);
        let key = self.pico_secret(node, &folder.join("node.key"))?;
        let password = self.pico_secret(node, &folder.join("password"))?;
        let bus = place.bus.as_ref().unwrap_or(&self.settings.bus);
        if !bus.is_tls() {
            return Err(problem(
                format!("the bus is at {bus}, and a Pico W speaks to it over TLS alone"),
                "make the fleet with `publisher init --host ADDRESS`, or say where it listens with --bus mqtts://HOST:PORT",
            ));
        }
        let config = Config {
            node,
            fleet: &self.settings.fleet,
            host: bus.first().host().trim_matches(['[', ']']),
            port: bus.first().port(),
            password: password.trim(),
            key: key.trim(),
            wifi: [Network { ssid: &place.wifi.0, password: &place.wifi.1 }],
            ntp: place.ntp.as_deref().unwrap_or(NTP),
            made_at: now,
            platform: place.platform.as_deref(),
        };
        let config = Zeroizing::new(serde_json::to_vec(&config)?);
        let mut written: Vec<_> = PROGRAM.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        let (ca, root, record) =
            (self.pico_ca()?, read(&self.path("root.cbor"))?, read(&folder.join("record.cbor"))?);
        written.extend([
            ("deploy/ca.der", &ca[..]),
            ("deploy/root.cbor", &root[..]),
            ("deploy/record.cbor", &record[..]),
            ("deploy/config.json", &config[..]),
        ]);
        for (path, bytes) in &written {
            write(&out.join(path), bytes)?;
        }
        Ok(written.into_iter().map(|(path, _)| path).collect())
    }

    fn pico_secret(&self, node: &NodeId, path: &Path) -> Result<Zeroizing<String>> {
        if !path.exists() {
            return Err(problem(
                format!("the secrets of {node} are not in {}", self.node_folder(node).display()),
                format!("a Pico W does not make its own: `publisher node add {node} --group GROUP`"),
            ));
        }
        let what = format!("cannot read {}", path.display());
        fs::read_to_string(path).map(Zeroizing::new).advise(what, "make it readable for you")
    }

    /// The one certificate that counts, as mbedTLS reads it.
    fn pico_ca(&self) -> Result<Vec<u8>> {
        let Some(ca) = &self.settings.ca else {
            return Err(problem(
                "this fleet believes all CAs of browsers, which a Pico has no room for",
                format!("set `{CA}` in fleet.toml to the PEM file of the broker's CA"),
            ));
        };
        let path = self.path(ca);
        let pem = read(&path)?;
        let text = String::from_utf8_lossy(&pem);
        let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap_or(text.len());
        let what = format!("cannot use CA file {}", path.display());
        match Document::from_pem(text[begin..].trim_end()) {
            Ok((_, certificate)) => Ok(certificate.into_vec()),
            Err(error) => Err(anyhow::anyhow!("{error}"))
                .advise(what, "it must have one certificate in PEM, that of the broker's CA"),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).advise(format!("cannot read {}", path.display()), "make it readable for you")
}

/// For the owner alone: keys and passwords are among these files.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let advice = "say another folder with --out, where there is room and you may write";
    let folder = path.parent().map(PathBuf::from).unwrap_or_default();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.advise(format!("cannot make {}", folder.display()), advice)?;
    files::replace(path, bytes, files::PRIVATE).advise(format!("cannot write {}", path.display()), advice)
}
