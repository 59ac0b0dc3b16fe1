//! The agent in a world of its own: time passes when it waits, and jobs are words.

use super::*;
use crate::config::Config;
use crate::model::Timestamp;
use crate::model::schedule::{Schedule, spread};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::left_open::Unfinished;
use crate::ops::timetable::{Memory, Start, What, host};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

const ZONE: &str = "Europe/Berlin";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn config(dir: &Path, schedule: &str) -> Arc<Config> {
    let text = format!(
        "[project]\nname = \"x\"\n[[component]]\nname = \"db\"\nsqlite = \"x.db\"\n[[store]]\nname = \"local\"\npath = \"store\"\n\
         [encryption]\nrecipients = [\"age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq\"]\n[signing]\nkey_file = \"/nowhere/key\"\n\
         [state]\ndir = \"{}\"\n[schedule]\ntimezone = \"{ZONE}\"\n{schedule}\n",
        dir.display()
    );
    Arc::new(Config::parse(&text, Path::new("/srv/x/backstay.toml")).unwrap_or_else(|e| panic!("{e}")))
}

fn scratch() -> tempfile::TempDir {
    let memory = Some(Path::new("/dev/shm")).filter(|p| p.is_dir());
    memory.and_then(|dir| tempfile::tempdir_in(dir).ok()).unwrap_or_else(|| tempfile::tempdir().unwrap())
}

/// A run that began.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Began {
    at: Timestamp,
    args: String,
    token: String,
}

/// What a run ends with.
type Judge = Box<dyn Fn(&Began) -> u8>;

struct Inner {
    now: Cell<Timestamp>,
    end: Cell<Timestamp>,
    began: RefCell<Vec<Began>>,
    lines: RefCell<Vec<String>>,
    /// What each run ends with.
    code: Judge,
    took: SignedDuration,
    /// When each ends, and with what.
    runs: RefCell<BTreeMap<String, (Timestamp, u8)>>,
    calls: Cell<usize>,
    /// The call at which the agent is killed.
    kill: Cell<usize>,
    unfinished: Cell<bool>,
    /// What is not at its end has a run that goes on.
    under_way: Cell<bool>,
    /// What each run says beside its code.
    said: Cell<Said>,
    untold: RefCell<Vec<Untold>>,
    /// Nothing can be started, for this reason.
    broken: Cell<Option<Class>>,
    /// The clock is ahead: from this time on, in a wait, it is put right to that one.
    put_right: Cell<Option<(Timestamp, Timestamp)>>,
    reload: RefCell<Option<Result<Arc<Config>>>>,
}

#[derive(Clone)]
struct Fake(Rc<Inner>);

impl Fake {
    fn new(now: &str, took: SignedDuration, code: impl Fn(&Began) -> u8 + 'static) -> Self {
        Self(Rc::new(Inner {
            now: Cell::new(at(now)),
            end: Cell::new(at(now)),
            began: RefCell::default(),
            lines: RefCell::default(),
            code: Box::new(code),
            took,
            runs: RefCell::default(),
            calls: Cell::new(0),
            kill: Cell::new(usize::MAX),
            unfinished: Cell::new(false),
            under_way: Cell::new(false),
            said: Cell::new(Said { behind: false, made: false, told: true }),
            untold: RefCell::default(),
            broken: Cell::new(None),
            put_right: Cell::new(None),
            reload: RefCell::default(),
        }))
    }

    fn call(&self) {
        let calls = self.0.calls.get() + 1;
        self.0.calls.set(calls);
        assert!(calls != self.0.kill.get(), "killed");
    }

    /// Runs an agent until `end`.
    fn until(&self, end: Timestamp, config: &Arc<Config>) -> Result<u8> {
        self.0.end.set(end);
        let project = Project::open(Arc::clone(config), self.0.now.get())?;
        let mut world = self.clone();
        Ok(Agent::new(vec![project], Socket::default()).run(&mut world, self, Options::default()))
    }

    fn once(&self, config: &Arc<Config>) -> u8 {
        self.0.end.set(Timestamp::MAX);
        let project = Project::open(Arc::clone(config), self.0.now.get()).unwrap();
        let mut world = self.clone();
        Agent::new(vec![project], Socket::default()).run(&mut world, self, Options { once: true })
    }

    fn began(&self) -> Vec<Began> {
        self.0.began.borrow().clone()
    }

    fn said(&self) -> String {
        self.0.lines.borrow().join("\n")
    }
}

struct Job(Fake, String, Cell<bool>);

impl Work for Job {
    fn poll(&mut self) -> Option<u8> {
        self.0.call();
        let (ends, code) = self.0.0.runs.borrow()[&self.1];
        if self.2.get() {
            return Some(143);
        }
        (self.0.0.now.get() >= ends).then_some(code)
    }

    fn stop(&mut self) {
        self.2.set(true);
    }
}

impl World for Fake {
    fn now(&self) -> Timestamp {
        self.0.now.get()
    }

