//! A few threads that do the work of packing and unpacking.
//!
//! The queue is not bounded: whoever submits bounds what he has in flight by waiting for his oldest ticket first. A job must never wait
//! for another job of the same pool, and so must never use an [`ArchiveWriter`](crate::archive::ArchiveWriter): on one thread it would
//! wait for ever.

use crate::archive::workshop::Workshop;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;

/// The job of a ticket ended without a result: it panicked.
#[derive(Debug, thiserror::Error)]
#[error("internal: a worker thread ended before its work was done")]
pub struct PoolGone;

/// Worker threads. Dropping it waits until what was submitted is done and ends them.
pub struct Pool {
    jobs: Option<Sender<Job>>,
    workers: Vec<JoinHandle<()>>,
    /// What archives that are written with this pool use one after the other.
    pub(super) workshop: Arc<Workshop>,
}

impl Pool {
    /// A pool of `threads` threads, at least one. Where the system gives fewer it has fewer; with none, jobs run where they are submitted.
    pub fn new(threads: usize) -> Self {
        let (jobs, queue) = unbounded::<Job>();
        let start = |_| {
            let queue = queue.clone();
            Builder::new().name("backstay-pool".into()).spawn(move || work(&queue)).ok()
        };
        let workers = (0..threads.max(1)).map_while(start).collect();
        Self { jobs: Some(jobs), workers, workshop: Arc::default() }
    }

    /// A pool with a thread for every processor this process may use.
    pub fn for_machine() -> Self {
        Self::new(crate::platform::processors())
    }

    /// How many jobs can run at a time, at least 1.
    pub fn threads(&self) -> usize {
        self.workers.len().max(1)
    }

    /// Queues `job`. Dropping the ticket does not cancel it.
    pub fn submit<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Ticket<T> {
        let (done, result) = bounded(1);
        let job: Job = Box::new(move || {
            // Whoever waited may be gone; then nobody misses the result.
            let _ = done.send(job());
        });
        match &self.jobs {
            Some(jobs) if !self.workers.is_empty() => {
                // Sending fails only when no worker is left: the job is dropped and the ticket says so.
                let _ = jobs.send(job);
            }
            _ => run(job),
        }
        Ticket { result }
    }
}

fn work(queue: &Receiver<Job>) {
    for job in queue {
        run(job);
    }
}

/// Runs a job; a panic ends the job, not the thread. The unwinding drops the ticket's other end.
fn run(job: Job) {
    let _ = catch_unwind(AssertUnwindSafe(job));
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        let here = std::thread::current().id();
        // A job that owns the last reference drops the pool on one of its own threads, which cannot wait for itself.
        for worker in self.workers.drain(..).filter(|w| w.thread().id() != here) {
            let _ = worker.join();
        }
    }
}

/// The result of a job, to be waited for.
pub struct Ticket<T> {
    result: Receiver<T>,
}

impl<T> Ticket<T> {
    /// Waits until the job is done.
    pub fn wait(self) -> Result<T, PoolGone> {
        self.result.recv().map_err(|_| PoolGone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_back_whatever_the_order_of_waiting() {
        let pool = Pool::new(3);
        let tickets: Vec<_> = (0..100).map(|i| pool.submit(move || i * i)).collect();
        let results: Vec<usize> = tickets.into_iter().rev().map(|t| t.wait().unwrap()).collect();
        assert_eq!(results, (0..100).rev().map(|i| i * i).collect::<Vec<_>>());
    }

    #[test]
    fn a_panicking_job_is_an_error_for_its_ticket_alone() {
        let pool = Pool::new(1);
        let bad = pool.submit(|| {
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        let good = pool.submit(|| 7);
        assert!(bad.wait().is_err());
        assert_eq!(good.wait().unwrap(), 7);
    }

    #[test]
    fn dropping_the_pool_finishes_what_was_submitted_and_ends_the_threads() {
        let count = Arc::new(AtomicUsize::new(0));
        let pool = Pool::new(2);
        for _ in 0..50 {
            let count = count.clone();
            drop(pool.submit(move || count.fetch_add(1, Ordering::SeqCst)));
        }
        drop(pool);
        assert_eq!(count.load(Ordering::SeqCst), 50);
        assert_eq!(Arc::strong_count(&count), 1, "no thread holds a job any more");
    }

    #[test]
    fn a_pool_dropped_by_its_own_job_does_not_hang() {
        let pool = Arc::new(Pool::new(1));
        let (go, gate) = bounded::<()>(1);
        let inner = pool.clone();
        let ticket = pool.submit(move || {
            gate.recv().unwrap();
            drop(inner);
        });
        drop(pool);
        go.send(()).unwrap();
        ticket.wait().unwrap();
    }
}
