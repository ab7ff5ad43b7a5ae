//! `publisher watch`.

use std::pin::pin;

use anyhow::{Context as _, Result};
use rollout::Fleet;
use schemas::id::AppId;
use serde::Serialize;
use tokio::{
    signal::{
        self,
        unix::{SignalKind, signal},
    },
    time::{Duration, Instant, sleep_until},
};

use crate::{
    canvas::{self, Canvas},
    cli::Watch,
    clock,
    exit::Exit,
    home::Home,
    screen::Screen,
    session::{News, Session},
    show::{
        board::Board,
        status,
        watch::{Line, Watcher},
    },
};

/// What comes in so long is drawn together.
const TOGETHER: Duration = Duration::from_millis(100);
/// Ages grow also when nothing comes.
const TICK: Duration = Duration::from_secs(1);
/// More lines than the largest terminal has.
const MAX_EVENTS: usize = 500;

#[derive(Serialize)]
struct TimedLine<'a> {
    at: String,
    node: Option<&'a schemas::id::NodeId>,
    app: Option<&'a schemas::id::AppId>,
    text: &'a str,
}

/// Shows the fleet as it is and what changes, until Ctrl-C or until nobody reads it.
pub(super) async fn run(home: &Home, arguments: &Watch, screen: &Screen) -> Result<Exit> {
    Session::with(home, async |session| {
        let fleet = session.read_fleet(home).await?;
        match Some(screen).filter(|_| !arguments.lines).and_then(Canvas::open) {
            Some(canvas) => draw(session, fleet, arguments.app.as_ref(), canvas, screen).await,
            None => follow(session, fleet, arguments.app.as_ref(), screen).await,
        }
    })
    .await
}

/// As a table, then a line for each change.
async fn follow(
    session: &mut Session,
    mut fleet: Fleet,
    app: Option<&AppId>,
    screen: &Screen,
) -> Result<Exit> {
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

/// In place, as large as the terminal is. What was drawn last stays when it ends.
async fn draw(
    session: &mut Session,
    mut fleet: Fleet,
    app: Option<&AppId>,
    canvas: Canvas<'_>,
    screen: &Screen,
) -> Result<Exit> {
    let of = |kind| signal(kind).context("cannot wait for signals");
    let mut resized = of(SignalKind::window_change())?;
    let (mut ended, mut hung_up) = (of(SignalKind::terminate())?, of(SignalKind::hangup())?);
    let mut interrupted = pin!(signal::ctrl_c());
    let mut watcher = Watcher::of(&fleet);
    let mut events: Vec<String> = Vec::new();
    let mut due = Instant::now();
    let exit = loop {
        let soon = due.min(Instant::now() + TOGETHER);
        tokio::select! {
            news = session.next(&mut fleet) => {
                let lines = match news {
                    Some(News::Changed(change)) => {
                        let lines = watcher.lines(&fleet, &change).into_iter();
                        let wanted = lines.filter(|line| app.is_none() || line.app.as_ref() == app);
                        wanted.map(|line| line.plain()).collect()
                    }
                    Some(News::Lost(lost)) => vec![format!("bus: {lost}; connecting again")],
                    Some(News::Back) => vec!["bus: connected again".to_owned()],
                    None => break Exit::Failed,
                };
                let at = clock::now();
                events.extend(lines.into_iter().map(|line| format!("{at} {line}")));
                events.drain(..events.len().saturating_sub(MAX_EVENTS));
                due = soon;
            }
            _ = resized.recv() => due = Instant::now(),
            () = sleep_until(due) => {
                canvas.draw(&board(&fleet, &events, app, screen).lines(canvas::size()));
                due = Instant::now() + TICK;
            }
            _ = &mut interrupted => break Exit::Done,
            _ = ended.recv() => break Exit::Done,
            _ = hung_up.recv() => break Exit::Done,
        }
        if !screen.is_read() {
            break Exit::Done;
        }
    };
    let last = board(&fleet, &events, app, screen).lines(canvas::size());
    drop(canvas);
    screen.say(&last.join("\n"));
    Ok(exit)
}

fn board<'a>(fleet: &'a Fleet, events: &'a [String], app: Option<&'a AppId>, screen: &Screen) -> Board<'a> {
    Board { fleet, events, app, now: clock::now(), paints: screen.paints() }
}