    fn start(&mut self, order: &Order) -> Result<Box<dyn Work>> {
        self.call();
        if let Some(class) = self.0.broken.get() {
            return Err(OpError::new(class, "no more processes"));
        }
        let now = self.0.now.get();
        for (token, (ends, _)) in self.0.runs.borrow().iter() {
            assert!(*ends <= now, "{} begins while {token} runs", order.token);
        }
        let began = Began { at: now, args: order.args.join(" "), token: order.token.clone() };
        let code = (self.0.code)(&began);
        self.0.runs.borrow_mut().insert(order.token.clone(), (now + self.0.took, code));
        self.0.began.borrow_mut().push(began);
        self.call();
        Ok(Box::new(Job(self.clone(), order.token.clone(), Cell::new(false))))
    }

    fn orphan(&mut self, order: &Order) -> Result<Orphan> {
        self.call();
        Ok(match self.0.runs.borrow().get(&order.token) {
            Some((ends, _)) if *ends > self.0.now.get() => Orphan::Running,
            Some((_, code)) => Orphan::Ended(*code),
            None => Orphan::Gone,
        })
    }

    fn said(&mut self, order: &Order) -> Option<Said> {
        self.0.runs.borrow().contains_key(&order.token).then(|| self.0.said.get())
    }

    fn unfinished(&mut self, _: &Order) -> Option<Unfinished> {
        self.call();
        if self.0.under_way.get() {
            return Some(Unfinished::UnderWay);
        }
        let error = OpError::new(Class::Person, "a rollback is not at its end");
        self.0.unfinished.get().then(|| Unfinished::CutOff(error))
    }

    fn begun(&mut self, _: &Arc<Config>, _: &Order) {}

    fn untold(&mut self, _: &Arc<Config>, untold: &Untold) {
        self.0.untold.borrow_mut().push(untold.clone());
    }

    fn ended(&mut self, _: &Arc<Config>) {}

    fn watch(&mut self, _: &Arc<Config>) {}

    fn begin(&mut self, _: &[Arc<Config>]) {}

    fn change(&mut self, _: &[Arc<Config>]) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) {}

    fn say(&mut self, text: &str) {
        self.call();
        self.0.lines.borrow_mut().push(text.to_owned());
    }

    fn warn(&mut self, text: &str) {
        self.say(text);
    }

    fn wait(&mut self, until: Option<Timestamp>, busy: bool) {
        self.call();
        if let Some((from, to)) = self.0.put_right.get()
            && self.0.now.get() >= from
        {
            self.0.put_right.set(None);
            self.0.runs.borrow_mut().clear();
            return self.0.now.set(to);
        }
        let now = self.0.now.get();
        let ends = self.0.runs.borrow().values().map(|(ends, _)| *ends).filter(|ends| *ends > now).min();
        let ends = ends.filter(|_| busy);
        let end = Some(self.0.end.get()).filter(|_| self.0.put_right.get().is_none());
        let next = until.into_iter().chain(ends).chain(end).min().unwrap();
        self.0.now.set(next.max(now + SignedDuration::from_secs(1)));
    }
}

impl Ask for Fake {
    fn end(&self) -> bool {
        self.0.now.get() >= self.0.end.get()
    }

    fn reload(&self) -> bool {
        self.0.reload.borrow().is_some()
    }

    fn load(&self) -> Vec<(PathBuf, Result<Arc<Config>>)> {
        vec![(PathBuf::from("/srv/x/backstay.toml"), self.0.reload.borrow_mut().take().unwrap())]
    }
}

/// Every time that `text` is due after `from`, up to `until`.
fn all_due(text: &str, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let zone = TimeZone::get(ZONE).unwrap();
    let schedule: Schedule = text.parse().unwrap();
    std::iter::successors(schedule.next(from, &zone), |at| schedule.next(*at, &zone))
        .take_while(|at| *at <= until)
        .collect()
}

const LINES: [(&str, &str); 4] = [
    ("backup at 0 */6 * * *", "0 */6 * * *"),
    ("backup of db at 30 2 * * *", "30 2 * * *"),
    ("backup at 0 12 29 2 *", "0 12 29 2 *"),
    ("verify at 0 4 * * SUN", "0 4 * * SUN"),
];

/// Every time of each line after `from` and up to `until`, and when a run for it begins: so much later as the machine, the project and the line make it.
fn all_begins(
    config: &Config,
    from: Timestamp,
    until: Timestamp,
) -> Vec<(&'static str, Timestamp, Timestamp)> {
    let jitter = config.schedule.as_ref().unwrap().jitter;
    let of = |(name, line): (&'static str, &str)| {
        let offset = spread(&[&host(), "x", name], jitter);
        all_due(line, from, until).into_iter().map(move |due| (name, due, due + offset))
    };
    LINES.into_iter().flat_map(of).collect()
}

