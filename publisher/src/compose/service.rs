//! One service: each key finds its place, or is named.

use serde_json::{Map, Value};

use super::{ComposeError, Imported};

/// What says nothing about how a container is built and run here.
const MEANINGLESS: [(&str, &str); 12] = [
    ("container_name", "containers are named by their app"),
    ("depends_on", "each app stands for itself: let it wait for what it needs"),
    ("expose", "containers of one network reach each other's ports anyway"),
    ("hostname", "containers are named by their app"),
    ("image", "images are named by what they were built of"),
    ("labels", "containers have the labels of Deploybus"),
    ("platform", "each node builds for itself"),
    ("profiles", "groups decide where an app runs"),
    ("pull_policy", "nodes build"),
    ("stdin_open", "nobody types"),
    ("tty", "nobody looks"),
    ("scale", "one container runs on each node"),
];

/// A service on its way to a `deploybus.toml`.
#[derive(Debug, Default)]
pub(super) struct Service {
    name: String,
    is_built: bool,
    container: Vec<String>,
    env: Vec<String>,
    check: Vec<String>,
    left_out: Vec<String>,
    faults: Vec<String>,
}

impl Service {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Takes a key.
    pub(super) fn take(&mut self, key: &str, value: &Value) {
        match key {
            "build" => self.build(value),
            "command" => self.words(key, value),
            "environment" => self.environment(value),
            "ports" => self.list(key, value, port),
            "volumes" => self.volumes(value),
            "devices" => self.list(key, value, text),
            "group_add" => self.list("groups", value, text),
            "networks" | "network_mode" => self.networks(value),
            "mem_limit" => self.one("memory", value, memory),
            "cpus" => self.one("cpus", value, number),
            "pids_limit" => self.one("pids", value, number),
            "deploy" => self.deploy(value),
            "logging" => self.logging(value),
            "restart" => self.one("restart", value, restart),
            "stop_grace_period" => self.one("stop_timeout", value, quoted),
            "healthcheck" => self.healthcheck(value),
            _ if key.starts_with("x-") => {}
            _ => match MEANINGLESS.iter().find(|(name, _)| *name == key) {
                Some((name, why)) => self.left_out.push(format!("{name}: {why}")),
                None => self.faults.push(format!("`{key}` cannot be said here")),
            },
        }
    }

    /// The whole, when all of it can be said.
    pub(super) fn finish(mut self) -> Result<Imported, ComposeError> {
        if !self.is_built {
            self.faults.push(
                "it is not built: write a Dockerfile that begins with `FROM` its image, and `build: .`"
                    .to_owned(),
            );
        }
        if self.name.parse::<schemas::id::AppId>().is_err() {
            let fault = format!("`{}` is no name of an app: small letters, digits, - and _", self.name);
            self.faults.push(fault);
        }
        if !self.faults.is_empty() {
            return Err(ComposeError::Unsupported { service: self.name, faults: self.faults });
        }
        let mut text = format!("[app]\nname = \"{}\"\n\n[container]\n", self.name);
        let sections = [("", self.container), ("\n[env]\n", self.env), ("\n[[check]]\n", self.check)];
        for (header, lines) in sections.into_iter().filter(|(_, lines)| !lines.is_empty()) {
            text += header;
            text += &lines.join("\n");
            text += "\n";
        }
        Ok(Imported { text, left_out: self.left_out })
    }

    fn say(&mut self, key: &str, value: &str) {
        self.container.push(format!("{key} = {value}"));
    }

    fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    fn one(&mut self, key: &str, value: &Value, read: fn(&Value) -> Result<String, String>) {
        match read(value) {
            Ok(said) => self.say(key, &said),
            Err(fault) => self.fault(format!("`{key}`: {fault}")),
        }
    }

    fn list(&mut self, key: &str, value: &Value, read: fn(&Value) -> Result<String, String>) {
        let Some(entries) = value.as_array() else { return self.fault(format!("`{key}` is no list")) };
        match entries.iter().map(read).collect::<Result<Vec<_>, _>>() {
            Ok(entries) if entries.is_empty() => {}
            Ok(entries) => self.say(key, &strings(&entries)),
            Err(fault) => self.fault(format!("`{key}`: {fault}")),
        }
    }

    fn words(&mut self, key: &str, value: &Value) {
        match command(value) {
            Ok(words) => self.say(key, &strings(&words)),
            Err(fault) => self.fault(format!("`{key}`: {fault}")),
        }
    }

