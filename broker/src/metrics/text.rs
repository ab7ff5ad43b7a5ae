//! The text of Prometheus' version 0.0.4, which all that scrape read, and `promtool` checks.

use anyhow::Context as _;
use prometheus_client::registry::Registry;

/// What the text is, for HTTP.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything in `registry`. What is written there is the text of OpenMetrics, which has other names for what counts and marks its end.
pub(super) fn encode(registry: &Registry) -> anyhow::Result<String> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).context("cannot write the metrics")?;
    let lines: Vec<&str> = text.lines().collect();
    let mut plain = String::with_capacity(text.len());
    for (at, line) in lines.iter().enumerate() {
        let mut words = line.splitn(4, ' ');
        let line = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF"), ..) => continue,
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                // The next line says what kind it is.
                let counts = lines.get(at + 1).is_some_and(|next| *next == format!("# TYPE {name} counter"));
                format!("# HELP {name}{} {help}", if counts { "_total" } else { "" })
            }
            (Some("#"), Some("TYPE"), Some(name), Some("counter")) => format!("# TYPE {name}_total counter"),
            _ => (*line).to_owned(),
        };
        plain.push_str(&line);
        plain.push('\n');
    }
    Ok(plain)
}
