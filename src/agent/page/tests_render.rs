//! The page in every state, from what lies in a state folder.

use crate::agent::page::body::page;
use crate::agent::page::view::{Verdict, View};
use crate::config::Config;
use crate::model::Timestamp;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const NOW: &str = "2026-11-20T10:00:00Z";
const HOSTILE: &str = "</style></pre><script>alert('x')</script>\"<img src=//evil.example>&\u{202e}\u{1b}[2J";

fn config(dir: &Path) -> Arc<Config> {
    let text = format!(
        "[project]\nname = \"shop\"\n[[component]]\nname = \"app\"\npath = \"app\"\n[[component]]\nname = \"db\"\nsqlite = \"x.db\"\n\
         [[store]]\nname = \"local\"\npath = \"store\"\n[[store]]\nname = \"offsite\"\npath = \"other\"\n\
         [encryption]\nrecipients = [\"age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq\"]\n[signing]\nkey_file = \"/nowhere/key\"\n\
         [state]\ndir = \"{}\"\n[schedule]\ntimezone = \"UTC\"\nbackup = \"0 3 * * *\"\nverify = \"0 5 * * *\"\n",
        dir.display()
    );
    Arc::new(Config::parse(&text, Path::new("/srv/x/backstay.toml")).unwrap_or_else(|e| panic!("{e}")))
}

fn id(day: u32) -> String {
    format!("202611{day:02}T030000Z-k3v7q2ma")
}

fn brief(day: u32) -> Value {
    json!({ "id": id(day), "started": format!("2026-11-{day:02}T03:00:00Z"), "age_seconds": 1, "complete": true })
}

fn proof(level: &str, day: u32) -> Value {
    json!({ "snapshot": id(day), "time": format!("2026-11-{day:02}T05:00:00Z"), "age_seconds": 1, "level": level, "good": true,
            "self_verified": false, "by": "verifier-1", "store": "offsite" })
}

fn component(name: &str) -> Value {
    json!({ "name": name, "newest": brief(20), "newest_good": brief(20), "check": null, "last_proof": proof("read", 20), "frozen": [] })
}

fn store(name: &str) -> Value {
    json!({ "name": name, "location": format!("/srv/{name}"), "here": true, "problem": null, "newest": brief(20), "newest_good": brief(20),
            "entries_behind": 0, "last_prune": "2026-11-19T05:30:00Z", "last_prune_by": "pruner-1" })
}

fn snapshot(day: u32) -> Value {
    let said =
        json!({ "at": format!("2026-11-{day:02}T05:00:00Z"), "level": "read", "good": true, "own": true });
    let proof = |store: &str| json!({ "store": store, "good": true, "self_verified": true, "proved_since": null, "bad": [], "last_verdict": said, "last_drill": null });
    json!({ "id": id(day), "started": format!("2026-11-{day:02}T03:00:00Z"), "finished": format!("2026-11-{day:02}T03:01:00Z"), "kind": "normal",
            "complete": true, "good": true, "void": null, "tags": [], "milestone": false, "size": 1_000_000 + day, "added": 5000,
            "parts": [{ "name": "app", "size": 400_000, "complete": true, "check": "none" }, { "name": "db", "size": 600_000, "complete": true, "check": "passed" }],
            "proofs": [proof("local"), proof("offsite")] })
}

/// All is well.
fn well() -> Value {
    let reached = |name: &str| json!({ "at": "2026-11-20T09:59:00Z", "store": store(name) });
    let proven = json!({ "read": proof("read", 20), "drill": proof("drill", 15) });
    json!({ "format": 1, "stamp": "", "failed": null, "found": {
        "at": "2026-11-20T09:59:00Z", "older": 3, "snapshots": (1..=20).map(snapshot).collect::<Vec<_>>(),
        "proven": { "app": proven, "db": proven }, "reached": { "local": reached("local"), "offsite": reached("offsite") },
        "gathered": { "now": NOW, "components": [component("app"), component("db")], "stores": [store("local"), store("offsite")], "broken": [], "history": [],
                      "last_drill": proof("drill", 15), "outbox": 0, "kit": { "proved": "2026-11-02T09:00:00Z", "stale": false, "reminder": null },
                      "unfinished": [], "unseen": [], "times": [] } } })
}

/// What the agent remembers when nothing is wrong.
fn memory() -> Value {
    let job = |clock: &str| {
        json!({ "handled": format!("2026-11-20T{clock}:00Z"),
                "last": { "due": format!("2026-11-20T{clock}:00Z"), "began": format!("2026-11-20T{clock}:01Z"), "ended": format!("2026-11-20T{clock}:30Z"), "code": 0 } })
    };
    json!({ "format": 1, "jobs": { "backup at 0 3 * * *": job("03:00"), "verify at 0 5 * * *": job("05:00") } })
}

