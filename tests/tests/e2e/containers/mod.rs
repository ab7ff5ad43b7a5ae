//! Apps that are containers, on a real engine.

mod crashes;
mod deploying;
mod disk;
mod faults;
mod saved;
mod world;
