//! The `broker` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    broker::main()
}
