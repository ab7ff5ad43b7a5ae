//! The real Home Assistant, as `tests/tools` has installed it: onboarded by script, its MQTT set up as people do, asked over REST.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{net::free_port, process::Process, wait_until};

/// Versions that can be installed, the one that is preferred first, and what Home Assistant understands.
const VERSIONS: [(&str, &str); 2] = [("2025.4.4", "device"), ("2024.3.3", "component")];
/// A cold start of Python with all its modules on a machine that builds beside it.
const START_LIMIT: Duration = Duration::from_mins(3);
/// The longest that something may take to show.
const PATIENCE: Duration = Duration::from_secs(40);
/// Everything but the user is done: those steps would ask the network.
const ONBOARDING: &str = r#"{"version":4,"minor_version":1,"key":"onboarding","data":{"done":["core_config","analytics","integration"]}}"#;

/// A Home Assistant that runs.
#[derive(Debug)]
pub struct HomeAssistant {
    port: u16,
    token: String,
    process: Process,
}

/// Which one is installed, and in which style it is told of devices.
pub fn installed() -> Option<(PathBuf, &'static str)> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/hass");
    let found = VERSIONS.iter().find(|(version, _)| all.join(version).join("installed").exists());
    found.map(|(version, style)| (all.join(version), *style))
}

impl HomeAssistant {
    /// Starts the one that is installed in `program`, with its files in `folder`, and lets a person in.
    ///
    /// # Errors
    /// When it does not come that far.
    pub fn start(program: &Path, folder: &Path) -> Result<Self> {
        let (port, config) = (free_port()?, folder.join("hass"));
        fs::create_dir_all(config.join(".storage"))?;
        let text = include_str!("../hass/configuration.yaml").replace("PORT", &port.to_string());
        fs::write(config.join("configuration.yaml"), text)?;
        fs::write(config.join(".storage/onboarding"), ONBOARDING)?;
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo starts; exec "$0" "$@""#]).arg(program.join("bin/hass"));
        command.arg("--skip-pip").arg("--config").arg(&config).arg("--log-no-color");
        let process = Process::start(command, &folder.join("hass.log"), "starts")?;
        let mut started = Self { port, token: String::new(), process };
        wait_until("Home Assistant to start", START_LIMIT, || started.get("/api/onboarding").ok())
            .with_context(|| started.process.said())?;
        started.onboard()?;
        Ok(started)
    }

    /// Sets its MQTT up as people do on its page.
    ///
    /// # Errors
    /// When a step of that is another than expected.
    pub fn add_mqtt(&self, broker: u16, user: &str, password: &str) -> Result<()> {
        let flow = "/api/config/config_entries/flow";
        let step = self.post(flow, &json!({ "handler": "mqtt", "show_advanced_options": true }))?;
        ensure!(step["step_id"] == "broker", "{step}");
        let id = step["flow_id"].as_str().context("a flow without an id")?;
        let answers =
            json!({ "broker": "127.0.0.1", "port": broker, "username": user, "password": password });
        let step = self.post(&format!("{flow}/{id}"), &answers)?;
        ensure!(step["type"] == "create_entry", "{step}");
        Ok(())
    }

    /// An entity, when it is there.
    pub fn state(&self, entity: &str) -> Option<Value> {
        self.get(&format!("/api/states/{entity}")).ok()
    }

    /// How many entities there are whose name begins so.
    ///
    /// # Errors
    /// When it does not say.
    pub fn count(&self, prefix: &str) -> Result<usize> {
        let states = self.get("/api/states")?;
        let ids = states.as_array().into_iter().flatten().filter_map(|state| state["entity_id"].as_str());
        Ok(ids.filter(|id| id.starts_with(prefix)).count())
    }

    /// Waits until an entity is as wanted, and gives it.
    ///
    /// # Errors
    /// When it is not in time; with what it is.
    pub fn wait(&self, entity: &str, is_wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let wanted = || self.state(entity).filter(|state| is_wanted(state));
        wait_until(entity, PATIENCE, wanted).with_context(|| format!("it is {:?}", self.state(entity)))
    }

    /// Waits until an entity has this state.
    ///
    /// # Errors
    /// When it has not in time; with what it is.
    pub fn wait_state(&self, entity: &str, wanted: &str) -> Result<Value> {
        self.wait(entity, |state| state["state"] == wanted).with_context(|| format!("{wanted} is wanted"))
    }

    /// Does something with an entity, as its page does.
    ///
    /// # Errors
    /// When that is refused.
    pub fn call(&self, service: &str, entity: &str) -> Result<()> {
        self.post(&format!("/api/services/{service}"), &json!({ "entity_id": entity })).map(drop)
    }

    /// Warnings and errors in its log about what it was told by MQTT; not about the connection, for which a busy machine is too slow.
    pub fn complaints(&self) -> Vec<String> {
        let said = self.process.said();
        let is_one = |line: &&str| {
            (line.contains(" WARNING ") || line.contains(" ERROR "))
                && line.contains("[homeassistant.components.mqtt")
                && !line.contains("[homeassistant.components.mqtt.client]")
        };
        said.lines().filter(is_one).map(str::to_owned).collect()
    }

    /// Makes a user and logs in as that.
    fn onboard(&mut self) -> Result<()> {
        let client = format!("http://127.0.0.1:{}/", self.port);
        let user = json!({
            "client_id": client, "name": "Test", "username": "test", "password": "for-the-test", "language": "en",
        });
        let made = self.post("/api/onboarding/users", &user)?;
        let code = made["auth_code"].as_str().context("no code for the new user")?;
        let client = client.replace(':', "%3A").replace('/', "%2F");
        let form = format!("client_id={client}&grant_type=authorization_code&code={code}");
        let answer = self.ask("POST", "/auth/token", "application/x-www-form-urlencoded", &form)?;
        let token = answer["access_token"].as_str().context("no token for the new user")?;
        token.clone_into(&mut self.token);
        Ok(())
    }

    fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, "application/json", "")
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask("POST", path, "application/json", &body.to_string())
    }

    fn ask(&self, method: &str, path: &str, content: &str, body: &str) -> Result<Value> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let login = if self.token.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {}\r\n", self.token)
        };
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: {content}\r\nContent-Length: {length}\r\n{login}\r\n{body}"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        match head.split(' ').nth(1) {
            Some("200" | "201") => Ok(serde_json::from_str(body)?),
            status => bail!("{method} {path} was answered {status:?}: {body}"),
        }
    }
}
