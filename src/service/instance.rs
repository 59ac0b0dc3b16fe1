//! Which process it is: what tells a service that runs from one that was started anew.
//!
//! A number alone does not: numbers are given again. So a process is its number and the moment it began.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Clocks are set right while a machine starts, and by a little later on. A number is not given to another process within this time.
const SLACK: Duration = Duration::from_secs(60);
/// What a tick of `/proc` is: a hundredth of a second, on every machine that this is built for.
const TICK_MS: u64 = 10;

/// One life of a service, from its start to its end. Two are equal only when nothing was started anew in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance(String);

impl Instance {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// One that was written down before, by its words.
    pub fn from_journal(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose number stands in a pid file.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    /// Nobody's: there is no such file, or it is from before this machine was started and no process has the number now.
    Nobody,
    /// That of this process, which may be gone.
    Process(u32),
    /// That of this one, which by its clocks is not the one that was meant, because of what the words say.
    Another(u32, &'static str),
}

/// The process whose number stands in `pid_file`: its number and when it began, in ticks since boot; none when it is not there.
///
/// # Errors
/// Why that cannot be told: the file cannot be read, or holds no number of a process.
pub(super) fn of_pid_file(pid_file: &Path) -> Result<Option<Instance>, String> {
    Ok(match named(pid_file)? {
        Named::Process(pid) => of_pid(pid),
        Named::Nobody | Named::Another(..) => None,
    })
}

/// The number in `pid_file`, where it may be that of the process that is meant.
pub fn process_in(pid_file: &Path) -> Option<u32> {
    match named(pid_file) {
        Ok(Named::Process(pid)) => Some(pid),
        _ => None,
    }
}

/// The number in `pid_file`, where another process than the one that is meant has it now; and what says that it is another.
pub(super) fn another_in(pid_file: &Path) -> Option<(u32, &'static str)> {
    match named(pid_file) {
        Ok(Named::Another(pid, why)) => Some((pid, why)),
        _ => None,
    }
}

fn named(pid_file: &Path) -> Result<Named, String> {
    let shown = pid_file.display();
    let text = match std::fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Named::Nobody),
        Err(e) => return Err(format!("cannot read {shown}: {e}")),
    };
    let written = written(pid_file);
    // A number from before this machine was started is of no process of now, whatever has it; nor is what a power cut left of it.
    let is_old = is_before(written, booted());
    let word = text.split_ascii_whitespace().next().unwrap_or_default();
    Ok(match word.parse::<u32>() {
        // 0 would mean this process's own group to whoever sends signals, and 1 is never an application.
        Ok(pid @ 2..) if is_old && of_pid(pid).is_some() => Named::Another(pid, BEFORE_BOOT),
        _ if is_old => Named::Nobody,
        Ok(pid @ 2..) if is_before(written, began(pid)) => Named::Another(pid, BEFORE_IT),
        Ok(pid @ 2..) => Named::Process(pid),
        _ => return Err(format!("{shown} holds no number of a process")),
    })
}

const BEFORE_BOOT: &str = "that is from before this machine was started";
const BEFORE_IT: &str = "it began after that was written";

/// True when the first is well before the second; false where that cannot be told.
fn is_before(first: Option<SystemTime>, second: Option<SystemTime>) -> bool {
    matches!((first, second), (Some(first), Some(second)) if first + SLACK < second)
}

fn written(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|facts| facts.modified()).ok()
}

/// When this machine was started, by its clock of now.
fn booted() -> Option<SystemTime> {
    moment(Duration::ZERO, SystemTime::now(), since_boot()?)
}

/// When process `pid` began. A program that takes the place of another in the same process began with that.
fn began(pid: u32) -> Option<SystemTime> {
    let ticks: u64 = Stat::of(pid)?.began.parse().ok()?;
    moment(Duration::from_millis(ticks.checked_mul(TICK_MS)?), SystemTime::now(), since_boot()?)
}

/// For how long this machine runs, by the clock that the ticks of processes are taken from. `btime` of `/proc/stat` may have another beginning: in
/// containers it is often that of the container, while the ticks go on to count from the start of the machine below.
fn since_boot() -> Option<Duration> {
    rustix::time::clock_gettime(rustix::time::ClockId::Boottime).try_into().ok()
}

