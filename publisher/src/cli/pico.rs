//! The command line of Picos.

use std::path::PathBuf;

use bus_client::bus::BusUrl;
use clap::{Args, Subcommand};
use schemas::id::NodeId;

/// What can be done with Picos.
#[derive(Debug, Subcommand)]
pub(crate) enum PicoCommand {
    /// List the Picos that are nodes, with the Pi that each is reached through
    #[command(after_help = "\
Examples:
  publisher pico list
  publisher pico list --json")]
    List,
    /// Have the bridge let go of a Pico's port for ten minutes: for mpremote, Thonny or a terminal
    #[command(after_help = "\
Examples:
  publisher pico release pico-desk

Its app is stopped for that time, and so is its watchdog. On the Pi: mpremote connect id:SERIAL")]
    Release {
        /// Name of the node
        node: NodeId,
    },
    /// Have the bridge take the port again before the ten minutes are over; the Pico boots
    #[command(after_help = "\
Examples:
  publisher pico take pico-desk")]
    Take {
        /// Name of the node
        node: NodeId,
    },
    /// Bring the guard onto a Pico that has a program of its own, which is kept as main.before.py
    #[command(after_help = "\
Examples:
  publisher pico provision pico-desk")]
    Provision {
        /// Name of the node
        node: NodeId,
    },
    /// Write all that a Pico W needs to be a node over Wi-Fi, into a folder that is copied onto it once
    #[command(after_help = "\
Examples:
  publisher pico config pico-shed --wifi-ssid Garden --out ./pico-shed
  publisher pico config pico-shed --wifi-ssid Garden --wifi-password-stdin --out ./pico-shed
  publisher pico config pico-shed --wifi-ssid Guests --wifi-open --out ./pico-shed --bus mqtts://192.168.1.10:8883

The node was added with `publisher node add`. The password of the Wi-Fi is asked for. The folder has secrets in it: copy it with
`mpremote cp -r ./pico-shed/. :`, restart the Pico, and delete the folder.")]
    Config(PicoConfig),
}

#[derive(Debug, Args)]
pub(crate) struct PicoConfig {
    /// Name of the node
    pub(crate) node: NodeId,
    /// Name of the Wi-Fi
    #[arg(long, value_name = "SSID")]
    pub(crate) wifi_ssid: String,
    /// Read its password from the first line of standard input
    #[arg(long)]
    pub(crate) wifi_password_stdin: bool,
    /// It has no password
    #[arg(long, conflicts_with = "wifi_password_stdin")]
    pub(crate) wifi_open: bool,
    /// Where the bus is as the Pico reaches it, if not as fleet.toml says
    #[arg(long, value_name = "URL")]
    pub(crate) bus: Option<BusUrl>,
    /// What to ask for the time [default: pool.ntp.org]
    #[arg(long, value_name = "HOST")]
    pub(crate) ntp: Option<String>,
    /// What kind of device it is, as in rp2/rp2040, if the Pico is not to find out
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Folder for the files
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}
