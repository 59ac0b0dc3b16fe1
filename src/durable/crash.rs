//! Places where a test can kill the process or let a system call fail. Release builds hold none of it.
//!
//! Environment of a debug build:
//!
//! - `BACKSTAY_TEST_CRASH=<n>`: the n-th point that the process passes (from 1) kills it with SIGKILL.
//! - `BACKSTAY_TEST_SIGNAL=<n>:<signal>`: the n-th point sends the process that signal (by number) and goes on.
//! - `BACKSTAY_TEST_FAIL=<n>:<errno>`: the n-th wrapped system call is not made and gives that error number.
//! - In place of `<n>`, `<name>#<n>` means the n-th one of that name: threads do not change what it hits.
//! - `BACKSTAY_TEST_JOB_CRASH=<n>`: the same as `BACKSTAY_TEST_CRASH` for the jobs of an agent, which get none of the others.
//! - `BACKSTAY_TEST_CRASH_COUNT_FILE=<path>`: each point passed is added to that file, a line `<n> <name>`, so that a test knows
//!   how many there are.

use std::io;

/// A place where a test may kill the process. Does nothing otherwise.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::point(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Makes a system call between two points; a test may let it fail instead.
#[inline]
pub fn around<T, E: From<io::Error>>(
    name: &'static str,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    point(name);
    #[cfg(debug_assertions)]
    armed::refuse(name)?;
    let result = call()?;
    point(name);
    Ok(result)
}

/// As [`around`], for a call that another thread makes at a time of its own: it can fail in tests by its name, and is no point, because points are counted.
pub fn refusable<T, E: From<io::Error>>(
    name: &'static str,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    #[cfg(debug_assertions)]
    armed::refuse_by_name(name)?;
    #[cfg(not(debug_assertions))]
    let _ = name;
    call()
}

/// What is ordered of an agent is not ordered of its jobs.
pub fn orders_of_job(command: &mut std::process::Command) {
    #[cfg(debug_assertions)]
    armed::orders_of_job(command);
    #[cfg(not(debug_assertions))]
    let _ = command;
}

#[cfg(debug_assertions)]
pub use armed::{fail_call, fired};

#[cfg(debug_assertions)]
mod armed {
    use rustix::process::Signal;
    use std::cell::Cell;
    use std::io::{self, Write as _};
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    pub(super) fn orders_of_job(command: &mut std::process::Command) {
        for name in ["CRASH", "SIGNAL", "FAIL", "CRASH_COUNT_FILE"] {
            command.env_remove(format!("BACKSTAY_TEST_{name}"));
        }
        if let Some(order) = std::env::var_os("BACKSTAY_TEST_JOB_CRASH") {
            command.env("BACKSTAY_TEST_CRASH", order);
        }
    }

    /// What the environment asks for, read once.
    struct Orders {
        kill_at: Option<At>,
        signal_at: Option<(At, i32)>,
        fail_at: Option<(At, i32)>,
        log: Option<PathBuf>,
    }

    /// One of all that the process passes, or one of those of a name.
    struct At {
        name: Option<String>,
        number: u64,
        passed: AtomicU64,
    }

    impl At {
        fn new(text: &str) -> Option<Self> {
            let (name, number) = match text.rsplit_once('#') {
                Some((name, number)) => (Some(name.to_owned()), number),
                None => (None, text),
            };
            Some(Self { name, number: number.parse().ok()?, passed: AtomicU64::new(0) })
        }

        /// Counts `name`, if it is meant; true when it is the one.
        fn is_here(&self, name: &str) -> bool {
            self.name.as_ref().is_none_or(|meant| meant == name)
                && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.number
        }
    }

    static ORDERS: OnceLock<Orders> = OnceLock::new();
    static POINTS: AtomicU64 = AtomicU64::new(0);

    thread_local! {
        static FAIL: Cell<Option<(u64, i32)>> = const { Cell::new(None) };
    }

    fn orders() -> &'static Orders {
        ORDERS.get_or_init(|| {
            let text = |name: &str| std::env::var(name).ok();
            let pair = |name: &str| {
                let text = text(name)?;
                let (at, what) = text.rsplit_once(':')?;
                Some((At::new(at)?, what.parse().ok()?))
            };
            Orders {
                kill_at: text("BACKSTAY_TEST_CRASH").and_then(|at| At::new(&at)),
                signal_at: pair("BACKSTAY_TEST_SIGNAL"),
                fail_at: pair("BACKSTAY_TEST_FAIL"),
                log: std::env::var_os("BACKSTAY_TEST_CRASH_COUNT_FILE").map(PathBuf::from),
            }
        })
    }

    pub(super) fn point(name: &str) {
        let orders = orders();
        let number = POINTS.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(log) = &orders.log
            && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(log)
        {
            // One write a line, so that lines of several threads do not mix.
            let _ = file.write_all(format!("{number} {name}\n").as_bytes());
        }
        let me = rustix::process::getpid();
        if orders.kill_at.as_ref().is_some_and(|at| at.is_here(name)) {
            let _ = rustix::process::kill_process(me, Signal::KILL);
        }
        if let Some((at, signal)) = &orders.signal_at
            && at.is_here(name)
            && let Some(signal) = Signal::from_named_raw(*signal)
        {
            let _ = rustix::process::kill_process(me, signal);
        }
    }

    pub(super) fn refuse(name: &str) -> io::Result<()> {
        if let Some((at, errno)) = &orders().fail_at
            && at.is_here(name)
        {
            return Err(io::Error::from_raw_os_error(*errno));
        }
        match FAIL.get() {
            Some((1, errno)) => {
                FAIL.set(None);
                Err(io::Error::from_raw_os_error(errno))
            }
            Some((left, errno)) => {
                FAIL.set(Some((left - 1, errno)));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// As [`refuse`], only where the order says this name.
    pub(super) fn refuse_by_name(name: &str) -> io::Result<()> {
        match &orders().fail_at {
            Some((at, errno)) if at.name.is_some() && at.is_here(name) => {
                Err(io::Error::from_raw_os_error(*errno))
            }
            _ => Ok(()),
        }
    }

    /// Lets the `number`-th wrapped system call of this thread (from 1) fail with `errno`. For tests.
    #[doc(hidden)]
    pub fn fail_call(number: u64, errno: i32) {
        FAIL.set(Some((number.max(1), errno)));
    }

    /// Takes back what [`fail_call`] ordered; true when it had happened. For tests.
    #[doc(hidden)]
    pub fn fired() -> bool {
        FAIL.take().is_none()
    }
}
