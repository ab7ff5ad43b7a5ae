//! A fleet in virtual time: devices with real machines, a bus that loses, doubles, delays and reorders, a controller at a real desk
//! that may die at any moment, and people who want something.
//!
//! Reports, orders, plans and courses are really signed and really verified. What is only pretended: disks, processes, the store,
//! and that time passes.

mod controller;
pub(crate) mod device;
pub(crate) mod hub;
mod life;
mod memory;
pub(crate) mod office;
mod rules;
pub(crate) mod world;
