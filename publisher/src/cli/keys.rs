//! The command line of keys.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use schemas::id::{KeyId, PublicKey};

/// What keys are for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum KeyRole {
    /// Signs the next root
    Root,
    /// Signs releases
    Release,
    /// Signs orders and node records
    Ops,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Keys are files in the folder `keys` of the home. In their place, DEPLOYBUS_RELEASE_KEY has the text of one, or
DEPLOYBUS_RELEASE_KEY_FILE its path, and likewise for OPS and ROOT; DEPLOYBUS_PASSPHRASE or DEPLOYBUS_PASSPHRASE_FILE open those
that are encrypted.")]
pub(crate) enum KeysCommand {
    /// Show which keys the root names for what, and which of them are here
    #[command(after_help = "\
Examples:
  publisher keys list
  publisher keys list --json")]
    List,
    /// Make a key file, for somebody whose key is to be added
    #[command(after_help = "\
Examples:
  publisher keys new --out bob.key
  publisher keys new --out bob.key --passphrase")]
    New(NewFile),
    /// Write a copy of a key that is here into a file
    #[command(after_help = "\
Examples:
  publisher keys export release --out ci.key
  publisher keys export root --out root.key --passphrase")]
    Export {
        /// root, release or ops
        #[arg(value_enum)]
        role: KeyRole,
        #[command(flatten)]
        file: NewFile,
    },
    /// Take a key into this home, from a file or as it is typed from paper
    #[command(after_help = "\
Examples:
  publisher keys import release bob.key
  publisher keys import root -                                       typed from a sheet of paper
  publisher keys import ops ~/.deploybus/keys/ops.key --passphrase   the one that is here, encrypted from now on")]
    Import {
        /// root, release or ops
        #[arg(value_enum)]
        role: KeyRole,
        /// Key file, or - for standard input
        file: PathBuf,
        /// Encrypt it with a passphrase
        #[arg(long)]
        passphrase: bool,
        /// Also in the place of another key that the root names
        #[arg(long)]
        force: bool,
    },
    /// Print a key as a sheet of paper, to be typed again when everything else is lost
    #[command(after_help = "\
Examples:
  publisher keys paper root")]
    Paper {
        /// root, release or ops
        #[arg(value_enum)]
        role: KeyRole,
    },
    #[command(flatten)]
    Change(KeysChange),
    /// Change to a root that others have signed
    #[command(after_help = "\
Examples:
  publisher keys adopt root-2.cbor")]
    Adopt {
        /// The root document
        file: PathBuf,
        #[command(flatten)]
        keys: KeyFiles,
    },
}

/// What makes the next root.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysChange {
    /// Make a new key, and the root that names it in the place of the one that is here
    #[command(after_help = "\
Examples:
  publisher keys rotate release               what was released stays installable
  publisher keys rotate ops --lost            somebody else may have it: only what is ordered from now on counts

Nodes take the new root from the bus, also after a long absence. With --lost, announcements that the old key signed are taken off the
bus, and nodes forget the numbers that it may have used up: announce again what is to run.")]
    Rotate {
        /// root, release or ops
        #[arg(value_enum)]
        role: KeyRole,
        /// The old key is not to be trusted any more, not even for what it signed before
        #[arg(long)]
        lost: bool,
        #[command(flatten)]
        keys: KeyFiles,
    },
    /// Make new keys for several people, of which some have to sign
    #[command(after_help = "\
Examples:
  publisher keys split release --threshold 2 --of 3 --out /media/stick
  publisher keys split ops --of 2 --out ./for-bob                       either of two

Number 1 takes the place of the key that is here; the others are written to files that are handed out.")]
    Split {
        /// root, release or ops
        #[arg(value_enum)]
        role: KeyRole,
        /// How many of them have to sign
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        threshold: usize,
        /// How many keys there are
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=16))]
        of: u8,
        /// Folder for all keys but the first
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Encrypt those that are handed out with a passphrase
        #[arg(long)]
        passphrase: bool,
        #[command(flatten)]
        keys: KeyFiles,
    },
    /// Say how many keys of a role have to sign
    #[command(after_help = "\
Examples:
  publisher keys threshold release 2
  publisher keys threshold release 2 --key bob.key      what is on the bus is signed by both")]
    Threshold {
        /// root, release or ops
        #[arg(value_enum)]
        role: KeyRole,
        /// How many
        count: usize,
        #[command(flatten)]
        keys: KeyFiles,
    },
    /// Name one more key, which somebody else has made with `publisher keys new`
    #[command(after_help = "\
Examples:
  publisher keys add release 8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c")]
    Add {
        /// root, release or ops
        #[arg(value_enum)]
        role: KeyRole,
        /// The public key, as `publisher keys new` prints it
        public: PublicKey,
        #[command(flatten)]
        keys: KeyFiles,
    },
    /// Name a key no more
    #[command(after_help = "\
Examples:
  publisher keys remove release 139e3940e64b5491
  publisher keys remove release 139e3940e64b5491 --lost     somebody else may have it")]
    Remove {
        /// root, release or ops
        #[arg(value_enum)]
        role: KeyRole,
        /// Its id, as `publisher keys list` shows it
        key: KeyId,
        /// What was signed before is not to be trusted any more
        #[arg(long)]
        lost: bool,
        #[command(flatten)]
        keys: KeyFiles,
    },
}

impl KeysChange {
    /// The role that is changed.
    pub(crate) fn role(&self) -> KeyRole {
        match self {
            Self::Rotate { role, .. }
            | Self::Split { role, .. }
            | Self::Threshold { role, .. }
            | Self::Add { role, .. }
            | Self::Remove { role, .. } => *role,
        }
    }

    /// Files of keys that sign besides those of this home.
    pub(crate) fn key_files(&self) -> &[PathBuf] {
        match self {
            Self::Rotate { keys, .. }
            | Self::Split { keys, .. }
            | Self::Threshold { keys, .. }
            | Self::Add { keys, .. }
            | Self::Remove { keys, .. } => &keys.files,
        }
    }
}

/// A key file that is made.
#[derive(Debug, Args)]
pub(crate) struct NewFile {
    /// File to make, for its owner alone
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Encrypt it with a passphrase
    #[arg(long)]
    pub(crate) passphrase: bool,
}

/// Keys that do not lie in the home.
#[derive(Debug, Args)]
pub(crate) struct KeyFiles {
    /// File of another key to sign with; may be given several times
    #[arg(long = "key", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}
