//! What happens to a node: everything that the loop waits for, as one type.

use bus_client::bus;
use machine::{Fault, Yield};
use schemas::id::AppId;

use crate::{
    facts::Facts,
    installer::{Notice, Tidied, Tidying},
};

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// On the bus.
    Bus(bus::Event),
    /// An effect of this app ended.
    Done(AppId, Result<Yield, Fault>),
    /// An effect of this app is so far, in thousandths.
    Progress(AppId, u16),
    /// An installer tells by itself.
    Notice(AppId, Notice),
    /// The node was looked at.
    Facts(Facts),
    /// The engine's disk was tidied up, as an ask with this id wanted it.
    Tidied(Tidying, String, Tidied),
    /// Something is due.
    Due,
    /// The worker is to end.
    Stop,
}
