//! A dashboard subscribes to everything where 10,000 messages are retained.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    broker::{Broker, rounds},
    client::{Client, runtime},
    figure::{Aim, Figures, Measured},
};

const ROUNDS: usize = 15;
const TOPICS: usize = 10_000;
const PAYLOAD: [u8; 200] = [b'x'; 200];
/// So many publishes are sent before their acknowledgements are read.
const BATCH: usize = 500;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let runtime = runtime()?;
    let brokers = Broker::start_all()?;
    for broker in &brokers {
        runtime.block_on(fill(broker.port))?;
    }
    let watch = |broker: &Broker| runtime.block_on(watch(broker.port));
    let samples = rounds(&brokers, ROUNDS, watch)?;
    let measured = Measured { bench: "dashboard", what: "# over 10,000 retained", unit: "ms" };
    figures.compare(measured, &samples, Aim::Ratio(1.0))
}

async fn fill(port: u16) -> Result<()> {
    let mut publisher = Client::connect(port, "publisher").await?;
    for begin in (0..TOPICS).step_by(BATCH) {
        for number in begin..begin + BATCH {
            let topic = format!("f/v1/node/node-{number}/app/web/status");
            publisher.send_retained(&topic, &PAYLOAD, (number - begin + 1) as u16).await?;
        }
        for _ in 0..BATCH {
            publisher.acknowledged().await?;
        }
    }
    Ok(())
}

async fn watch(port: u16) -> Result<Duration> {
    let mut dashboard = Client::connect(port, "dashboard").await?;
    let begin = Instant::now();
    dashboard.subscribe("#", 0).await?;
    for _ in 0..TOPICS {
        dashboard.message().await?;
    }
    let took = begin.elapsed();
    dashboard.reset()?;
    Ok(took)
}
