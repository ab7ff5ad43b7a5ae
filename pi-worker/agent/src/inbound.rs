//! What comes in from the bus: the documents that this node reads, verified before anything looks into them.

use schemas::{
    announcement::{Announced, Announcement, AnnouncementError},
    hold::{Ask, AskKind},
    id::{AppId, Digest},
    reason::Reason,
    root::{RootChain, RootError},
    topic::{Kind, NodeTopic, Topic},
};

use crate::{chain::chain, identity::Identity};

/// What a message turned out to be.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// An order for a group of this node, with its release.
    Announced(AppId, Box<Announced>),
    /// A newer record of this node, already taken over.
    Record,
    /// Newer root documents, already followed; and why not to their end, if so.
    Keys(Option<Refused>),
    /// Somebody asks for something; not signed.
    Ask(Ask),
    /// Nothing for this node, or nothing new.
    Nothing,
}

/// Why a message is not believed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) text: String,
    /// The digest of the order, where there is one in it.
    pub(crate) order: Option<Digest>,
}

/// Verifies a message. An empty one only says that a topic was cleared, which nobody signed: it changes nothing.
///
/// # Errors
/// When a document on a topic that this node reads is not believed.
pub(crate) fn read(identity: &mut Identity, topic: &Topic, payload: &[u8]) -> Result<Inbound, Refused> {
    if payload.is_empty() || topic.fleet != identity.fleet {
        return Ok(Inbound::Nothing);
    }
    match &topic.kind {
        Kind::Release(group, app) if identity.groups().contains(group) => {
            let refused = |error: AnnouncementError, order| Refused {
                reason: error.reason(),
                text: chain(&error),
                order,
            };
            let announcement = Announcement::from_bytes(payload).map_err(|error| refused(error, None))?;
            let announced = announcement
                .verify(identity.trust(), group, app)
                .map_err(|error| refused(error, Some(announcement.order.digest())))?;
            Ok(Inbound::Announced(app.clone(), Box::new(announced)))
        }
        Kind::Trust => follow(identity, payload),
        Kind::Node(node, NodeTopic::Record) if *node == identity.node => {
            let newer = identity.accept_record(payload).map_err(|error| Refused {
                reason: error.reason(),
                text: chain(&error),
                order: None,
            })?;
            Ok(if newer { Inbound::Record } else { Inbound::Nothing })
        }
        Kind::Node(node, NodeTopic::Request) if *node == identity.node => {
            ask(payload).map(Inbound::Ask).map_err(|(reason, text)| Refused { reason, text, order: None })
        }
        _ => Ok(Inbound::Nothing),
    }
}

fn ask(payload: &[u8]) -> Result<Ask, (Reason, String)> {
    if payload.len() > Ask::MAX_BYTES {
        let text = format!("a request of {} bytes, {} are allowed", payload.len(), Ask::MAX_BYTES);
        return Err((Reason::TooLarge, text));
    }
    let malformed = |why: String| {
        (Reason::Malformed, format!("no request like {{\"do\":\"install\",\"app\":\"web\"}}: {why}"))
    };
    let ask: Ask = serde_json::from_slice(payload).map_err(|error| malformed(error.to_string()))?;
    if ask.what == AskKind::Install && ask.app.is_none() {
        return Err(malformed("it names no app".to_owned()));
    }
    Ok(ask)
}