/// An agent of two years that is up for a time, then off. Each time of each line is run once, at its time and its offset, or, of those that were missed,
/// the last at the next start. Gives what was run for when.
fn two_years(jitter: &str) -> Vec<(String, Timestamp)> {
    let dir = scratch();
    let [first, second, third, fourth] = LINES.map(|(_, line)| line);
    let schedule = format!(
        "backup = [\"{first}\", {{ at = \"{second}\", only = [\"db\"] }}, \"{third}\"]\nverify = \"{fourth}\"\n{jitter}"
    );
    let config = config(dir.path(), &schedule);
    let fake = Fake::new("2027-06-01T10:00:00Z", SignedDuration::from_secs(40), |_| 0);
    let (begin, end) = (fake.now(), at("2029-06-01T10:00:00Z"));
    let all = all_begins(&config, begin, end);
    // Over both changes of clocks, over the leap day, for a moment, for months.
    let away = [
        ("2027-08-01T10:00:00Z", "2027-08-04T10:00:00Z"),
        ("2027-10-30T23:00:00Z", "2027-10-31T05:00:00Z"),
        ("2028-02-29T10:00:00Z", "2028-02-29T18:00:00Z"),
        ("2028-03-25T23:59:00Z", "2028-03-26T00:59:59Z"),
        ("2028-07-01T00:00:00Z", "2028-09-01T00:00:00Z"),
    ]
    .map(|(from, to)| {
        // A run that is under way at the end is another story, and what a name makes of offsets nobody chose.
        let minute = SignedDuration::from_mins(1);
        let under_way =
            |off: Timestamp| all.iter().any(|(.., begins)| *begins < off && *begins + minute * 5 > off);
        let mut off = std::iter::successors(Some(at(from)), |off| Some(*off + minute));
        (off.find(|off| !under_way(*off)).unwrap(), at(to))
    });
    for (from, to) in away {
        assert_eq!(fake.until(from, &config).unwrap(), 0);
        fake.0.now.set(to);
    }
    assert_eq!(fake.until(end, &config).unwrap(), 0);
    let mut expected: BTreeMap<(String, Timestamp), Timestamp> = BTreeMap::new();
    let mut missed: BTreeMap<(&str, Timestamp), Timestamp> = BTreeMap::new();
    for (name, due, begins) in all {
        // An agent that is to end at an instant does not begin anything at it.
        match away.iter().find(|(off, on)| (*off..=*on).contains(&begins)) {
            Some((_, on)) => drop(missed.insert((name, *on), due)),
            None if begins < end => drop(expected.insert((name.to_owned(), due), begins)),
            None => {}
        }
    }
    expected.extend(missed.into_iter().map(|((name, on), due)| ((name.to_owned(), due), on)));
    let mut told: Vec<(String, Timestamp)> = Vec::new();
    for run in fake.began() {
        let (name, rest) = run.token.split_once(" for ").unwrap();
        let what = (name.to_owned(), at(rest.split_once(" try ").unwrap().0));
        // Another job of the same minute goes first, and what was missed of all lines is made up for one after the other.
        let late = expected.get(&what).map(|begins| run.at.duration_since(*begins).as_secs());
        assert!(late.is_some_and(|late| (0..=200).contains(&late)), "{run:?} is {late:?} s late");
        told.push(what);
    }
    told.sort();
    assert_eq!(told, expected.into_keys().collect::<Vec<_>>());
    told
}

#[test]
fn in_two_years_with_jitter_every_run_begins_once_at_its_time_and_its_offset() {
    let told = two_years("jitter = \"5h\"");
    assert!(told.len() > 3300, "{}", told.len());
}

#[test]
fn in_two_years_every_run_is_at_its_time_and_what_was_missed_is_run_once() {
    let told = two_years("");
    assert_eq!(told.iter().filter(|(name, _)| name.contains("29 2")).count(), 1);
    // What the program's own calendar says is not asked here: Berlin's clocks, by hand.
    let was = |name: &str, due: &str| told.contains(&(name.to_owned(), at(due)));
    let night = "backup of db at 30 2 * * *";
    assert!(was(night, "2027-07-01T00:30:00Z") && was(night, "2028-01-10T01:30:00Z"), "summer and winter");
    assert!(
        was(night, "2028-10-29T00:30:00Z") && !was(night, "2028-10-29T01:30:00Z"),
        "half past two came twice"
    );
    assert!(was(night, "2029-03-25T01:00:00Z"), "half past two did not come");
    assert!(was("backup at 0 12 29 2 *", "2028-02-29T11:00:00Z"), "the leap day");
    assert!(was("verify at 0 4 * * SUN", "2028-10-29T03:00:00Z"), "a Sunday, after the change");
    assert!(told.len() > 3400, "{}", told.len());
}

