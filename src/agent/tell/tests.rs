//! Who is told what, and how often. Targets are commands that write a line, or fail while a file `down` is there.

use super::ping::{Beat, beat};
use super::*;
use crate::config::PostForm;
use jiff::SignedDuration;
use std::cell::Cell;
use std::fs;
use std::path::Path;

const TARGET: &str =
    "command = 'test ! -e down && echo \"$BACKSTAY_EVENT|$BACKSTAY_TITLE|$BACKSTAY_TEXT\" >> told'";

struct World {
    dir: tempfile::TempDir,
    config: Config,
    now: Cell<Timestamp>,
}

impl World {
    fn new(notify: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[project]\nname = \"x\"\n[[store]]\nname = \"local\"\npath = \"store\"\n[signing]\nkey_file = \"/nowhere/key\"\n\
             [state]\ndir = \"state\"\n[notify]\n{notify}\n"
        );
        let config =
            Config::parse(&text, &dir.path().join("backstay.toml")).unwrap_or_else(|e| panic!("{e}"));
        fs::create_dir(dir.path().join("state")).unwrap();
        Self { dir, config, now: Cell::new("2026-11-02T00:00:00Z".parse().unwrap()) }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn with<T>(&self, run: impl FnOnce(&Teller<'_>) -> T) -> T {
        let pause = durable::sleep;
        run(&Teller { config: &self.config, now: self.now.get(), stopped: &|| false, pause: &pause })
    }

    fn later(&self, hours: i64) {
        self.now.set(self.now.get() + SignedDuration::from_hours(hours));
    }

    /// A run ends; gives what could not be told.
    fn end(&self, task: Task, code: u8) -> Vec<String> {
        let outcome = Outcome {
            task,
            code,
            text: format!("said {code}"),
            kit_proved: true,
            kit_stale: None,
            shrunk: None,
            behind: false,
        };
        self.with(|teller| teller.end(&outcome))
    }

    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "a method is not general enough over both lifetimes"
    )]
    fn watch(&self) -> Vec<String> {
        self.with(|teller| teller.watch())
    }

    fn backup(&self, code: u8) -> Vec<String> {
        self.end(Task::Backup(Vec::new()), code)
    }

    /// What was told since it was asked last.
    fn told(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("told")).unwrap_or_default();
        let _none = fs::remove_file(self.path("told"));
        text.lines().map(str::to_owned).collect()
    }

    fn memory(&self) -> Memory {
        Memory::load(&self.path("state"), self.now.get()).unwrap()
    }
}

fn one(extra: &str) -> World {
    World::new(&format!("failure = [{{ {TARGET} }}]\n{extra}"))
}

#[test]
fn each_failure_is_told_once_and_its_end_once() {
    let world = one("");
    for _ in 0..3 {
        assert!(world.backup(10).is_empty());
        world.later(1);
    }
    assert_eq!(world.told(), ["failure|backstay: x: backup failed (exit code 10)|said 10"]);
    world.backup(13);
    assert_eq!(
        world.told(),
        ["damage|backstay: x: backup found damage or missing history|said 13"],
        "it became another"
    );
    world.backup(0);
    world.backup(0);
    let over = "recovery|backstay: x: backup: well again|for 3 hours it was so: backstay";
    let told = world.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(&over[..over.len() - 8]), "{told:?}");
    for code in [2, 11, 130, 143] {
        world.backup(code);
    }
    assert!(world.told().is_empty(), "these say nothing of how things are");
}

#[test]
fn what_one_run_told_another_run_of_the_same_ends_and_no_other() {
    let world = one("");
    world.end(Task::Backup(vec!["web".into(), "db".into()]), 1);
    world.end(Task::Backup(vec!["web".into()]), 0);
    world.end(Task::Verify, 0);
    assert_eq!(world.told(), ["failure|backstay: x: backup of db, web failed (exit code 1)|said 1"]);
    world.end(Task::Backup(vec!["db".into(), "web".into()]), 0);
    assert_eq!(world.told().len(), 1);
    world.backup(1);
    world.end(Task::Backup(vec!["db".into(), "web".into()]), 0);
    assert_eq!(world.told().len(), 1, "a part is not all");
}