struct Scene {
    dir: tempfile::TempDir,
    seen: Value,
    memory: Value,
}

impl Scene {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), seen: well(), memory: memory() }
    }

    fn with(edit: impl FnOnce(&mut Value, &mut Value)) -> Self {
        let mut scene = Self::new();
        edit(&mut scene.seen, &mut scene.memory);
        scene
    }

    fn put(&self, name: &str, value: &Value) {
        std::fs::write(self.dir.path().join(name), value.to_string()).unwrap();
    }

    /// The verdict and the page, which is held to be well formed and to hold no markup but ours.
    #[track_caller]
    fn shown(&self) -> (Verdict, String) {
        if !self.seen.is_null() {
            self.put("seen.json", &self.seen);
            assert!(crate::ops::status::recall(self.dir.path()).is_some(), "what was seen cannot be read");
        }
        self.put("agent.json", &self.memory);
        let view = View::of(&[config(self.dir.path())], NOW.parse().unwrap());
        let text = page(&view, false);
        well_formed(&text);
        assert!(!text.contains("<script") && !text.contains("<img") && text.matches("</style>").count() == 1);
        (view.verdict(), text)
    }

    #[track_caller]
    fn expect(&self, verdict: Verdict, words: &[&str]) -> String {
        let (found, text) = self.shown();
        let plain: String = text.split("</style>").nth(1).unwrap().to_owned();
        assert_eq!(found, verdict, "{plain}");
        for word in words {
            assert!(plain.contains(word), "{word:?} is not in {plain}");
        }
        plain
    }
}

/// Every element is closed where it must be, and every attribute is in quotes.
fn well_formed(text: &str) {
    let body = text.strip_prefix("<!doctype html>").unwrap();
    let (mut open, mut rest) = (Vec::new(), body);
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains('>') || open.last() == Some(&"style"), "{}", &rest[..at]);
        let end = at + rest[at..].find('>').unwrap();
        let tag = &rest[at + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') && name != "meta" {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?}");
}

fn first(seen: &mut Value) -> &mut Value {
    &mut seen["found"]["gathered"]
}

#[test]
fn all_well_is_said_first_with_since_when_it_is_proved() {
    let text = Scene::new().expect(
        Verdict::Protected,
        &[
            "<h1 class=\"big\" id=\"verdict-0\">Protected</h1>",
            "All 2 components have a good snapshot; the oldest of these is 7 hours old.",
            "5 days ago",
            "brought back in a drill in offsite, by verifier-1",
            "2 of 2",
            "nothing: it has everything",
            "20 snapshots, store by store",
            "10 older snapshots",
            "3 still older ones are not shown",
            "in 17 hours",
            "Nothing runs now.",
            "No run that is remembered",
        ],
    );
    assert!(
        text.find("Protected</h1>").unwrap() < text.find("<h2").unwrap(),
        "the most important thing comes first"
    );
    assert_eq!(text.matches("class=\"mark good\"").count(), 40, "twenty snapshots in two stores");
    assert!(!text.contains("What needs a look"));
}

#[test]
fn what_is_not_known_is_not_called_well() {
    let fresh = Scene::with(|seen, _| *seen = Value::Null);
    let text = fresh.expect(
        Verdict::Unknown,
        &["Not known yet", "has not looked at the stores yet", "backup at 0 3 * * *"],
    );
    assert!(
        !text.contains("<svg")
            && !text.contains("class=\"tone good\"><span aria-hidden=\"true\">✓</span>\u{a0}good")
    );
    let never = Scene::with(|seen, _| {
        for component in first(seen)["components"].as_array_mut().unwrap() {
            for key in ["newest", "newest_good", "last_proof"] {
                component[key] = Value::Null;
            }
        }
        first(seen)["last_drill"] = Value::Null;
        seen["found"]["snapshots"] = json!([]);
        seen["found"]["proven"] = json!({});
    });
    never.expect(
        Verdict::Danger,
        &[
            "Somebody must act",
            "Component app is in no snapshot, and 1 more.",
            "This host has no snapshot yet.",
            ">never<",
        ],
    );
    let away = Scene::with(|seen, _| {
        seen["failed"] = json!({ "at": "2026-11-20T09:59:59Z", "why": "the network is away" });
    });
    away.expect(
        Verdict::Danger,
        &["No store could be read at 2026-11-20T09:59:59Z: the network is away.", "offsite", "20 snapshots"],
    );
    let first_failed = Scene::with(|seen, _| {
        seen["found"] = Value::Null;
        seen["failed"] = json!({ "at": "2026-11-20T09:59:59Z", "why": "the network is away" });
    });
    first_failed.expect(Verdict::Danger, &["the network is away", "Not known yet."]);
    let old = Scene::with(|seen, _| seen["found"]["at"] = json!("2026-11-19T03:00:00Z"));
    old.expect(Verdict::Look, &["what stores hold was last looked at 2026-11-19T03:00:00Z"]);
}

