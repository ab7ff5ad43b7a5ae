//! The node: a synchronous handler of events over the machines of its apps.

mod heard;
mod holds;
mod talk;
mod tidy;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bus_client::bus::{self, Bus, Lost};
use machine::{Bus as Reach, Effect, Fault, Input, Setup, Yield};
use schemas::{
    id::{AppId, GroupId},
    reason::Reason,
    status::EventType,
    topic::Kind,
};
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use self::{holds::Holds, talk::Talk};
use super::{
    app::{App, may_be_cut, must_go_on},
    cadence::{Cadence, Urgency},
    event::Event,
    hands::Hands,
    speaker::{Speaker, View},
};
use crate::{
    chain::chain,
    clock::{self, Clock},
    facts::{self, Facts},
    hold::Judge,
    identity::Identity,
    inbound::Refused,
    installer::{Installer, Notice},
    journal::JournalError,
    keeper::Keeper,
    memory::Memory,
    mirror,
    refusals::Refusals,
    settings::Settings,
    work::blocking,
};

/// So often the node is looked at.
const LOOK_EVERY_MS: u64 = 60_000;
/// What is under way when the worker is to end gets so much time.
const STOP_MS: u64 = 5_000;
/// An engine is asked for its disk for no longer.
const ENGINE_WITHIN: Duration = Duration::from_secs(20);
/// How the bus is, for people.
const CONNECTED: &str = "connected";

/// What a node is made of.
pub(super) struct Node<I> {
    pub(super) settings: Settings,
    pub(super) identity: Identity,
    pub(super) memory: Memory,
    pub(super) keeper: Keeper<Memory>,
    pub(super) clock: Clock,
    pub(super) bus: Bus,
    pub(super) hands: Hands<I>,
    pub(super) speaker: Speaker,
    pub(super) facts: Facts,
    pub(super) judge: Judge,
    pub(super) state: State,
}

/// What changes while it runs.
#[derive(Default)]
pub(super) struct State {
    apps: BTreeMap<AppId, App>,
    groups: BTreeSet<GroupId>,
    /// The environment that its record says.
    env: BTreeMap<String, String>,
    refusals: Refusals,
    cadence: Cadence,
    /// How the bus is, once that is known.
    reach: Option<(Reach, String)>,
    holds: Holds,
    /// Whether the engine's disk is being tidied up because somebody asked for it.
    tidies: bool,
    /// How much of logs still goes on the bus.
    talk: Talk,
    looked_ms: u64,
    ends_by_ms: Option<u64>,
}

impl<I: Installer> Node<I> {
    /// Starts the machines of all apps that the disk knows, and listens.
    ///
    /// # Errors
    /// When the apps cannot be listed.
    pub(super) fn start(&mut self) -> Result<(), JournalError> {
        let apps = self.settings.apps()?;
        self.hands.installer.set_env(&self.identity.record().env);
        self.state.env.clone_from(&self.identity.record().env);
        self.judge();
        for app in apps {
            // The others are not to suffer from it. The next order for it tries again and reports what is wrong.
            match self.open_app(&app) {
                Ok(()) => self.carry_on(&app),
                Err(error) => error!(%app, error = %chain(&error), "App cannot be opened"),
            }
        }
        self.follow_own();
        self.follow_groups();
        self.say(Urgency::Verdict);
        self.look();
        self.do_what_is_due();
        Ok(())
    }

