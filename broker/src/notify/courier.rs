//! Who delivers to one receiver, one notice after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use reqwest::{Client, StatusCode, header, redirect};
use tokio::{sync::watch, task::spawn_blocking, time::timeout};
use tracing::{debug, info, warn};

use super::{read_secret, signature::signature};
use crate::{
    clock::{self, now_ms},
    log::{Fate, Log, LogError, Parcel},
    settings::WebhookSettings,
};

/// A receiver that takes longer is asked again later.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Of that, for TCP and TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Time between two tries, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// What was not delivered in this time is given up.
const LIFETIME: Duration = Duration::from_hours(24);
/// The outbox is looked into at least so often: a clock that is set moves what is due.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// When the outbox cannot be read.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);

/// One receiver's.
pub(super) struct Courier {
    webhook: WebhookSettings,
    log: Log,
    news: watch::Receiver<u64>,
    client: Client,
    /// Ids of what was decided and may not be on the disk yet, with the time before which it is not tried again.
    decided: BTreeMap<String, u64>,
}

/// What came of a delivery.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Taken,
    /// It will never be taken, and why.
    Never(String),
    /// It may be taken later, and why not now.
    NotNow(String),
}

impl Courier {
    pub(super) fn new(webhook: WebhookSettings, log: Log) -> reqwest::Result<Self> {
        // Fails when there is a provider already, which then is the one to use.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::builder()
            .user_agent(concat!("deploybus/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .timeout(ANSWER_LIMIT)
            .build()?;
        let news = log.news();
        Ok(Self { webhook, log, news, client, decided: BTreeMap::new() })
    }

    pub(super) async fn run(mut self) {
        loop {
            // Before the look: what comes after it ends the wait.
            self.news.mark_unchanged();
            let wait = match self.deliver_due().await {
                Ok(wait) => wait,
                Err(err) => {
                    warn!(error = %crate::chain(&err), "cannot read the outbox of webhooks");
                    TROUBLE_PAUSE
                }
            };
            // Late is as good as news; an error means that the log is gone, and this task with it soon.
            let _ = timeout(wait.min(LONGEST_WAIT), self.news.changed()).await;
        }
    }

    /// Delivers what is due, and says when something is due again.
    async fn deliver_due(&mut self) -> Result<Duration, LogError> {
        let (log, url) = (self.log.clone(), self.webhook.url.as_str().to_owned());
        let read = spawn_blocking(move || Ok((log.due(&url, now_ms())?, log.next_due(&url)?)));
        let Ok(found) = read.await else { return Ok(TROUBLE_PAUSE) };
        let (parcels, next): (Vec<Parcel>, _) = found?;
        let there: BTreeSet<&str> = parcels.iter().map(|parcel| parcel.id.as_str()).collect();
        self.decided.retain(|id, _| there.contains(id.as_str()));
        let mut delivered = 0;
        for parcel in parcels {
            if self.decided.get(&parcel.id).is_none_or(|due| *due <= now_ms()) {
                self.deliver(parcel).await;
                delivered += 1;
            }
        }
        if delivered > 0 {
            // What was decided is on the disk when this is read again, unless the disk hangs.
            let log = self.log.clone();
            let _ = spawn_blocking(move || log.flush()).await;
            return Ok(Duration::ZERO);
        }
        Ok(next.map_or(LONGEST_WAIT, |due| {
            Duration::from_millis(due.saturating_sub(now_ms())).max(RETRY.0 / 10)
        }))
    }

    async fn deliver(&mut self, parcel: Parcel) {
        let host = self.webhook.url.host();
        let (fate, due) = match self.post(&parcel).await {
            Answer::Taken => {
                debug!(webhook = host, id = parcel.id, "notice delivered");
                (Fate::Gone, u64::MAX)
            }
            Answer::Never(why) => {
                warn!(webhook = host, id = parcel.id, why, "notice given up");
                (Fate::Gone, u64::MAX)
            }
            Answer::NotNow(why) if now_ms().saturating_sub(parcel.made_ms) > LIFETIME.as_millis() as u64 => {
                warn!(webhook = host, id = parcel.id, why, "notice given up after a day");
                (Fate::Gone, u64::MAX)
            }
            Answer::NotNow(why) => {
                let pause = pause(parcel.attempts, random());
                info!(webhook = host, id = parcel.id, why, retry_s = pause.as_secs_f64(), "notice not taken");
                let due = now_ms().saturating_add(pause.as_millis() as u64);
                (Fate::Later(due), due)
            }
        };
        self.log.settle(parcel.number, fate);
        self.decided.insert(parcel.id, due);
    }

    async fn post(&self, parcel: &Parcel) -> Answer {
        // Read each time: a secret can be changed without a restart.
        let secret = match read_secret(&self.webhook) {
            Ok(secret) => secret,
            Err(err) => return Answer::NotNow(crate::chain(&err)),
        };
        let signature = signature(&secret, clock::now(), &parcel.body);
        let request = self
            .client
            .post(self.webhook.url.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header("Deploybus-Signature", signature)
            .header("Deploybus-Delivery", &parcel.id)
            .body(parcel.body.clone());
        match request.send().await {
            // Of the answer, the head is enough: its body is never read.
            Ok(response) => judge(response.status()),
            Err(err) => Answer::NotNow(crate::chain(&err.without_url())),
        }
    }
}

fn judge(status: StatusCode) -> Answer {
    let why = format!("it answers {}", status.as_u16());
    match status {
        status if status.is_success() => Answer::Taken,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Answer::NotNow(why),
        status if status.is_redirection() => {
            Answer::Never(format!("{why}: set the address to which it redirects"))
        }
        status if status.is_client_error() => Answer::Never(why),
        _ => Answer::NotNow(why),
    }
}

/// Doubles from try to try, drawn at random from the upper half.
fn pause(attempts: u32, random: u64) -> Duration {
    let (first, longest) = RETRY;
    let ceiling = first.saturating_mul(1 << attempts.min(20)).min(longest);
    let share = random as f64 / u64::MAX as f64;
    ceiling / 2 + (ceiling / 2).mul_f64(share)
}

fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let judged = |status: u16| judge(StatusCode::from_u16(status).unwrap());
        for status in [200, 202, 204] {
            assert_eq!(judged(status), Answer::Taken);
        }
        for status in [408, 429, 500, 503, 507] {
            assert!(matches!(judged(status), Answer::NotNow(_)), "{status}");
        }
        for status in [301, 307, 400, 401, 404, 410, 422] {
            assert!(matches!(judged(status), Answer::Never(_)), "{status}");
        }
    }

    #[test]
    fn pauses_double_from_a_second_to_five_minutes() {
        let longest = |attempts| pause(attempts, u64::MAX).as_secs();
        assert_eq!([0, 1, 2, 8, 9, 99].map(longest), [1, 2, 4, 256, 300, 300]);
        assert_eq!(pause(1, 0), Duration::from_secs(1));
    }
}
