//! Memory of a broker with nobody, and for each of 10,000 clients that subscribe and wait.

use anyhow::Result;

use crate::{
    broker::{Brand, Broker},
    client::{Client, runtime},
    figure::{Aim, Figures, Measured, Samples, resident_kib},
};

const CLIENTS: usize = 10_000;
/// In KiB, as asked for in the design.
const MOST_AT_IDLE: f64 = 20.0 * 1024.0;
const MOST_PER_CONNECTION: f64 = 8.0;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let (mut idle, mut per_connection) = (Vec::new(), Vec::new());
    for brand in Brand::all() {
        let broker = Broker::start(brand, None)?;
        let before = resident_kib(broker.pid())?;
        let runtime = runtime()?;
        let _clients = runtime.block_on(connect(broker.port))?;
        idle.push((brand, Samples::from(before)));
        let each = (resident_kib(broker.pid())? - before) / CLIENTS as f64;
        per_connection.push((brand, Samples::from(each)));
    }
    let measured = |what| Measured { bench: "memory", what, unit: "KiB" };
    figures.compare(measured("broker with nobody"), &idle, Aim::Most(MOST_AT_IDLE))?;
    figures.compare(measured("per connection"), &per_connection, Aim::Most(MOST_PER_CONNECTION))
}

async fn connect(port: u16) -> Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(CLIENTS);
    for number in 0..CLIENTS {
        let mut client = Client::connect(port, &format!("node-{number}")).await?;
        client.subscribe("f/v1/release/all/+", 1).await?;
        clients.push(client);
    }
    Ok(clients)
}
