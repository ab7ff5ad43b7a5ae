//! From PUBLISH to PUBACK, retained. Ours is on the disk by then; Mosquitto writes its database within a second.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::{
    broker::{Brand, Broker},
    client::{Client, runtime},
    figure::{Aim, Figures, Measured, Samples},
};

const ROUNDS: usize = 5;
const PUBLISHES: usize = 100;
const PAYLOAD: [u8; 1_024] = [b'x'; 1_024];

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    for publishers in [1, 16, 64] {
        let runtime = runtime()?;
        let brokers = Broker::start_all()?;
        let (mut latency, mut rate) = (empty(&brokers), empty(&brokers));
        for _ in 0..ROUNDS {
            for (at, broker) in brokers.iter().enumerate() {
                let begin = Instant::now();
                let took = runtime.block_on(publish(broker.port, publishers))?;
                rate[at].1.0.push(took.len() as f64 / begin.elapsed().as_secs_f64());
                for took in took {
                    latency[at].1.push_ms(took);
                }
            }
        }
        let what = format!("publish to PUBACK, {publishers} publishers");
        figures.compare(Measured { bench: "durable", what: &what, unit: "ms" }, &latency, Aim::None)?;
        let what = format!("{publishers} publishers together");
        figures.compare(Measured { bench: "durable", what: &what, unit: "per s" }, &rate, Aim::None)?;
    }
    Ok(())
}

fn empty(brokers: &[Broker]) -> Vec<(Brand, Samples)> {
    brokers.iter().map(|broker| (broker.brand, Samples::default())).collect()
}

/// How long each took.
async fn publish(port: u16, publishers: usize) -> Result<Vec<Duration>> {
    let mut tasks = JoinSet::new();
    for number in 0..publishers {
        tasks.spawn(async move {
            let mut client = Client::connect(port, &format!("publisher-{number}")).await?;
            let topic = format!("f/v1/node/node-{number}/app/web/status");
            let mut took = Vec::with_capacity(PUBLISHES);
            for _ in 0..PUBLISHES {
                let begin = Instant::now();
                client.send_retained(&topic, &PAYLOAD, 1).await?;
                client.acknowledged().await?;
                took.push(begin.elapsed());
            }
            client.reset()?;
            anyhow::Ok(took)
        });
    }
    let took: Result<Vec<_>> = tasks.join_all().await.into_iter().collect();
    Ok(took?.concat())
}
