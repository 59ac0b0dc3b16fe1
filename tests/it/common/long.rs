//! The long form of tests: all of what the small form takes samples of, with `BACKSTAY_LONG=1`. Some of them take an hour so; `./test --long`, which
//! has 75 minutes for everything, therefore gives each a share of time (`BACKSTAY_LONG_MINUTES`). What does not fit is never passed over in silence: it is said as NOT RUN.

use super::project::cannot_run;
use std::time::{Duration, Instant};

/// The long form of the tests was asked for.
pub(crate) fn long() -> bool {
    std::env::var_os("BACKSTAY_LONG").is_some_and(|v| v == "1")
}

/// The time that one test may take.
pub(crate) struct Share {
    until: Option<Instant>,
}

impl Share {
    /// Begins now, and has no end unless the long form was asked for with one.
    pub(crate) fn begin() -> Self {
        let minutes = std::env::var("BACKSTAY_LONG_MINUTES").ok();
        let minutes = minutes
            .map(|text| text.parse::<f64>().unwrap_or_else(|e| panic!("BACKSTAY_LONG_MINUTES: {text}: {e}")));
        let until = minutes
            .filter(|_| long())
            .map(|minutes| Instant::now() + Duration::from_secs_f64(minutes * 60.0));
        Self { until }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn has_end(&self) -> bool {
        self.until.is_some()
    }
}

/// Each of `all` for as long as this test's share of time lasts, then says what was not run. Where there is such a share, early ones are spread over the whole, so that any part of them is a fair sample.
pub(crate) fn in_time<T>(all: Vec<T>) -> impl Iterator<Item = T> {
    let share = Share::begin();
    let count = all.len();
    let mut waiting: Vec<Option<T>> = all.into_iter().map(Some).collect();
    let step = if share.has_end() { stride(count) } else { 1 };
    let mut done = 0;
    std::iter::from_fn(move || {
        if done < count && share.is_over() {
            left_out(done, count);
            done = count;
        }
        let next = waiting.get_mut(done * step % count.max(1)).filter(|_| done < count)?.take();
        done += 1;
        next
    })
}

/// Says that a test's time was over when it had done `done` of `all`.
pub(crate) fn left_out(done: usize, all: usize) {
    let thread = std::thread::current();
    let what = thread.name().unwrap_or("a test");
    cannot_run(&format!(
        "{what}: {} of {all}, its share of time was over (BACKSTAY_LONG=1 cargo test has no end)",
        all - done
    ));
}

/// A step by which each of `count` is met once, the first ones far apart.
fn stride(count: usize) -> usize {
    let near = (count as f64 * 0.618) as usize;
    (near.max(1)..).find(|step| greatest_common(*step, count) == 1).unwrap_or(1)
}

fn greatest_common(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common(b, a % b) }
}

#[test]
fn each_is_met_once_in_any_order() {
    for count in [0, 1, 2, 3, 10, 97, 100, 1290] {
        let (step, mut met) = (stride(count), vec![0; count]);
        (0..count).for_each(|n| met[n * step % count] += 1);
        assert!(met.iter().all(|n| *n == 1), "{count}, by {step}: {met:?}");
        assert!(count < 10 || step > count / 2, "{count}, by {step}");
        assert_eq!(in_time((0..count).collect()).collect::<std::collections::BTreeSet<_>>().len(), count);
    }
}
