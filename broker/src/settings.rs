//! Settings of the service: defaults, then the file, then the command line.

mod error;
mod limits;
mod log;
mod webhook;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use bus_client::bus::BusUrl;
use config::{Config, ConfigError, File, FileFormat};
use rustls::pki_types::ServerName;
use schemas::id::FleetId;
use serde::{Deserialize, Deserializer, de::Error as _};

pub use self::{
    error::SettingsError,
    limits::Limits,
    log::LogSettings,
    webhook::{WebhookSettings, WebhookUrl},
};
use crate::{
    controller::ControllerSettings,
    discovery::HomeAssistantSettings,
    page::PageSettings,
    relay::{Filter, Transport},
    store::Scheme,
};

/// MQTT's registered port.
const MQTT_PORT: u16 = 1883;
/// The store's port without TLS.
const HTTP_PORT: u16 = 8080;

/// Says that nobody listens there.
const OFF: &str = "off";

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whose bus this is: the first level of its topics.
    pub fleet: FleetId,
    /// The folder for everything that is kept.
    pub data: PathBuf,
    /// Where the relay listens without TLS; port 0 takes any, `off` none.
    #[serde(deserialize_with = "address_or_off")]
    pub mqtt: Option<SocketAddr>,
    /// Where the relay listens with TLS.
    pub mqtts: Option<SocketAddr>,
    /// Where the relay listens for WebSockets without TLS.
    pub ws: Option<SocketAddr>,
    /// Where the relay listens for WebSockets with TLS.
    pub wss: Option<SocketAddr>,
    /// The certificate of relay and store, and whose certificates the relay believes.
    pub tls: Option<TlsSettings>,
    /// Where the store listens without TLS; port 0 takes any, `off` none.
    #[serde(deserialize_with = "address_or_off")]
    pub http: Option<SocketAddr>,
    /// Where the store listens with TLS.
    pub https: Option<SocketAddr>,
    /// The file of users; a relative path starts at the settings file.
    pub users: Option<PathBuf>,
    /// The root document of the fleet; a relative path starts at the settings file. With it, nodes log in by their signed
    /// records, without a line in the users file.
    pub root: Option<PathBuf>,
    /// Lets everybody on this machine do everything; for trying out.
    pub open_loopback: bool,
    /// Who carries rollouts out.
    #[serde(default)]
    pub controller: ControllerSettings,
    /// How Home Assistant is told what there is.
    #[serde(default)]
    pub home_assistant: HomeAssistantSettings,
    /// The web page and the JSON API, where the store listens.
    #[serde(default)]
    pub page: PageSettings,
    /// Another broker to use; then no relay runs here.
    pub bus: Option<BusUrl>,
    /// Filters of topics whose retained values may be lost for a minute: spares SD cards.
    pub lazy: Vec<String>,
    /// What there may be at most.
    #[serde(default)]
    pub limits: Limits,
    /// How much of the deploy log is kept.
    #[serde(default)]
    pub log: LogSettings,
    /// Who is told what happens.
    #[serde(default)]
    pub webhook: Vec<WebhookSettings>,
}

/// Files of TLS, all PEM; relative paths start at the settings file. They are read again when they change, and on SIGHUP.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate, followed by those between it and the CA; with `names` that of an issuer.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Makes the certificate in use here, for these DNS names and addresses, and a new one in time: `cert` is an issuer's.
    #[serde(default)]
    pub names: Vec<String>,
    /// The CAs whose certificates clients may log in with.
    pub client_ca: Option<PathBuf>,
}

/// What the command line says.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) file: Option<PathBuf>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) mqtt: Option<String>,
    pub(crate) mqtts: Option<SocketAddr>,
    pub(crate) ws: Option<SocketAddr>,
    pub(crate) wss: Option<SocketAddr>,
    pub(crate) http: Option<String>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) open_loopback: bool,
    pub(crate) bus: Option<String>,
}

