//! Where a store is.

use std::{fmt, str::FromStr};

use reqwest::Url;
use serde::{Deserialize, Serialize};

/// Why a text is not the address of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStoreUrl {
    /// A name or password does not belong into an address, where logs would show it.
    #[error(
        "store address contains user or password: write http://HOST:PORT and give them as `user` and `password`"
    )]
    Credentials,
    /// Anything else.
    #[error("`{0}` is not the address of a store: write http://HOST:PORT or https://HOST/PATH")]
    Malformed(String),
}

/// Where a store is: `http(s)://HOST[:PORT][/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct StoreUrl {
    text: String,
    host: String,
    port: u16,
}

impl StoreUrl {
    /// Whether it is spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.text.starts_with("https:")
    }

    /// Name or address of the store's machine; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port of the store.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of `path` in this store.
    pub(super) fn join(&self, path: &str) -> String {
        format!("{self}/{path}")
    }
}

impl FromStr for StoreUrl {
    type Err = InvalidStoreUrl;

    fn from_str(text: &str) -> Result<Self, InvalidStoreUrl> {
        let malformed = || InvalidStoreUrl::Malformed(text.chars().take(200).collect());
        if text.contains('@') {
            return Err(InvalidStoreUrl::Credentials);
        }
        let url = Url::parse(text).map_err(|_| malformed())?;
        let is_plain = url.query().is_none() && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !is_plain {
            return Err(malformed());
        }
        let host = url.host_str().ok_or_else(malformed)?.to_owned();
        let port = url.port_or_known_default().ok_or_else(malformed)?;
        Ok(Self { text: url.as_str().trim_end_matches('/').to_owned(), host, port })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<StoreUrl> for String {
    fn from(url: StoreUrl) -> Self {
        url.text
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = InvalidStoreUrl;

    fn try_from(text: String) -> Result<Self, InvalidStoreUrl> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_path() {
        for (text, joined) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/x"),
            ("http://pi.local/", "http://pi.local/v1/x"),
            ("https://cdn.example/fleet/a//", "https://cdn.example/fleet/a/v1/x"),
            ("http://[::1]:80", "http://[::1]/v1/x"),
        ] {
            assert_eq!(text.parse::<StoreUrl>().unwrap().join("v1/x"), joined);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "pi:8080", "ftp://pi", "http://", "http://pi?a=b", "http://pi#x", "mqtt://pi", "/v1"]
        {
            let error = text.parse::<StoreUrl>().unwrap_err();
            assert_eq!(error, InvalidStoreUrl::Malformed(text.to_owned()));
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let error = "http://anna:hunter2@pi".parse::<StoreUrl>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
