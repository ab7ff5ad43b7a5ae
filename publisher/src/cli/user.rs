//! The command line of those who log in to the broker.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::home::users::{GuestFilter, UserName, UserRole};

/// What can be done with those who log in.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Let somebody in, with a token that is shown once or a password that is typed
    #[command(after_help = "\
Examples:
  publisher user add grafana --role watcher
  publisher user add hass --role home-assistant --token-out hass.token
  publisher user add anna --role admin --password
  publisher user add cam --role guest --publish cam/# --subscribe cam/cmd/+
  publisher user add anna --role watcher --password-stdin --users /etc/deploybus/users")]
    Add(UserAdd),
    /// List who may log in
    #[command(after_help = "\
Examples:
  publisher user list
  publisher user list --json")]
    List {
        #[command(flatten)]
        place: UserPlace,
    },
    /// Lock somebody out: connections and sessions end within a second
    #[command(after_help = "\
Examples:
  publisher user remove grafana
  publisher user remove grafana --users /etc/deploybus/users")]
    Remove {
        /// Name of the user
        name: UserName,
        #[command(flatten)]
        place: UserPlace,
    },
    /// Give somebody another token or password; the old one ends within a second
    #[command(after_help = "\
Examples:
  publisher user passwd grafana
  publisher user passwd anna --password
  publisher user passwd publisher            who this publisher logs in as: its settings are changed, too")]
    Passwd {
        /// Name of the user
        name: UserName,
        #[command(flatten)]
        secret: SecretChoice,
        #[command(flatten)]
        place: UserPlace,
    },
}

#[derive(Debug, Args)]
pub(crate) struct UserAdd {
    /// Name to log in with
    pub(crate) name: UserName,
    /// What it may do: publisher, controller, watcher, home-assistant, guest or admin
    #[arg(long)]
    pub(crate) role: UserRole,
    /// Topics that a guest may publish to; may be given several times
    #[arg(long, value_name = "FILTER")]
    pub(crate) publish: Vec<GuestFilter>,
    /// Topics that a guest may subscribe to; may be given several times
    #[arg(long, value_name = "FILTER")]
    pub(crate) subscribe: Vec<GuestFilter>,
    #[command(flatten)]
    pub(crate) secret: SecretChoice,
    #[command(flatten)]
    pub(crate) place: UserPlace,
}

/// What a user is to log in with; a new token when nothing is said.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct SecretChoice {
    /// Ask for a password, twice and unseen
    #[arg(long)]
    pub(crate) password: bool,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Write the token into a file that only you can read, instead of showing it
    #[arg(long, value_name = "FILE")]
    pub(crate) token_out: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UserPlace {
    /// The broker's users file [default: broker/users in the home]
    #[arg(long, value_name = "FILE")]
    pub(crate) users: Option<PathBuf>,
}