#[test]
fn three_days_without_a_network_leave_local_snapshots_few_words_and_one_of_recovery() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 */2 * * *\"]");
    let (gone, back) = (at("2026-11-02T09:30:00Z"), at("2026-11-05T09:30:00Z"));
    let fake = Fake::new("2026-11-01T09:00:00Z", SignedDuration::from_secs(30), move |run| {
        if run.at >= gone && run.at < back { 4 } else { 0 }
    });
    fake.until(at("2026-11-07T09:30:00Z"), &config).unwrap();
    let runs = fake.began();
    let backups = runs.iter().filter(|run| run.args == "backup").count();
    assert_eq!(backups, 6 * 12, "every snapshot was made at its time");
    let syncs: Vec<_> = runs.iter().filter(|run| run.args == "sync").collect();
    assert!((70..90).contains(&syncs.len()), "{} tries in three days", syncs.len());
    // Tries come at growing pauses, up to an hour.
    let pauses: Vec<i64> =
        syncs.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at).as_secs() / 60).collect();
    assert!(pauses[0] < pauses[3] && pauses.iter().all(|minutes| *minutes <= 62), "{pauses:?}");
    let said = fake.said();
    assert_eq!(said.matches("is done, and not in every store").count(), 36, "one line a snapshot: {said}");
    assert_eq!(
        said.matches("everything is in every store again").count() + said.matches("sync").count()
            - said.matches("`sync`").count(),
        1 + 1,
        "{said}"
    );
    assert!(Memory::load(dir.path()).unwrap().unwrap().behind.is_none());
}

#[test]
fn an_incomplete_snapshot_does_not_hide_that_a_store_lacks_one() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3,6 * * *\"]");
    let (second, back) = (at("2026-11-02T05:00:00Z"), at("2026-11-02T08:00:00Z"));
    let fake =
        Fake::new("2026-11-02T01:00:00Z", SignedDuration::from_secs(1), move |run| match &run.args[..] {
            "backup" if run.at >= second => 3,
            _ if run.at < back => 4,
            _ => 0,
        });
    fake.until(at("2026-11-02T12:00:00Z"), &config).unwrap();
    let syncs = fake.began().iter().filter(|run| run.args == "sync" && run.at > second).count();
    assert!(syncs > 2, "what the first one left is still brought: {}", fake.said());
    assert!(fake.said().contains("everything is in every store again"), "{}", fake.said());
    // One that is the first to find a store away says so beside its code.
    fake.0.said.set(Said { behind: true, made: true, told: true });
    fake.until(at("2026-11-03T02:30:00Z"), &config).unwrap();
    let last = fake.began().pop().unwrap();
    assert_eq!(last.args, "sync", "{}", fake.said());
    let word = "is done, not without trouble (exit code 3), and not in every store; `sync` is tried again";
    assert!(fake.said().contains(word), "{}", fake.said());
}

#[test]
fn killed_anywhere_nothing_is_done_twice_and_nothing_is_lost() {
    let end = at("2026-11-02T20:00:00Z");
    let start = "2026-11-02T00:30:00Z";
    let schedule = "backup = [\"0 2,8,14 * * *\"]\nverify = \"0 3 * * *\"\nprune = \"30 8 * * *\"";
    let run = |kill: usize| {
        let dir = scratch();
        let config = config(dir.path(), schedule);
        let fake = Fake::new(start, SignedDuration::from_secs(90), |run| {
            // The store is away for a while: once for a run that is tried again, once for `sync`.
            match (&run.args[..], run.token.ends_with("try 0")) {
                ("verify --read-data=5", true) => 10,
                ("backup", _) if run.token.contains("T07") => 4,
                _ => 0,
            }
        });
        fake.0.kill.set(kill);
        let killed = catch_unwind(AssertUnwindSafe(|| fake.until(end, &config)));
        let was_killed = killed.is_err();
        if was_killed {
            fake.until(end, &config).unwrap();
        }
        let mut tokens: Vec<String> = fake.began().into_iter().map(|run| run.token).collect();
        tokens.sort();
        (tokens, was_killed)
    };
    let silence = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (expected, _) = run(usize::MAX);
    let mut kills = 0;
    let wrong = (1..).map(run).take_while(|(_, killed)| *killed).find(|(tokens, _)| {
        kills += 1;
        *tokens != expected
    });
    std::panic::set_hook(silence);
    assert_eq!(wrong.map(|w| w.0), None, "kill {kills}, expected {expected:?}");
    assert_eq!(expected.len(), 7, "{expected:?}");
    assert!(kills > 40, "{kills}");
}

#[test]
fn a_failure_is_tried_again_at_growing_pauses_and_not_beyond_the_next_time() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 */3 * * *\"]");
    let fake = Fake::new("2026-11-02T22:30:00Z", SignedDuration::from_secs(1), |_| 10);
    fake.until(at("2026-11-03T02:30:00Z"), &config).unwrap();
    let minutes: Vec<i64> = fake
        .began()
        .iter()
        .map(|run| run.at.duration_since(at("2026-11-02T23:00:00Z")).as_secs() / 60)
        .collect();
    assert_eq!(minutes, [0, 1, 3, 7, 15, 31, 63, 123, 180, 181, 183, 187, 195]);
    assert_eq!(fake.said().matches("failed (exit code 10)").count(), 2, "one a time: {}", fake.said());
}

#[test]
fn what_trying_does_not_help_is_not_tried_again() {
    for code in [2, 12, 13, 14, 16, 18] {
        let dir = scratch();
        let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
        let fake = Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_secs(1), move |_| code);
        fake.until(at("2026-11-03T00:00:00Z"), &config).unwrap();
        assert_eq!(fake.began().len(), 1, "{code}");
        assert!(fake.said().contains("somebody has to look"), "{}", fake.said());
    }
}

