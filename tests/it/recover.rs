//! A machine that is gone comes back from its kit and a store, and its history goes on.

use crate::common::fault_server::FaultServer;
use crate::common::person::{Bytes, Person, Said, everything_below};
use crate::common::project::{Gone, cannot_run, exe, is_root, program};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A new machine: an empty home, and nothing else.
pub(crate) struct Fresh {
    pub(crate) top: PathBuf,
    pub(crate) home: PathBuf,
    env: Vec<(&'static str, String)>,
    uid: Option<u32>,
    _gone: Gone,
}

impl Fresh {
    pub(crate) fn new() -> Self {
        let gone = Gone::new();
        let top = gone.path();
        let home = top.join("home");
        fs::create_dir(&home).unwrap();
        Self { home, top, env: Vec::new(), uid: None, _gone: gone }
    }

    fn with_cloud_keys(mut self) -> Self {
        self.env = CLOUD.map(|(name, value)| (name, value.to_owned())).to_vec();
        self
    }

    /// It is `now` there, and stays so.
    pub(crate) fn at(mut self, now: jiff::Timestamp) -> Self {
        self.env.push(("BACKSTAY_TEST_NOW", now.to_string()));
        self
    }

    /// Everything here belongs to another user, who runs the commands.
    pub(crate) fn of_user(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        for path in [&self.top, &self.home] {
            chown(path, Some(uid), Some(uid)).unwrap();
        }
        self
    }

    fn command(&self, dir: &Path, args: &[&str]) -> Command {
        let mut command = program(exe(), &self.home);
        command.current_dir(dir).args(args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command
    }

    pub(crate) fn run(&self, dir: &Path, args: &[&str]) -> Said {
        self.command(dir, args).output().unwrap().into()
    }

    #[track_caller]
    pub(crate) fn json(&self, code: i32, dir: &Path, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let said = self.run(dir, &args).code(code);
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("no JSON document: {e}\n{said}"))
    }

    /// Brings the kit here.
    pub(crate) fn take_kit(&self, kit: &Path) -> PathBuf {
        let here = self.top.join("kit.txt");
        fs::copy(kit, &here).unwrap();
        if let Some(uid) = self.uid {
            chown(&here, Some(uid), Some(uid)).unwrap();
        }
        here
    }
}

pub(crate) const CLOUD: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "test-key-id"), ("AWS_SECRET_ACCESS_KEY", "test-secret-key")];

/// Sets somebody up whose only store is the bucket that these lines of configuration name.
fn set_up_in_bucket(store: &str) -> Person {
    let person = Person::new();
    let run = |args: &[&str]| Said::from(person.command(args).envs(CLOUD).output().unwrap()).code(0);
    run(&["init", "--yes"]);
    person.reconfigure("path = \"backups\"", store);
    fs::remove_dir_all(person.store()).unwrap();
    fs::remove_dir_all(person.home.join(".local")).unwrap();
    fs::remove_file(person.kit()).unwrap();
    run(&["init"]);
    person
}

/// Somebody whose only store is a bucket.
pub(crate) struct InCloud {
    pub(crate) person: Person,
    pub(crate) server: FaultServer,
}

