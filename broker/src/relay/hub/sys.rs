//! What the relay says about itself: `$SYS`, as mosquitto calls it.

use std::sync::Arc;

use bytes::Bytes;

use super::Hub;
use crate::relay::{
    message::{Grant, Message},
    router::Router,
    topic::TopicName,
};

impl<R: Router> Hub<R> {
    /// The relay's own numbers, those that have changed.
    pub(super) fn publish_about_itself(&mut self) {
        let stats = &self.stats;
        let kept = self.registry.len() as u64 - stats.connected.get();
        let values = [
            ("version", concat!("deploybus ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("uptime", format!("{} seconds", self.started.elapsed().as_secs())),
            ("clients/connected", stats.connected.get().to_string()),
            ("clients/disconnected", kept.to_string()),
            ("clients/total", self.registry.len().to_string()),
            ("messages/received", stats.published.get().to_string()),
            ("messages/sent", stats.delivered.get().to_string()),
            ("publish/messages/dropped", stats.dropped.get().to_string()),
            ("access/denied", stats.denied.get().to_string()),
            ("retained messages/count", self.retained.len().to_string()),
        ];
        for (name, value) in values {
            let Ok(topic) = TopicName::parse(&format!("$SYS/broker/{name}")) else { continue };
            if self.retained.get(&topic).is_some_and(|before| before.payload == value) {
                continue;
            }
            let message = Arc::new(Message {
                topic,
                payload: Bytes::from(value),
                grant: Grant::AtMostOnce,
                retain: true,
                properties: Bytes::new(),
                expires: None,
            });
            if self.retained.accept(&message, &"$SYS".into()).is_ok() {
                self.show(&message, None);
            }
        }
    }
}
