//! `publisher watch`.

use std::pin::pin;

use anyhow::Result;
use schemas::id::AppId;
use serde::Serialize;
use tokio::signal;

use crate::{
    cli::Watch,
    clock,
    exit::Exit,
    home::Home,
    screen::Screen,
    session::{News, Session},
    show::{
        status,
        watch::{Line, Watcher},
    },
};

#[derive(Serialize)]
struct TimedLine<'a> {
    at: String,
    node: Option<&'a schemas::id::NodeId>,
    app: Option<&'a schemas::id::AppId>,
    text: &'a str,
}

/// Shows the fleet as it is, then a line for each change, until Ctrl-C or until nobody reads it.
pub(super) async fn run(home: &Home, arguments: &Watch, screen: &Screen) -> Result<Exit> {
    Session::with(home, async |session| follow(home, session, arguments.app.as_ref(), screen).await).await
}

async fn follow(home: &Home, session: &mut Session, app: Option<&AppId>, screen: &Screen) -> Result<Exit> {
    let mut fleet = session.read_fleet(home).await?;
    let mut watcher = Watcher::of(&fleet);
    if !screen.is_json() {
        screen.say(&format!("{}\n", status::text(&fleet, clock::now())));
    }
    // Made once: a Ctrl-C between two rounds is not lost.
    let mut interrupted = pin!(signal::ctrl_c());
    while screen.is_read() {
        tokio::select! {
            news = session.next(&mut fleet) => match news {
                Some(News::Changed(change)) => {
                    let lines = watcher.lines(&fleet, &change);
                    let wanted = lines.iter().filter(|line| app.is_none() || line.app.as_ref() == app);
                    wanted.into_iter().try_for_each(|line| show(line, screen))?;
                }
                Some(News::Lost(lost)) => screen.note(&format!("bus: {lost}; connecting again")),
                Some(News::Back) => screen.note("bus: connected again"),
                None => return Ok(Exit::Failed),
            },
            _ = &mut interrupted => return Ok(Exit::Done),
        }
    }
    Ok(Exit::Done)
}

fn show(line: &Line, screen: &Screen) -> Result<()> {
    let at = clock::now().to_string();
    if screen.is_json() {
        return screen.json(&TimedLine {
            at,
            node: line.node.as_ref(),
            app: line.app.as_ref(),
            text: &line.text,
        });
    }
    screen.say(&format!("{at} {}", line.plain()));
    Ok(())
}