impl InCloud {
    pub(crate) fn new() -> Self {
        let server = FaultServer::start();
        let url = format!("url = \"s3://bucket/{{host}}/x\"\nendpoint = \"{}\"", server.endpoint());
        Self { person: set_up_in_bucket(&url), server }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Said {
        self.person.command(args).envs(CLOUD).output().unwrap().into()
    }

    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> Said {
        self.run(args).code(0)
    }

    #[track_caller]
    pub(crate) fn backup(&self) -> String {
        let said = self.ok(&["backup", "--json"]);
        let report: Value = serde_json::from_str(&said.out).unwrap();
        report["snapshot"].as_str().unwrap().to_owned()
    }
}

/// Files of the application as they are told apart: path, mode and content, without the live database and what is left out.
pub(crate) fn of_app(app: &Path) -> Vec<(PathBuf, u32, Bytes)> {
    let all = everything_below(app).into_iter();
    let own = all.map(|(path, mode, bytes)| (path.strip_prefix(app).unwrap().to_owned(), mode, bytes));
    let kept = |path: &Path| {
        let text = path.to_string_lossy();
        let left_out = ["node_modules", "backups", "backstay.toml", "agent.db", "before-restore"];
        !text.is_empty() && !left_out.iter().any(|part| text.contains(part))
    };
    own.filter(|(path, ..)| kept(path)).collect()
}

pub(crate) fn rows(app: &Path) -> i64 {
    let db = rusqlite::Connection::open(app.join("backend/data/agent.db")).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    db.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap()
}

/// The next snapshot is made at once; the list shows old and new ones of one host, all trusted; what was old still opens.
pub(crate) fn goes_on(fresh: &Fresh, app: &Path, old: &[&str]) {
    let made = fresh.json(0, app, &["backup"]);
    assert_eq!(made["problems"], Value::Array(Vec::new()), "{made:#}");
    let list = fresh.json(0, app, &["list"]);
    assert_eq!(list["history"], Value::Array(Vec::new()), "{list:#}");
    let rows = list["snapshots"].as_array().unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids[..old.len()], *old, "{list:#}");
    assert_eq!(ids.last().copied(), made["snapshot"].as_str());
    assert!(rows.iter().all(|row| row["trusted"] == true && row["host"] == rows[0]["host"]), "{list:#}");
    let numbers: Vec<u64> = rows.iter().map(|row| row["number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let to = fresh.top.join("restored-old");
    fresh.json(0, app, &["restore", old[0], "backend", "--to", to.to_str().unwrap(), "--no-owners"]);
    assert!(to.join("backend/app/main.py").exists());
}

#[test]
fn an_empty_machine_comes_back_from_a_bucket_with_the_kit_alone_and_goes_on() {
    let cloud = InCloud::new();
    let first = cloud.backup();
    fs::write(cloud.person.app.join("backend/app/main.py"), "VERSION = 2\n").unwrap();
    let second = cloud.backup();
    let fresh = Fresh::new().with_cloud_keys();
    let kit = fresh.take_kit(&cloud.person.kit());
    let app = fresh.top.join("app");
    let args = ["recover", kit.to_str().unwrap(), "--to", app.to_str().unwrap(), "--yes"];
    let report = fresh.json(0, &fresh.top, &args);
    let (found, done) = (&report["found"], &report["recovered"]);
    assert_eq!((&found["taken"], &done["snapshot"]), (&second.clone().into(), &second.clone().into()));
    assert_eq!(found["snapshots"][0]["good"], true, "{found:#}");
    assert_eq!((&done["introduced"], &done["identity_here"]), (&true.into(), &true.into()), "{done:#}");
    assert_eq!(done["problems"], Value::Array(Vec::new()), "{done:#}");
    assert!(done["components"].as_array().unwrap().iter().all(|c| c["at_its_place"] == true), "{done:#}");
    assert_eq!(of_app(&app), of_app(&cloud.person.app));
    assert_eq!(rows(&app), 200);
    // What was left out of the snapshots is not invented, and said.
    assert!(!app.join("frontend/node_modules").exists());
    let next = done["next"].to_string();
    assert!(next.contains("node_modules") && next.contains("backstay kit -o"), "{next}");
    // Another name of the machine must not lead to another place in the bucket.
    let config = fs::read_to_string(app.join("backstay.toml")).unwrap();
    assert!(!config.contains("s3://bucket/{host}"), "{config}");
    goes_on(&fresh, &app, &[&first, &second]);
    let key = fresh.home.join(".config/backstay/tsushin/signing_key");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    // The old kit still reads, and knows the new key by the mark.
    let listed = fresh.json(0, &fresh.top, &["--kit", kit.to_str().unwrap(), "list"]);
    assert!(listed["snapshots"].as_array().unwrap().iter().all(|row| row["trusted"] == true), "{listed:#}");
}

#[test]
fn another_user_recovers_from_a_bucket_and_is_told_which_owners_are_not_his_to_give() {
    if !is_root() {
        return cannot_run("a recovery by another user needs root to begin with");
    }
    let cloud = InCloud::new();
    let id = cloud.backup();
    let fresh = Fresh::new().with_cloud_keys().of_user(54_321);
    let kit = fresh.take_kit(&cloud.person.kit());
    let app = fresh.top.join("app");
    let args = ["recover", kit.to_str().unwrap(), "--to", app.to_str().unwrap(), "--yes"];
    let report = fresh.json(0, &fresh.top, &args);
    let problems = report["recovered"]["problems"].as_array().unwrap();
    assert!(!problems.is_empty() && problems.iter().all(|p| p["kind"] == "warning"), "{problems:#?}");
    assert!(problems[0]["what"].as_str().unwrap().starts_with("owners of"), "{problems:#?}");
    assert_eq!(of_app(&app), of_app(&cloud.person.app));
    goes_on(&fresh, &app, &[&id]);
}

/// Somebody whose store lies on a stick, and whose machine is gone.
struct OnStick {
    person: Person,
    kit: PathBuf,
    stick: PathBuf,
    ids: Vec<String>,
}

impl OnStick {
    fn new(more: &str) -> Self {
        let person = Person::set_up();
        person.configure(more);
        Self::of(person)
    }

    fn of(person: Person) -> Self {
        let ids = vec![person.backup(), person.backup()];
        let (kit, stick) = (person.top.join("kit.txt"), person.top.join("stick"));
        person.ok(["kit", "-o", kit.to_str().unwrap()]);
        fs::rename(person.store(), &stick).unwrap();
        Self { person, kit, stick, ids }
    }

    fn args<'a>(&'a self, to: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let own =
            ["recover", self.kit.to_str().unwrap(), "--store", self.stick.to_str().unwrap(), "--to", to];
        own.into_iter().chain(more.iter().copied()).collect()
    }
}

#[test]
fn a_machine_comes_back_from_a_stick_and_goes_on_there() {
    let stick = OnStick::new("");
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let report = fresh.json(0, &fresh.top, &stick.args(app.to_str().unwrap(), &["--yes"]));
    assert_eq!(of_app(&app), of_app(&stick.person.app));
    let next = report["recovered"]["next"].to_string();
    assert!(next.contains("is at") && next.contains("stick now"), "{next}");
    goes_on(&fresh, &app, &[&stick.ids[0], &stick.ids[1]]);
    assert!(!app.join("backups").exists(), "the stick is the store now");
}

#[test]
fn nothing_is_recovered_over_anything_and_nobody_is_passed_over() {
    let stick = OnStick::new("");
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let to = app.to_str().unwrap();
    let said = fresh.run(&fresh.top, &stick.args(to, &[])).code(2).error();
    said.says(&["nobody is here to ask", "Snapshots, good ones first", "<- taken", "add --yes"]);
    assert!(!app.exists() && fs::read_dir(&fresh.home).unwrap().next().is_none(), "nothing was written");
    fs::create_dir(&app).unwrap();
    fs::write(app.join("mine"), "mine").unwrap();
    fresh.run(&fresh.top, &stick.args(to, &["--yes"])).code(2).error().says(&["is not empty"]);
    assert_eq!(everything_below(&app).len(), 2);
    let said = fresh.run(&fresh.top, &stick.args("x", &["--yes", "--only", "nope"])).code(16).error();
    said.says(&["no component \"nope\"", "backend"]);
    fresh.run(&fresh.top, &stick.args("x", &["--yes", "--snapshot", "20200101T000000Z"])).code(16).error();
    fresh.run(&fresh.top, &["recover", "nowhere", "--to", "x"]).code(12).error();
    fresh.run(&fresh.top, &["recover", stick.kit.to_str().unwrap()]).code(2);
    assert!(fs::read_dir(&fresh.home).unwrap().next().is_none(), "no key was made");
}

/// A project that is one component, its configuration included; with its kit and its store, which lies beside.
fn small_project() -> (Person, [String; 2]) {
    let person = Person::new();
    let app = person.top.join("small");
    fs::create_dir(&app).unwrap();
    fs::write(app.join("main.py"), "print(1)\n").unwrap();
    let run = |args: &[&str]| Said::from(person.command(args).current_dir(&app).output().unwrap()).code(0);
    run(&["init", "--yes"]);
    let config = fs::read_to_string(app.join("backstay.toml")).unwrap();
    fs::write(app.join("backstay.toml"), config.replace("path = \"backups\"", "path = \"../stick\""))
        .unwrap();
    fs::rename(app.join("backups"), person.top.join("stick")).unwrap();
    run(&["backup"]);
    run(&["kit", "-o", "../kit.txt"]);
    let places = ["kit.txt", "stick"].map(|name| person.top.join(name).to_str().unwrap().to_owned());
    (person, places)
}

#[test]
fn a_configuration_in_a_component_does_not_stand_in_the_way_of_the_new_one() {
    let (person, [kit, stick]) = small_project();
    let old = fs::read_to_string(person.top.join("small/backstay.toml")).unwrap();
    let fresh = Fresh::new();
    let new = fresh.top.join("new");
    let args = ["recover", &kit, "--store", &stick, "--to", new.to_str().unwrap(), "--yes"];
    fresh.json(0, &fresh.top, &args);
    assert_eq!(fs::read_to_string(new.join("main.py")).unwrap(), "print(1)\n");
    let aside = fs::read_to_string(new.join("backstay.toml.before-recovery")).unwrap();
    assert_eq!(aside, old, "the old one is kept beside");
    fresh.json(0, &new, &["backup"]);
}

#[test]
fn what_an_earlier_recovery_left_in_the_snapshot_passes_for_nothing_of_this_one() {
    let (person, [kit, stick]) = small_project();
    let app = person.top.join("small");
    crate::common::person::make_database(&app.join("data.db"), 200);
    let config = fs::read_to_string(app.join("backstay.toml")).unwrap();
    fs::write(
        app.join("backstay.toml"),
        format!("{config}\n[[component]]\nname = \"db\"\nsqlite = \"data.db\"\n"),
    )
    .unwrap();
    // So an earlier one ended that could not move everything: its folder stayed, with its reports.
    fs::create_dir(app.join(".backstay-recovery")).unwrap();
    let report = r#"{"files":1,"bytes":1,"databases_checked":1,"problems":[],"data":"/nowhere","left":[],"placed":true}"#;
    fs::write(app.join(".backstay-recovery/db.json"), report).unwrap();
    Said::from(person.command(["backup"]).current_dir(&app).output().unwrap()).code(0);
    let fresh = Fresh::new();
    let new = fresh.top.join("new");
    let args = ["recover", &kit, "--store", &stick, "--to", new.to_str().unwrap(), "--yes"];
    let done = fresh.json(3, &fresh.top, &args);
    let left = done["recovered"]["left"][0].as_str().unwrap();
    assert_eq!(fs::read_to_string(Path::new(left).join("db.json")).unwrap(), report, "it is kept, and said");
    let db = rusqlite::Connection::open(new.join("data.db")).unwrap();
    assert_eq!(db.query_row("SELECT count(*) FROM message", [], |row| row.get::<_, i64>(0)).unwrap(), 200);
}

#[test]
fn only_what_is_named_comes_back_and_the_rest_is_said() {
    let stick = OnStick::new("");
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let more = ["--yes", "--only", "db", "--snapshot", &stick.ids[0]];
    let report = fresh.json(0, &fresh.top, &stick.args(app.to_str().unwrap(), &more));
    assert_eq!(report["recovered"]["snapshot"], stick.ids[0].as_str());
    assert_eq!(report["recovered"]["components"][0]["databases_checked"], 1);
    assert_eq!(rows(&app), 200);
    assert!(!app.join("frontend").exists());
    let next = report["recovered"]["next"].to_string();
    assert!(next.contains("component frontend was not brought back"), "{next}");
}

#[test]
fn what_lay_outside_of_the_project_waits_beside_or_goes_back_to_its_place() {
    let outside = Gone::new();
    let (dir, file) = (outside.path().join("uploads"), outside.path().join("etc/app.conf"));
    fs::create_dir(&dir).unwrap();
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::write(dir.join("photo"), "a photo").unwrap();
    fs::write(&file, "port = 1\n").unwrap();
    let more = format!(
        "[[component]]\nname = \"uploads\"\npath = {dir:?}\n[[component]]\nname = \"conf\"\npaths = [\"frontend/package.json\", {file:?}]\n[[component]]\nname = \"dump\"\ncommand = [\"echo\", \"dumped\"]"
    );
    let stick = OnStick::new(&more);
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let report = fresh.json(0, &fresh.top, &stick.args(app.to_str().unwrap(), &["--yes"]));
    let aside = app.join("outside");
    assert_eq!(fs::read_to_string(aside.join("uploads/photo")).unwrap(), "a photo");
    let conf = aside.join("conf").join(file.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(conf).unwrap(), "port = 1\n");
    assert_eq!(fs::read_to_string(aside.join("dump/output")).unwrap(), "dumped\n");
    let next = report["recovered"]["next"].to_string();
    for part in ["component uploads lay outside", "output of a command", "from outside of the project"] {
        assert!(next.contains(part), "{part}: {next}");
    }
    // In place, on a machine where one of them is there already.
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&file, "port = 2\n").unwrap();
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let more = ["--yes", "--in-place"];
    let report = fresh.json(3, &fresh.top, &stick.args(app.to_str().unwrap(), &more));
    assert_eq!(fs::read_to_string(dir.join("photo")).unwrap(), "a photo");
    assert_eq!(fs::read_to_string(&file).unwrap(), "port = 2\n", "what is there is not touched");
    let left = report["recovered"]["left"][0].as_str().unwrap();
    assert_eq!(fs::read_to_string(left).unwrap(), "port = 1\n");
}