#[test]
fn a_service_that_stays_down_after_a_snapshot_is_no_reason_for_another_one_before_its_time() {
    for (made, behind, backups) in [(true, false, 1), (true, true, 1), (false, false, 12)] {
        let dir = scratch();
        let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
        let fake =
            Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_secs(1), |run| match &run.args[..] {
                "sync" => 0,
                _ => 15,
            });
        fake.0.said.set(Said { behind, made, told: true });
        fake.until(at("2026-11-02T08:30:00Z"), &config).unwrap();
        let (own, rest): (Vec<_>, Vec<_>) = fake.began().into_iter().partition(|run| run.args == "backup");
        assert_eq!(own.len(), backups, "{made} {behind}: {}", fake.said());
        assert_eq!(!rest.is_empty(), behind, "what a store lacks is brought there: {}", fake.said());
        let word = match (made, behind) {
            (true, false) => "failed (exit code 15); somebody has to look",
            (true, true) => "not without trouble (exit code 15), and not in every store",
            _ => "failed (exit code 15); tried again",
        };
        assert!(fake.said().contains(word), "{}", fake.said());
        fake.until(at("2026-11-03T02:00:30Z"), &config).unwrap();
        assert!(
            fake.began().iter().any(|run| run.args == "backup" && run.at >= at("2026-11-03T02:00:00Z")),
            "the next time counts"
        );
    }
}

#[test]
fn a_drill_that_finds_nothing_out_restores_everything_once_a_time_and_not_each_hour() {
    for (code, runs) in [(1, 1), (10, 100)] {
        let dir = scratch();
        let config = config(dir.path(), "backup = [\"0 3 1 1 *\"]\ndrill = \"0 4 * * SUN\"");
        let fake = Fake::new("2026-11-01T12:00:00Z", SignedDuration::from_secs(60), move |_| code);
        fake.until(at("2026-11-14T12:00:00Z"), &config).unwrap();
        let drills = fake.began().len();
        assert!(drills == runs || code == 10 && drills > runs, "{code}: {drills}");
    }
}

#[test]
fn an_end_that_the_run_told_nobody_of_is_told_by_the_agent() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let fake = Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_secs(60), |_| 14);
    fake.0.said.set(Said { behind: false, made: false, told: false });
    fake.until(at("2026-11-03T00:00:00Z"), &config).unwrap();
    let began = at("2026-11-02T02:00:00Z");
    let untold = Untold { task: tell::Task::Backup(Vec::new()), began, code: 14, why: None };
    assert_eq!(*fake.0.untold.borrow(), [untold]);
    fake.0.broken.set(Some(Class::Failed));
    fake.until(at("2026-11-03T02:00:30Z"), &config).unwrap();
    let last = fake.0.untold.borrow().last().cloned().unwrap();
    assert_eq!((last.code, last.why.as_deref()), (1, Some("it cannot be started: no more processes")));
}

#[test]
fn another_run_is_waited_for_and_said_once() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let free = at("2026-11-02T02:20:00Z");
    let fake =
        Fake::new(
            "2026-11-02T00:00:00Z",
            SignedDuration::from_secs(1),
            move |run| {
                if run.at < free { 11 } else { 0 }
            },
        );
    fake.until(at("2026-11-02T12:00:00Z"), &config).unwrap();
    let last = fake.began().pop().unwrap();
    assert!(last.at >= free && last.at.duration_since(free).as_secs() <= 300, "{last:?}");
    assert_eq!(fake.said().matches("waits, because another run is under way").count(), 1, "{}", fake.said());
    assert!(fake.said().contains(" is done") && !fake.said().contains("fail"), "{}", fake.said());
}

#[test]
fn waiting_for_another_run_is_no_failure_and_makes_no_pause_longer() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    // Five times another run is under way, then the store is away for a moment, once.
    let fake = Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_secs(1), |run| {
        match run.token.rsplit_once(" try ").unwrap().1 {
            "0" | "1" | "2" | "3" | "4" => 11,
            "5" => 10,
            _ => 0,
        }
    });
    fake.until(at("2026-11-02T12:00:00Z"), &config).unwrap();
    let began: Vec<Timestamp> = fake.began().iter().map(|run| run.at).collect();
    let pauses: Vec<i64> = began.windows(2).map(|two| two[1].duration_since(two[0]).as_secs() - 1).collect();
    assert_eq!(pauses, [15, 30, 60, 120, 300, 60], "{}", fake.said());
    assert!(fake.said().contains("failed (exit code 10); tried again"), "{}", fake.said());
    assert!(fake.said().contains("is done, after a failure"), "{}", fake.said());
}