/// The moment `after` the start of the machine, which was `since_boot` before `now`. None where it is still to come: then the two were not counted from
/// one beginning, and neither tells anything.
fn moment(after: Duration, now: SystemTime, since_boot: Duration) -> Option<SystemTime> {
    if after > since_boot.saturating_add(SLACK) {
        return None;
    }
    now.checked_sub(since_boot)?.checked_add(after)
}

/// The process `pid`, unless it is gone or only waits to be collected.
pub fn of_pid(pid: u32) -> Option<Instance> {
    let Stat { ended, began } = Stat::of(pid)?;
    (!ended).then(|| Instance::new(format!("process {pid}, begun at {began}")))
}

/// What `/proc` says of a process.
struct Stat {
    /// It has ended, and only waits to be collected.
    ended: bool,
    /// In ticks since boot.
    began: String,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold any character: the fields are counted from its end.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let ended = matches!(fields.next()?, "Z" | "X");
        // Field 22 of the line.
        Some(Self { ended, began: fields.nth(18)?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_number_and_its_beginning() {
        let own = of_pid(std::process::id()).unwrap();
        assert_eq!(of_pid(std::process::id()), Some(own.clone()));
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let other = of_pid(child.id()).unwrap();
        assert_ne!(other, own);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of_pid(child.id()), None);
    }

    #[test]
    fn a_pid_file_that_is_missing_means_down_and_one_without_a_number_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.pid");
        assert_eq!(of_pid_file(&file), Ok(None));
        for text in ["", "0\n", "1\n", "-4", "abc", "99999999999"] {
            std::fs::write(&file, text).unwrap();
            assert!(of_pid_file(&file).is_err(), "{text:?}");
        }
        std::fs::write(&file, format!("{}\n", std::process::id())).unwrap();
        assert_eq!(of_pid_file(&file), Ok(of_pid(std::process::id())));
    }

    #[test]
    fn a_pid_file_from_before_this_machine_was_started_is_of_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.pid");
        for text in [format!("{}\n", std::process::id()), String::new()] {
            std::fs::write(&path, &text).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
            assert_eq!((of_pid_file(&path), process_in(&path)), (Ok(None), None));
            // Who has it now is said: it may be the one that was meant, begun under a clock that was not set yet.
            let another = (!text.is_empty()).then(|| (std::process::id(), BEFORE_BOOT));
            assert_eq!(another_in(&path), another);
        }
    }

    #[test]
    fn a_process_that_began_in_the_time_to_come_was_counted_from_another_start_and_tells_nothing() {
        let seconds = Duration::from_secs;
        let now = SystemTime::UNIX_EPOCH + seconds(1_000_000);
        assert_eq!(moment(seconds(0), now, seconds(500)), Some(now - seconds(500)));
        assert_eq!(moment(seconds(400), now, seconds(500)), Some(now - seconds(100)));
        // Clocks are read one after the other.
        assert_eq!(moment(seconds(501), now, seconds(500)), Some(now + seconds(1)));
        assert_eq!(moment(seconds(7200), now, seconds(500)), None);
    }

    #[test]
    fn a_number_that_was_given_again_after_its_pid_file_was_written_is_of_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.pid");
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        std::fs::write(&path, format!("{}\n", child.id())).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let began = began(child.id()).unwrap();
        let just_now = SystemTime::now().duration_since(began).unwrap_or_else(|e| e.duration());
        assert!(just_now < Duration::from_secs(5), "by its ticks it began {just_now:?} from now");
        // A clock that was set by some seconds since makes no other process of it.
        for (seconds, meant) in [(0, true), (30, true), (600, false)] {
            file.set_modified(began - Duration::from_secs(seconds)).unwrap();
            let (same, another) = (of_pid(child.id()), (!meant).then(|| (child.id(), BEFORE_IT)));
            assert_eq!(of_pid_file(&path), Ok(same.filter(|_| meant)), "{seconds}");
            assert_eq!((process_in(&path).is_some(), another_in(&path)), (meant, another), "{seconds}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