/// A folder of the application is a link to a shared one, and the database is reached through it.
#[test]
fn what_lies_behind_a_link_that_came_with_the_snapshot_waits_beside_and_the_link_is_not_followed() {
    let person = Person::set_up();
    let data = person.app.join("backend/data");
    fs::create_dir(person.top.join("shared")).unwrap();
    fs::rename(&data, person.top.join("shared/data")).unwrap();
    std::os::unix::fs::symlink("../../shared/data", &data).unwrap();
    let stick = OnStick::of(person);
    for shared_is_here in [false, true] {
        let fresh = Fresh::new();
        let (app, shared) = (fresh.top.join("app"), fresh.top.join("shared/data"));
        if shared_is_here {
            fs::create_dir_all(&shared).unwrap();
            fs::write(shared.join("other"), "of another application").unwrap();
        }
        let before = shared_is_here.then(|| everything_below(&shared));
        let report = fresh.json(0, &fresh.top, &stick.args(app.to_str().unwrap(), &["--yes"]));
        let done = &report["recovered"];
        assert_eq!(fs::read_link(app.join("backend/data")).unwrap(), Path::new("../../shared/data"));
        assert_eq!(shared.exists().then(|| everything_below(&shared)), before, "nothing outside is touched");
        assert!(app.join("outside/db/agent.db").is_file(), "{done:#}");
        let components = done["components"].as_array().unwrap();
        let db = components.iter().find(|c| c["name"] == "db").unwrap();
        assert_eq!(db["at_its_place"], false, "{done:#}");
        assert_eq!(db["to"], app.join("outside/db").to_str().unwrap());
        let next = done["next"].to_string();
        assert!(next.contains("component db could not go to") && next.contains("link"), "{next}");
        assert!(!app.join(".backstay-recovery").exists());
    }
}

