//! What people read of this command line alone; the rest is the crate `show`, whose words the broker's page has too. Pure.

pub(crate) mod controllers;
pub(crate) mod follow;
#[cfg(test)]
mod hostile;
pub(crate) mod images;
pub(crate) mod prune;

pub(crate) use ::show::{
    amount, board, clean, doing, json, log, printable, rollout, status, table, watch, why,
};
