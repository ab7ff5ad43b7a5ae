//! `[container]`: how an image is built of the folder, and how the container runs.

use std::collections::BTreeMap;

use schemas::release::container::{Container, Device, Limits, LogLimits, Port, Restart, Saved, Volume};
use serde::Deserialize;

use super::{Command, EnvTable, Period};

/// From SIGTERM to SIGKILL, unless said otherwise: what `docker stop` gives.
const STOP_TIMEOUT_MS: u64 = 10_000;

#[derive(Deserialize)]
#[serde(try_from = "RawContainer")]
pub(super) struct ContainerTable(pub(super) Container);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawContainer {
    image: Option<String>,
    dockerfile: Option<String>,
    target: Option<String>,
    #[serde(default)]
    args: EnvTable,
    #[serde(default)]
    full_on: Vec<String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    command: Option<Command>,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    devices: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    networks: Vec<String>,
    memory: Option<Bytes>,
    cpus: Option<f64>,
    pids: Option<u64>,
    log: Option<RawLog>,
    restart: Option<RestartWord>,
    #[serde(default)]
    start_first: bool,
    stop_timeout: Option<Period>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    max_size: Option<Bytes>,
    max_files: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RestartWord {
    No,
    OnFailure,
    UnlessStopped,
    Always,
}

impl From<RestartWord> for Restart {
    fn from(word: RestartWord) -> Self {
        match word {
            RestartWord::No => Self::No,
            RestartWord::OnFailure => Self::OnFailure,
            RestartWord::UnlessStopped => Self::UnlessStopped,
            RestartWord::Always => Self::Always,
        }
    }
}

/// An amount such as `"64 MiB"`, or a plain number of bytes.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Bytes(u64);

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an amount of bytes, as in `64 MiB`");
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match text[digits.len()..].trim() {
            "" | "B" => 1,
            "K" | "KiB" => 1 << 10,
            "M" | "MiB" => 1 << 20,
            "G" | "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        let amount = digits.parse::<u64>().ok().and_then(|amount| amount.checked_mul(unit));
        amount.filter(|amount| *amount > 0).map(Self).ok_or_else(wrong)
    }
}

impl TryFrom<RawContainer> for ContainerTable {
    type Error = String;

    fn try_from(raw: RawContainer) -> Result<Self, String> {
        let limits = limits(&raw)?;
        let saved = saved(&raw)?;
        let log = log_limits(raw.log)?;
        let dockerfile = if saved.is_some() { "" } else { "Dockerfile" };
        let container = Container {
            dockerfile: raw.dockerfile.unwrap_or_else(|| dockerfile.to_owned()),
            target: raw.target.unwrap_or_default(),
            args: raw.args.0,
            full_on: raw.full_on,
            forced: 0,
            files: raw.files,
            command: raw.command.map(|command| command.0).unwrap_or_default(),
            ports: raw.ports,
            volumes: raw.volumes,
            devices: raw.devices,
            groups: raw.groups,
            networks: raw.networks,
            limits,
            log,
            restart: raw.restart.map(Restart::from).unwrap_or_default(),
            start_first: raw.start_first,
            stop_timeout_ms: raw.stop_timeout.map_or(STOP_TIMEOUT_MS, |period| period.0),
            saved,
        };
        check(&container)?;
        Ok(Self(container))
    }
}

/// The saved image, of which nothing is known but where it is.
fn saved(raw: &RawContainer) -> Result<Option<Saved>, String> {
    let Some(file) = &raw.image else { return Ok(None) };
    if file.starts_with('/') || file.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(format!("`image` is a file of the folder, as in \"app.tar\", not `{file}`"));
    }
    let of_a_build = [
        ("dockerfile", raw.dockerfile.is_some()),
        ("target", raw.target.is_some()),
        ("args", !raw.args.0.is_empty()),
        ("full_on", !raw.full_on.is_empty()),
        ("files", !raw.files.is_empty()),
    ];
    match of_a_build.iter().find(|(_, is_there)| *is_there) {
        Some((key, _)) => {
            Err(format!("`image` is built already, so `{key}` says nothing: leave one of them out"))
        }
        None => Ok(Some(Saved { file: file.clone(), layers: Vec::new() })),
    }
}

fn limits(raw: &RawContainer) -> Result<Limits, String> {
    let cpus = raw.cpus.unwrap_or(0.0);
    if !(0.0..=1024.0).contains(&cpus) || (raw.cpus.is_some() && cpus < 0.001) {
        return Err(format!("`cpus` is {cpus}, not a number of processors as in 1.5"));
    }
    #[expect(clippy::cast_sign_loss, reason = "it is not below 0")]
    let cpu_permille = (cpus * 1_000.0).round() as u64;
    let memory_bytes = raw.memory.as_ref().map_or(0, |memory| memory.0);
    Ok(Limits { memory_bytes, cpu_permille, pids: raw.pids.unwrap_or(0) })
}

