//! Asking many small things of a store at once: one with latency answers them together.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_questions() {
        for count in [0, 1, 2, 3, 31, 32, 33, 500] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(each(&items, |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>(), "{count}");
        }
    }
}
