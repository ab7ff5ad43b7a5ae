//! How the controller hears and speaks: inside the service's own relay, or as a client of another broker.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bus_client::{
    Credentials, InvalidCa, Tls,
    bus::{Bus, BusUrl, ClientId, Event, Events, Message, Options},
};
use schemas::{
    id::{FleetId, KeyId},
    time::UnixTime,
    topic::{Filter, Topic},
};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::{ControllerSettings, watchers};
use crate::{
    page::Lookout,
    relay::{Inside, View},
};

/// Retained messages come in one burst; after so long a silence it is over.
const QUIET: Duration = Duration::from_secs(2);

/// Where messages come from and go to.
#[derive(Debug)]
pub(crate) enum Wire {
    /// Our own relay.
    Inside(Inside, View),
    /// Another broker.
    Outside {
        /// To speak.
        bus: Bus,
        /// To hear.
        events: Events,
        /// Subscriptions that the broker has not taken yet.
        awaited: BTreeSet<Filter>,
        /// All of them.
        filters: Vec<Filter>,
        /// Those without which rollouts go on all the same.
        spare: BTreeSet<Filter>,
    },
}

/// Why the controller cannot connect to another broker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// A user without a password.
    #[error("[controller] of the settings has `user` and no `password`")]
    NoPassword,
    /// A file cannot be read.
    #[error("cannot read {what} file {path}")]
    Read {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The CA of the other broker is not usable.
    #[error("cannot use CA file {path}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: InvalidCa,
    },
}

impl WireError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::NoPassword => "name the file with the user's password there as `password`",
            Self::Read { .. } => {
                "correct its name in [controller] of the settings; this user must be able to read it"
            }
            Self::Ca { .. } => "name the CA of that broker, as PEM, as `ca` in [controller] of the settings",
        }
    }
}

impl Wire {
    /// Connects to another broker.
    pub(crate) fn connect(
        url: &BusUrl,
        settings: &ControllerSettings,
        key: KeyId,
        fleet: &FleetId,
    ) -> Result<Self, WireError> {
        let id: ClientId =
            format!("controller-{key}").parse().expect("the id of a key is some hexadecimal digits");
        let mut options = Options::new(url.clone(), id);
        // By then another controller may have decided otherwise.
        options.forgets_when_lost = true;
        let message = |is_there| {
            let (topic, payload) = watchers::presence(fleet, is_there);
            Message::new(topic, payload)
        };
        options.will = Some(message(false));
        options.greeting = vec![message(true)];
        if let Some(user) = &settings.user {
            let path = settings.password.as_ref().ok_or(WireError::NoPassword)?;
            let password = read("password", path)?;
            options.credentials = Some(Credentials::new(user, password.trim_end()));
        }
        if let Some(path) = &settings.ca {
            let unusable = |source| WireError::Ca { path: path.clone(), source };
            options.tls = Some(Tls::pinned(read("CA", path)?.as_bytes(), UnixTime(0)).map_err(unusable)?);
        }
        let (filters, (bus, events)) = (super::filters(fleet), Bus::connect(options));
        bus.subscribe(filters.clone());
        let awaited = filters.iter().cloned().collect();
        // Without these it carries rollouts out all the same.
        let spare = watchers::filters(fleet).into_iter().chain(Lookout::filters(fleet)).collect();
        Ok(Self::Outside { bus, events, awaited, filters, spare })
    }

    /// What is retained, before anything is decided on it: all of it, or everything would seem to be at its beginning.
    pub(super) async fn retained(&mut self) -> Vec<(Topic, Vec<u8>)> {
        match self {
            Self::Inside(_, view) => {
                let messages = std::iter::from_fn(|| view.retained());
                messages
                    .filter_map(|(topic, payload)| Some((topic.parse().ok()?, payload.to_vec())))
                    .collect()
            }
            Self::Outside { .. } => self.retained_outside().await,
        }
    }