#[test]
fn what_sync_gave_up_is_behind_still_until_a_snapshot_is_everywhere() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let mended = at("2026-11-04T00:00:00Z");
    let fake =
        Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_secs(1), move |run| match &run.args[..] {
            "backup" if run.at < mended => 4,
            "sync" if run.at < mended => 12,
            _ => 0,
        });
    let behind = |now: Timestamp| crate::ops::timetable::standing(&config, now).unwrap().behind_since;
    let syncs = || fake.began().iter().filter(|run| run.args == "sync").count();
    let since = Some(at("2026-11-02T02:00:01Z"));
    for (until, tried) in [("2026-11-02T20:00:00Z", 1), ("2026-11-03T20:00:00Z", 2)] {
        fake.until(at(until), &config).unwrap();
        assert_eq!((behind(fake.now()), syncs()), (since, tried), "{}", fake.said());
    }
    assert!(fake.said().contains("sync of what is not in every store failed (exit code 12); somebody"));
    fake.until(at("2026-11-04T20:00:00Z"), &config).unwrap();
    assert_eq!((behind(fake.now()), syncs()), (None, 2), "{}", fake.said());
}

#[test]
fn what_a_person_mended_by_hand_is_found_out_after_the_next_backup_whatever_that_lacks() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let mended = at("2026-11-03T00:00:00Z");
    let fake =
        Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_secs(1), move |run| match &run.args[..] {
            "backup" if run.at < mended => 4,
            "sync" if run.at < mended => 12,
            // A file that nobody can read: of the stores that says nothing.
            "backup" => 3,
            _ => 0,
        });
    let behind = |now: Timestamp| crate::ops::timetable::standing(&config, now).unwrap().behind_since;
    fake.until(at("2026-11-02T20:00:00Z"), &config).unwrap();
    assert!(behind(fake.now()).is_some());
    fake.until(at("2026-11-03T20:00:00Z"), &config).unwrap();
    assert_eq!(behind(fake.now()), None, "{}", fake.said());
}

#[test]
fn a_job_of_a_line_that_is_gone_is_waited_for_and_told_as_no_failure() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let fake = Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_secs(1), |_| 0);
    fake.0.broken.set(Some(Class::Busy));
    fake.until(at("2026-11-02T02:30:00Z"), &config).unwrap();
    fake.0.now.set(at("2026-11-02T02:40:00Z"));
    assert_eq!(fake.once(&config), 11);
    assert!(fake.began().is_empty() && fake.0.untold.borrow().is_empty(), "{}", fake.said());
    assert_eq!(fake.said().matches("waits, because another run is under way").count(), 1, "{}", fake.said());
    fake.0.broken.set(None);
    fake.until(at("2026-11-02T12:00:00Z"), &config).unwrap();
    assert_eq!(fake.began().len(), 1, "once it is free: {}", fake.said());
    assert!(fake.0.untold.borrow().is_empty());
}

#[test]
fn while_a_job_of_the_project_runs_another_one_is_busy_and_does_not_begin() {
    let dir = scratch();
    let order = Order {
        config: PathBuf::from("/srv/x/backstay.toml"),
        state_dir: dir.path().to_owned(),
        task: tell::Task::Sync,
        args: vec!["sync".to_owned()],
        token: "sync for now".to_owned(),
        patience: std::time::Duration::ZERO,
    };
    let slot = std::fs::File::create(dir.path().join("agent-job.lock")).unwrap();
    rustix::fs::flock(&slot, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let children = Children { exe: PathBuf::from("/bin/false"), before: Vec::new() };
    let refused = children.start(&order).err().unwrap();
    assert_eq!(refused.class, Class::Busy, "{refused}");
}

#[test]
fn asked_to_end_it_ends_what_runs_and_takes_it_up_again() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let fake = Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_mins(30), |_| 0);
    fake.until(at("2026-11-02T02:10:00Z"), &config).unwrap();
    assert!(fake.said().contains("was ended; it is run again"), "{}", fake.said());
    fake.0.runs.borrow_mut().clear();
    fake.until(at("2026-11-02T12:00:00Z"), &config).unwrap();
    assert_eq!(fake.began().len(), 2);
    assert!(fake.said().contains("is done"), "{}", fake.said());
}

#[test]
fn what_a_job_left_down_that_had_to_be_killed_is_named_with_the_command_that_starts_it() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let fake = Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_mins(30), |_| 0);
    std::fs::write(dir.path().join("stopped.json"), r#"{"services":["web","worker"]}"#).unwrap();
    fake.until(at("2026-11-02T02:10:00Z"), &config).unwrap();
    let said = fake.said();
    assert!(
        said.contains("not started again: web, worker; `backstay --config /srv/x/backstay.toml ready`"),
        "{said}"
    );
}

#[test]
fn after_an_unfinished_rollback_nothing_is_run_and_it_is_said_once() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let fake = Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_secs(1), |_| 0);
    fake.0.unfinished.set(true);
    fake.until(at("2026-11-03T12:00:00Z"), &config).unwrap();
    assert!(fake.began().is_empty());
    assert_eq!(fake.said().matches("nothing is run: a rollback is not at its end").count(), 1);
    assert_eq!(fake.once(&config), 18);
    let untold = fake.0.untold.borrow().clone();
    assert_eq!((untold.len(), untold[0].code), (2, 18), "said by each agent once: {untold:?}");
    fake.0.unfinished.set(false);
    fake.until(at("2026-11-03T13:00:00Z"), &config).unwrap();
    assert_eq!(fake.began().len(), 1, "what was missed meanwhile is run once");
}