    fn build(&mut self, value: &Value) {
        self.is_built = true;
        let nothing = Map::new();
        let (context, keys) = match value {
            Value::String(context) => (context.as_str(), &nothing),
            Value::Object(keys) => (keys.get("context").and_then(Value::as_str).unwrap_or("."), keys),
            _ => return self.fault("`build` is neither a folder nor a table".to_owned()),
        };
        if !matches!(context, "." | "./") {
            self.fault(format!(
                "`build` names {context}: put the compose file into the folder that is built"
            ));
        }
        for (key, value) in keys {
            match key.as_str() {
                "context" => {}
                "dockerfile" | "target" => self.one(key, value, quoted),
                "args" => match pairs(value) {
                    Ok(pairs) => {
                        let pairs: Vec<_> =
                            pairs.into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
                        self.say("args", &format!("{{ {} }}", pairs.join(", ")));
                    }
                    Err(fault) => self.fault(format!("`args`: {fault}")),
                },
                _ => self.fault(format!("`build.{key}` cannot be said here")),
            }
        }
    }

    fn environment(&mut self, value: &Value) {
        if let Value::Object(keys) = value {
            for name in keys.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name) {
                self.left_out
                    .push(format!("{name}: its value is the node's: `publisher env set NODE {name}=…`"));
            }
        }
        match pairs(value) {
            Ok(pairs) => self.env.extend(pairs.into_iter().map(|(name, value)| format!("{name} = {value}"))),
            Err(fault) => self.fault(format!("`environment`: {fault}")),
        }
    }

    fn volumes(&mut self, value: &Value) {
        let Some(entries) = value.as_array() else { return self.fault("`volumes` is no list".to_owned()) };
        let mut volumes = Vec::new();
        for entry in entries {
            match volume(entry) {
                Ok((said, is_relative)) => {
                    if is_relative {
                        self.left_out.push(format!("{said}: the app's own folder on the node, in place of one beside the compose file"));
                    }
                    volumes.push(said);
                }
                Err(fault) => self.fault(format!("`volumes`: {fault}")),
            }
        }
        if !volumes.is_empty() {
            self.say("volumes", &strings(&volumes));
        }
    }

    fn networks(&mut self, value: &Value) {
        let names: Vec<String> = match value {
            Value::String(name) => vec![name.clone()],
            Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Value::Object(names) => names.keys().cloned().collect(),
            _ => return self.fault("`networks` is no list".to_owned()),
        };
        let names: Vec<_> =
            names.into_iter().filter(|name| !matches!(name.as_str(), "default" | "bridge")).collect();
        if !names.is_empty() {
            self.say("networks", &strings(&names));
        }
    }

    fn deploy(&mut self, value: &Value) {
        let limits = value.pointer("/resources/limits").and_then(Value::as_object);
        for (key, value) in limits.into_iter().flatten() {
            match key.as_str() {
                "memory" => self.one("memory", value, memory),
                "cpus" => self.one("cpus", value, number),
                "pids" => self.one("pids", value, number),
                _ => self.fault(format!("`deploy.resources.limits.{key}` cannot be said here")),
            }
        }
        if value.pointer("/resources/reservations").is_some() {
            self.left_out.push("deploy.resources.reservations: a node has what it has".to_owned());
        }
        for key in
            value.as_object().into_iter().flatten().map(|(key, _)| key).filter(|key| *key != "resources")
        {
            self.left_out.push(format!("deploy.{key}: rollouts decide where and when an app runs"));
        }
    }

    fn logging(&mut self, value: &Value) {
        let driver = value.get("driver").and_then(Value::as_str).unwrap_or("json-file");
        if driver != "json-file" {
            return self.fault(format!("`logging`: logs are kept as json-file, not as {driver}"));
        }
        let mut said = Vec::new();
        for (option, value) in value.get("options").and_then(Value::as_object).into_iter().flatten() {
            let read = match option.as_str() {
                "max-size" => memory(value).map(|size| format!("max_size = {size}")),
                "max-file" => number(value).map(|count| format!("max_files = {count}")),
                _ => Err("it cannot be said here".to_owned()),
            };
            match read {
                Ok(text) => said.push(text),
                Err(fault) => self.fault(format!("`logging.{option}`: {fault}")),
            }
        }
        if !said.is_empty() {
            self.say("log", &format!("{{ {} }}", said.join(", ")));
        }
    }

    fn healthcheck(&mut self, value: &Value) {
        let test = match value.get("test") {
            Some(Value::String(shell)) => vec!["sh".to_owned(), "-c".to_owned(), shell.clone()],
            Some(Value::Array(words)) => {
                let words: Vec<_> = words.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                match words.split_first() {
                    Some((kind, words)) if kind == "CMD" => words.to_vec(),
                    Some((kind, words)) if kind == "CMD-SHELL" => ["sh", "-c"]
                        .iter()
                        .map(|word| (*word).to_owned())
                        .chain(words.iter().cloned())
                        .collect(),
                    _ => return self.left_out.push("healthcheck: none is asked".to_owned()),
                }
            }
            _ => return self.left_out.push("healthcheck: none is asked".to_owned()),
        };
        self.check.push(format!("exec = {}", strings(&test)));
        for (from, to) in [("interval", "interval"), ("timeout", "timeout")] {
            if let Some(period) = value.get(from).and_then(Value::as_str) {
                self.check.push(format!("{to} = {}", quote(period)));
            }
        }
        if let Some(retries) = value.get("retries").and_then(Value::as_u64) {
            self.check.push(format!("unhealthy_after = {retries}"));
        }
        if value.get("start_period").is_some() {
            self.left_out.push("healthcheck.start_period: a trial has a `deadline` under [trial]".to_owned());
        }
    }
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn strings(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", "))
}

