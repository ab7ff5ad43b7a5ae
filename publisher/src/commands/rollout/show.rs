//! `publisher rollout status` and `list`.

use anyhow::Result;
use schemas::id::AppId;

use super::find;
use crate::{clock, exit::Exit, home::Home, screen::Screen, session::Session, show::rollout as show};

const NONE: &str = "no rollouts yet: start one with `publisher rollout start ./app`";

/// Everything about the rollout of an app, or about all.
pub(super) async fn status(home: &Home, app: Option<&AppId>, screen: &Screen) -> Result<Exit> {
    let fleet = Session::with(home, async |session| session.read_fleet(home).await).await?;
    let now = clock::now();
    let views = match app {
        Some(app) => vec![show::view(&fleet, find(&fleet, app)?, now)],
        None => show::views(&fleet, now),
    };
    if screen.is_json() {
        screen.json(&show::json(&views, now))?;
    } else if views.is_empty() {
        screen.say(NONE);
    } else {
        let texts: Vec<_> = views.iter().map(|view| show::text(view, now, screen.paints())).collect();
        screen.say(&texts.join("\n\n\n"));
    }
    Ok(Exit::Done)
}

/// A line for each rollout.
pub(super) async fn list(home: &Home, screen: &Screen) -> Result<Exit> {
    let fleet = Session::with(home, async |session| session.read_fleet(home).await).await?;
    let now = clock::now();
    let views = show::views(&fleet, now);
    if screen.is_json() {
        screen.json(&show::list_json(&views, now))?;
    } else if views.is_empty() {
        screen.say(NONE);
    } else {
        screen.say(&show::list(&views, now));
    }
    Ok(Exit::Done)
}
