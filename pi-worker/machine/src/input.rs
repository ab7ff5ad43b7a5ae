//! What a machine is told.

use std::collections::BTreeSet;

use schemas::{
    announcement::Announced,
    build::Built,
    hold::HoldCode,
    id::{Digest, GroupId},
    reason::Reason,
    time::UnixTime,
};

/// The time as a machine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never jumps, from the start of the worker; for deadlines.
    pub mono_ms: u64,
    /// The wall clock, never before the newest signed time that the node has seen.
    pub wall: UnixTime,
}

/// What a machine is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A verified announcement for a group of this node.
    Announced(Box<Announced>),
    /// The effect in flight ended. One that no effect waits for is ignored.
    Done(Result<Yield, Fault>),
    /// How far the effect in flight is, in thousandths.
    Progress(u16),
    /// What the checks of the watched slot say; given when it changes.
    Health(Health),
    /// The app's process ended by itself.
    Exited(Fault),
    /// Whether the bus can be reached.
    Bus(Bus),
    /// Which keys count; given at the start and when that changes.
    Keys(Keys),
    /// The groups that the node is in from now on; given when that changes.
    Groups(BTreeSet<GroupId>),
    /// Apps get another environment from now on: what runs is to be started anew.
    Environment,
    /// Everything that holds the node back from beginning now; given at the start and when that changes.
    Holds(Vec<Hold>),
    /// Somebody says yes to the release that waits.
    Consent,
    /// Somebody wants no other release until there is such a yes.
    HoldByHand,
    /// Somebody wants the newest order tried once more, which did not end well.
    Retry,
    /// Somebody wants the release back that ran before.
    GoBack,
}

/// Something that holds the node back from beginning with an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The code that reports carry.
    pub code: HoldCode,
    /// What is waited for, for people. Without figures that change all the time, for each change is reported.
    pub text: String,
    /// When it ends by itself, where that is known.
    pub until: Option<UnixTime>,
}

/// The keys that count now, as far as a machine is concerned: the root document that lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// The version of that root document.
    pub root: u64,
    /// From then on nothing new is begun under it.
    pub expires: UnixTime,
    /// The newest root with which the numbers of orders begin anew; 0 for none.
    pub orders_reset: u64,
    /// The newest root with which the floor of releases is forgotten; 0 for none.
    pub floor_reset: u64,
}

/// What an effect gave beside having ended well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Yield {
    /// Bytes that were fetched.
    pub fetched_bytes: u64,
    /// Requests that it took.
    pub requests: u32,
    /// How its image was built, if it is a container.
    pub built: Option<Box<Built>>,
}

/// Why an effect ended badly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The code that reports carry.
    pub reason: Reason,
    /// The same for people: what, where, expected and found.
    pub text: String,
    /// Last lines of the hook or the app.
    pub log_tail: Vec<String>,
    /// Whether the same again may end well: the store is down, a daemon restarts.
    pub transient: bool,
}

/// What the checks of a slot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The tree of the slot that was asked.
    pub tree: Digest,
    /// Whether all checks are good.
    pub ok: bool,
    /// What the first bad check answered, or empty.
    pub text: String,
    /// Last lines of the app, when it is bad.
    pub log_tail: Vec<String>,
}

/// Whether the bus can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// There is a session.
    Connected,
    /// Its host answers, the broker does not: nobody's fault here.
    BrokerDown,
    /// Nothing answers: this node may have cut itself off.
    Unreachable,
}
