//! Asking many small things of a store at once: one with latency answers them together.

use std::sync::atomic::{AtomicBool, Ordering};

/// So many are asked at once.
const AT_ONCE: usize = 16;
/// Fewer are not worth a thread: one costs some ten microseconds, an answer from a bucket some ten milliseconds.
const A_THREAD: usize = 1;

/// What `ask` says of each of `items`, in their order. It is called from several threads.
pub(crate) fn each<T: Sync, R: Send>(items: &[T], ask: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let share = items.len().div_ceil(AT_ONCE).max(A_THREAD);
    let ask = &ask;
    std::thread::scope(|scope| {
        let mut shares = items.chunks(share);
        let mine = shares.next().unwrap_or_default();
        // One that the system does not give a thread is asked here.
        let start = |share| {
            let work = move || items_of(share, ask);
            (share, std::thread::Builder::new().spawn_scoped(scope, work).ok())
        };
        let others: Vec<_> = shares.map(start).collect();
        let mut said = items_of(mine, ask);
        for (share, thread) in others {
            let theirs = thread.and_then(|thread| thread.join().ok());
            said.extend(theirs.unwrap_or_else(|| items_of(share, ask)));
        }
        said
    })
}

fn items_of<T, R>(items: &[T], ask: &impl Fn(&T) -> R) -> Vec<R> {
    items.iter().map(ask).collect()
}

/// What `ask` says of each of `items`, or its first error. After that no more are asked: with a store that went away each question takes as long
/// as the store's patience lasts, and a history can be a thousand of them.
pub(crate) fn try_each<T: Sync, R: Send, E: Send>(
    items: &[T],
    ask: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let failed = AtomicBool::new(false);
    let said = each(items, |item| {
        let wanted = !failed.load(Ordering::Relaxed);
        let answer = wanted.then(|| ask(item));
        if matches!(answer, Some(Err(_))) {
            failed.store(true, Ordering::Relaxed);
        }
        answer
    });
    // One that was not asked stands for an error further on, or further back: nothing is left out of a success.
    said.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn answers_come_in_the_order_of_the_questions() {
        for count in [0, 1, 2, 3, 31, 32, 33, 500] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(each(&items, |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>(), "{count}");
        }
    }

    #[test]
    fn after_an_error_no_more_are_asked() {
        let items: Vec<usize> = (0..16_000).collect();
        let asked = AtomicUsize::new(0);
        let answer = try_each(&items, |_| {
            asked.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>("the store went away")
        });
        assert_eq!(answer, Err("the store went away"));
        assert!(asked.load(Ordering::SeqCst) <= AT_ONCE, "{asked:?} were asked");
    }

    #[test]
    fn one_error_among_many_answers_is_the_answer() {
        let items: Vec<usize> = (0..500).collect();
        for bad in [0, 31, 250, 499] {
            let answer = try_each(&items, |n| if *n == bad { Err(*n) } else { Ok(*n) });
            assert_eq!(answer, Err(bad));
        }
        assert_eq!(try_each(&items, |n| Ok::<_, ()>(*n)), Ok(items.clone()));
    }
}