#[test]
fn a_rollback_under_way_is_waited_for_and_nobody_is_told_unless_it_is_cut_off() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let fake = Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_secs(1), |_| 0);
    fake.0.under_way.set(true);
    fake.until(at("2026-11-02T02:30:00Z"), &config).unwrap();
    assert_eq!((fake.once(&config), fake.once(&config)), (11, 11));
    assert!(fake.began().is_empty() && fake.0.untold.borrow().is_empty(), "{}", fake.said());
    assert!(!fake.said().contains("nothing is run"), "{}", fake.said());
    fake.0.under_way.set(false);
    fake.0.unfinished.set(true);
    fake.until(at("2026-11-02T03:30:00Z"), &config).unwrap();
    assert_eq!(fake.0.untold.borrow().len(), 1, "cut off, it is told once: {}", fake.said());
    fake.0.unfinished.set(false);
    fake.until(at("2026-11-02T04:30:00Z"), &config).unwrap();
    assert_eq!(fake.began().len(), 1, "what was due is run once: {}", fake.said());
}

#[test]
fn once_runs_what_is_due_and_ends_with_the_worst_code() {
    let dir = scratch();
    let config =
        config(dir.path(), "backup = [\"0 3 * * *\"]\nverify = \"0 4 * * *\"\nprune = \"0 5 * * *\"");
    let fake = Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_secs(5), |run| match &run.args[..] {
        "prune" => 4,
        "backup" => 0,
        _ => 13,
    });
    assert_eq!((fake.once(&config), fake.began().len()), (0, 0), "nothing is due when it is seen first");
    fake.0.now.set(at("2026-11-05T12:00:00Z"));
    assert_eq!(fake.once(&config), 13);
    let args: Vec<_> = fake.began().into_iter().map(|run| run.args).collect();
    assert_eq!(args, ["backup", "verify --read-data=5", "prune"], "in the order in which they were due");
    assert_eq!(worst(&[0, 4, 3, 0]), 3);
    assert_eq!(worst(&[1, 10, 18, 4]), 18);
    assert_eq!((worst(&[0, 11]), worst(&[4, 11, 3]), worst(&[16, 11])), (11, 11, 16));
    assert_eq!((worst(&[4, 137]), worst(&[137, 10])), (137, 10), "one that was killed failed");
    assert_eq!(worst(&[]), 0);
}

#[test]
fn a_bad_configuration_is_refused_and_the_old_one_kept() {
    let dir = scratch();
    let old = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let fake = Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_secs(1), |_| 0);
    *fake.0.reload.borrow_mut() = Some(Err(OpError::new(Class::Config, "line 7 is wrong")));
    fake.until(at("2026-11-02T12:00:00Z"), &old).unwrap();
    assert!(
        fake.said().contains("refused, and the one from before kept: line 7 is wrong"),
        "{}",
        fake.said()
    );
    assert_eq!(fake.began().len(), 1);
    let elsewhere = scratch();
    *fake.0.reload.borrow_mut() = Some(Ok(config(elsewhere.path(), "backup = [\"0 4 * * *\"]")));
    fake.until(at("2026-11-02T13:00:00Z"), &old).unwrap();
    assert!(fake.said().contains("the state directory of project x was changed"), "{}", fake.said());
    *fake.0.reload.borrow_mut() = Some(Ok(config(dir.path(), "backup = [\"0 15 * * *\"]")));
    fake.until(at("2026-11-03T12:00:00Z"), &old).unwrap();
    let hours: Vec<String> = fake.began().iter().map(|run| run.at.to_string()).collect();
    assert_eq!(
        hours,
        ["2026-11-02T02:00:00Z", "2026-11-02T14:00:00Z"],
        "the new time holds at once, the old one no more"
    );
}

#[test]
fn a_project_whose_state_cannot_be_written_is_said_once_and_stops_no_other() {
    let (dir, other) = (scratch(), scratch());
    let fake = Fake::new("2026-11-02T00:00:00Z", SignedDuration::from_secs(1), |_| 0);
    let open = |dir: &Path, at: &str| {
        let config = config(dir, &format!("backup = [\"{at}\"]"));
        Project::open(config, fake.now()).unwrap()
    };
    let projects = [open(dir.path(), "0 3 * * *"), open(other.path(), "5 3 * * *")];
    // A folder in the place of the file: also root cannot write it.
    let memory = dir.path().join("agent.json");
    std::fs::remove_file(&memory).unwrap();
    std::fs::create_dir(&memory).unwrap();
    fake.0.end.set(at("2026-11-02T12:00:00Z"));
    let mut agent = Agent::new(projects.into(), Socket::default());
    assert_eq!(agent.run(&mut fake.clone(), &fake, Options::default()), 0);
    assert_eq!(fake.began().len(), 1, "{}", fake.said());
    assert_eq!(fake.said().matches("what the agent did cannot be written").count(), 1, "{}", fake.said());
    std::fs::remove_dir(&memory).unwrap();
    fake.0.end.set(at("2026-11-02T13:00:00Z"));
    assert_eq!(agent.run(&mut fake.clone(), &fake, Options::default()), 0);
    assert_eq!(fake.began().len(), 2, "{}", fake.said());
    assert!(fake.said().contains("x: goes on"), "{}", fake.said());
}

