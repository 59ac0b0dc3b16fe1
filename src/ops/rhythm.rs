//! Whether snapshots still come as they did.

/// Whatever made snapshots seems to have stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// Age of the newest snapshot, in seconds.
    pub age: i64,
    /// How long usually passed between two, in seconds.
    pub usual: i64,
}

/// So many of the newest gaps count.
const GAPS: usize = 15;
/// Snapshots made closer together than this belong to one piece of work and say nothing of a rhythm.
const CLOSE: i64 = 600;
/// A person who backs up by hand has no rhythm that could be missed for less than this.
const LEAST: i64 = 2 * 3600;
const WEEK: i64 = 7 * 86_400;

/// Looks at the times of snapshots, oldest first, in seconds since 1970. With fewer than four there is no rhythm yet; then a newest one of more than a week is late.
pub fn overdue(times: &[i64], now: i64) -> Option<Late> {
    let newest = *times.last()?;
    let age = now - newest;
    let mut gaps: Vec<i64> =
        times.windows(2).rev().map(|pair| pair[1] - pair[0]).filter(|gap| *gap > CLOSE).take(GAPS).collect();
    gaps.sort_unstable();
    let (usual, late) = match gaps.len() {
        0..3 => (WEEK, WEEK),
        count => {
            // The longer half: a rhythm of working days has weekends in it.
            let usual = gaps[count * 3 / 4];
            (usual, (2 * usual + usual / 2).max(LEAST))
        }
    };
    (age > late).then_some(Late { age, usual })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn daily(days: i64) -> Vec<i64> {
        (0..days).map(|day| day * DAY).collect()
    }

    #[test]
    fn a_daily_backup_is_late_after_two_and_a_half_days() {
        let times = daily(20);
        let newest = 19 * DAY;
        assert_eq!(overdue(&times, newest + 2 * DAY), None);
        assert_eq!(overdue(&times, newest + 3 * DAY), Some(Late { age: 3 * DAY, usual: DAY }));
    }

    #[test]
    fn snapshots_of_working_days_are_not_late_on_monday() {
        let week = [0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18].map(|day| day * DAY);
        assert_eq!(overdue(&week, 20 * DAY + 3600), None);
        assert!(overdue(&week, 22 * DAY).is_some());
    }

    #[test]
    fn several_snapshots_of_one_hour_of_work_are_no_rhythm() {
        let mut times = daily(6);
        times.extend((1..10).map(|n| 5 * DAY + n * 60));
        assert_eq!(overdue(&times, 5 * DAY + 540 + 2 * DAY), None);
        assert_eq!(overdue(&[0, 60, 120], 6 * DAY), None);
        assert!(overdue(&[0, 60, 120], 8 * DAY).is_some());
        assert_eq!(overdue(&[], 8 * DAY), None);
    }
}
