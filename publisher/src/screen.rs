//! Where output goes: results to stdout, news and progress to stderr; progress bars only where a person looks.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, OnceLock},
};

use anyhow::Context as _;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::{
    problem::problem,
    show::{json, printable},
};

/// Standard output and standard error of one command.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    is_json: bool,
    bars: MultiProgress,
    /// Why standard output takes nothing more.
    broken: Arc<OnceLock<io::Error>>,
}

impl Screen {
    pub(crate) fn new(is_json: bool) -> Self {
        let has_person = !is_json && io::stderr().is_terminal() && io::stdout().is_terminal();
        let target = if has_person { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { is_json, bars: MultiProgress::with_draw_target(target), broken: Arc::default() }
    }

    /// Whether lines can be drawn again in place.
    pub(crate) fn is_live(&self) -> bool {
        !self.bars.is_hidden()
    }

    /// Whether colours reach a person who wants them (<https://no-color.org>).
    pub(crate) fn paints(&self) -> bool {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        !self.is_json && !is_unwanted && io::stdout().is_terminal()
    }

    /// Whether the result is JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// A line of the result for people; with `--json` it goes to stderr, so that stdout is JSON alone.
    pub(crate) fn say(&self, text: &str) {
        if self.is_json {
            self.note(text);
        } else {
            self.print(text);
        }
    }

    /// Whether what is said still arrives.
    pub(crate) fn is_read(&self) -> bool {
        self.broken.get().is_none()
    }

    /// Says whether all of the result was written. A reader that went away, as in `| head`, has what it wanted.
    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        match self.broken.get() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(io::Error::from(error.kind())).context("cannot write the result to standard output")
            }
            _ => Ok(()),
        }
    }

    /// Lines as they can be printed here.
    pub(crate) fn printable<'a>(&self, text: &'a str) -> std::borrow::Cow<'a, str> {
        printable(text, self.paints())
    }

    /// Sends to the terminal what steers it.
    pub(crate) fn steer(&self, codes: &str) {
        let sent = write!(io::stdout(), "{codes}").and_then(|()| io::stdout().flush());
        if let Err(error) = sent {
            self.broken.set(error).ok();
        }
    }

    fn print(&self, text: &str) {
        let text = printable(text, self.paints());
        if let Err(error) = self.bars.suspend(|| writeln!(io::stdout(), "{text}")) {
            // The first one tells why; those that follow from it do not.
            self.broken.set(error).ok();
        }
    }

    /// News that are no part of the result.
    pub(crate) fn note(&self, text: &str) {
        let text = printable(text, false);
        self.bars.suspend(|| writeln!(io::stderr(), "{text}")).ok();
    }

    /// What a person should look at.
    pub(crate) fn warn(&self, text: &str) {
        self.note(&format!("warning: {text}"));
    }

    /// The result as one line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.print(&json(serde_json::to_string(value)?));
        Ok(())
    }

    /// Asks a person a question, whose answer is no unless they say yes. `unattended` says what to do where nobody is.
    pub(crate) fn confirm(&self, question: &str, unattended: &str) -> anyhow::Result<bool> {
        if !io::stdin().is_terminal() {
            return Err(problem(format!("nobody is here to answer: {question}"), unattended));
        }
        let question = printable(question, false);
        self.bars
            .suspend(|| write!(io::stderr(), "{question} [y/N] ").and_then(|()| io::stderr().flush()))
            .ok();
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).context("cannot read the answer")?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// A bar that fills up with `total` bytes.
    pub(crate) fn bytes_bar(&self, total: u64) -> ProgressBar {
        let style = style("uploading {wide_bar} {bytes}/{total_bytes} {eta}");
        self.bars.add(ProgressBar::new(total).with_style(style))
    }

    /// A bar that fills up with `total` things.
    pub(crate) fn count_bar(&self, doing: &'static str, total: u64) -> ProgressBar {
        let style = style("{prefix} {wide_bar} {human_pos}/{human_len} {eta}");
        self.bars.add(ProgressBar::new(total).with_style(style)).with_prefix(doing)
    }

    /// A line that is drawn again when it changes.
    pub(crate) fn live_line(&self) -> ProgressBar {
        self.bars.add(ProgressBar::new_spinner().with_style(style("{msg}")))
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are written here")
}
