//! `publisher web-token`: logs a browser in on the broker's page.

use anyhow::Result;
use bus_client::store::{Store, StoreError};

use crate::{exit::Exit, home::Home, problem::Problem, screen::Screen};

/// Shows where a browser is logged in as this home's user.
pub(super) async fn run(home: &Home, screen: &Screen) -> Result<Exit> {
    let (credentials, tls) = (home.settings.credentials(), home.tls()?);
    let store = Store::open(vec![home.settings.store.clone()], Some(credentials), tls.as_ref())?;
    let token = store.web_token().await.map_err(|error| explain(home, error))?;
    if screen.is_json() {
        screen.json(&token)?;
    } else {
        screen.say(&token.url);
        screen.note(&format!(
            "open it once, until {}: whoever does is {}",
            token.expires_at, home.settings.user
        ));
    }
    Ok(Exit::Done)
}

fn explain(home: &Home, error: StoreError) -> anyhow::Error {
    let advice = match &error {
        StoreError::Denied { .. } => home.let_in(),
        StoreError::Untrusted { .. } | StoreError::Unusual { .. } => error.advice().to_owned(),
        _ => format!(
            "see that the broker runs; the address of its page is `store` in {}",
            home.path("fleet.toml").display()
        ),
    };
    anyhow::Error::new(error).context(Problem::new("cannot log in on the page", advice))
}