#[test]
fn components_named_by_absolute_paths_are_looked_for_where_they_were_brought() {
    let person = Person::set_up();
    let app = person.app.clone();
    let absolute = |rest: &str| format!("{:?}", app.join(rest));
    person.reconfigure("path = \"frontend\"", &format!("path = {}", absolute("frontend")));
    person.reconfigure(
        "sqlite = \"backend/data/agent.db\"",
        &format!("sqlite = {}", absolute("backend/data/agent.db")),
    );
    person.reconfigure("paths = [\".env\"]", &format!("paths = [{}]", absolute(".env")));
    let stick = OnStick::of(person);
    // The old tree is still there, and changes: nothing of it may come into the history that goes on.
    fs::write(app.join("frontend/package.json"), "old machine").unwrap();
    fs::write(app.join(".env"), "old machine").unwrap();
    let fresh = Fresh::new();
    let new = fresh.top.join("app");
    let report = fresh.json(0, &fresh.top, &stick.args(new.to_str().unwrap(), &["--yes"]));
    let done = &report["recovered"];
    assert!(done["components"].as_array().unwrap().iter().all(|c| c["at_its_place"] == true), "{done:#}");
    let config = fs::read_to_string(new.join("backstay.toml")).unwrap();
    assert!(!config.contains(app.to_str().unwrap()), "{config}");
    let made = fresh.json(0, &new, &["backup"]);
    let id = made["snapshot"].as_str().unwrap();
    let to = fresh.top.join("again");
    fresh.json(0, &new, &["restore", id, "--to", to.to_str().unwrap(), "--no-owners"]);
    for file in ["frontend/package.json", "settings/.env"] {
        assert_ne!(fs::read_to_string(to.join(file)).unwrap(), "old machine", "{file}");
    }
}

