//! `[[webhook]]`: who is told what happens.

use std::{path::PathBuf, str::FromStr};

use reqwest::Url;
use serde::Deserialize;

use crate::notify::NoticeKind;

/// Somebody who is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where notices are posted to.
    pub url: WebhookUrl,
    /// The file with the secret that signs them; a relative path starts at the settings file.
    pub secret_file: PathBuf,
    /// Which notices.
    #[serde(default = "usual")]
    pub on: Vec<NoticeKind>,
}

fn usual() -> Vec<NoticeKind> {
    vec![NoticeKind::Started, NoticeKind::Stopped, NoticeKind::Completed, NoticeKind::RolledBack]
}

/// An `http` or `https` address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookUrl(Url);

/// Text that is no address of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address of a webhook is none: write https://HOST/PATH")]
pub struct InvalidWebhookUrl;

impl WebhookUrl {
    /// The address.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Its host, for logs: with many services the path is a secret.
    pub(crate) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

impl FromStr for WebhookUrl {
    type Err = InvalidWebhookUrl;

    fn from_str(text: &str) -> Result<Self, InvalidWebhookUrl> {
        let url = Url::parse(text).map_err(|_| InvalidWebhookUrl)?;
        let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
        if is_web { Ok(Self(url)) } else { Err(InvalidWebhookUrl) }
    }
}

impl TryFrom<String> for WebhookUrl {
    type Error = InvalidWebhookUrl;

    fn try_from(text: String) -> Result<Self, InvalidWebhookUrl> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use crate::settings::{Overrides, Settings};

    #[test]
    fn log_and_webhooks_are_read_from_the_file() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("broker.toml");
        let text = "open_loopback = true\n[log]\nkeep = '90d'\n[[webhook]]\nurl = 'https://ops.example/a?b=c'\nsecret_file = 'secret'\n";
        fs::write(&file, text).unwrap();
        let settings = Settings::load(Overrides { file: Some(file), ..Overrides::default() }).unwrap();
        assert_eq!((settings.log.keep, settings.log.entries), (Duration::from_hours(24 * 90), 2_000_000));
        let webhook = &settings.webhook[0];
        assert_eq!((webhook.url.as_str(), webhook.url.host()), ("https://ops.example/a?b=c", "ops.example"));
        assert_eq!((webhook.on.len(), &webhook.secret_file), (4, &folder.path().join("secret")));
    }
}