#[test]
fn a_store_that_lags_is_shown_with_what_it_lacks() {
    let behind = Scene::with(|seen, _| {
        first(seen)["stores"][1]["entries_behind"] = json!(4);
        first(seen)["stores"][1]["newest"] = brief(18);
        first(seen)["stores"][1]["newest_good"] = brief(18);
    });
    behind.expect(
        Verdict::Look,
        &[
            "store offsite lacks 4 entries",
            "2 snapshots",
            "the first of <time datetime=\"2026-11-19T03:00:00Z\">",
            "1 of 2",
        ],
    );
    let away = Scene::with(|seen, _| {
        let store = &mut first(seen)["stores"][1];
        (store["here"], store["problem"]) = (json!(false), json!("no route to host"));
        (store["newest"], store["newest_good"], store["last_prune"]) =
            (Value::Null, Value::Null, Value::Null);
        seen["found"]["reached"]["offsite"]["at"] = json!("2026-11-17T09:00:00Z");
        seen["found"]["reached"]["offsite"]["store"]["newest"] = brief(17);
        seen["found"]["reached"]["offsite"]["store"]["newest_good"] = brief(17);
    });
    away.expect(
        Verdict::Look,
        &["away", "no route to host", "3 snapshots", "3 days ago", "20261117T030000Z-k3v7q2ma"],
    );
}

#[test]
fn what_is_frozen_damaged_or_failed_is_shown_with_its_way_out() {
    let frozen = Scene::with(|seen, _| {
        first(seen)["components"][1]["frozen"] = json!(["in store local, it shrank by half"]);
    });
    frozen.expect(
        Verdict::Look,
        &[
            "retention lets nothing of it go: in store local, it shrank by half",
            "nothing of db is removed by retention",
        ],
    );
    let damaged = Scene::with(|seen, _| {
        seen["found"]["snapshots"][4]["proofs"][1]["bad"] = json!(["archives/ab/cd"]);
        seen["found"]["snapshots"][4]["proofs"][1]["good"] = json!(false);
        seen["found"]["snapshots"][6]["complete"] = json!(false);
        seen["found"]["snapshots"][6]["good"] = json!(false);
        seen["found"]["snapshots"][8]["void"] = json!("a store was full");
        first(seen)["history"] = json!(["entry 7 of the chain is missing"]);
    });
    let text = damaged.expect(
        Verdict::Danger,
        &[
            "damaged in offsite",
            "1 object missing or damaged",
            "incomplete",
            "void: a store was full",
            "Entry 7 of the chain is missing.",
        ],
    );
    assert_eq!(text.matches("class=\"mark bad\"").count(), 1 + 2, "damaged in one store, void in both");
    let failing = Scene::with(|_, memory| {
        let job = &mut memory["jobs"]["backup at 0 3 * * *"];
        job["last"]["code"] = json!(10);
        job["retry"] = json!({ "due": "2026-11-20T03:00:00Z", "attempt": 5, "at": "2026-11-20T10:07:00Z" });
    });
    let run = json!({ "began": "2026-11-20T03:00:00Z", "ended": "2026-11-20T09:35:00Z", "code": 10 });
    failing.put("runs.json", &json!({ "backup": { "last": run, "well": "2026-11-19T03:01:00Z", "trouble": { "run": run, "text": "the server says no" } } }));
    failing.expect(
        Verdict::Look,
        &[
            "exit code 10",
            "tried again",
            "10:07",
            "the server says no",
            "it did not go well since",
            "25 minutes ago",
        ],
    );
}

