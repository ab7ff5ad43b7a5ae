//! The `pico-bridge` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    pico_bridge::main()
}