#[test]
fn a_backup_of_everything_ends_the_trouble_of_one_of_a_part_that_nobody_runs_again() {
    let world = one("");
    world.end(Task::Backup(vec!["db".into()]), 1);
    for code in [3, 4] {
        world.backup(code);
        let known: Vec<String> = world.memory().troubles.into_keys().collect();
        assert!(known.contains(&"backup of db".to_owned()), "{known:?}");
    }
    world.told();
    world.backup(0);
    let told = world.told();
    let word = "recovery|backstay: x: backup of db: well again";
    assert!(told.iter().any(|line| line.starts_with(word)), "{told:?}");
    assert!(world.memory().troubles.is_empty());
}

#[test]
fn a_store_that_is_away_for_three_days_is_two_messages() {
    let world = one("");
    for _ in 0..36 {
        world.backup(4);
        world.end(Task::Sync, 4);
        world.later(2);
    }
    assert_eq!(world.told(), ["failure|backstay: x: not every store has the newest snapshot|said 4"]);
    world.end(Task::Sync, 0);
    assert_eq!(
        world.told(),
        [
            "recovery|backstay: x: stores: well again|for 3 days it was so: not every store has the newest snapshot"
        ]
    );
    world.backup(0);
    assert!(world.told().is_empty());
}

#[test]
fn a_backup_that_is_incomplete_and_not_in_every_store_is_two_messages() {
    let world = one("");
    let task = Task::Backup(Vec::new());
    let outcome = Outcome {
        task,
        code: 3,
        text: "said 3".to_owned(),
        kit_proved: true,
        kit_stale: None,
        shrunk: None,
        behind: true,
    };
    world.with(|teller| teller.end(&outcome));
    let mut told = world.told();
    told.sort();
    assert_eq!(
        told,
        [
            "failure|backstay: x: backup is incomplete|said 3",
            "failure|backstay: x: not every store has the newest snapshot|said 3"
        ]
    );
    world.backup(3);
    assert!(world.told().is_empty(), "of a store that was away nobody said that it is not");
    world.end(Task::Sync, 0);
    let told = world.told();
    assert!(told.len() == 1 && told[0].starts_with("recovery|backstay: x: stores: well again"), "{told:?}");
}

#[test]
fn what_could_not_be_told_is_told_when_it_can_be_and_is_one_message() {
    let world = one("");
    fs::write(world.path("down"), "").unwrap();
    for _ in 0..3 {
        let said = world.backup(4);
        assert!(said.len() == 1 && said[0].starts_with("command test could not be told: "), "{said:?}");
        world.later(24);
    }
    fs::remove_file(world.path("down")).unwrap();
    assert!(world.backup(0).is_empty());
    let told = world.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("stores: well again|for 3 days")
            && told[0].ends_with("; it could not be told when it was"),
        "{told:?}"
    );
    fs::write(world.path("down"), "").unwrap();
    world.backup(1);
    fs::remove_file(world.path("down")).unwrap();
    assert!(world.watch().is_empty());
    assert_eq!(world.told().len(), 1, "the agent tells it while nothing runs");
}

#[test]
fn nothing_good_for_too_long_is_told_once_whoever_looks() {
    let world = one("stale = \"26h\"");
    world.backup(0);
    world.later(26);
    world.watch();
    assert!(world.told().is_empty());
    world.later(1);
    world.watch();
    world.watch();
    world.backup(3);
    let told = world.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("stale|backstay: x: no backup went well for more than 26 hours|"),
        "{told:?}"
    );
    world.backup(4);
    let told = world.told();
    assert!(told.iter().any(|line| line.starts_with("recovery|backstay: x: stale: well again")), "{told:?}");
}

