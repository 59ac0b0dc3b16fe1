//! Speed limits and the guard against connections that stand still.

use crate::bridge::Timer;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How much may be moved at once before the limit is felt.
const BURST: Duration = Duration::from_millis(250);
/// No byte for so long, and the connection is dropped.
const STALL: Duration = Duration::from_secs(120);
/// An answer, or the next [`CHAPTER`] of a body, must come within this.
const BOUND: Duration = Duration::from_secs(15 * 60);
/// Bytes of a body that start a new bound: a large object on a slow line is no reason to give up. Small, because up to sixteen connections share the line.
const CHAPTER: u64 = 1 << 20;
/// How often the guard looks.
const TICK: Duration = Duration::from_secs(10);

/// Bytes a second, shared by all requests of a store.
#[derive(Debug)]
pub(super) struct Limit {
    rate: u64,
    /// When the next byte may go, by the timer's time.
    next: Mutex<Duration>,
}

impl Limit {
    pub(super) fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), next: Mutex::default() }
    }

    /// Books `count` bytes and gives how long to wait before they go.
    fn book(&self, count: usize, now: Duration) -> Duration {
        let takes = u64::try_from(count as u128 * 1_000_000_000 / u128::from(self.rate)).unwrap_or(u64::MAX);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*next).max(now.saturating_sub(BURST));
        *next = start + Duration::from_nanos(takes);
        start.saturating_sub(now)
    }

    /// Waits until `count` bytes may go.
    pub(super) async fn take(&self, count: usize, timer: &dyn Timer, pulse: &Pulse) {
        let wait = self.book(count, timer.now());
        if !wait.is_zero() {
            let held = Held::new(&pulse.held);
            timer.pause(wait).await;
            drop(held);
            pulse.beats.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts one wait while it lives; also when the wait is given up in its middle.
struct Held<'a>(&'a AtomicU64);

impl<'a> Held<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What moves on one connection.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    beats: AtomicU64,
    bytes: AtomicU64,
    /// How many waits there are because of a limit: those are meant.
    held: AtomicU64,
}

impl Pulse {
    pub(super) fn moved(&self, bytes: usize) {
        self.beats.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Ends, with the reason, when the connection should be dropped.
    pub(super) async fn stands_still(self: Arc<Self>, timer: Arc<dyn Timer>) -> String {
        let (mut quiet, mut slow) = (Duration::ZERO, Duration::ZERO);
        let (mut beats, mut chapter) = (0, 0);
        loop {
            timer.guard(TICK).await;
            let (beats_now, bytes) = (self.beats.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
            if self.held.load(Ordering::Relaxed) > 0 {
                continue;
            }
            (quiet, slow) = (quiet + TICK, slow + TICK);
            if beats_now != beats {
                (beats, quiet) = (beats_now, Duration::ZERO);
            }
            if bytes >= chapter + CHAPTER {
                (chapter, slow) = (bytes, Duration::ZERO);
            }
            if quiet >= STALL {
                return format!("no byte moved for {} seconds", STALL.as_secs());
            }
            if slow >= BOUND {
                return format!("it took longer than {} minutes", BOUND.as_secs() / 60);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{TestTimer, block_on};

    #[test]
    fn a_limit_spreads_bytes_over_time_whoever_sends_them() {
        let limit = Limit::new(1000);
        let now = Duration::from_secs(10);
        assert_eq!(limit.book(250, now), Duration::ZERO);
        assert_eq!(limit.book(1000, now), Duration::ZERO);
        assert_eq!(limit.book(500, now), Duration::from_secs(1));
        assert_eq!(limit.book(1, now + Duration::from_secs(1)), Duration::from_millis(500));
        assert_eq!(limit.book(1, now + Duration::from_secs(60)), Duration::ZERO);
    }

    #[test]
    fn a_connection_that_stands_still_or_crawls_is_given_up() {
        let timer: Arc<dyn Timer> = Arc::new(TestTimer::new(100_000));
        let quiet = block_on(&|| false, Arc::new(Pulse::default()).stands_still(Arc::clone(&timer))).unwrap();
        assert!(quiet.contains("120 seconds"), "{quiet}");
        let pulse = Arc::new(Pulse::default());
        let crawls = async {
            loop {
                pulse.moved(1);
                tokio::task::yield_now().await;
            }
        };
        let watch = pulse.clone().stands_still(timer);
        let both =
            async { futures::future::select(Box::pin(crawls), Box::pin(watch)).await.factor_first().0 };
        assert!(block_on(&|| false, both).unwrap().contains("15 minutes"));
    }

    #[test]
    fn a_slow_connection_that_goes_on_is_left_alone() {
        let timer: Arc<dyn Timer> = Arc::new(Steps::default());
        let pulse = Arc::new(Pulse::default());
        // 2 kB a second for three hours; a wait of the guard is one step.
        let goes_on = async {
            for _ in 0..3 * 360 {
                pulse.moved(20_000);
                tokio::task::yield_now().await;
            }
        };
        let watch = Arc::clone(&pulse).stands_still(timer);
        let first = async { futures::future::select(Box::pin(goes_on), Box::pin(watch)).await };
        let ended = block_on(&|| false, first).unwrap();
        assert!(matches!(ended, futures::future::Either::Left(_)), "it was given up");
    }

    /// Every wait is as long as it takes the others to have their turn.
    #[derive(Debug, Default)]
    struct Steps(AtomicU64);

    impl Timer for Steps {
        fn now(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }

        fn pause(&self, time: Duration) -> futures::future::BoxFuture<'static, ()> {
            self.guard(time)
        }

        fn guard(&self, time: Duration) -> futures::future::BoxFuture<'static, ()> {
            self.0.fetch_add(time.as_secs(), Ordering::Relaxed);
            Box::pin(tokio::task::yield_now())
        }
    }
}