#[test]
fn a_second_agent_of_a_project_is_refused() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let now = at("2026-11-02T00:00:00Z");
    let _first = Project::open(Arc::clone(&config), now).unwrap();
    let second = Project::open(config, now).err().unwrap();
    assert_eq!(second.class, Class::Busy);
    assert!(
        second.to_string().contains("another agent runs project x: \"agent\"")
            || second.to_string().contains("agent since"),
        "{second}"
    );
}

#[test]
fn a_clock_that_was_years_ahead_does_not_stop_a_job_for_years() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let fake = Fake::new("2031-01-01T00:00:00Z", SignedDuration::from_secs(1), |_| 0);
    fake.until(at("2031-01-02T00:00:00Z"), &config).unwrap();
    fake.0.now.set(at("2026-11-02T00:00:00Z"));
    fake.0.runs.borrow_mut().clear();
    fake.until(at("2026-11-03T00:00:00Z"), &config).unwrap();
    assert_eq!(fake.began().len(), 2);
}

#[test]
fn a_clock_that_is_put_right_while_the_agent_stays_stops_no_job_until_a_restart() {
    let dir = scratch();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let fake = Fake::new("2031-01-01T00:00:00Z", SignedDuration::from_secs(1), |_| 0);
    fake.0.put_right.set(Some((at("2031-01-01T02:00:01Z"), at("2026-11-02T00:00:00Z"))));
    // The end is after the clock was put right, and long before what it was.
    fake.0.end.set(at("2026-11-03T00:00:00Z"));
    let project = Project::open(Arc::clone(&config), fake.now()).unwrap();
    let ask = UntilPutRight(fake.clone());
    Agent::new(vec![project], Socket::default()).run(&mut fake.clone(), &ask, Options::default());
    let times: Vec<String> = fake.began().iter().map(|run| run.at.to_string()).collect();
    assert_eq!(times, ["2031-01-01T02:00:00Z", "2026-11-02T02:00:00Z"], "{}", fake.said());
}

/// Asks for the end only once the clock was put right.
struct UntilPutRight(Fake);

impl Ask for UntilPutRight {
    fn end(&self) -> bool {
        self.0.0.put_right.get().is_none() && Ask::end(&self.0)
    }

    fn reload(&self) -> bool {
        false
    }

    fn load(&self) -> Vec<(PathBuf, Result<Arc<Config>>)> {
        Vec::new()
    }
}

#[test]
fn a_run_that_was_cut_off_and_whose_line_is_gone_does_not_run_for_ever() {
    let dir = scratch();
    let now = at("2026-11-02T00:00:00Z");
    let mut before = Memory::default();
    let line = "backup at 0 1 * * *";
    before.fit([line].into_iter(), now);
    let what = What::Line(line.to_owned());
    before.begin(&Start { what, due: now, attempt: 0, failed: 0, again: false }, now);
    before.save(dir.path()).unwrap();
    let config = config(dir.path(), "backup = [\"0 3 * * *\"]");
    let remembered = || {
        drop(Project::open(Arc::clone(&config), now).unwrap());
        Memory::load(dir.path()).unwrap().unwrap().jobs.contains_key(line)
    };
    // While it holds its lock it runs.
    let slot = std::fs::File::create(dir.path().join("agent-job.lock")).unwrap();
    rustix::fs::flock(&slot, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(remembered());
    drop(slot);
    assert!(!remembered());
}

#[test]
fn what_is_printed_names_this_program_the_configurations_and_the_identities() {
    let exe = Path::new("/usr/bin/backstay");
    let files = [Path::new("/srv/a/backstay.toml"), Path::new("/srv/b c/50%/backstay.toml")];
    let dirs = [Path::new("/var/lib/backstay/a"), Path::new("/var/lib/backstay/b")];
    let identities = [Path::new("/etc/backstay/drill key.txt")];
    let with = |configs| With { configs, identities: &identities };
    let unit = print(Form::Systemd, exe, with(&files), &dirs);
    let line = "ExecStart=/usr/bin/backstay agent --config /srv/a/backstay.toml --config \"/srv/b c/50%%/backstay.toml\" --identity \"/etc/backstay/drill key.txt\"\n";
    assert!(unit.contains(line) && unit.contains("Type=notify\n") && unit.contains("WatchdogSec="), "{unit}");
    let timer = print(Form::Timer, exe, with(&files[..1]), &dirs[..1]);
    assert!(timer.contains("drill key.txt\" --once\n") && timer.contains("Persistent=yes"), "{timer}");
    let cron = print(Form::Cron, exe, with(&files), &dirs);
    assert!(
        cron.contains("* /usr/bin/backstay -q agent --config /srv/a/backstay.toml --config '/srv/b c/50\\%/backstay.toml' --identity '/etc/backstay/drill key.txt' --once\n"),
        "{cron}"
    );
}
