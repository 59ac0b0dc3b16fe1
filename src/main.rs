//! The `backstay` program: parses, runs, returns an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    backstay::cli::main()
}
