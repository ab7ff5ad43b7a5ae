//! `publisher log`: what happened to nodes, apps and rollouts, as the broker wrote it down.

mod export;
mod verify;

use std::{pin::pin, time::Duration};

use anyhow::Result;
use bus_client::store::{Store, StoreError};
use schemas::deploy_log::{Chained, InvalidRow, MAX_PAGE, Page, Query, Row, Whats};
use tokio::{signal, time::sleep};

use crate::{
    cli::{Log, LogCommand, LogShow},
    clock,
    exit::Exit,
    home::Home,
    problem::{Advise as _, Problem},
    screen::Screen,
    show::log,
};

/// How often is asked for what is new.
const PERIOD: Duration = Duration::from_secs(1);

/// Shows, checks or exports the log.
pub(super) async fn run(home: &Home, arguments: &Log, screen: &Screen) -> Result<Exit> {
    match &arguments.command {
        None => show(&Reader::open(home)?, &arguments.show, screen).await,
        Some(LogCommand::Verify) => verify::run(home, screen).await,
        Some(LogCommand::Export { file, csv }) => export::run(home, file, *csv, screen).await,
    }
}

/// The log of a home's fleet.
struct Reader<'a> {
    home: &'a Home,
    store: Store,
}

impl<'a> Reader<'a> {
    fn open(home: &'a Home) -> Result<Self> {
        let (credentials, tls) = (home.settings.credentials(), home.tls()?);
        let store = Store::open(vec![home.settings.store.clone()], Some(credentials), tls.as_ref())?;
        Ok(Self { home, store })
    }

    async fn state(&self) -> Result<schemas::deploy_log::State> {
        self.store.log_state().await.map_err(|error| self.explain(error))
    }

    async fn page(&self, query: &Query) -> Result<Page> {
        self.store.log(query).await.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: StoreError) -> anyhow::Error {
        let advice = match &error {
            StoreError::Denied { .. } => self.home.let_in(),
            StoreError::Untrusted { .. } => error.advice().to_owned(),
            StoreError::Unusual { .. } => "update the broker or this program to the same version".to_owned(),
            _ => format!(
                "see that the broker runs; the address of its store is `store` in {}",
                self.home.path("fleet.toml").display()
            ),
        };
        anyhow::Error::new(error).context(Problem::new("cannot read the deploy log", advice))
    }
}

/// The entries of a page.
fn links(rows: Vec<Row>) -> Result<Vec<Chained>> {
    let links: Result<_, InvalidRow> = rows.into_iter().map(Chained::try_from).collect();
    links.advise("cannot read the deploy log", "update this program to the version of the broker")
}

async fn show(reader: &Reader<'_>, wanted: &LogShow, screen: &Screen) -> Result<Exit> {
    // Read first: what comes meanwhile is no part of the first look, and the first of what follows.
    let end = reader.state().await?.seq;
    let query = query(wanted);
    let rows = newest(reader, &query, wanted.limit, end).await?;
    if screen.is_json() {
        rows.iter().try_for_each(|row| screen.json(row))?;
    } else if wanted.csv {
        screen.say(log::CSV_HEADER);
        for row in &rows {
            screen.say(&log::csv(row));
        }
    } else if end == 0 {
        screen.say("nothing has happened yet");
    } else {
        screen.say(&log::text(&links(rows)?));
    }
    if wanted.follow {
        follow(reader, Query { after: Some(end), ..query }, wanted, screen).await
    } else {
        Ok(Exit::Done)
    }
}

fn query(wanted: &LogShow) -> Query {
    let now = clock::now();
    Query {
        node: wanted.node.clone(),
        app: wanted.app.clone(),
        group: wanted.group.clone(),
        what: Whats(wanted.result.clone()),
        since: wanted.since.map(|when| when.before(now)),
        until: wanted.until.map(|when| when.before(now)),
        ..Query::default()
    }
}

/// The newest of those up to `end`, newest last.
async fn newest(reader: &Reader<'_>, query: &Query, limit: u32, end: u64) -> Result<Vec<Row>> {
    let mut query = Query { newest: true, after: Some(end.saturating_add(1)), ..query.clone() };
    let mut rows: Vec<Row> = Vec::new();
    while rows.len() < limit as usize {
        query.limit = Some((limit - rows.len() as u32).min(MAX_PAGE));
        let page = reader.page(&query).await?;
        rows.extend(page.entries);
        if !page.more || query.after == Some(page.next) {
            break;
        }
        query.after = Some(page.next);
    }
    rows.reverse();
    Ok(rows)
}

/// A line for each entry that comes, until Ctrl-C or until nobody reads it.
async fn follow(reader: &Reader<'_>, mut query: Query, wanted: &LogShow, screen: &Screen) -> Result<Exit> {
    let mut interrupted = pin!(signal::ctrl_c());
    let mut is_lost = false;
    while screen.is_read() {
        let page = tokio::select! {
            page = reader.store.log(&query) => page,
            _ = &mut interrupted => return Ok(Exit::Done),
        };
        match page {
            Ok(page) => {
                is_lost = false;
                let more = page.more;
                query.after = Some(page.next);
                show_new(page.entries, wanted, screen)?;
                if more {
                    continue;
                }
            }
            Err(error) if error.is_transient() => {
                if !is_lost {
                    screen.note(&format!("log: {error}; asking again"));
                }
                is_lost = true;
            }
            Err(error) => return Err(reader.explain(error)),
        }
        tokio::select! {
            () = sleep(PERIOD) => {}
            _ = &mut interrupted => return Ok(Exit::Done),
        }
    }
    Ok(Exit::Done)
}

fn show_new(rows: Vec<Row>, wanted: &LogShow, screen: &Screen) -> Result<()> {
    if screen.is_json() {
        return rows.iter().try_for_each(|row| screen.json(row));
    }
    if wanted.csv {
        for row in &rows {
            screen.say(&log::csv(row));
        }
        return Ok(());
    }
    for link in links(rows)? {
        screen.say(&log::line(&link.entry));
    }
    Ok(())
}
