//! The environment that programs of a release get, and `${NAME}` in what the release says about them.

use std::collections::BTreeMap;

/// What programs take over from the worker, below everything else. The rest of the worker's environment stays its own:
/// it may name sockets of systemd and settings of the worker.
const INHERITED: [&str; 7] = ["HOME", "LANG", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"];
/// Where programs are looked for when nobody says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A `${…}` that cannot be replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpandError {
    /// Neither the release nor the node says what it is.
    #[error("`{text}` needs ${{{name}}}, which neither the release nor the node's settings have in `env`")]
    Unknown {
        /// The name.
        name: String,
        /// Where it stands.
        text: String,
    },
    /// The brace is never closed.
    #[error("`{0}` has a `${{` without its `}}`")]
    Open(String),
}

/// The merged environment of a release on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Merges layers, later ones above earlier ones.
    pub(crate) fn merge<'a>(layers: impl IntoIterator<Item = &'a BTreeMap<String, String>>) -> Self {
        let pairs = layers.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone()));
        Self(pairs.collect())
    }

    /// All of it, without what programs inherit.
    pub(crate) fn values(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Replaces each `${NAME}` by its value; `$${` stands for a plain `${`.
    pub(crate) fn expand(&self, text: &str) -> Result<String, ExpandError> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            if let Some(before) = before.strip_suffix('$') {
                expanded.push_str(before);
                expanded.push_str("${");
                rest = &from[2..];
                continue;
            }
            expanded.push_str(before);
            let (name, after) =
                from[2..].split_once('}').ok_or_else(|| ExpandError::Open(text.to_owned()))?;
            let unknown = || ExpandError::Unknown { name: name.to_owned(), text: text.to_owned() };
            expanded.push_str(self.0.get(name).ok_or_else(unknown)?);
            rest = after;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    /// What a program gets: this, above what it inherits from the worker.
    pub(crate) fn for_program(
        &self,
        worker: impl Fn(&'static str) -> Option<String>,
    ) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
        all.extend(INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), worker(name)?))));
        all.extend(self.0.clone());
        all
    }

    /// The same as a file for `EnvironmentFile=` of a systemd unit (systemd.exec(5)).
    pub(crate) fn as_systemd_file(&self) -> String {
        let mut file = String::from("# Written by pi-worker before the unit starts.\n");
        for (name, value) in &self.0 {
            file.push_str(name);
            file.push_str("=\"");
            for c in value.chars() {
                if matches!(c, '"' | '\\' | '$' | '`') {
                    file.push('\\');
                }
                file.push(c);
            }
            file.push_str("\"\n");
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_node_stands_above_the_release_and_the_worker_above_both() {
        let release = layer(&[("PORT", "8000"), ("MODE", "prod"), ("DEPLOYBUS_APP", "x")]);
        let node = layer(&[("PORT", "8001"), ("DEPLOYBUS_APP", "y")]);
        let own = layer(&[("DEPLOYBUS_APP", "web")]);
        let merged = Environment::merge([&release, &node, &own]);
        assert_eq!(*merged.values(), layer(&[("PORT", "8001"), ("MODE", "prod"), ("DEPLOYBUS_APP", "web")]));
    }

    #[test]
    fn names_in_braces_are_replaced_and_nothing_else() {
        let env = Environment(layer(&[("PORT", "8001"), ("HOST", "::1")]));
        for (text, expanded) in [
            ("http://127.0.0.1:${PORT}/x", "http://127.0.0.1:8001/x"),
            ("[${HOST}]:${PORT}", "[::1]:8001"),
            ("plain $PORT $ {PORT}", "plain $PORT $ {PORT}"),
            ("for the shell: $${PORT}", "for the shell: ${PORT}"),
            ("", ""),
        ] {
            assert_eq!(env.expand(text).unwrap(), expanded);
        }
        let unknown = env.expand("a ${PROT} b").unwrap_err().to_string();
        assert!(unknown.contains("`a ${PROT} b` needs ${PROT}"), "{unknown}");
        assert_eq!(env.expand("${PORT"), Err(ExpandError::Open("${PORT".into())));
    }

    #[test]
    fn a_program_inherits_little_and_no_settings_of_the_worker() {
        let env = Environment(layer(&[("TZ", "UTC")]));
        let worker = |name: &'static str| {
            [("PATH", "/bin"), ("TZ", "CET"), ("NOTIFY_SOCKET", "/x")]
                .iter()
                .find(|pair| pair.0 == name)
                .map(|pair| pair.1.to_owned())
        };
        assert_eq!(env.for_program(worker), layer(&[("PATH", "/bin"), ("TZ", "UTC")]));
        assert_eq!(env.for_program(|_| None)["PATH"], DEFAULT_PATH);
    }

    #[test]
    fn a_file_for_systemd_quotes_what_it_would_interpret() {
        let env = Environment(layer(&[("A", "x y"), ("B", "\"$HOME\\`")]));
        let file = env.as_systemd_file();
        assert!(file.ends_with("\nA=\"x y\"\nB=\"\\\"\\$HOME\\\\\\`\"\n"), "{file}");
    }
}
