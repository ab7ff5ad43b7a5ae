//! `publisher log verify`: whether the log is a chain, and still the one that was seen before.

use std::{fs, io, path::PathBuf};

use anyhow::Result;
use schemas::deploy_log::{FORMAT, Fault, Head, Query, State, verify};
use serde::Serialize;

use super::{Reader, links};
use crate::{
    exit::Exit,
    home::{Home, WRITABLE, files},
    problem::{Advise as _, problem},
    screen::Screen,
    show::amount,
};

/// In the home: the last entry that was verified.
const FILE: &str = "log-head.json";

#[derive(Serialize)]
struct Verified {
    entries: u64,
    seq: u64,
    digest: schemas::id::Digest,
    /// The entry that was the last one when this was done before, or 0.
    before_seq: u64,
}

/// Reads all of the log, and says that it is whole or what is wrong with it.
pub(super) async fn run(home: &Home, screen: &Screen) -> Result<Exit> {
    let reader = Reader::open(home)?;
    let memory = Memory { path: home.path(FILE) };
    let (state, before) = (reader.state().await?, memory.read()?);
    if state.format > FORMAT {
        return Err(problem(
            format!("the deploy log has format {} and this program knows {FORMAT}", state.format),
            "update this program: it cannot tell whether this log was changed",
        ));
    }
    memory.compare_ends(before, &state)?;
    let head = walk(&reader, &memory, before, &state, screen).await?;
    memory.keep(head)?;
    let entries = head.seq - state.anchor_seq;
    if screen.is_json() {
        let (seq, digest) = (head.seq, head.digest);
        screen.json(&Verified { entries, seq, digest, before_seq: before.map_or(0, |head| head.seq) })?;
    } else {
        let count = amount::count(usize::try_from(entries)?, "entry").replace("entrys", "entries");
        let since = match before {
            Some(head) => format!("entry {} is still what it was when this was done before", head.seq),
            None => "this was never done before, so there is nothing to compare it with".to_owned(),
        };
        let to =
            if entries == 0 { String::new() } else { format!(" up to {} {}", head.seq, head.digest.short()) };
        screen.say(&format!("the deploy log is whole: {count}{to}"));
        screen.say(&since);
    }
    Ok(Exit::Done)
}

/// Goes through all entries that the log had when it was asked for its state.
async fn walk(
    reader: &Reader<'_>,
    memory: &Memory,
    before: Option<Head>,
    state: &State,
    screen: &Screen,
) -> Result<Head> {
    let bar = screen.count_bar("verifying", state.seq - state.anchor_seq);
    let mut head = state.anchor();
    while head.seq < state.seq {
        let query = Query { after: Some(head.seq), ..Query::default() };
        let links = links(reader.page(&query).await?.entries)?;
        let links: Vec<_> = links.into_iter().take_while(|link| link.entry.seq <= state.seq).collect();
        let is_pruned = links.first().is_some_and(|link| link.entry.seq > head.seq + 1);
        if is_pruned && head == state.anchor() && reader.state().await?.anchor_seq > head.seq {
            // Its oldest entries were deleted since it was asked where it begins.
            return Err(problem(
                "the deploy log was shortened while it was read",
                "that is what its retention does: verify once more",
            ));
        }
        if links.is_empty() {
            return Err(rewritten(&format!("entry {} is missing", head.seq + 1)));
        }
        head = verify(head, &links).map_err(|broken| match broken.fault {
            Fault::TooNew => problem(
                format!("THE DEPLOY LOG CANNOT BE VERIFIED: {broken}"),
                "update this program to the version of the broker; if that says the same, the log was changed",
            ),
            Fault::Changed | Fault::Missing { .. } => rewritten(&broken.to_string()),
        })?;
        if let Some(link) = links.iter().find(|link| before.is_some_and(|head| head.seq == link.entry.seq)) {
            memory.compare(before, link.head())?;
        }
        bar.set_position(head.seq - state.anchor_seq);
    }
    bar.finish_and_clear();
    if head != state.head() {
        return Err(rewritten(&format!("entry {} is not the one that the broker says it is", head.seq)));
    }
    Ok(head)
}

fn rewritten(what: &str) -> anyhow::Error {
    problem(
        format!("THE DEPLOY LOG WAS CHANGED: {what}"),
        "somebody wrote to log.sqlite3 in the data folder of the broker: compare it with a backup, and see who may log in there",
    )
}

/// What was verified before.
struct Memory {
    path: PathBuf,
}

impl Memory {
    fn read(&self) -> Result<Option<Head>> {
        let what = format!("cannot use {}", self.path.display());
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.advise(&what, "make it readable for you")?,
        };
        serde_json::from_slice(&text).advise(what, "bring it back from a backup of the home").map(Some)
    }

    fn keep(&self, head: Head) -> Result<()> {
        files::replace(&self.path, &serde_json::to_vec(&head)?, files::PRIVATE)
            .advise(format!("cannot write {}", self.path.display()), WRITABLE)
    }

    /// What can be told before anything is read.
    fn compare_ends(&self, before: Option<Head>, state: &State) -> Result<()> {
        let Some(head) = before else { return Ok(()) };
        if head.seq > state.seq {
            return Err(
                self.anew(&format!("it ends with entry {}, and {} was there before", state.seq, head.seq))
            );
        }
        if head.seq < state.anchor_seq {
            return Err(self.anew(&format!(
                "entry {}, the last that was verified, was deleted, and so nothing tells whether this is the same log",
                head.seq
            )));
        }
        if head.seq == state.anchor_seq { self.compare(before, state.anchor()) } else { Ok(()) }
    }

    fn compare(&self, before: Option<Head>, found: Head) -> Result<()> {
        if before.is_some_and(|before| before != found) {
            return Err(self.anew(&format!("entry {} is another one than before", found.seq)));
        }
        Ok(())
    }

    fn anew(&self, what: &str) -> anyhow::Error {
        problem(
            format!("THIS IS NOT THE DEPLOY LOG THAT WAS VERIFIED BEFORE: {what}"),
            format!(
                "find out why: the broker's log says when it began a new one, or deleted old entries (`[log] keep`); \
                 if that explains it, remove {} and verify again",
                self.path.display()
            ),
        )
    }
}
