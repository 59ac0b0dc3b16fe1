//! The `backstay` program: parses, runs, returns an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A database is captured by a child process of its own; see `source::sqlite`.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|a| a == backstay::source::sqlite::CHILD_COMMAND)
    {
        return ExitCode::from(u8::try_from(backstay::source::sqlite::child_main()).unwrap_or(1));
    }
    ExitCode::SUCCESS
}
