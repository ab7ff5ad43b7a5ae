//! The `pi-worker` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    pi_worker::main()
}