#[test]
fn a_second_recovery_keeps_the_configuration_that_the_first_put_aside() {
    let (person, [kit, stick]) = small_project();
    let first = Fresh::new();
    let new = first.top.join("new");
    let args = ["recover", &kit, "--store", &stick, "--to", new.to_str().unwrap(), "--yes"];
    first.json(0, &first.top, &args);
    let aside =
        |at: &Path, end: &str| fs::read_to_string(at.join(format!("backstay.toml.before-recovery{end}")));
    let oldest = aside(&new, "").unwrap();
    let middle = fs::read_to_string(new.join("backstay.toml")).unwrap();
    first.json(0, &new, &["backup"]);
    let kit = person.top.join("second-kit.txt");
    first.run(&new, &["kit", "-o", kit.to_str().unwrap()]).code(0);
    let second = Fresh::new();
    let newer = second.top.join("newer");
    let args =
        ["recover", kit.to_str().unwrap(), "--store", &stick, "--to", newer.to_str().unwrap(), "--yes"];
    second.json(0, &second.top, &args);
    assert_eq!(aside(&newer, "").unwrap(), oldest, "what the snapshot holds is not lost");
    assert_eq!(aside(&newer, "-2").unwrap(), middle);
}

#[test]
fn an_identity_that_is_not_in_the_kit_is_given_with_i() {
    let person = Person::new();
    let identity = person.top.join("mine.txt");
    let recipient = {
        let (identity_key, recipient) = backstay::keys::identity::generate();
        identity_key.write(&identity, backstay::model::Timestamp::now()).unwrap();
        recipient
    };
    person.ok(["init", "--yes", "--recipient", &recipient]);
    let id = person.backup();
    let (kit, stick) = (person.kit(), person.top.join("stick"));
    fs::rename(person.store(), &stick).unwrap();
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let (kit, stick) = (kit.to_str().unwrap(), stick.to_str().unwrap());
    let args = ["recover", kit, "--store", stick, "--to", app.to_str().unwrap(), "--yes"];
    fresh.run(&fresh.top, &args).code(12).error().says(&["no identity is here", "-i FILE"]);
    assert!(!app.exists());
    let with: Vec<&str> = args.into_iter().chain(["-i", identity.to_str().unwrap()]).collect();
    let report = fresh.json(0, &fresh.top, &with);
    assert_eq!(report["recovered"]["identity_here"], false, "it stays where it is");
    let made = fresh.json(0, &app, &["backup"]);
    assert_eq!(made["good"], true);
    let listed = fresh.json(0, &app, &["list"]);
    assert_eq!(listed["snapshots"][0]["id"], id.as_str());
}

