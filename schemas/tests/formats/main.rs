//! The formats as others see them: golden bytes of every released version, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod golden;
mod hostile;
mod refused;
mod sample;
