//! The `publisher` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    publisher::main()
}