impl Settings {
    /// Settings for trying out and for tests: everybody on this machine may do everything, any free ports.
    pub fn open(fleet: FleetId, data: PathBuf) -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            lazy: default_lazy(fleet.as_str()),
            fleet,
            data,
            mqtt: Some(any_port),
            mqtts: None,
            ws: None,
            wss: None,
            tls: None,
            http: Some(any_port),
            https: None,
            users: None,
            root: None,
            open_loopback: true,
            controller: ControllerSettings::default(),
            home_assistant: HomeAssistantSettings::default(),
            page: PageSettings::default(),
            bus: None,
            limits: Limits::default(),
            log: LogSettings::default(),
            webhook: Vec::new(),
        }
    }

    /// Reads the settings and checks them.
    pub(crate) fn load(overrides: Overrides) -> Result<Self, SettingsError> {
        // Errors say where a file is, wherever this was started.
        let file = overrides.file.clone().map(|file| std::path::absolute(&file).unwrap_or(file));
        let text = file.as_ref().map(|file| {
            fs::read_to_string(file).map_err(|source| SettingsError::Unreadable(file.clone(), source))
        });
        let values = layers(text.transpose()?, overrides)
            .map_err(|source| SettingsError::NotToml(file.clone(), source))?;
        let mut settings: Self = serde_path_to_error::deserialize(values).map_err(|error| {
            let key = error.path().to_string();
            SettingsError::Wrong { file: file.clone(), key, source: Box::new(keyless(error.into_inner())) }
        })?;
        if let Some(folder) = file.as_deref().and_then(Path::parent) {
            for path in settings.files() {
                *path = folder.join(&*path);
            }
        }
        settings.data = std::path::absolute(&settings.data).unwrap_or(settings.data);
        settings.check().map_err(|error| match file {
            Some(file) => SettingsError::Together { file, source: Box::new(error) },
            None => error,
        })?;
        Ok(settings)
    }

    /// Whether these settings can be used together.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.open_loopback {
            let relay = self.listeners().map(|(_, address)| address);
            let all = relay.chain(self.store_listeners().map(|(_, address)| address));
            if let Some(address) = { all }.find(|address| !address.ip().is_loopback()) {
                return Err(SettingsError::OpenToTheWorld(address));
            }
        } else if self.users.is_none() {
            return Err(SettingsError::NoUsers);
        }
        if self.bus.is_none() && self.listeners().next().is_none() {
            return Err(SettingsError::Nowhere);
        }
        if self.store_listeners().next().is_none() {
            return Err(SettingsError::NoStore);
        }
        let with_tls = [("mqtts", self.mqtts), ("wss", self.wss), ("https", self.https)];
        if let Some((name, _)) = with_tls.into_iter().find(|(_, address)| address.is_some())
            && self.tls.is_none()
        {
            return Err(SettingsError::NoCertificate(name));
        }
        let mut names = self.tls.iter().flat_map(|tls| &tls.names);
        if let Some(name) = names.find(|name| ServerName::try_from(name.as_str()).is_err()) {
            return Err(SettingsError::Name(name.clone()));
        }
        let Limits { packet_bytes, in_transit_bytes, .. } = self.limits;
        for (name, bytes) in [("packet_bytes", packet_bytes), ("in_transit_bytes", in_transit_bytes)] {
            if bytes < error::LEAST_BYTES {
                return Err(SettingsError::Limit(name, bytes));
            }
        }
        self.lazy_filters().map(drop)
    }

    /// Whether what nodes say is read here, for rollouts and the deploy log. Only what the fleet has signed is believed; and on
    /// another broker somebody has to be let in.
    pub(crate) fn follows_the_bus(&self) -> bool {
        self.root.is_some() && (self.bus.is_none() || self.controller.user.is_some())
    }

    /// Where the relay listens, by what is spoken there.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (Transport, SocketAddr)> {
        let all = [
            (Transport::Mqtt, self.mqtt),
            (Transport::Mqtts, self.mqtts),
            (Transport::Ws, self.ws),
            (Transport::Wss, self.wss),
        ];
        all.into_iter().filter_map(|(transport, address)| Some((transport, address?)))
    }

    /// Where the store listens, by what is spoken there.
    pub(crate) fn store_listeners(&self) -> impl Iterator<Item = (Scheme, SocketAddr)> {
        let all = [(Scheme::Http, self.http), (Scheme::Https, self.https)];
        all.into_iter().filter_map(|(scheme, address)| Some((scheme, address?)))
    }

    /// All paths that may be relative to the settings file.
    fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tls = self
            .tls
            .iter_mut()
            .flat_map(|tls| [&mut tls.cert, &mut tls.key].into_iter().chain(&mut tls.client_ca));
        let secrets = self.webhook.iter_mut().map(|webhook| &mut webhook.secret_file);
        self.users.iter_mut().chain(&mut self.root).chain(tls).chain(self.controller.files()).chain(secrets)
    }

    /// The filters of `lazy`.
    pub(crate) fn lazy_filters(&self) -> Result<Vec<Filter>, SettingsError> {
        let parse = |text: &String| Filter::parse(text).map_err(|err| SettingsError::Lazy(text.clone(), err));
        self.lazy.iter().map(parse).collect()
    }
}

