//! `publisher logs`: what an app says on its node, while somebody asks for it.

use std::{pin::pin, time::Duration};

use anyhow::{Context as _, Result};
use rollout::Fleet;
use schemas::{
    hold::{Ask, AskKind},
    id::AppId,
    status::{LogLines, LogSource},
    topic::{Kind, NodeTopic, Topic},
};
use tokio::{
    signal,
    time::{Instant, interval, timeout_at},
};

use super::request::present;
use crate::{
    cli::Logs, clock, exit::Exit, home::Home, problem::problem, screen::Screen, session::Session, show::clean,
};

/// A node on a slow link takes no longer to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// A node goes on telling for a minute after it was asked.
const ASK_AGAIN: Duration = Duration::from_secs(40);

/// Asks, shows the answer, and follows when that is wanted.
pub(super) async fn run(home: &Home, arguments: &Logs, screen: &Screen) -> Result<Exit> {
    Session::with(home, async |session| {
        let fleet = session.read_fleet(home).await?;
        let app = app(&fleet, arguments)?;
        let own = |topic| Kind::Node(arguments.node.clone(), topic).of(&home.settings.fleet);
        let (log, requests) = (own(NodeTopic::Log), own(NodeTopic::Request));
        session.listen(&log).await?;
        let id = format!("{}-{}", std::process::id(), clock::now_ms());
        let ask = Ask { lines: arguments.lines, id, ..Ask::new(AskKind::Logs, app) };
        session.publish(requests.clone(), payload(&ask)?).await?;
        answer(session, &log, &ask, screen).await?;
        if arguments.follow { follow(session, (&log, requests), ask, screen).await } else { Ok(Exit::Done) }
    })
    .await
}

fn payload(ask: &Ask) -> Result<Vec<u8>> {
    serde_json::to_vec(ask).context("cannot write the request")
}

/// The app that it is about: the one that is named, else the only one.
fn app(fleet: &Fleet, arguments: &Logs) -> Result<AppId> {
    let node = present(fleet, &arguments.node)?;
    let apps = node.report().map(|report| report.apps.as_slice()).unwrap_or_default();
    let names: Vec<&AppId> = apps.iter().map(|app| &app.app).collect();
    match (&arguments.app, names.as_slice()) {
        (Some(app), names) if names.contains(&app) => Ok(app.clone()),
        (None, [app]) => Ok((*app).clone()),
        (Some(app), _) => Err(problem(
            format!("{} has no app {app}", arguments.node),
            "see what it runs with `publisher status`",
        )),
        (None, []) => {
            let advice = "announce one with `publisher announce`";
            Err(problem(format!("{} runs no app yet", arguments.node), advice))
        }
        (None, names) => {
            let names: Vec<_> = names.iter().map(|app| app.as_str()).collect();
            Err(problem(
                format!("{} has several apps", arguments.node),
                format!("say which with --app: {}", names.join(", ")),
            ))
        }
    }
}

async fn answer(session: &mut Session, log: &Topic, ask: &Ask, screen: &Screen) -> Result<()> {
    let limit = Instant::now() + ANSWER_LIMIT;
    loop {
        let heard = timeout_at(limit, session.next_on(log)).await.map_err(|_| {
            problem(
                "the node does not answer",
                "see whether it is online with `publisher status`; `requests` of its settings may not have `logs`, and an older worker tells none",
            )
        })?;
        let said = read(&heard.context("bus connection was closed")?);
        let Some(said) = said.filter(|said| said.answers == ask.id) else { continue };
        return show(&said, screen);
    }
}

async fn follow(
    session: &mut Session,
    (log, requests): (&Topic, Topic),
    ask: Ask,
    screen: &Screen,
) -> Result<Exit> {
    let mut again = interval(ASK_AGAIN);
    again.tick().await;
    // Made once: a Ctrl-C between two rounds is not lost.
    let mut interrupted = pin!(signal::ctrl_c());
    while screen.is_read() {
        tokio::select! {
            heard = session.next_on(log) => {
                let Some(heard) = heard else { return Ok(Exit::Failed) };
                if let Some(said) = read(&heard).filter(|said| ask.app.as_ref() == Some(&said.app)) {
                    show(&said, screen)?;
                }
            }
            _ = again.tick() => {
                let again = Ask { lines: 0, ..ask.clone() };
                session.publish(requests.clone(), payload(&again)?).await?;
            }
            _ = &mut interrupted => return Ok(Exit::Done),
        }
    }
    Ok(Exit::Done)
}

/// What is not said in our form is not said by a node of ours.
fn read(payload: &[u8]) -> Option<LogLines> {
    serde_json::from_slice(payload).ok()
}

fn show(said: &LogLines, screen: &Screen) -> Result<()> {
    if screen.is_json() {
        return screen.json(said);
    }
    if said.dropped > 0 {
        screen.say(&format!("… {} lines left out", said.dropped));
    }
    for line in &said.lines {
        let who = if said.source == LogSource::Build { "build | " } else { "" };
        screen.say(&format!("{who}{}", clean(line)));
    }
    Ok(())
}