fn log_limits(raw: Option<RawLog>) -> Result<LogLimits, String> {
    let default = LogLimits::default();
    let Some(raw) = raw else { return Ok(default) };
    let limits = LogLimits {
        file_bytes: raw.max_size.map_or(default.file_bytes, |size| size.0),
        files: raw.max_files.unwrap_or(default.files),
    };
    if limits.files == 0 { Err("`max_files` must be at least 1".to_owned()) } else { Ok(limits) }
}

fn check(container: &Container) -> Result<(), String> {
    fn each<T>(texts: &[String], stand_in: &str) -> Result<(), String>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let parse = |text: &String| text_with(text, stand_in).parse::<T>();
        texts.iter().try_for_each(|text| parse(text).map(drop).map_err(|err| err.to_string()))
    }
    each::<Port>(&container.ports, "1")?;
    each::<Volume>(&container.volumes, "/x")?;
    each::<Device>(&container.devices, "/x")?;
    for (from, to) in &container.files {
        if from.starts_with('/')
            || from.split('/').any(|segment| segment == "..")
            || !to.starts_with('/')
            || to == "/"
        {
            return Err(format!(
                "`files` leads from a path of the folder to one of the image, as in \"src\" = \"/app/src\", not from `{from}` to `{to}`"
            ));
        }
    }
    let only = |word: &str| container.networks.iter().any(|network| network == word);
    if (only("host") || only("none")) && container.networks.len() > 1 {
        return Err("`host` or `none` is the only one of `networks`".to_owned());
    }
    if container.start_first && !(container.ports.is_empty() && container.devices.is_empty()) {
        return Err("`start_first` runs two at a time, which cannot both have the same `ports` or `devices`"
            .to_owned());
    }
    Ok(())
}

/// The text with every `${…}`, which only the node knows, replaced by something that could stand there.
fn text_with(text: &str, stand_in: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((_, behind)) = after.split_once('}') else { break };
        plain.push_str(before);
        plain.push_str(if before.is_empty() || before.ends_with([':', '/']) { stand_in } else { "" });
        rest = behind;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};

    fn container(text: &str) -> Result<Container, String> {
        let file = format!("[app]\nname = \"web\"\n\n[container]\n{text}");
        parse(&file).map(|app| *app.container.unwrap()).map_err(|err| err.to_string())
    }

    #[test]
    fn an_empty_table_is_a_dockerfile_and_nothing_else() {
        let container = container("").unwrap();
        assert_eq!(
            (container.dockerfile.as_str(), container.restart.name()),
            ("Dockerfile", "unless-stopped")
        );
        assert_eq!((container.stop_timeout_ms, container.log), (10_000, LogLimits::default()));
    }

    #[test]
    fn every_key_finds_its_place() {
        let container = container(
            r#"
dockerfile = "docker/Dockerfile"
target = "run"
args = { BASE = "debian" }
full_on = ["*.lock"]
files = { "src" = "/app" }
command = ["python3", "app.py"]
ports = ["${PORT}:8000", "127.0.0.1:53:53/udp"]
volumes = ["${DEPLOYBUS_DATA}/db:/data", "web:/cache:ro"]
devices = ["/dev/ttyACM0"]
groups = ["audio"]
networks = ["home", "lab"]
memory = "64 MiB"
cpus = 1.5
pids = 50
log = { max_size = "2MiB", max_files = 3 }
restart = "on-failure"
stop_timeout = "2s"
"#,
        )
        .unwrap();
        assert_eq!(container.limits, Limits { memory_bytes: 64 << 20, cpu_permille: 1_500, pids: 50 });
        assert_eq!(container.log, LogLimits { file_bytes: 2 << 20, files: 3 });
        assert_eq!((container.restart, container.stop_timeout_ms), (Restart::OnFailure, 2_000));
        assert_eq!((container.ports.len(), container.volumes.len(), container.networks.len()), (2, 2, 2));
    }

    #[test]
    fn errors_say_what_is_meant() {
        let cases = [
            "ports = [\"80\"]",
            "image = \"../app.tar\"",
            "image = \"app.tar\"\ndockerfile = \"Dockerfile\"",
            "volumes = [\"./x:/data\"]",
            "devices = [\"ttyACM0\"]",
            "files = { \"/src\" = \"/app\" }",
            "files = { \"src\" = \"app\" }",
            "networks = [\"host\", \"home\"]",
            "start_first = true\nports = [\"80:80\"]",
            "memory = \"lots\"",
            "cpus = -1.0",
            "log = { max_files = 0 }",
            "restart = \"sometimes\"",
            "privileged = true",
        ];
        let errors: Vec<_> = cases.iter().map(|text| container(text).unwrap_err()).collect();
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn a_file_runs_a_program_or_a_container() {
        let both = "[app]\nname = \"web\"\n[run]\ncommand = [\"a\"]\n[container]\n";
        assert!(parse(both).unwrap_err().to_string().contains("either [run] or [container]"));
    }
}
