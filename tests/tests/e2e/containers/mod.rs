//! Apps that are containers, on a real engine.

mod crashes;
mod deploying;
mod faults;
mod world;