/// An address, or nothing for the word `off`.
fn address_or_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == OFF {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| D::Error::custom(format!("`{text}` is neither an address nor `{OFF}`")))
}

/// Without the key, which is named beside it.
fn keyless(error: ConfigError) -> ConfigError {
    match error {
        ConfigError::Type { unexpected, expected, .. } => {
            ConfigError::Type { origin: None, unexpected, expected, key: None }
        }
        error => error,
    }
}

/// The defaults, the text of the file above them, and the command line above both.
fn layers(file: Option<String>, overrides: Overrides) -> Result<Config, ConfigError> {
    let mut values = Config::builder();
    if let Some(text) = file {
        values = values.add_source(File::from_str(&text, FileFormat::Toml));
    }
    let text = |path: Option<PathBuf>| path.map(|path| path.to_string_lossy().into_owned());
    let values = values
        .set_default("fleet", "deploybus")?
        .set_default("data", "/var/lib/deploybus/broker")?
        .set_default("open_loopback", false)?
        .set_override_option("data", text(overrides.data))?
        .set_override_option("mqtt", overrides.mqtt)?
        .set_override_option("mqtts", overrides.mqtts.map(|address| address.to_string()))?
        .set_override_option("ws", overrides.ws.map(|address| address.to_string()))?
        .set_override_option("wss", overrides.wss.map(|address| address.to_string()))?
        .set_override_option("http", overrides.http)?
        .set_override_option("https", overrides.https.map(|address| address.to_string()))?
        .set_override_option("open_loopback", overrides.open_loopback.then_some(true))?
        .set_override_option("bus", overrides.bus)?
        .build()?;
    // Without TLS only this machine is served, unless it is asked for.
    let host = Ipv4Addr::LOCALHOST;
    let fleet = values.get_string("fleet")?;
    Config::builder()
        .set_default("mqtt", SocketAddr::from((host, MQTT_PORT)).to_string())?
        .set_default("http", SocketAddr::from((host, HTTP_PORT)).to_string())?
        .set_default("lazy", default_lazy(&fleet))?
        .add_source(values)
        .build()
}