#[test]
fn what_a_clock_that_was_years_ahead_noted_keeps_no_alarm_still() {
    let world = one("stale = \"26h\"");
    let right = world.now.get();
    world.now.set("2031-01-01T00:00:00Z".parse().unwrap());
    world.backup(0);
    world.now.set(right);
    world.watch();
    assert!(world.told().is_empty(), "it counts as now");
    world.later(27);
    world.watch();
    let told = world.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("stale|backstay: x: no backup went well for more than 26 hours|"),
        "{told:?}"
    );
}

#[test]
fn a_kit_that_was_never_proved_is_told_after_a_week() {
    let world = one("");
    let end = |proved| {
        let outcome = Outcome {
            task: Task::Backup(Vec::new()),
            code: 0,
            text: String::new(),
            kit_proved: proved,
            kit_stale: None,
            shrunk: None,
            behind: false,
        };
        world.with(|teller| teller.end(&outcome));
    };
    end(false);
    world.later(7 * 24 + 1);
    end(false);
    end(false);
    assert_eq!(world.told().len(), 1);
    end(true);
    assert_eq!(world.told().len(), 1);
}

#[test]
fn a_kit_that_is_stale_is_told_once_and_over_when_a_new_one_was_proved() {
    let world = one("");
    let end = |kit_proved, kit_stale| {
        let (task, text) = (Task::Backup(Vec::new()), String::new());
        let outcome = Outcome { task, code: 0, text, kit_proved, kit_stale, shrunk: None, behind: false };
        world.with(|teller| teller.end(&outcome));
        world.told()
    };
    assert!(end(true, Some(false)).is_empty());
    let told = end(true, Some(true));
    let title = "kit|backstay: x: keys or stores changed since a recovery kit was proved: it is stale|";
    assert!(told.len() == 1 && told[0].starts_with(title), "{told:?}");
    assert!(told[0].contains("`backstay kit verify FILE`"), "{told:?}");
    // A run that did not come so far cannot say that it is well again.
    assert!(end(true, Some(true)).is_empty() && end(true, None).is_empty(), "told once");
    let told = end(true, Some(false));
    assert!(told.len() == 1 && told[0].starts_with("recovery|backstay: x: kit: well again"), "{told:?}");
}

#[test]
fn a_component_that_shrank_is_told_when_a_backup_meets_it_and_over_when_retention_is_free() {
    let world = one("");
    let end = |shrunk: Option<&[&str]>| {
        let shrunk =
            shrunk.map(|all| all.iter().map(|name| ((*name).to_owned(), format!("why {name}"))).collect());
        let task = Task::Backup(Vec::new());
        let outcome = Outcome {
            task,
            code: 0,
            text: String::new(),
            kit_proved: true,
            kit_stale: None,
            shrunk,
            behind: false,
        };
        world.with(|teller| teller.end(&outcome));
        world.told()
    };
    assert!(end(Some(&[])).is_empty());
    assert_eq!(
        end(Some(&["db"])),
        ["shrink|backstay: x: db shrank by more than half: nothing of it is deleted|why db"]
    );
    assert!(end(Some(&["db"])).is_empty() && end(None).is_empty(), "told once");
    assert_eq!(end(Some(&["db", "web"])).len(), 1, "another one is told of, too");
    let told = end(Some(&["web"]));
    assert!(
        told.len() == 1 && told[0].starts_with("recovery|backstay: x: size of db: well again"),
        "{told:?}"
    );
}

#[test]
fn what_a_person_took_back_is_told_and_what_they_mistyped_is_not() {
    let world = one("");
    for code in [2, 12, 14, 16, 130] {
        world.end(Task::Rollback, code);
    }
    assert!(world.told().is_empty());
    world.end(Task::Guard, 17);
    world.end(Task::Rollback, 18);
    let told = world.told();
    assert_eq!(
        told[0],
        "failure|backstay: x: guard did not go well, and was taken back (exit code 17)|said 17"
    );
    assert!(told[1].starts_with("failure|backstay: x: rollback failed (exit code 18)"), "{told:?}");
    world.end(Task::Rollback, 0);
    assert_eq!(world.told().len(), 1, "each has its own end");
}

