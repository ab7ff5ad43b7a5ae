//! `publisher status`.

use anyhow::Result;

use crate::{clock, exit::Exit, home::Home, screen::Screen, session::Session, show::status};

/// Reads what the bus retains and shows it.
pub(super) async fn run(home: &Home, screen: &Screen) -> Result<Exit> {
    let fleet = Session::with(home, async |session| session.read_fleet(home).await).await?;
    if screen.is_json() {
        screen.json(&status::json(&fleet, clock::now()))?;
    } else {
        screen.say(&status::text(&fleet, clock::now()));
    }
    Ok(Exit::Done)
}