    async fn retained_outside(&mut self) -> Vec<(Topic, Vec<u8>)> {
        let mut messages = Vec::new();
        let mut quiet_at: Option<Instant> = None;
        loop {
            let heard = match quiet_at {
                Some(at) => match timeout_at(at, self.next()).await {
                    Ok(heard) => heard,
                    Err(_) => return messages,
                },
                None => self.next().await,
            };
            // What is said just now has no end.
            let is_of_the_past = match heard {
                Heard::Message { topic, payload, retained } => {
                    messages.push((topic, payload));
                    retained
                }
                Heard::Ended => return messages,
                Heard::News | Heard::Back => true,
                Heard::Lost => {
                    quiet_at = None;
                    continue;
                }
            };
            let is_subscribed = matches!(self, Self::Outside { awaited, .. } if awaited.is_empty());
            if is_subscribed && (is_of_the_past || quiet_at.is_none()) {
                quiet_at = Some(Instant::now() + QUIET);
            }
        }
    }

    /// The next thing that is heard. May be cancelled at any time.
    pub(super) async fn next(&mut self) -> Heard {
        match self {
            Self::Inside(_, view) => match view.next().await {
                None => Heard::Ended,
                Some((topic, payload)) => {
                    let heard = |topic| Heard::Message { topic, payload: payload.to_vec(), retained: false };
                    topic.parse().map_or(Heard::News, heard)
                }
            },
            Self::Outside { events, awaited, filters, spare, .. } => match events.next().await {
                None => Heard::Ended,
                Some(Event::Message(message)) => Heard::Message {
                    topic: message.topic,
                    payload: message.payload.to_vec(),
                    retained: message.retained,
                },
                Some(Event::Subscribed(filter)) => {
                    awaited.remove(&filter);
                    Heard::News
                }
                Some(Event::Denied(filter)) => {
                    if spare.contains(&filter) {
                        awaited.remove(&filter);
                    }
                    warn!(%filter, "the bus does not let the controller read: give its user the role controller");
                    Heard::News
                }
                Some(Event::Connected) => {
                    info!("controller is on the bus");
                    Heard::Back
                }
                Some(Event::Disconnected(lost)) => {
                    warn!(error = %crate::chain(&lost), hint = lost.advice(), "controller has lost the bus");
                    // The broker is asked again for everything.
                    *awaited = filters.iter().cloned().collect();
                    Heard::Lost
                }
            },
        }
    }

    /// Says its last word, which is retained, and ends when that has arrived.
    pub(super) async fn leave(&mut self, topic: Topic, payload: Vec<u8>) {
        match self {
            Self::Outside { bus, .. } => {
                // As its own state: else the client would take it for the will of an earlier connection, and object.
                drop(bus.set_retained(Message::new(topic, payload)));
                bus.close().await;
            }
            Self::Inside(inside, view) => {
                let (name, last) = (topic.to_string(), payload.clone());
                inside.publish(&topic, payload);
                while view.next().await.is_some_and(|(topic, payload)| topic != name || payload != last) {}
            }
        }
    }

    /// Publishes, retained where the topic is; what is published first arrives first.
    pub(super) fn publish(&self, topic: Topic, payload: Vec<u8>) {
        match self {
            Self::Inside(inside, _) => inside.publish(&topic, payload),
            Self::Outside { bus, .. } => {
                drop(bus.publish(Message::new(topic, payload)));
            }
        }
    }
}

fn read(what: &'static str, path: &Path) -> Result<String, WireError> {
    fs::read_to_string(path).map_err(|source| WireError::Read { what, path: path.to_owned(), source })
}

/// What was heard.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message.
    Message {
        /// Where it was said.
        topic: Topic,
        /// What was said.
        payload: Vec<u8>,
        /// It was said before, and is told again.
        retained: bool,
    },
    /// Something about the bus itself.
    News,
    /// The bus is away.
    Lost,
    /// It is back, and everything that it keeps is to be read again.
    Back,
    /// Nothing more will come.
    Ended,
}