    /// Does whatever an event asks for.
    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Bus(event) => self.on_bus(event),
            Event::Done(app, outcome) => self.on_done(&app, outcome),
            Event::Progress(app, permille) => self.feed(&app, Input::Progress(permille), Urgency::Progress),
            Event::Notice(app, Notice::Health(health)) => {
                self.feed(&app, Input::Health(health), Urgency::Change);
            }
            Event::Notice(app, Notice::Exited(fault)) => {
                info!(%app, reason = %fault.reason, text = fault.text, "App ended by itself");
                self.feed(&app, Input::Exited(fault), Urgency::Change);
            }
            Event::Notice(app, Notice::Progress(permille)) => {
                self.feed(&app, Input::Progress(permille), Urgency::Progress);
            }
            Event::Notice(app, Notice::Said(said)) => self.pass_on(app, said),
            Event::Facts(facts) => {
                // An engine that does not answer now is no engine less: what was known of it stays.
                self.facts = Facts { engine: facts.engine.or(self.facts.engine), ..facts };
                self.speaker.look_again();
                self.say(Urgency::Change);
            }
            Event::Tidied(wanted, answers, tidied) => self.on_tidied(&wanted, answers, tidied),
            Event::Stop => self.stop(),
            Event::Due => {}
        }
        self.do_what_is_due();
    }

    /// When something is due next.
    pub(super) fn due(&self) -> Instant {
        let state = &self.state;
        let apps = state.apps.values().filter_map(App::due_ms);
        let looked_ms = Some(state.looked_ms + LOOK_EVERY_MS);
        let others = [state.cadence.due_ms(), state.ends_by_ms, looked_ms, self.judge_ms()];
        let due_ms = apps.chain(others.into_iter().flatten()).min().unwrap_or(u64::MAX);
        self.clock.instant(due_ms)
    }

    /// Whether the worker can end: it is to, and nothing is under way or it took too long.
    pub(super) fn has_ended(&self) -> bool {
        let is_busy = || self.state.apps.values().any(App::is_busy);
        self.state.ends_by_ms.is_some_and(|by_ms| !is_busy() || self.clock.now().mono_ms >= by_ms)
    }

    /// Says the last words and leaves the bus.
    pub(super) async fn finish(mut self) {
        self.speak();
        self.speaker.finish().await;
        self.keeper.finish().await;
        self.bus.close().await;
    }

    fn on_bus(&mut self, event: bus::Event) {
        match event {
            bus::Event::Connected => self.on_reach(Reach::Connected, CONNECTED.to_owned()),
            bus::Event::Disconnected(lost) => {
                let text = chain(&lost);
                warn!(error = text, hint = lost.advice(), "Bus is away");
                self.on_reach(reach(&lost), text);
            }
            bus::Event::Denied(filter) => warn!(%filter, "Broker does not permit a subscription"),
            bus::Event::Subscribed(_) => {}
            bus::Event::Message(message) => self.on_message(&message),
        }
    }

    fn is_connected(&self) -> bool {
        matches!(self.state.reach, Some((Reach::Connected, _)))
    }

    fn on_reach(&mut self, reach: Reach, text: String) {
        if reach == Reach::Connected {
            info!(bus = %self.settings.bus, "Connected");
        }
        self.state.reach = Some((reach, text));
        self.feed_all(&Input::Bus(reach));
        self.say(Urgency::Change);
    }

    fn on_done(&mut self, app: &AppId, outcome: Result<Yield, Fault>) {
        if !self.state.apps.get_mut(app).is_some_and(App::land) {
            return;
        }
        if let Err(fault) = &outcome
            && !matches!(fault.reason, Reason::Superseded | Reason::Withdrawn)
        {
            warn!(%app, reason = %fault.reason, text = fault.text, transient = fault.transient, "Step failed");
        }
        self.feed(app, Input::Done(outcome), Urgency::Change);
        if self.facts.engine.is_some() && self.state.apps.get(app).is_some_and(tidy::rests) {
            // Images came or went.
            self.look();
        }
    }

    /// Makes a machine for the app, unless there is one.
    fn open_app(&mut self, app: &AppId) -> Result<(), JournalError> {
        if self.state.apps.contains_key(app) {
            return Ok(());
        }
        let (installer, now) = (&self.hands.installer, self.clock.now());
        let setup = Setup {
            node: self.identity.node.clone(),
            app: app.clone(),
            platform: installer.platform().to_owned(),
            kinds: installer.kinds().to_vec(),
            boot: facts::boot_id(),
        };
        let mut opened = App::open(setup, &self.settings.app_dirs(app), installer.active(app), now)?;
        opened.feed(Input::Keys(self.identity.roots.keys()), now);
        opened.feed(self.state.holds.input(), now);
        if let Some((reach, _)) = self.state.reach {
            opened.feed(Input::Bus(reach), now);
        }
        self.state.apps.insert(app.clone(), opened);
        Ok(())
    }

    fn feed(&mut self, app: &AppId, input: Input, urgency: Urgency) {
        let now = self.clock.now();
        if let Some(app) = self.state.apps.get_mut(app) {
            app.feed(input, now);
            self.say(urgency);
        }
        self.carry_on(app);
    }

    fn feed_all(&mut self, input: &Input) {
        let apps: Vec<_> = self.state.apps.keys().cloned().collect();
        for app in apps {
            self.feed(&app, input.clone(), Urgency::Change);
        }
    }

    /// Does what the machine wants done now.
    fn carry_on(&mut self, app: &AppId) {
        while let Some(effect) = self.state.apps.get_mut(app).and_then(App::next_effect) {
            match effect {
                Effect::Watch(slot) => self.hands.installer.watch(app, &slot),
                Effect::Cancel => self.state.apps[app].cancel(),
                Effect::Tell { event, to, reason } => self.tell(app, event, to, reason),
                Effect::Refuse(refused) => {
                    let topic = Kind::Release(refused.group, app.clone()).of(&self.identity.fleet);
                    let (reason, text, order) = (refused.reason, refused.text, Some(refused.order));
                    self.refuse(&topic, &Refused { reason, text, order });
                }
                effect => self.begin(app, effect),
            }
        }
    }

    fn begin(&mut self, app: &AppId, effect: Effect) {
        if self.state.ends_by_ms.is_some() && !must_go_on(&effect) {
            // The journal knows where to go on.
            return;
        }
        let may_be_cut = may_be_cut(&effect);
        let canceller = self.hands.begin(app, self.settings.app_dirs(app), effect);
        if let Some(app) = self.state.apps.get_mut(app) {
            app.take_off(may_be_cut, canceller);
        }
    }

    fn tell(&mut self, app: &AppId, event: EventType, to: String, reason: Option<Reason>) {
        info!(%app, ?event, release = to, reason = reason.map(Reason::code), "Order went on");
        let (report, at) = (self.state.apps[app].machine().report(), self.clock.now().wall.into());
        self.speaker.tell(&mirror::event(&self.identity.node, app, &report, (event, to, reason), at));
        self.say(if event == EventType::Started { Urgency::Change } else { Urgency::Verdict });
    }

    fn stop(&mut self) {
        info!("Ending");
        self.state.ends_by_ms.get_or_insert(self.clock.now().mono_ms + STOP_MS);
        self.state.apps.values_mut().for_each(App::cut);
    }

    fn do_what_is_due(&mut self) {
        let now = self.clock.now();
        let woken: Vec<_> = self
            .state
            .apps
            .iter_mut()
            .filter_map(|(app, state)| state.wake(now).then(|| app.clone()))
            .collect();
        for app in woken {
            self.carry_on(&app);
            self.say(Urgency::Change);
        }
        if self.judge_ms().is_some_and(|due_ms| due_ms <= now.mono_ms) {
            self.judge();
        }
        if now.mono_ms >= self.state.looked_ms + LOOK_EVERY_MS {
            self.state.looked_ms = now.mono_ms;
            self.look();
        }
        if self.state.cadence.take(now.mono_ms) {
            self.speak();
        }
    }

    /// Looks at the node, beside the loop.
    fn look(&self) {
        let (data, events) = (self.settings.data.clone(), self.hands.events.clone());
        let installer = Arc::clone(&self.hands.installer);
        tokio::spawn(async move {
            // What hangs there must not keep back what is known of the node itself.
            let engine = timeout(ENGINE_WITHIN, installer.engine_disk()).await.ok().flatten();
            let facts = blocking(move || facts::read(&data)).await;
            events.send(Event::Facts(Facts { engine, ..facts })).ok();
        });
    }

    fn say(&mut self, urgency: Urgency) {
        self.state.cadence.ask(urgency, self.clock.now().mono_ms);
    }

    fn speak(&mut self) {
        if let Some(about) = self.hands.installer.about() {
            self.speaker.about_is(about);
        }
        let apps = self.state.apps.values().map(|app| (app.machine().report(), app.machine().latest()));
        self.speaker.speak(&View {
            now: self.clock.now().wall,
            root_version: self.identity.trust().version(),
            clock_unset: clock::is_unset(),
            groups: self.state.groups.clone(),
            apps: apps.collect(),
            refusals: self.state.refusals.list(),
            bus: self.state.reach.as_ref().map_or("connecting", |(_, text)| text),
            facts: self.facts,
        });
    }
}

/// What a machine has to know about an outage. A broker that answers anything at all can be reached.
fn reach(lost: &Lost) -> Reach {
    match lost {
        Lost::Unreachable { .. } => Reach::Unreachable,
        Lost::BrokerDown { .. }
        | Lost::Cut { .. }
        | Lost::Untrusted { .. }
        | Lost::Refused { .. }
        | Lost::ClientIdRefused { .. }
        | Lost::TooLarge { .. }
        | Lost::Garbled { .. } => Reach::BrokerDown,
    }
}