/// Nodes say how they are every minute, and controllers that they are there; losing the last of it costs nothing.
fn default_lazy(fleet: &str) -> Vec<String> {
    vec![format!("{fleet}/v1/node/+/health"), format!("{fleet}/v1/controller/+")]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// What is wrong itself, without the file.
    fn wrong(text: &str) -> SettingsError {
        match with_file(&format!("users = 'u'\n{text}"), Overrides::default()).unwrap_err() {
            SettingsError::Together { source, .. } => *source,
            error => error,
        }
    }

    fn with_file(text: &str, mut overrides: Overrides) -> Result<Settings, SettingsError> {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("broker.toml");
        fs::write(&file, text).unwrap();
        overrides.file = Some(file);
        Settings::load(overrides)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let text = "fleet = 'home'\nmqtt = '127.0.0.1:1'\nhttp = '127.0.0.1:2'\nusers = 'users'\n[limits]\nconnections = 7\n";
        let flags = Overrides { http: Some("127.0.0.1:9".to_owned()), ..Overrides::default() };
        let settings = with_file(text, flags).unwrap();
        assert_eq!((settings.mqtt.unwrap().port(), settings.http.unwrap().port()), (1, 9));
        assert_eq!((settings.limits.connections, settings.limits.queue_messages), (7, 1000));
        assert_eq!(settings.lazy, ["home/v1/node/+/health", "home/v1/controller/+"]);
        assert!(settings.users.unwrap().is_absolute());
    }

    #[test]
    fn without_settings_only_the_open_mode_starts_and_only_on_this_machine() {
        assert!(matches!(Settings::load(Overrides::default()), Err(SettingsError::NoUsers)));
        let open = Overrides { open_loopback: true, ..Overrides::default() };
        assert_eq!(Settings::load(open).unwrap().mqtt, Some("127.0.0.1:1883".parse().unwrap()));
        let anywhere = "0.0.0.0:1".parse().unwrap();
        for world in [
            Overrides { mqtt: Some("0.0.0.0:1".into()), ..Overrides::default() },
            Overrides { ws: Some(anywhere), ..Overrides::default() },
        ] {
            let world = Overrides { open_loopback: true, ..world };
            assert!(matches!(Settings::load(world), Err(SettingsError::OpenToTheWorld(_))));
        }
    }

    #[test]
    fn each_listener_has_what_it_needs() {
        let load = |text: &str| with_file(&format!("users = 'u'\n{text}"), Overrides::default());
        assert!(matches!(wrong("mqtt = 'off'"), SettingsError::Nowhere));
        assert!(load("mqtt = 'off'\nbus = 'mqtts://a,b:8884'").is_ok());
        for (name, text) in [("mqtts", "mqtts = '0.0.0.0:8883'"), ("wss", "wss = '0.0.0.0:0'")] {
            assert!(matches!(wrong(text), SettingsError::NoCertificate(found) if found == name));
        }
        let settings =
            load("mqtt = 'off'\nmqtts = '0.0.0.0:8883'\n[tls]\ncert = 'c.pem'\nkey = '/k.pem'").unwrap();
        let tls = settings.tls.as_ref().unwrap();
        assert!(tls.cert.is_absolute() && tls.cert.ends_with("c.pem") && tls.key == Path::new("/k.pem"));
        assert_eq!(settings.listeners().count(), 1);
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_file_and_key() {
        for (text, says) in [
            ("colour = 'red'", "unknown field `colour`"),
            ("[limits]\nconections = 1", "at `limits.conections`: unknown field"),
            ("[limits]\nconnections = 'many'", "at `limits.connections`: "),
            ("fleet = 'A B'", "at `fleet`: `A B` is not a valid fleet id"),
            ("mqtt = 'x'", "at `mqtt`: `x` is neither an address nor `off`"),
            ("mqtts = 'x'", "at `mqtts`: invalid socket address"),
            ("bus = 'http://host'", "at `bus`: "),
            ("[controller]\nenabled = 'often'", "at `controller.enabled`: invalid type"),
            ("[log]\nkeep = 'long'", "at `log.keep`: "),
            ("[[webhook]]\nurl = 'ftp://ops'\nsecret_file = 's'", "at `webhook[0].url`: "),
            ("[[webhook]]\nurl = 'https://ops'\nsecret_file = 's'\non = ['moon']", "at `webhook[0].on[0]`: "),
        ] {
            let error = with_file(&format!("users = 'u'\n{text}"), Overrides::default()).unwrap_err();
            let said = crate::chain(&error);
            assert!(said.contains(says) && said.contains("broker.toml"), "{text}: {said}");
        }
        assert!(matches!(wrong("lazy = ['a#']"), SettingsError::Lazy(..)));
        assert!(matches!(wrong("[limits]\npacket_bytes = 9"), SettingsError::Limit("packet_bytes", 9)));
        assert!(matches!(wrong("mqtt = "), SettingsError::NotToml(..)));
    }

    #[test]
    fn every_key_is_in_the_reference() {
        let reference = include_str!("../../docs/settings.md");
        let (_, reference) = reference.split_once("## broker.toml").unwrap();
        for section in
            ["", "[tls]", "[controller]", "[home_assistant]", "[page]", "[limits]", "[log]", "[[webhook]]"]
        {
            // It names all that there are.
            let error = with_file(&format!("{section}\ncolour = 1"), Overrides::default()).unwrap_err();
            let said = crate::chain(&error);
            let keys: Vec<_> =
                said.split_once("expected ").unwrap().1.split('`').skip(1).step_by(2).collect();
            assert!(!keys.is_empty(), "{said}");
            let section = reference.split_once(section).unwrap().1;
            for key in keys {
                assert!(section.contains(&format!("| `{key}` |")), "no `{key}` in docs/settings.md");
            }
        }
    }
}