#[test]
fn each_is_told_only_what_it_wants_and_one_that_fails_keeps_no_other_from_it() {
    let other = "command = 'echo \"$BACKSTAY_EVENT\" >> other', events = [\"shrink\", \"recovery\"]";
    let world =
        World::new(&format!("failure = [{{ command = [\"/nowhere\"] }}, {{ {other} }}, {{ {TARGET} }}]"));
    world.backup(1);
    assert!(!world.path("other").exists());
    let said = world.end(Task::Prune, 18);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(world.told().len(), 2);
    world.end(Task::Prune, 0);
    assert_eq!(fs::read_to_string(world.path("other")).unwrap(), "shrink\nrecovery\n");
}

#[test]
fn the_dead_man_hears_success_only_when_all_was_done_everywhere() {
    let world = one("");
    let beats = |task: Task, code: u8| {
        world.end(task.clone(), code);
        beat(
            &world.memory(),
            &Outcome {
                task,
                code,
                text: String::new(),
                kit_proved: true,
                kit_stale: None,
                shrunk: None,
                behind: false,
            },
        )
    };
    let (all, part) = (Task::Backup(Vec::new()), Task::Backup(vec!["db".into()]));
    assert_eq!(beats(all.clone(), 0), Some(Beat::Success));
    assert_eq!(beats(all.clone(), 4), None);
    assert_eq!(beats(part.clone(), 4), None);
    assert_eq!(beats(Task::Sync, 0), Some(Beat::Success), "now it is everywhere");
    assert_eq!(beats(all.clone(), 3), Some(Beat::Failure));
    assert_eq!(beats(part.clone(), 0), None, "the large one still fails");
    assert_eq!(beats(Task::Verify, 0), None);
    for nothing in [2, 11, 143] {
        assert_eq!(beats(all.clone(), nothing), None);
    }
    assert_eq!(beats(part, 1), Some(Beat::Failure));
    assert_eq!(beats(all, 0), Some(Beat::Success), "all is more than the part");
}

#[test]
fn each_service_gets_the_form_it_takes() {
    let world = one("");
    let mut message = Message::test(&world.config, Tell::Failure, world.now.get());
    message.text = "<a> & @everyone".to_owned();
    message.title = "backstay: x: \u{fc}".to_owned();
    let body = |form| message.letter(form).unwrap().body;
    let json = |form| serde_json::from_str::<serde_json::Value>(&body(form)).unwrap();
    assert_eq!(json(PostForm::Json)["event"], "failure");
    assert_eq!(json(PostForm::Json)["since"], "2026-11-02T00:00:00Z");
    let slack = json(PostForm::Slack)["text"].as_str().unwrap().to_owned();
    assert!(slack.starts_with("*backstay: x: \u{fc}*\n&lt;a&gt; &amp; @everyone ("), "{slack}");
    assert_eq!(json(PostForm::Discord)["allowed_mentions"]["parse"], serde_json::json!([]));
    let ntfy = message.letter(PostForm::Ntfy).unwrap();
    assert_eq!(ntfy.headers[0], ("title", "=?UTF-8?B?YmFja3N0YXk6IHg6IMO8?=".to_owned()));
    let long = Message::trouble(
        &world.config,
        Tell::Failure,
        "backup",
        &memory::Trouble {
            since: world.now.get(),
            event: "failure".into(),
            code: None,
            title: "t".into(),
            text: "\u{fc}".repeat(9000),
        },
        world.now.get(),
    );
    assert!(long.text.len() < 1600 && long.text.ends_with('\u{2026}'));
}

#[test]
fn a_memory_that_cannot_be_read_is_said_and_begun_anew() {
    let world = one("");
    fs::write(world.path("state/notify.json"), "nonsense").unwrap();
    let said = world.backup(1);
    assert!(said.len() == 1 && said[0].contains("what was told before is forgotten"), "{said:?}");
    assert_eq!(world.told().len(), 1);
    assert!(Path::new(&world.path("state/notify.json")).exists());
    assert!(world.backup(1).is_empty());
}
