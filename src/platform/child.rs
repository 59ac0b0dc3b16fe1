//! Waiting for a child, ending it with all it started, and keeping its last words.

use crate::model::path::escape;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group};
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// So much of what a command says on stderr is kept: the end.
const WORDS_MAX: usize = 4 << 10;
/// After SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is asked whether the run is to end.
const ASKED: Duration = Duration::from_millis(100);

/// How a child came to its end.
pub enum Ended {
    /// By itself.
    Itself(ExitStatus),
    /// It took longer than it may.
    TooLong,
    /// The run is to end.
    Stopped,
}

/// What a child that was asked to end is given beyond the usual time.
pub struct Patience<'a> {
    /// As long as this says so: it is about something that must not be left half done.
    pub needed: &'a dyn Fn() -> bool,
    /// At most.
    pub limit: Duration,
}

/// Waits for `child`; when `limit` is over, or `stopped` says so, ends it and everything in its process group.
pub fn wait(child: &mut Child, limit: Duration, stopped: &dyn Fn() -> bool) -> io::Result<Ended> {
    wait_patiently(child, limit, stopped, &Patience { needed: &|| false, limit: Duration::ZERO })
}

/// The same; what is asked to end gets the usual time once `patience` needs none any more.
pub fn wait_patiently(
    child: &mut Child,
    limit: Duration,
    stopped: &dyn Fn() -> bool,
    patience: &Patience<'_>,
) -> io::Result<Ended> {
    let pid = Pid::from_child(child);
    let end = end_of(pid);
    let timed_out = |limit| end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
    let begun = Instant::now();
    let why = loop {
        let left = limit.saturating_sub(begun.elapsed());
        if !timed_out(left.min(ASKED)) {
            return child.wait().map(Ended::Itself);
        }
        if stopped() {
            break Ended::Stopped;
        }
        if left <= ASKED {
            break Ended::TooLong;
        }
    };
    // These fail only when nothing is left to end.
    let _ = kill_process_group(pid, Signal::TERM);
    let asked = Instant::now();
    let mut needed = asked;
    while needed.elapsed() < GRACE && timed_out(ASKED) {
        if asked.elapsed() < patience.limit && (patience.needed)() {
            needed = Instant::now();
        }
    }
    let _ = kill_process_group(pid, Signal::KILL);
    child.wait()?;
    Ok(why)
}

/// Waits for `child` to its end, however long that takes. When a signal is `asked` for it is passed on, once for each kind; SIGINT,
/// SIGQUIT and SIGHUP only with `own`, because a terminal sends these to all by itself.
pub fn wait_and_pass_on(
    child: &mut Child,
    asked: &dyn Fn() -> Option<i32>,
    own: bool,
) -> io::Result<ExitStatus> {
    let pid = Pid::from_child(child);
    let end = end_of(pid);
    let mut passed = None;
    while end.recv_timeout(ASKED) == Err(RecvTimeoutError::Timeout) {
        let signal = asked();
        if signal != passed {
            passed = signal;
            match signal.and_then(Signal::from_named_raw) {
                Some(Signal::INT | Signal::QUIT | Signal::HUP) if !own => {}
                // It fails only when the child is gone.
                Some(signal) => drop(rustix::process::kill_process(pid, signal)),
                None => {}
            }
        }
    }
    child.wait()
}

/// Tells when `pid` has ended, without collecting it: its number stays its own until it is waited for.
fn end_of(pid: Pid) -> Receiver<()> {
    let (ended, end) = channel();
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(rustix::process::waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
        let _ = ended.send(());
    });
    end
}

/// Reads `stderr` to its end in a thread of its own and gives the last of it, printable, after `: `.
pub fn tail_of(stderr: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (done, words) = channel();
    std::thread::spawn(move || {
        let mut kept: Vec<u8> = Vec::new();
        let mut buffer = [0; 4096];
        let mut stderr = stderr;
        while let Some(Ok(length @ 1..)) = stderr.as_mut().map(|s| s.read(&mut buffer)) {
            kept.extend_from_slice(&buffer[..length]);
            kept.drain(..kept.len().saturating_sub(WORDS_MAX));
        }
        drop(done.send(printable(&kept)));
    });
    words
}

fn printable(words: &[u8]) -> String {
    let lines = words.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let lines: Vec<_> = lines.map(escape).collect();
    if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ")) }
}

/// How `status` is told to people.
pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
