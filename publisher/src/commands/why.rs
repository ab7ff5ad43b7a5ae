//! `publisher why`.

use anyhow::Result;

use crate::{
    cli::Why, clock, exit::Exit, home::Home, problem::problem, screen::Screen, session::Session,
    show::why as show,
};

/// Shows the rules that a node goes through to a release.
pub(super) async fn run(home: &Home, arguments: &Why, screen: &Screen) -> Result<Exit> {
    let fleet = Session::with(home, async |session| session.read_fleet(home).await).await?;
    let node = &arguments.node;
    let why = show::why(&fleet, node, arguments.app.as_ref(), clock::now()).ok_or_else(|| {
        problem(
            format!("there is no node {node}"),
            "see the nodes with `publisher status`; add one with `publisher node add`",
        )
    })?;
    if screen.is_json() {
        screen.json(&why)?;
    } else {
        screen.say(&show::text(&why));
    }
    Ok(Exit::Done)
}
