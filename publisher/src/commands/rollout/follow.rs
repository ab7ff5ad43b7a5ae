//! Waiting for the controller, and following a rollout until it is over or stops.

use std::{collections::BTreeSet, pin::pin};

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use rollout::{Fleet, Wanted};
use schemas::{
    id::{AppId, NodeId, Revision},
    rollout::{CourseState, Rollout},
    seal::Verified,
};
use tokio::{
    signal,
    time::{Duration, Instant, MissedTickBehavior, interval, timeout_at},
};

use crate::{
    clock,
    exit::Exit,
    problem::problem,
    screen::Screen,
    session::{News, Session, until},
    show::rollout::{self as show, RolloutView},
};

/// A controller that works takes note at once. So long it may be busy, or another one may wait that is named behind one that is away;
/// where a rollout is under way, another one takes over later than that.
const HEED_LIMIT: Duration = Duration::from_secs(15);
/// How often it is looked at what came in meanwhile: a large fleet says a lot.
const TICK: Duration = Duration::from_millis(500);

/// Waits until the controller has taken note of what is wanted.
pub(super) async fn until_heeded(
    session: &mut Session,
    fleet: &mut Fleet,
    rollout: &Verified<Rollout>,
) -> Result<()> {
    let limit = Instant::now() + HEED_LIMIT;
    while !is_heeded(fleet, rollout) {
        match timeout_at(limit, session.next(fleet)).await {
            Ok(news) => drop(news.context("bus connection was closed")?),
            Err(_) => return Err(no_answer(fleet, rollout)),
        }
    }
    Ok(())
}

/// Exactly this document: somebody else may have used the same number.
fn is_heeded(fleet: &Fleet, rollout: &Verified<Rollout>) -> bool {
    let course = fleet.rollouts().course(&rollout.app);
    course.is_some_and(|course| course.first == rollout.first && course.heeded_rollout == rollout.digest())
}

fn no_answer(fleet: &Fleet, rollout: &Rollout) -> anyhow::Error {
    let (app, now) = (&rollout.app, clock::now());
    let carrier = fleet.rollouts().plan(app).map(|wanted| show::carrier(fleet, wanted, now));
    let again = format!("publisher rollout start … --app {app}");
    let advice = carrier.as_ref().and_then(|carrier| carrier.advice(&again));
    let carrier = carrier.map(|carrier| format!(" ({})", carrier.text(now))).unwrap_or_default();
    problem(
        format!(
            "no controller answered for {} s{carrier}; what is wanted is on the bus, and counts once one does",
            HEED_LIMIT.as_secs()
        ),
        advice.unwrap_or_else(|| format!("look for the rollout of {app} in the broker's log")),
    )
}

/// A rollout that is followed.
pub(super) struct Followed<'a> {
    pub(super) app: &'a AppId,
    pub(super) first: Revision,
    pub(super) timeout: Option<Duration>,
}

impl Followed<'_> {
    /// Shows how it goes until it is over or stops, and what it came to.
    pub(super) async fn run(
        &self,
        session: &mut Session,
        fleet: &mut Fleet,
        screen: &Screen,
    ) -> Result<Exit> {
        let mut live = Live { screen, lines: Vec::new(), told: Told::default() };
        let limit = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Made once: a Ctrl-C between two rounds is not lost.
        let mut interrupted = pin!(signal::ctrl_c());
        let exit = loop {
            tokio::select! {
                news = session.next(fleet) => match news {
                    Some(News::Changed(_)) => {}
                    Some(News::Lost(lost)) => screen.note(&format!("bus: {lost}; connecting again")),
                    Some(News::Back) => screen.note("bus: connected again"),
                    None => {
                        live.clear();
                        return Err(problem("the connection to the bus was closed", "the rollout goes on: `publisher rollout status`"));
                    }
                },
                _ = tick.tick() => {
                    let Some(wanted) = self.wanted(fleet) else { break Exit::Ended };
                    live.show(&show::view(fleet, wanted, clock::now()));
                    let state = fleet.rollouts().course(self.app).map(|course| &course.state);
                    if let Some(exit) = state.and_then(ending) {
                        break exit;
                    }
                }
                () = until(limit) => break Exit::Silent,
                _ = &mut interrupted => break Exit::Interrupted,
            }
        };
        live.clear();
        self.end(fleet, exit, screen)?;
        Ok(exit)
    }

    /// It, unless another one took its place.
    fn wanted<'a>(&self, fleet: &'a Fleet) -> Option<&'a Wanted> {
        fleet.rollouts().plan(self.app).filter(|wanted| wanted.plans.mandate.first == self.first)
    }

    /// What it came to.
    pub(super) fn end(&self, fleet: &Fleet, exit: Exit, screen: &Screen) -> Result<()> {
        let now = clock::now();
        let view = self.wanted(fleet).map(|wanted| show::view(fleet, wanted, now));
        if screen.is_json() {
            let mut value = show::json(view.as_slice(), now);
            value["exit_code"] = exit.code().into();
            value["exit_meaning"] = exit.meaning().into();
            return screen.json(&value);
        }
        let Some(view) = view else {
            screen.warn(&format!("another rollout of {} took the place of this one", self.app));
            return Ok(());
        };
        screen.say(&format!("\n{}", show::text(&view, now, screen.paints())));
        let app = self.app;
        match exit {
            Exit::Silent | Exit::Interrupted => {
                screen.say(&format!("\nit goes on by itself: `publisher rollout status {app}`"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// How a command ends that follows a rollout in this state; nothing while it goes on.
fn ending(state: &CourseState) -> Option<Exit> {
    match state {
        CourseState::Completed => Some(Exit::Done),
        CourseState::Paused(_) | CourseState::Aborted { .. } if show::stopped_by_itself(state) => {
            Some(Exit::Stopped)
        }
        CourseState::Paused(_) | CourseState::Aborted { .. } | CourseState::Superseded => Some(Exit::Ended),
        _ => None,
    }
}

/// What was said already, where lines are not drawn again.
#[derive(Default)]
struct Told {
    state: &'static str,
    waves: Vec<&'static str>,
    failed: BTreeSet<NodeId>,
}

/// Waves as lines that change in place for a person, a line for each change otherwise.
struct Live<'a> {
    screen: &'a Screen,
    lines: Vec<ProgressBar>,
    told: Told,
}

impl Live<'_> {
    fn show(&mut self, view: &RolloutView) {
        if !self.screen.is_live() {
            return self.tell(view);
        }
        while self.lines.len() < view.waves.len() {
            self.lines.push(self.screen.live_line());
        }
        for (line, wave) in self.lines.iter().zip(&view.waves) {
            line.set_message(show::wave_line(view, wave, self.screen.paints()));
        }
    }

    fn tell(&mut self, view: &RolloutView) {
        let Told { state, waves, failed } = &mut self.told;
        if *state != view.state {
            *state = view.state;
            self.screen.say(&format!("{} {}: {}", view.app, view.version, view.state.replace('_', " ")));
        }
        waves.resize(view.waves.len(), "closed");
        for (told, wave) in waves.iter_mut().zip(&view.waves) {
            if *told != wave.state {
                *told = wave.state;
                self.screen.say(&show::wave_line(view, wave, false));
            }
        }
        for node in view.nodes.iter().filter(|node| node.failed) {
            if failed.insert(node.node.clone()) {
                self.screen.say(&format!("{} {}: {}", node.node, node.state.replace('_', " "), node.why()));
            }
        }
    }

    fn clear(&mut self) {
        self.lines.drain(..).for_each(|line| line.finish_and_clear());
    }
}
