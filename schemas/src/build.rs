//! How a node came to the image of a container, as reports say it.

use serde::{Deserialize, Serialize};

/// Most bytes of the sentence that says why.
pub const MAX_WHY_BYTES: usize = 200;

/// How a node came to the image of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// How much was built.
    pub strategy: Strategy,
    /// Why so much, for people.
    pub why: String,
    /// From the decision to the proven image.
    pub took_ms: u64,
    /// Steps of the build.
    pub steps: u32,
    /// Steps whose layers were there already.
    pub reused: u32,
    /// Size of the image.
    pub image_bytes: u64,
}

/// How much of an image is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Nothing: the image is there and is what it should be.
    Hot,
    /// Nothing that is in the image changed.
    Cached,
    /// The layers of the code; those of its dependencies stay.
    Incremental,
    /// Dependencies too.
    Full,
    /// Nothing is built: a saved image is loaded.
    Loaded,
    /// One of a newer version than this one.
    #[serde(other)]
    Unknown,
}

impl Strategy {
    /// The strategy as topics and the command line spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Cached => "cached",
            Self::Incremental => "incremental",
            Self::Full => "full",
            Self::Loaded => "loaded",
            Self::Unknown => "unknown",
        }
    }
}