/// A scalar as text. Only plain `${NAME}` means the same here.
fn text(value: &Value) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        _ => return Err(format!("{value} is no text")),
    };
    let names = text.split("${").skip(1).filter_map(|rest| rest.split('}').next());
    match names.into_iter().find(|name| name.contains([':', '-', '?', '+'])) {
        Some(name) => Err(format!("`${{{name}}}` has a default, which nodes do not know: write the value")),
        None => Ok(text),
    }
}

fn quoted(value: &Value) -> Result<String, String> {
    text(value).map(|text| quote(&text))
}

fn number(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 => Ok(text),
        _ => Err(format!("`{text}` is no number")),
    }
}

/// `256m` is said as `256 MiB` here.
fn memory(value: &Value) -> Result<String, String> {
    let text = text(value)?.to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" | "b" => "B",
        "k" | "kb" => "KiB",
        "m" | "mb" => "MiB",
        "g" | "gb" => "GiB",
        _ => return Err(format!("`{text}` is no amount of bytes")),
    };
    if digits.is_empty() {
        Err(format!("`{text}` is no amount of bytes"))
    } else {
        Ok(quote(&format!("{digits} {unit}")))
    }
}

fn restart(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    match text.as_str() {
        "no" | "false" => Ok(quote("no")),
        "always" | "unless-stopped" | "on-failure" => Ok(quote(&text)),
        _ => Err(format!("`{text}` is none of no, on-failure, unless-stopped and always")),
    }
}

fn command(value: &Value) -> Result<Vec<String>, String> {
    if let Value::Array(words) = value {
        return words.iter().map(text).collect();
    }
    let text = text(value)?;
    if text.contains(['"', '\'', '\\']) {
        return Err("quotes are not taken apart: write it as a list of words".to_owned());
    }
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Names and quoted values, of a table or of a list of `NAME=value`.
fn pairs(value: &Value) -> Result<Vec<(String, String)>, String> {
    match value {
        Value::Object(keys) => {
            let said = keys.iter().filter(|(_, value)| !value.is_null());
            said.map(|(name, value)| Ok((key(name), quoted(value)?))).collect()
        }
        Value::Array(lines) => {
            let pair = |line: &Value| {
                let line = text(line)?;
                let (name, value) = line.split_once('=').ok_or_else(|| format!("{line} has no value"))?;
                Ok((key(name), quote(value)))
            };
            lines.iter().map(pair).collect()
        }
        _ => Err("it is neither a table nor a list".to_owned()),
    }
}

/// A key of TOML.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if is_bare { name.to_owned() } else { quote(name) }
}

fn port(value: &Value) -> Result<String, String> {
    let Some(keys) = value.as_object() else {
        let text = text(value)?;
        return if text.contains(':') {
            Ok(text)
        } else {
            Err(format!("{text} names no port of the node, as in 8000:80"))
        };
    };
    let said = |key: &str| keys.get(key).map(text).transpose();
    let target = said("target")?.ok_or("one has no target")?;
    let published =
        said("published")?.ok_or_else(|| format!("{target} names no `published` port of the node"))?;
    let address = said("host_ip")?.map(|address| format!("{address}:")).unwrap_or_default();
    let protocol =
        said("protocol")?.filter(|protocol| protocol != "tcp").map(|protocol| format!("/{protocol}"));
    Ok(format!("{address}{published}:{target}{}", protocol.unwrap_or_default()))
}

/// A volume, and whether its folder was one beside the compose file.
fn volume(value: &Value) -> Result<(String, bool), String> {
    let said = match value.as_object() {
        None => text(value)?,
        Some(keys) => {
            let said = |key: &str| keys.get(key).map(text).transpose();
            if let Some(kind) = said("type")?.filter(|kind| !matches!(kind.as_str(), "bind" | "volume")) {
                return Err(format!("one of type {kind} cannot be said here"));
            }
            let (source, target) = (said("source")?, said("target")?);
            let source = source.ok_or("one has no source")?;
            let target = target.ok_or_else(|| format!("{source} has no target"))?;
            let is_read_only = keys.get("read_only") == Some(&Value::Bool(true));
            format!("{source}:{target}{}", if is_read_only { ":ro" } else { "" })
        }
    };
    if !said.contains(':') {
        return Err(format!("{said} has no name, and would be gone with its container"));
    }
    match said.strip_prefix("./") {
        Some(path) => Ok((format!("${{DEPLOYBUS_DATA}}/{path}"), true)),
        None if said.starts_with("..") || said.starts_with('~') => {
            Err(format!("{said} is no folder of the node"))
        }
        None => Ok((said, false)),
    }
}
