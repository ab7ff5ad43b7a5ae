//! What is told, and to whom. Pure.

use schemas::{
    deploy_log::{Chained, Entry, What},
    id::FleetId,
};
use serde::{Deserialize, Serialize};

use crate::settings::WebhookSettings;

/// What is older is no news: after a log was lost, nodes tell once more what happened long ago.
const NEWS_SECS: u64 = 24 * 60 * 60;

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A rollout began.
    Started,
    /// A rollout opens no more waves until somebody resumes it.
    Stopped,
    /// A rollout goes on.
    Resumed,
    /// Every wave of a rollout passed.
    Completed,
    /// A rollout was given up.
    Aborted,
    /// A node went back to the release before.
    RolledBack,
    /// An order failed on a node.
    Failed,
    /// A node refused an order, or what was no order of this fleet.
    Refused,
}

impl NoticeKind {
    fn of(what: What) -> Option<Self> {
        match what {
            What::RolloutStarted => Some(Self::Started),
            What::RolloutStopped => Some(Self::Stopped),
            What::RolloutResumed => Some(Self::Resumed),
            What::RolloutCompleted => Some(Self::Completed),
            What::RolloutAborted => Some(Self::Aborted),
            What::RolledBack => Some(Self::RolledBack),
            What::Failed => Some(Self::Failed),
            What::Refused => Some(Self::Refused),
            What::Installed
            | What::Superseded
            | What::RolloutSuperseded
            | What::NodeAdded
            | What::NodeRetired
            | What::Unknown => None,
        }
    }
}

/// What is posted, as JSON. Every key is always there; what does not apply is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// What it is about.
    pub kind: NoticeKind,
    /// The fleet.
    pub fleet: String,
    /// The app.
    pub app: String,
    /// The group.
    pub group: String,
    /// The release's version.
    pub version: String,
    /// The node.
    pub node: String,
    /// The code of why.
    pub reason: String,
    /// The same for people.
    pub text: String,
    /// When it was written into the deploy log, as RFC 3339.
    pub at: String,
    /// The same for every delivery of this notice, and for no other: the digest of its entry in the deploy log.
    pub id: String,
}

impl Notice {
    /// The notice about an entry, when there is one.
    fn of(fleet: &FleetId, link: &Chained) -> Option<Self> {
        fn text(value: Option<impl ToString>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        let Chained { entry, digest } = link;
        Some(Self {
            kind: NoticeKind::of(entry.what)?,
            fleet: fleet.to_string(),
            app: text(entry.app.as_ref()),
            group: text(entry.group.as_ref()),
            version: entry.version.clone(),
            node: text(entry.node.as_ref()),
            reason: text(entry.reason),
            text: entry.text.clone(),
            at: entry.at.to_string(),
            id: digest.to_string(),
        })
    }
}

/// Who wants to be told what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subscriptions {
    fleet: Option<FleetId>,
    webhooks: Vec<WebhookSettings>,
}

impl Subscriptions {
    /// Those of the settings.
    pub(crate) fn new(fleet: &FleetId, webhooks: &[WebhookSettings]) -> Self {
        Self { fleet: Some(fleet.clone()), webhooks: webhooks.to_vec() }
    }

    /// Where the notice about a new entry goes to, and its body.
    pub(crate) fn parcels(&self, link: &Chained) -> Option<(Notice, Vec<&str>)> {
        let notice = Notice::of(self.fleet.as_ref()?, link).filter(|_| is_news(&link.entry))?;
        let wanted = self.webhooks.iter().filter(|webhook| webhook.on.contains(&notice.kind));
        let urls: Vec<_> = wanted.map(|webhook| webhook.url.as_str()).collect();
        (!urls.is_empty()).then_some((notice, urls))
    }
}

fn is_news(entry: &Entry) -> bool {
    entry.ended_at.is_none_or(|ended| ended.plus_secs(NEWS_SECS) >= entry.at)
}

#[cfg(test)]
mod tests {
    use schemas::{deploy_log::Head, reason::Reason, time::UnixTime};

    use super::*;

    fn webhook(path: &str, on: &[NoticeKind]) -> WebhookSettings {
        WebhookSettings {
            url: format!("https://ops.example/{path}").parse().unwrap(),
            secret_file: "secret".into(),
            on: on.to_vec(),
        }
    }

    fn rolled_back() -> Entry {
        Entry {
            at: UnixTime(1_795_240_000),
            what: What::RolledBack,
            node: Some("pi-1".parse().unwrap()),
            app: Some("web".parse().unwrap()),
            version: "1.1.0".into(),
            reason: Some(Reason::Unhealthy),
            text: "it answered 500".into(),
            ended_at: Some(UnixTime(1_795_239_990)),
            ..Entry::default()
        }
    }

    #[test]
    fn each_is_told_what_it_wants_to_know_and_nothing_old() {
        let all = [NoticeKind::RolledBack, NoticeKind::Started];
        let webhooks = [webhook("a", &all), webhook("b", &all[..1]), webhook("c", &all[1..])];
        let subscriptions = Subscriptions::new(&"home".parse().unwrap(), &webhooks);
        let told = |entry: Entry| {
            let parcels = subscriptions.parcels(&Head::BEGIN.next(entry)).map(|(_, urls)| urls.join(" "));
            parcels.unwrap_or_default()
        };
        assert_eq!(told(rolled_back()), "https://ops.example/a https://ops.example/b");
        let started = Entry { what: What::RolloutStarted, ..Entry::default() };
        assert_eq!(told(started), "https://ops.example/a https://ops.example/c");
        assert_eq!(told(Entry { what: What::Installed, ..rolled_back() }), "");
        assert_eq!(told(Entry { ended_at: Some(UnixTime(1_795_000_000)), ..rolled_back() }), "");
        assert!(Subscriptions::default().parcels(&Head::BEGIN.next(rolled_back())).is_none());
    }

    #[test]
    fn a_notice_has_every_key() {
        let link = Head::BEGIN.next(rolled_back());
        let notice = Notice::of(&"home".parse().unwrap(), &link).unwrap();
        let mut value = serde_json::to_value(notice).unwrap();
        assert_eq!(value["id"].take().as_str().map(str::len), Some(64));
        insta::assert_json_snapshot!(value, @r#"
        {
          "app": "web",
          "at": "2026-11-21T05:46:40Z",
          "fleet": "home",
          "group": "",
          "id": null,
          "kind": "rolled_back",
          "node": "pi-1",
          "reason": "unhealthy",
          "text": "it answered 500",
          "version": "1.1.0"
        }
        "#);
    }
}