#[test]
fn a_run_under_way_is_shown_with_how_far_it_is_and_is_no_trouble() {
    let scene = Scene::with(|_, memory| {
        memory["jobs"]["backup at 0 3 * * *"]["running"] =
            json!({ "due": "2026-11-20T09:50:00Z", "began": "2026-11-20T09:50:00Z", "attempt": 1 });
    });
    scene.expect(Verdict::Protected, &["runs for 10 minutes", "how far it is was not said"]);
    let run = "backup at 0 3 * * * for 2026-11-20T09:50:00Z try 1";
    let progress = |run: &str, total: Value| json!({ "run": run, "phase": "packing", "done": 2_500_000, "total": total, "at": NOW });
    scene.put("agent-progress.json", &progress(run, json!(10_000_000)));
    scene.expect(
        Verdict::Protected,
        &[
            "packing, 2.5 MB of 10.0 MB",
            "<progress aria-label=\"backup at 0 3 * * *\" max=\"10000000\" value=\"2500000\">",
        ],
    );
    scene.put("agent-progress.json", &progress(run, Value::Null));
    scene.expect(Verdict::Protected, &["packing, 2.5 MB"]);
    let own = json!({ "pid": std::process::id(), "since": "2026-11-20T09:58:00Z", "what": "backup" });
    let by_hand = Scene::new();
    by_hand.put("lock", &own);
    by_hand.expect(Verdict::Protected, &["backup, not started by the agent,", "runs for 2 minutes"]);
    by_hand.put("lock", &json!({ "pid": i32::MAX, "since": NOW, "what": "backup" }));
    by_hand.expect(Verdict::Protected, &["Nothing runs now."]);
    scene.put("agent-progress.json", &progress("another run", Value::Null));
    scene.expect(Verdict::Protected, &["how far it is was not said"]);
}

#[test]
fn words_from_elsewhere_are_text_wherever_they_stand() {
    let scene = Scene::with(|seen, memory| {
        let gathered = first(seen);
        gathered["components"][0]["name"] = json!(HOSTILE);
        gathered["components"][0]["frozen"] = json!([HOSTILE]);
        for key in ["name", "location", "problem", "last_prune_by"] {
            gathered["stores"][0][key] = json!(HOSTILE);
        }
        gathered["last_drill"]["store"] = json!(HOSTILE);
        gathered["unseen"] = json!([HOSTILE]);
        gathered["history"] = json!([HOSTILE]);
        gathered["broken"] = json!([[HOSTILE, HOSTILE, HOSTILE]]);
        seen["found"]["proven"] = json!({ HOSTILE: { "read": proof("read", 20), "drill": null } });
        seen["found"]["proven"][HOSTILE]["read"]["by"] = json!(HOSTILE);
        seen["found"]["reached"] = json!({ HOSTILE: { "at": NOW, "store": store(HOSTILE) } });
        let snapshot = &mut seen["found"]["snapshots"][19];
        (snapshot["void"], snapshot["tags"]) = (json!(HOSTILE), json!([HOSTILE]));
        snapshot["parts"][0]["name"] = json!(HOSTILE);
        snapshot["proofs"][0]["store"] = json!(HOSTILE);
        seen["failed"] = json!({ "at": NOW, "why": HOSTILE });
        memory["jobs"]["backup at 0 3 * * *"]["running"] = json!({ "due": NOW, "began": NOW, "attempt": 0 });
    });
    let run = json!({ "began": NOW, "ended": NOW, "code": 1 });
    scene.put(
        "runs.json",
        &json!({ HOSTILE: { "last": run, "well": null, "trouble": { "run": run, "text": HOSTILE } } }),
    );
    let run = format!("backup at 0 3 * * * for {NOW} try 0");
    scene.put(
        "agent-progress.json",
        &json!({ "run": run, "phase": HOSTILE, "done": 1, "total": 2, "at": NOW }),
    );
    let text = scene.expect(
        Verdict::Danger,
        &["&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;", "\\u{202e}\\u{1b}[2J"],
    );
    assert!(text.matches("&lt;script&gt;").count() > 15, "{}", text.matches("&lt;script&gt;").count());
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
}

#[test]
fn strange_times_and_sizes_make_no_strange_page() {
    let scene = Scene::with(|seen, _| {
        let snapshots = &mut seen["found"]["snapshots"];
        snapshots[19]["started"] = json!("2031-01-01T00:00:00Z");
        snapshots[3]["size"] = json!(u64::MAX);
        snapshots[5]["size"] = json!(0);
        snapshots[6]["added"] = json!(0);
        snapshots[0]["started"] = json!("1970-01-01T00:00:00Z");
        first(seen)["components"][0]["newest_good"]["started"] = json!("2031-01-01T00:00:00Z");
    });
    let (_, text) = scene.shown();
    assert!(text.contains("in the future") && !text.contains("NaN") && !text.contains("inf "), "{text}");
    let one = Scene::with(|seen, _| seen["found"]["snapshots"] = json!([snapshot(20)]));
    one.expect(Verdict::Protected, &["1 snapshot, store by store"]);
    let now: Timestamp = NOW.parse().unwrap();
    assert_eq!(View::of(&[], now).verdict(), Verdict::Unknown);
    well_formed(&page(&View::of(&[], now), true));
}
