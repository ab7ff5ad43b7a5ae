//! A retained 1 KiB announcement to the last of many subscribers, each publish on the disk before it is acknowledged.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use e2e::{Mqtt, Process, binary, free_port, wait_until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use crate::figure::{Figures, median, resident_kib};

const SUBSCRIBERS: u32 = 1_000;
const ROUNDS: usize = 20;
const PAYLOAD: [u8; 1_024] = [b'x'; 1_024];
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (port, process) = deploybus(folder.path())?;
    fanout(figures, port, process.pid(), "deploybus")?;
    drop(process);
    let Some((port, mut child)) = mosquitto(folder.path())? else {
        println!("fanout   mosquitto is not installed: no comparison");
        return Ok(());
    };
    let measured = fanout(figures, port, child.id(), "mosquitto");
    child.kill()?;
    child.wait()?;
    measured
}

fn fanout(figures: &mut Figures, port: u16, pid: u32, by: &str) -> Result<()> {
    let before = resident_kib(pid)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let start = Instant::now();
    runtime.block_on(async {
        for n in 0..SUBSCRIBERS {
            let stream = subscribe(port, n).await?;
            tokio::spawn(count(stream, sender.clone()));
        }
        anyhow::Ok(())
    })?;
    figures.add("fanout", "1,000 clients connect and subscribe", ms(start), "ms", by)?;
    let per_connection = (resident_kib(pid)? - before) / f64::from(SUBSCRIBERS);
    figures.add("fanout", "memory per connection", per_connection, "KiB", by)?;

    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let publisher = std::thread::spawn(move || -> Result<()> {
            Mqtt::connect(port, None)?.publish("f/v1/release/all/web", &PAYLOAD, true)
        });
        let start = Instant::now();
        runtime.block_on(async {
            for _ in 0..SUBSCRIBERS {
                tokio::time::timeout(PATIENCE, receiver.recv()).await.context("a subscriber got nothing")?;
            }
            anyhow::Ok(())
        })?;
        took.push(ms(start));
        publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
    }
    figures.add("fanout", "publish to the last of 1,000, durable", median(took), "ms", by)
}

async fn subscribe(port: u16, n: u32) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let id = format!("node-{n:05}");
    let mut connect = vec![0x10, 22, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 10];
    connect.extend(id.as_bytes());
    stream.write_all(&connect).await?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    let filter = b"f/v1/release/all/+";
    let mut subscribe = vec![0x82, 5 + filter.len() as u8, 0, 1, 0, filter.len() as u8];
    subscribe.extend(filter);
    subscribe.push(0);
    stream.write_all(&subscribe).await?;
    let mut suback = [0; 5];
    stream.read_exact(&mut suback).await?;
    if connack[3] != 0 || suback[4] == 0x80 {
        bail!("client {n} was refused");
    }
    Ok(stream)
}

/// Tells each message that came whole; all have the same size.
async fn count(mut stream: TcpStream, told: mpsc::UnboundedSender<()>) {
    const MESSAGE: usize = 3 + 2 + "f/v1/release/all/web".len() + PAYLOAD.len();
    let mut buffer = vec![0; MESSAGE];
    while stream.read_exact(&mut buffer).await.is_ok() && told.send(()).is_ok() {}
}

fn deploybus(folder: &Path) -> Result<(u16, Process)> {
    let port = free_port()?;
    let mut broker = Command::new(binary("broker")?);
    broker.args(["run", "--open-loopback", "--http", "127.0.0.1:0", "--mqtt", &format!("127.0.0.1:{port}")]);
    broker.arg("--data").arg(folder.join("broker"));
    Ok((port, Process::start(broker, &folder.join("broker.log"), "broker ready")?))
}

/// Mosquitto that saves its whole database on every change, the most durable that it can be.
fn mosquitto(folder: &Path) -> Result<Option<(u16, Child)>> {
    let program =
        ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].into_iter().find(|path| Path::new(path).exists());
    let Some(program) = program else { return Ok(None) };
    let port = free_port()?;
    let data = folder.join("mosquitto");
    fs::create_dir(&data)?;
    let settings = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
         autosave_on_changes true\nautosave_interval 1\nmax_connections -1\nuser root\n",
        data.display()
    );
    let file = folder.join("mosquitto.conf");
    fs::write(&file, settings)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn()?;
    wait_until("mosquitto", Duration::from_secs(10), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    })?;
    Ok(Some((port, child)))
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1_000.0
}