#[test]
fn a_history_that_is_not_whole_is_said_and_nothing_is_taken_by_itself() {
    let stick = OnStick::new("");
    let hidden = stick.stick.join("snapshots").join(format!("{}.json", stick.ids[0]));
    fs::remove_file(hidden).unwrap();
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let to = app.to_str().unwrap();
    let said = fresh.run(&fresh.top, &stick.args(to, &["--yes"])).code(13).error();
    said.says(&["HISTORY NOT WHOLE", "--snapshot ID"]);
    assert!(!app.exists());
    fresh.json(0, &fresh.top, &stick.args(to, &["--yes", "--snapshot", &stick.ids[1]]));
    assert_eq!(of_app(&app), of_app(&stick.person.app));
}

#[test]
fn an_empty_machine_comes_back_from_seaweedfs_also_when_every_object_was_overwritten() {
    let Some(server) = crate::common::servers::weed() else {
        return crate::common::project::not_run("no `weed` here: a recovery from SeaweedFS was not tried");
    };
    let tool = |what: &str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/versions.py");
        let mut python = Command::new("python3");
        python.arg(script).args([what, &server.endpoint, crate::common::servers::BUCKET]).envs(CLOUD);
        let output = python.output().unwrap();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    tool("enable");
    let person =
        set_up_in_bucket(&format!("url = \"s3://some-bucket/vaults/x\"\nendpoint = \"{}\"", server.endpoint));
    let made: Said = person.command(["backup", "--json"]).envs(CLOUD).output().unwrap().into();
    let id =
        serde_json::from_str::<Value>(&made.code(0).out).unwrap()["snapshot"].as_str().unwrap().to_owned();
    let recover = |fresh: &Fresh, more: &[&str]| {
        let kit = fresh.take_kit(&person.kit());
        let app = fresh.top.join("app");
        let mut args = vec!["recover", kit.to_str().unwrap(), "--to", app.to_str().unwrap(), "--yes"];
        args.extend(more);
        let report = fresh.json(0, &fresh.top, &args);
        assert_eq!(report["recovered"]["snapshot"], id.as_str());
        assert_eq!(of_app(&app), of_app(&person.app));
        app
    };
    // SeaweedFS tells times of versions in whole seconds.
    let second = || jiff::Timestamp::now().as_second();
    let begun = second();
    while second() < begun + 2 {
        std::thread::yield_now();
    }
    let whole = jiff::Timestamp::now().to_string();
    while second() < begun + 4 {
        std::thread::yield_now();
    }
    let fresh = Fresh::new().with_cloud_keys();
    let app = recover(&fresh, &[]);
    goes_on(&fresh, &app, &[&id]);
    let count: usize = tool("overwrite").trim().parse().unwrap();
    assert!(count > 10, "{count} objects were overwritten");
    let listed = Fresh::new().with_cloud_keys();
    let kit = listed.take_kit(&person.kit());
    let args = ["--kit", kit.to_str().unwrap(), "list", "--as-of", &whole];
    let list = listed.json(0, &listed.top, &args);
    assert_eq!(list["snapshots"][0]["id"], id.as_str(), "{list:#}");
    let to = listed.top.join("back");
    let args =
        ["--kit", kit.to_str().unwrap(), "restore", &id, "--as-of", &whole, "--to", to.to_str().unwrap()];
    listed.json(0, &listed.top, &args);
    assert_eq!(
        fs::read(to.join("backend/app/main.py")).unwrap(),
        fs::read(person.app.join("backend/app/main.py")).unwrap()
    );
}

