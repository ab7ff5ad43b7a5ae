//! A retained announcement of 1 KiB to the last of many subscribers, each publish on the disk before it is acknowledged.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, BufReader},
    net::TcpStream,
    sync::Notify,
    task::{LocalSet, spawn_local},
    time::timeout,
};

use crate::{
    broker::{Brand, Broker},
    client::{Client, PATIENCE, runtime},
    figure::{Aim, Figures, Measured, Samples},
};

const PAYLOAD: [u8; 1_024] = [b'x'; 1_024];
const TOPIC: &str = "f/v1/release/all/web";

/// How long a delivery at QoS 0 is: type, length, topic, payload.
const MESSAGE_BYTES: usize = 1 + 2 + 2 + TOPIC.len() + PAYLOAD.len();
/// Each time with brokers and clients anew, of which there are only so many at once.
const TURNS: usize = 3;

/// Those who wait for the messages of a broker.
struct Crowd {
    publisher: Client,
    heard: Rc<Heard>,
    size: usize,
}

#[derive(Default)]
struct Heard {
    count: Cell<usize>,
    all: Notify,
}

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    for (size, rounds) in [(100, 20), (1_000, 10), (10_000, 3)] {
        let mut samples: Vec<_> = Brand::all().into_iter().map(|brand| (brand, Samples::default())).collect();
        for _ in 0..TURNS {
            for (brand, samples) in &mut samples {
                let broker = Broker::start(*brand, None)?;
                let local = LocalSet::new();
                let took = local.block_on(&runtime()?, announce_all(broker.port, size, rounds))?;
                for took in took {
                    samples.push_ms(took);
                }
            }
        }
        let what = format!("1 KiB to the last of {size}, durable");
        let measured = Measured { bench: "fanout", what: &what, unit: "ms" };
        figures.compare(measured, &samples, Aim::Ratio(0.6))?;
    }
    Ok(())
}

async fn announce_all(port: u16, size: usize, rounds: usize) -> Result<Vec<Duration>> {
    let mut crowd = gather(port, size).await?;
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        took.push(announce(&mut crowd).await?);
    }
    Ok(took)
}

async fn gather(port: u16, size: usize) -> Result<Crowd> {
    let heard = Rc::new(Heard::default());
    for number in 0..size {
        let mut client = Client::connect(port, &format!("node-{number}")).await?;
        client.subscribe("f/v1/release/all/+", 0).await?;
        spawn_local(count(client.into_reader(), Rc::clone(&heard), size));
    }
    Ok(Crowd { publisher: Client::connect(port, "publisher").await?, heard, size })
}

/// Only counts bytes: the clients share this machine with the broker.
async fn count(mut reader: BufReader<TcpStream>, heard: Rc<Heard>, size: usize) -> Result<()> {
    let mut message = [0; MESSAGE_BYTES];
    loop {
        reader.read_exact(&mut message).await?;
        heard.count.set(heard.count.get() + 1);
        if heard.count.get() == size {
            heard.all.notify_one();
        }
    }
}

async fn announce(crowd: &mut Crowd) -> Result<Duration> {
    crowd.heard.count.set(0);
    let begin = Instant::now();
    crowd.publisher.send_retained(TOPIC, &PAYLOAD, 1).await?;
    let all = timeout(PATIENCE, crowd.heard.all.notified()).await;
    all.with_context(|| format!("{} of {} got it", crowd.heard.count.get(), crowd.size))?;
    let took = begin.elapsed();
    crowd.publisher.acknowledged().await?;
    Ok(took)
}
