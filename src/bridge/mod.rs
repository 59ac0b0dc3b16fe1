//! Row 1: the one bridge between blocking code and code that waits for a network.
//!
//! One runtime with two workers serves the process; it starts when the first network store is used. [`block_on`] is called from plain threads.
//! This module must never be entered from a task of its own runtime (the workers would wait for each other), and nothing here may
//! know what is waited for.

mod timer;

pub use timer::{RealTimer, TestTimer, Timer};

use futures::future::{Either, select};
use std::future::Future;
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of the runtime: they move bytes and never compute.
const WORKERS: usize = 2;
/// How often a wait looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);

/// Why a wait has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BridgeError {
    /// Someone asked for the end.
    #[error("it was interrupted")]
    Interrupted,
    /// The system gave no threads.
    #[error("no threads could be started for the network")]
    NoThreads,
    /// A mistake of ours: a task of the runtime waits in the way plain threads do.
    #[error("a network task waited for another one")]
    Inside,
}

fn runtime() -> Result<&'static Runtime, BridgeError> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    let start = || {
        let count = AtomicUsize::new(1);
        Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name_fn(move || format!("network-{}", count.fetch_add(1, Ordering::Relaxed)))
            .enable_all()
            .build()
            .ok()
    };
    RUNTIME.get_or_init(start).as_ref().ok_or(BridgeError::NoThreads)
}

/// Waits for `future` on this thread, until `interrupted` says true (asked every 100 ms). The future is dropped then: what it began and did not
/// hand to another task ends there.
pub fn block_on<F: Future>(interrupted: &dyn Fn() -> bool, future: F) -> Result<F::Output, BridgeError> {
    if Handle::try_current().is_ok() {
        return Err(BridgeError::Inside);
    }
    let runtime = runtime()?;
    if interrupted() {
        return Err(BridgeError::Interrupted);
    }
    runtime.block_on(async {
        let mut future = pin!(future);
        loop {
            let look = pin!(tokio::time::sleep(LOOK));
            match select(future.as_mut(), look).await {
                Either::Left((output, _)) => return Ok(output),
                Either::Right(_) if interrupted() => return Err(BridgeError::Interrupted),
                Either::Right(_) => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn many_threads_wait_at_once_and_each_gets_its_own_outcome() {
        let run = |n: u32| {
            std::thread::spawn(move || {
                block_on(&|| false, async move {
                    tokio::task::yield_now().await;
                    n
                })
            })
        };
        let threads: Vec<_> = (0..8).map(run).collect();
        for (n, thread) in threads.into_iter().enumerate() {
            assert_eq!(thread.join().unwrap().map(|n| n as usize), Ok(n));
        }
    }

    #[test]
    fn an_interrupted_wait_ends_and_drops_what_it_waited_for() {
        struct Dropped<'a>(&'a AtomicBool);
        impl Drop for Dropped<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let dropped = AtomicBool::new(false);
        let asked = AtomicUsize::new(0);
        let waits = async {
            let _held = Dropped(&dropped);
            std::future::pending::<()>().await;
        };
        let outcome = block_on(&|| asked.fetch_add(1, Ordering::Relaxed) > 0, waits);
        assert_eq!(outcome, Err(BridgeError::Interrupted));
        assert!(dropped.load(Ordering::Relaxed));
    }

    #[test]
    fn a_task_of_the_runtime_cannot_wait_for_another() {
        let inside = block_on(&|| false, async { block_on(&|| false, async {}) });
        assert_eq!(inside, Ok(Err(BridgeError::Inside)));
    }
}