/// The script in the store takes the same kit, checks as much with it, and needs none of ours.
#[test]
fn the_script_takes_a_kit_of_changed_keys_and_sees_that_a_store_went_back() {
    if !crate::common::project::have(&["python3", "age", "zstd", "ssh-keygen"]) {
        return;
    }
    let person = Person::set_up();
    person.backup();
    person.ok(["keys", "signer", "rotate", "--yes"]);
    person.backup();
    let newest = person.backup();
    let kit = person.top.join("kit.txt");
    person.ok(["kit", "-o", kit.to_str().unwrap()]);
    let script = |words: &[&str]| {
        let mut python = Command::new("python3");
        python.arg("-B").arg(person.store().join("recover.py")).arg(person.store());
        Said::from(python.arg("--kit").arg(&kit).args(words).output().unwrap())
    };
    let to = person.top.join("by-script");
    let restore = ["restore", "latest", "--to", to.to_str().unwrap()];
    script(&["list"]).code(0);
    script(&restore).code(0);
    assert_eq!(fs::read(to.join("settings/.env")).unwrap(), fs::read(person.app.join(".env")).unwrap());
    fs::remove_dir_all(&to).unwrap();
    // What prune or a mark would take away is excused; this was nobody's right.
    let entries = [person.store().join("snapshots"), person.store().join("marks")];
    let all = entries.iter().flat_map(|dir| everything_below(dir)).map(|(path, ..)| path);
    let told = fs::read_to_string(person.store().join("snapshots").join(format!("{newest}.json"))).unwrap();
    let number = |text: &str| {
        let record: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        (record["signer"].clone(), record["number"].as_u64().unwrap())
    };
    let (signer, first) = number(&told);
    for path in all.filter(|path| path.is_file()) {
        let (whose, number) = number(&fs::read_to_string(&path).unwrap());
        if whose == signer && number >= first {
            fs::remove_file(path).unwrap();
        }
    }
    script(&["list"]).code(13).says(&["the kit knows of number"]);
    script(&restore).code(13);
    assert!(!to.exists());
}