/// Follows the root documents of a chain as far as they verify.
fn follow(identity: &mut Identity, payload: &[u8]) -> Result<Inbound, Refused> {
    let refused = |error: RootError| Refused { reason: error.reason(), text: chain(&error), order: None };
    let chain = RootChain::from_bytes(payload).map_err(refused)?;
    let before = identity.trust().version();
    let followed = identity.roots.follow(&chain).map_err(refused);
    match followed {
        Err(refused) if identity.trust().version() > before => Ok(Inbound::Keys(Some(refused))),
        Err(refused) => Err(refused),
        Ok(true) => Ok(Inbound::Keys(None)),
        Ok(false) => Ok(Inbound::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use schemas::{
        record::RecordStatus,
        seal::{SecretKey, Signed},
    };

    use super::*;
    use crate::{
        memory::Memory,
        testing::{self, Home},
    };

    #[test]
    fn an_announcement_for_a_group_of_the_node_is_verified() {
        let (_home, mut identity) = identity();
        let payload = testing::announcement("canary", "web", 7).to_bytes();
        let inbound = read(&mut identity, &topic("release/canary/web"), &payload).unwrap();
        assert!(matches!(inbound, Inbound::Announced(app, _) if app.as_str() == "web"));
    }

    #[test]
    fn what_is_not_for_this_node_is_nothing() {
        let (_home, mut identity) = identity();
        let payload = testing::announcement("canary", "web", 7).to_bytes();
        for elsewhere in ["release/kitchen/web", "node/pi-2/record", "node/pi-1/command", "node/pi-1/report"]
        {
            let inbound = read(&mut identity, &topic(elsewhere), &payload);
            assert!(matches!(inbound, Ok(Inbound::Nothing)), "{elsewhere}");
        }
        assert!(matches!(read(&mut identity, &topic("release/canary/web"), b""), Ok(Inbound::Nothing)));
    }

    #[test]
    fn documents_that_are_not_believed_have_a_reason() {
        let (_home, mut identity) = identity();
        let good = testing::announcement("canary", "web", 7);
        let stranger = SecretKey::from_seed(&[9; 32]);
        let mut forged = good.clone();
        forged.order = Signed::seal(&testing::order("canary", "web", 9, good.release.digest()), &[stranger]);
        let mut other_release = good.clone();
        other_release.release = Signed::seal(&testing::release("api"), &[testing::fleet_key()]);
        let whole = good.to_bytes();
        for (place, payload, reason) in [
            ("release/canary/web", forged.to_bytes(), Reason::BadSignature),
            ("release/canary/web", other_release.to_bytes(), Reason::WrongRelease),
            ("release/all/web", whole.clone(), Reason::WrongTopic),
            ("release/canary/api", whole.clone(), Reason::WrongTopic),
            ("release/canary/web", whole[..whole.len() / 2].to_vec(), Reason::Malformed),
            ("release/canary/web", vec![0; 70_000], Reason::TooLarge),
            ("node/pi-1/record", b"junk".to_vec(), Reason::Malformed),
        ] {
            let refused = read(&mut identity, &topic(place), &payload).unwrap_err();
            assert_eq!(refused.reason, reason, "{}", refused.text);
        }
    }

    #[test]
    fn a_request_of_the_node_is_read_and_nothing_else_is_taken_for_one() {
        let (_home, mut identity) = identity();
        let mut read = |payload: &[u8]| read(&mut identity, &topic("node/pi-1/request"), payload);
        let ask = br#"{"do":"install","app":"web"}"#;
        assert!(matches!(read(ask), Ok(Inbound::Ask(ask)) if ask.app == "web".parse().ok()));
        for (payload, reason) in [
            (br#"{"do":"explode","app":"web"}"#.to_vec(), Reason::Malformed),
            (br#"{"do":"install"}"#.to_vec(), Reason::Malformed),
            (br#"{"do":"install","app":"../web"}"#.to_vec(), Reason::Malformed),
            (b"\xff".to_vec(), Reason::Malformed),
            (vec![b' '; Ask::MAX_BYTES + 1], Reason::TooLarge),
        ] {
            assert_eq!(read(&payload).unwrap_err().reason, reason);
        }
    }

    #[test]
    fn a_newer_record_is_taken_over_at_once() {
        let (home, mut identity) = identity();
        let payload = home.record(2, &["kitchen"], RecordStatus::Active);
        assert!(matches!(read(&mut identity, &topic("node/pi-1/record"), &payload), Ok(Inbound::Record)));
        assert!(matches!(read(&mut identity, &topic("node/pi-1/record"), &payload), Ok(Inbound::Nothing)));
        assert_eq!(identity.groups().len(), 1);
    }

    fn identity() -> (Home, Identity) {
        let home = Home::new();
        let identity = Identity::open(&home.settings(), &Memory::default()).unwrap();
        (home, identity)
    }

    fn topic(rest: &str) -> Topic {
        format!("home/v1/{rest}").parse().unwrap()
    }
}
