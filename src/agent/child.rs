//! Jobs as child processes, and how each leaves word of its end.
//!
//! A child's standard input is a file that is locked: the lock lasts as long as anybody has that file, so an agent that was killed and started again
//! knows whether the child still runs. What it ended with it writes into the state folder itself, durably, before it ends.

use crate::agent::progress::{self, PROGRESS};
use crate::agent::world::{Order, Orphan, Said, Work};
use crate::durable;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::stopped;
use crate::platform::child::{Ended, Patience, wait_patiently};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

/// The variable that tells a child which run it is.
pub const RUN: &str = "BACKSTAY_AGENT_RUN";
/// The variable that tells it where to leave word.
pub const ENDED: &str = "BACKSTAY_AGENT_ENDED";

/// The variable that tells it which process started it.
const AGENT: &str = "BACKSTAY_AGENT_PID";

/// Held by a job while it runs.
const SLOT: &str = "agent-job.lock";
/// How the last one ended.
const WORD: &str = "agent-job.json";
/// A job that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// Not for jobs: they would talk to the service manager in the agent's name.
pub(super) const NOT_FOR_JOBS: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

#[derive(Debug, Serialize, Deserialize)]
struct Word {
    run: String,
    code: u8,
    #[serde(flatten)]
    said: Said,
}

/// True in a job whose agent is there still: that tells what has to be told, in its own time. An orphan has to tell it itself.
pub fn is_told_by_agent() -> bool {
    let agent = std::env::var(AGENT).ok().and_then(|pid| pid.parse().ok());
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    agent.is_some_and(|agent: std::num::NonZeroI32| Some(agent) == parent)
}

/// Leaves word that the run that this process is has ended with `code`, and what else is to be known of it. Does nothing in a process that no agent started.
pub fn note_end(code: u8, said: Said) -> Result<()> {
    let (Some(run), Some(path)) = (std::env::var(RUN).ok(), std::env::var_os(ENDED)) else {
        return Ok(());
    };
    let path = PathBuf::from(path);
    let cannot = || format!("how this run ended cannot be written to {}", path.display());
    let bytes = serde_json::to_vec(&Word { run, code, said }).doing(Class::Failed, cannot)?;
    durable::replace(&path, &bytes).doing(Class::Failed, cannot)
}

/// Starts jobs as children.
#[derive(Debug, Clone)]
pub struct Children {
    /// This program.
    pub exe: PathBuf,
    /// Arguments before each command: identities, mostly.
    pub before: Vec<OsString>,
}

impl Children {
    /// Starts the job of `order`.
    pub fn start(&self, order: &Order) -> Result<Box<dyn Work>> {
        let path = order.state_dir.join(SLOT);
        let cannot = || format!("cannot lock {}", path.display());
        let slot = open(&path).doing(Class::Failed, cannot)?;
        rustix::fs::flock(&slot, FlockOperation::NonBlockingLockExclusive).map_err(|e| {
            // What cannot be locked at all is not free a moment later.
            let class = if e == Errno::WOULDBLOCK { Class::Busy } else { Class::Failed };
            OpError::new(class, cannot()).because(e)
        })?;
        // A run that was abandoned is begun again by the same name: what it said before must not be taken for its end now.
        if let Err(e) = std::fs::remove_file(order.state_dir.join(WORD))
            && e.kind() != std::io::ErrorKind::NotFound
        {
            let cannot = || format!("cannot remove {WORD} in {}", order.state_dir.display());
            return Err(e).doing(Class::Failed, cannot);
        }
        let mut command = Command::new(&self.exe);
        command.args(&self.before).arg("--config").arg(&order.config).args(["--progress", "none"]);
        command.args(&order.args).stdin(Stdio::from(slot)).process_group(0);
        command.env(RUN, &order.token).env(ENDED, order.state_dir.join(WORD));
        command.env(PROGRESS, order.state_dir.join(progress::FILE));
        command.env(AGENT, std::process::id().to_string());
        durable::crash::orders_of_job(&mut command);
        for name in NOT_FOR_JOBS {
            command.env_remove(name);
        }
        let mut child =
            command.spawn().doing(Class::Failed, || format!("{} cannot be started", self.exe.display()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (done, code) = channel();
        let asked = Arc::clone(&stop);
        let (state_dir, limit) = (order.state_dir.clone(), order.patience);
        std::thread::spawn(move || {
            // Killed, it could not start again what it stopped for a capture.
            let patience = Patience { needed: &|| stopped::any(&state_dir), limit };
            let ended = wait_patiently(&mut child, LONGEST, &|| asked.load(Ordering::Relaxed), &patience);
            let code = match ended {
                Ok(Ended::Itself(status)) => match (status.code(), status.signal()) {
                    (Some(code), _) => u8::try_from(code).unwrap_or(1),
                    (None, signal) => {
                        128_u8.saturating_add(signal.and_then(|s| u8::try_from(s).ok()).unwrap_or(0))
                    }
                },
                Ok(Ended::Stopped) => 143,
                Ok(Ended::TooLong) | Err(_) => 1,
            };
            let _nobody_waits = done.send(code);
        });
        Ok(Box::new(Child { stop, code, order: order.clone() }))
    }

    /// What became of the job of `order`, which an earlier agent started.
    pub fn orphan(order: &Order) -> Result<Orphan> {
        if runs(&order.state_dir)? {
            return Ok(Orphan::Running);
        }
        Ok(word(order).map_or(Orphan::Gone, |word| Orphan::Ended(word.code)))
    }

    /// What the run of `order` said of its end.
    pub fn said(order: &Order) -> Option<Said> {
        word(order).map(|word| word.said)
    }
}

/// True while a job of the project with this state folder runs, whoever started it.
pub(super) fn runs(state_dir: &Path) -> Result<bool> {
    let path = state_dir.join(SLOT);
    let cannot = || format!("cannot look at {}", path.display());
    let slot = open(&path).doing(Class::Failed, cannot)?;
    match rustix::fs::flock(&slot, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(e) => Err(e).doing(Class::Failed, cannot),
    }
}

/// What the run of `order` said of its end. A file that cannot be read says nothing: the job is run again, which loses nothing.
fn word(order: &Order) -> Option<Word> {
    let bytes = std::fs::read(order.state_dir.join(WORD)).ok()?;
    let word: Word = serde_json::from_slice(&bytes).ok()?;
    (word.run == order.token).then_some(word)
}

fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(fd))
}

struct Child {
    stop: Arc<AtomicBool>,
    code: Receiver<u8>,
    order: Order,
}

impl Work for Child {
    fn poll(&mut self) -> Option<u8> {
        match self.code.try_recv() {
            // One that was ended may have been done before.
            Ok(code) if code >= 128 => Some(word(&self.order).map_or(code, |word| word.code)),
            Ok(code) => Some(code),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(1),
        }
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
