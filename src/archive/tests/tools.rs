//! Stock programs as judges; a test says so when one is missing.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

pub(crate) struct Tool {
    name: &'static str,
}

impl Tool {
    /// The program, if it is installed.
    pub(crate) fn find(name: &'static str) -> Option<Self> {
        let started =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !started.is_ok_and(|status| status.success()) {
            crate::not_run(&format!("{name} is not installed"));
            return None;
        }
        Some(Self { name })
    }

    /// GNU tar, under either of its names.
    pub(crate) fn gnu_tar() -> Option<Self> {
        ["tar", "gtar"].into_iter().filter_map(Self::find).find(|tool| {
            let version = Command::new(tool.name).arg("--version").output().unwrap();
            String::from_utf8_lossy(&version.stdout).contains("GNU tar")
        })
    }

    /// Runs it on `input`; it must succeed. Gives what it wrote.
    pub(crate) fn pipe(&self, args: &[&OsStr], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new(self.name)
            .args(args)
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            // A program that has seen enough closes its input early.
            scope.spawn(move || stdin.write_all(input).unwrap_or_default());
            child.wait_with_output().unwrap()
        });
        assert!(output.status.success(), "{} {args:?} failed: {}", self.name, output.status);
        output.stdout
    }
}
