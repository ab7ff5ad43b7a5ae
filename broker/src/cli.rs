//! The command line.

use std::{
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use bus_client::bus::BusUrl;
use clap::{Args, Parser, Subcommand};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use crate::{
    advice,
    service::Service,
    settings::{Overrides, Settings},
};

/// Exit code of what did not work.
const FAILED: u8 = 1;
/// Exit code of a command line or of settings that make no sense.
const USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  broker run --open-loopback --data /tmp/bus            try it out on this machine, without users
  broker run --config /etc/deploybus/broker.toml        serve a fleet
  broker run --config broker.toml --mqtt 0.0.0.0:1884   … on another port
  broker run --config broker.toml --mqtt off --mqtts 0.0.0.0:8883 --wss 0.0.0.0:8443
  broker run --config broker.toml --bus mqtt://10.0.0.5 only the store; another MQTT broker is the bus

Certificates and the users file are read again when they change; certificates also at once on SIGHUP.

Exit codes: 0 stopped cleanly, 1 failed, 2 wrong usage or settings.";

/// The bus service of a fleet: MQTT broker and object store.
#[derive(Debug, Parser)]
#[command(name = "broker", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT
    #[command(after_help = EXAMPLES)]
    Run(Run),
}

#[derive(Debug, Args)]
struct Run {
    /// Folder for everything that is kept
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the MQTT broker; port 0 takes any free one, `off` none
    #[arg(long, value_name = "ADDR")]
    mqtt: Option<String>,
    /// Address of the MQTT broker with TLS; the settings file names the certificate
    #[arg(long, value_name = "ADDR")]
    mqtts: Option<SocketAddr>,
    /// Address for MQTT over WebSockets
    #[arg(long, value_name = "ADDR")]
    ws: Option<SocketAddr>,
    /// Address for MQTT over WebSockets with TLS
    #[arg(long, value_name = "ADDR")]
    wss: Option<SocketAddr>,
    /// Address of the object store; port 0 takes any free one, `off` none
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Address of the object store with TLS
    #[arg(long, value_name = "ADDR")]
    https: Option<SocketAddr>,
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Let everybody on this machine do everything; refuses other addresses than loopback
    #[arg(long)]
    open_loopback: bool,
    /// Use another MQTT broker as the bus and run only the store
    #[arg(long, value_name = "URL")]
    bus: Option<String>,
}

/// The `broker` program.
pub fn main() -> ExitCode {
    bus_client::keep_out_of_core_dumps();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => {
            // Nothing is left to do when even that cannot be printed.
            let _ = err.print();
            return if err.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,rumqttd=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let Command::Run(run) = cli.command;
    let settings = match Settings::load(run.into()) {
        Ok(settings) => settings,
        Err(err) => return fail(&err.into(), USAGE),
    };
    match serve(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => fail(&err, FAILED),
    }
}

/// Says what ended the program.
fn fail(err: &anyhow::Error, code: u8) -> ExitCode {
    // Nothing is left to do when even that cannot be printed.
    let _ = writeln!(std::io::stderr(), "{}", advice::render(err));
    ExitCode::from(code)
}

fn serve(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(run(settings));
    // The router's thread has no end of its own.
    runtime.shutdown_background();
    result
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let bus = settings.bus.clone();
    let mut service = Service::start(settings).await?;
    announce(&service, bus.as_ref())?;
    notify(NotifyState::Ready);
    let mut watchdog = watchdog();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => service.reload(),
            err = service.failed() => return Err(err),
            period = next(&mut watchdog) => {
                if service.is_alive(period).await {
                    notify(NotifyState::Watchdog);
                } else {
                    error!("no message goes through the relay any more");
                }
            }
        }
    }
    info!("stopping");
    notify(NotifyState::Stopping);
    service.stop().await;
    Ok(())
}

/// One line that tests and scripts wait for.
fn announce(service: &Service, bus: Option<&BusUrl>) -> anyhow::Result<()> {
    let bus = bus.map(|bus| format!(" bus={bus}")).unwrap_or_default();
    let relay = service.listeners().iter().map(|(transport, address)| format!(" {transport}={address}"));
    let store = service.store_listeners().iter().map(|(scheme, address)| format!(" {scheme}={address}"));
    let listeners: String = relay.chain(store).collect();
    let line = format!("broker ready{bus}{listeners}");
    info!("{line}");
    writeln!(std::io::stdout(), "{line}").context("cannot write to stdout")
}

fn notify(state: NotifyState<'_>) {
    // Not an error: systemd need not be there.
    let _ = sd_notify::notify(&[state]);
}

/// Ticks twice in each period of systemd's watchdog, if there is one.
fn watchdog() -> Option<tokio::time::Interval> {
    sd_notify::watchdog_enabled().map(|period| tokio::time::interval(period / 2))
}

async fn next(watchdog: &mut Option<tokio::time::Interval>) -> Duration {
    match watchdog {
        Some(interval) => {
            interval.tick().await;
            interval.period()
        }
        None => std::future::pending().await,
    }
}

impl From<Run> for Overrides {
    fn from(run: Run) -> Self {
        let Run { data, mqtt, mqtts, ws, wss, http, https, config, open_loopback, bus } = run;
        Self { file: config, data, mqtt, mqtts, ws, wss, http, https, open_loopback, bus }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
