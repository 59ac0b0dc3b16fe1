//! Time for what waits: real, or one that tests drive.

use futures::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time as network code sees it.
pub trait Timer: Send + Sync + fmt::Debug {
    /// Time since some fixed moment; never runs backwards.
    fn now(&self) -> Duration;

    /// A wait that is meant: before another try, or to keep a limit.
    fn pause(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// A wait that should not come to its end: a guard beside something that moves on its own.
    fn guard(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// Seconds since 1970 by this machine's clock.
    fn unix(&self) -> i64 {
        jiff::Timestamp::now().as_second()
    }
}

/// The machine's own time.
#[derive(Debug)]
pub struct RealTimer(Instant);

impl Default for RealTimer {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Timer for RealTimer {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn guard(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

/// For tests: pauses take no time and are counted; guards run a number of times faster than the clock on the wall.
#[doc(hidden)]
#[derive(Debug)]
pub struct TestTimer {
    start: Instant,
    faster: u32,
    paused: Arc<AtomicU64>,
}

impl TestTimer {
    /// Guards end after a `faster`-th of their time.
    pub fn new(faster: u32) -> Self {
        Self { start: Instant::now(), faster: faster.max(1), paused: Arc::default() }
    }

    /// How long all pauses so far would have taken.
    pub fn paused(&self) -> Duration {
        Duration::from_millis(self.paused.load(Ordering::SeqCst))
    }
}

impl Timer for TestTimer {
    fn now(&self) -> Duration {
        self.start.elapsed() * self.faster + self.paused()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.paused.fetch_add(millis, Ordering::SeqCst);
        Box::pin(tokio::task::yield_now())
    }

    fn guard(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time / self.faster))
    }
}
