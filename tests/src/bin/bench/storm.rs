//! A whole fleet connects at once, as after a power cut: each client subscribes and needs its retained message.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::{
    broker::{Brand, Broker, rounds},
    client::{Client, runtime},
    figure::{Aim, Figures, Measured, Samples},
};

const ROUNDS: usize = 5;
const GROUPS: usize = 10;
const PAYLOAD: [u8; 1_024] = [b'x'; 1_024];

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    for size in [1_000, 3_000, 10_000] {
        let runtime = runtime()?;
        let brokers = Broker::start_all()?;
        for broker in &brokers {
            runtime.block_on(fill(broker.port))?;
        }
        let failed: Vec<_> = brokers.iter().map(|broker| (broker.brand, Cell::new(0))).collect();
        let samples = rounds(&brokers, ROUNDS, |broker| {
            let (took, lost) = runtime.block_on(storm(broker.port, size))?;
            for (_, failed) in failed.iter().filter(|(brand, _)| *brand == broker.brand) {
                failed.set(failed.get() + lost);
            }
            Ok(took)
        })?;
        let what = format!("{size} connect at once, retained replay");
        let measured = Measured { bench: "storm", what: &what, unit: "ms" };
        figures.compare(measured, &samples, Aim::Ratio(0.5))?;
        let count = |(brand, failed): &(Brand, Cell<usize>)| (*brand, Samples::from(failed.get() as f64));
        let failed: Vec<_> = failed.iter().map(count).collect();
        let what = format!("of {ROUNDS} times {size} failed");
        figures.compare(Measured { bench: "storm", what: &what, unit: "" }, &failed, Aim::Most(0.0))?;
    }
    Ok(())
}

/// One announcement for each group.
async fn fill(port: u16) -> Result<()> {
    let mut publisher = Client::connect(port, "publisher").await?;
    for group in 0..GROUPS {
        publisher.send_retained(&format!("f/v1/release/g{group}/web"), &PAYLOAD, 1).await?;
        publisher.acknowledged().await?;
    }
    Ok(())
}

/// How long the last one took, and how many did not come that far.
async fn storm(port: u16, size: usize) -> Result<(Duration, usize)> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..size {
        tasks.spawn(async move {
            let mut client = Client::connect(port, &format!("node-{number}")).await?;
            client.subscribe(&format!("f/v1/release/g{}/+", number % GROUPS), 1).await?;
            client.message().await?;
            anyhow::Ok(client)
        });
    }
    let joined = tasks.join_all().await;
    let took = begin.elapsed();
    let clients: Vec<_> = joined.into_iter().flatten().collect();
    let failed = size - clients.len();
    clients.into_iter().try_for_each(Client::reset)?;
    Ok((took, failed))
}