/// Somebody at a terminal is asked which snapshot, and whether that is right: what is typed is taken, and a no writes nothing.
#[test]
fn a_person_at_a_terminal_chooses_the_snapshot_and_may_say_no() {
    if !crate::common::project::have(&["script"]) {
        return;
    }
    let person = Person::set_up();
    let main = person.app.join("backend/app/main.py");
    let old = fs::read(&main).unwrap();
    person.backup();
    let list = person.json(0, ["list"]);
    let first = list["snapshots"][0]["id"].as_str().unwrap().to_owned();
    fs::write(&main, "newer").unwrap();
    person.backup();
    let fresh = Fresh::new();
    let kit = fresh.take_kit(&person.kit());
    let to = fresh.top.join("new");
    let typed = |text: &str| {
        let words = [exe().to_str().unwrap(), "recover", kit.to_str().unwrap(), "--to", to.to_str().unwrap()];
        let words: Vec<String> = words.iter().map(|w| format!("'{w}'")).collect();
        let mut script = program(Path::new("script"), &fresh.home);
        script.args(["-qec", &words.join(" "), "/dev/null"]).current_dir(&fresh.top).env("TERM", "xterm");
        let piped = std::process::Stdio::piped;
        let mut child = script.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        Said::from(child.wait_with_output().unwrap())
    };
    for no in ["\n\n", "\nn\n", &format!("{first}\nno\n")] {
        let said = typed(no).code(1);
        assert!(said.out.contains("Which snapshot? [") && said.out.contains("nothing was written"), "{said}");
        assert!(!to.exists(), "{said}");
    }
    let said = typed("20010101T000000Z-aaaaaaaa\ny\n").code(16);
    assert!(!to.exists(), "{said}");
    let said = typed(&format!("{first}\ny\n")).code(0);
    assert!(said.out.contains("Hosts in them:"), "{said}");
    let found = everything_below(&to).into_iter().find(|(path, ..)| path.ends_with("backend/app/main.py"));
    assert_eq!(fs::read(found.unwrap().0).unwrap(), old, "the older one was chosen");
    assert!(!to.join("backups").exists(), "the store is still where it was");
}
