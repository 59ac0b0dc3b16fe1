//! Databases of a PostgreSQL server go back by a new database and exchanged names, with the files, or not at all.

use super::SERVICE;
use crate::common::long::long;
use crate::common::postgres::{PASSWORD, Postgres, postgres, postgres_of_its_own};
use crate::common::project::{Project, exe, expect_code, program, until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// An application with a folder and a database of a server, whose version stands in both.
struct Shop {
    server: Arc<Postgres>,
    project: Project,
    database: String,
}

fn connected(server: &Postgres, database: &str) -> String {
    format!("host={} user=app dbname={database}", server.host().display())
}

impl Shop {
    fn new() -> Option<Self> {
        Self::with(SERVICE)
    }

    fn with(more: &str) -> Option<Self> {
        Some(Self::on(postgres()?, more))
    }

    fn on(server: Arc<Postgres>, more: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Quotes in it: names must be spelled rightly everywhere.
        let database = format!("it's a \"shop\" {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let quoted = database.replace('"', "\"\"");
        server.sql("postgres", &format!("CREATE DATABASE \"{quoted}\" OWNER app"));
        let connection = connected(&server, &format!("'{}'", database.replace('\'', "\\'")));
        let components = format!(
            "[[component]]\nname = \"app\"\npath = \"app\"\nleave = [\".env\"]\n[[component]]\nname = \"orders\"\npostgres = {connection:?}\nenv_file = \"pg.env\"\ntimeout = \"5m\"\n"
        );
        let project = Project::new(&components, more);
        let env = project.dir.join("pg.env");
        fs::write(&env, format!("PGPASSWORD={PASSWORD}\n")).unwrap();
        fs::set_permissions(&env, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let shop = Self { server, project, database };
        crate::lab::put(&shop.project.dir.join("app/version"), b"1");
        shop.sql("CREATE TABLE v (version int); INSERT INTO v VALUES (1); CREATE TABLE big AS SELECT g, md5(g::text) FROM generate_series(1, 5000) g");
        shop.sql("ALTER TABLE v OWNER TO app; ALTER TABLE big OWNER TO app");
        shop
    }

    #[track_caller]
    fn sql(&self, text: &str) -> String {
        self.server.sql(&self.database, text)
    }

    fn upgrade(&self) {
        crate::lab::put(&self.project.dir.join("app/version"), b"2");
        self.sql("UPDATE v SET version = 2; DROP TABLE big; CREATE TABLE added (x int); ALTER TABLE added OWNER TO app");
        self.start();
    }

    fn start(&self) {
        let status = Command::new("sh")
            .args(["-c", "sleep 1000 >/dev/null 2>&1 & echo $! > web.pid"])
            .current_dir(&self.project.dir)
            .status();
        assert!(status.unwrap().success());
    }

    /// The version of both, which must be the same.
    #[track_caller]
    fn version(&self, point: &str) -> String {
        let file = fs::read_to_string(self.project.dir.join("app/version")).unwrap();
        assert_eq!(self.sql("SELECT version FROM v"), file, "{point}: a mixture");
        let tables = self.sql("SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace");
        assert_eq!(tables, if file == "1" { "big v" } else { "added v" }, "{point}");
        file
    }

    fn databases(&self) -> Vec<String> {
        let own = |name: &String| name.ends_with(self.database.trim_start_matches("it's a "));
        let all = self.server.databases("").into_iter();
        all.filter(own).collect()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program(exe(), &self.project.home);
        command.current_dir(&self.project.dir).args(args);
        command
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        crate::common::project::end_service(&self.project.dir.join("web.pid"), &self.project.dir);
        for name in self.databases() {
            let name = name.replace('"', "\"\"");
            let drop = format!("DROP DATABASE \"{name}\" WITH (FORCE)");
            let _gone = self.server.client("postgres").args(["-c", &drop]).stderr(Stdio::null()).status();
        }
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_database_of_postgresql_goes_back_with_the_files_and_the_old_one_is_kept() {
    let Some(shop) = Shop::new() else { return };
    let id = shop.project.backup();
    shop.upgrade();
    let plan = expect_code(shop.project.run(["rollback", &id, "--dry-run"]), 0);
    let said = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(
        said.contains("read into a new database beside") && said.contains("exchange their names"),
        "{said}"
    );
    assert_eq!(shop.databases().len(), 1);
    let report = shop.project.json(["rollback", &id]);
    assert_eq!(shop.version("after"), "1");
    let kept = report["kept"].to_string();
    assert!(kept.contains("backstay_old_"), "{kept}");
    assert_eq!(shop.databases().len(), 2);
    shop.project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!(shop.version("undone"), "2");
}

#[test]
fn a_new_database_on_which_the_service_is_not_well_is_exchanged_back() {
    let health = SERVICE.replace("! grep -q broken app/version", "grep -q 2 app/version");
    let Some(shop) = Shop::with(&health) else { return };
    let id = shop.project.backup();
    shop.upgrade();
    let output = expect_code(shop.project.run(["rollback", &id]), 17);
    assert!(told(&output).contains("everything is as it was before"), "{}", told(&output));
    assert_eq!(shop.version("undone"), "2");
    shop.project.backup();
}

#[test]
fn what_a_database_is_beside_its_content_comes_along() {
    let Some(shop) = Shop::new() else { return };
    let name = shop.database.replace('"', "\"\"");
    for text in [
        "ALTER DATABASE \"NAME\" SET search_path = 'a b', public",
        "ALTER DATABASE \"NAME\" SET work_mem = '7MB'",
        "ALTER DATABASE \"NAME\" CONNECTION LIMIT 17",
        "REVOKE CONNECT ON DATABASE \"NAME\" FROM PUBLIC",
        "GRANT CONNECT ON DATABASE \"NAME\" TO app WITH GRANT OPTION",
        "COMMENT ON DATABASE \"NAME\" IS 'the ''shop'''",
    ] {
        shop.server.sql("postgres", &text.replace("NAME", &name));
    }
    let facts = "SELECT datdba::regrole, pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit, (SELECT array_agg(a::text ORDER BY a::text) FROM aclexplode(datacl) a), shobj_description(oid, 'pg_database'), \
                 (SELECT array_agg(setconfig::text) FROM pg_db_role_setting WHERE setdatabase = d.oid) FROM pg_database d WHERE datname = current_database()";
    let before = shop.sql(facts);
    let number = shop.sql("SELECT oid FROM pg_database WHERE datname = current_database()");
    let id = shop.project.backup();
    shop.upgrade();
    shop.project.ok(["rollback", &id]);
    assert_eq!(shop.sql(facts), before);
    assert_ne!(shop.sql("SELECT oid FROM pg_database WHERE datname = current_database()"), number);
}

#[test]
fn what_a_role_may_not_give_the_new_database_is_said() {
    let Some(shop) = Shop::new() else { return };
    let name = shop.database.replace('"', "\"\"");
    shop.server.sql("postgres", &format!("ALTER DATABASE \"{name}\" SET my.setting = 'it''s'"));
    let id = shop.project.backup();
    shop.upgrade();
    let output = expect_code(shop.project.run(["rollback", &id]), 3);
    assert!(
        told(&output).contains("lacks what this role may not give it: the setting my.setting=it's"),
        "{}",
        told(&output)
    );
    assert_eq!(shop.version("after"), "1");
}

#[test]
fn connections_that_are_left_open_are_ended_and_said_or_it_is_undone() {
    let Some(shop) = Shop::new() else { return };
    let id = shop.project.backup();
    shop.upgrade();
    // A client of the same role may be ended.
    let client = |user: &str| {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-w", "-U", user, "-d", &shop.database, "-h"]).arg(shop.server.host());
        command.env("PGPASSWORD", PASSWORD).env("PGAPPNAME", format!("left open by {user}"));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let count =
            format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'left open by {user}'");
        while shop.server.sql("postgres", &count) == "0" {}
        child
    };
    let mut app = client("app");
    let output = expect_code(shop.project.run(["rollback", &id]), 0);
    assert!(told(&output).contains("left open by app of app"), "{}", told(&output));
    assert_eq!(shop.version("ended"), "1");
    app.kill().unwrap();
    app.wait().unwrap();
    shop.project.ok(["rollback", "--undo", "--yes"]);
    // One of the superuser may not.
    let mut other = client("postgres");
    let output = expect_code(shop.project.run(["rollback", &id]), 17);
    assert!(told(&output).contains("cannot exchange"), "{}", told(&output));
    assert_eq!(shop.version("kept"), "2");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_dump_that_cannot_be_read_in_leaves_everything_and_no_database_behind() {
    let Some(shop) = Shop::new() else { return };
    // The role may dump it, and may not make it: only a superuser makes functions of C.
    shop.sql("CREATE FUNCTION danger() RETURNS trigger LANGUAGE c AS 'plpgsql', 'plpgsql_call_handler'");
    let id = shop.project.backup();
    shop.upgrade();
    let output = expect_code(shop.project.run(["rollback", &id]), 1);
    assert!(told(&output).contains("cannot be read into a new database"), "{}", told(&output));
    assert_eq!((shop.version("refused"), shop.databases().len()), ("2".into(), 1));
    shop.project.ok(["ready"]);
    shop.project.backup();
}

#[test]
fn killed_at_any_step_with_a_database_it_is_all_old_or_all_new() {
    let Some(first) = Shop::new() else { return };
    let id = first.project.backup();
    first.upgrade();
    let log = first.project.top.join("points");
    let output =
        first.command(&["rollback", &id]).env("BACKSTAY_TEST_CRASH_COUNT_FILE", &log).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let names: Vec<String> = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    drop(first);
    let own = |name: &&String| name.contains("rollback: a database");
    let numbers: Vec<usize> =
        names.iter().enumerate().filter(|(_, name)| own(name)).map(|(n, _)| n + 1).collect();
    assert!(numbers.len() >= 5, "{names:?}");
    let mut ends = Vec::new();
    for number in numbers.into_iter().flat_map(|n| if long() { vec![n, n + 1, n + 2] } else { vec![n] }) {
        let shop = Shop::new().unwrap();
        let id = shop.project.backup();
        shop.upgrade();
        let point = format!("point {number}, {}", names[number - 1]);
        let mut killed = shop.command(&["rollback", &id]);
        let killed = killed.env("BACKSTAY_TEST_CRASH", number.to_string()).output().unwrap();
        assert!(!killed.status.success(), "{point}: it was not killed");
        let resumed = shop.project.run(["rollback", "--resume"]);
        assert!(matches!(resumed.status.code(), Some(0 | 17)), "{point}: {}", told(&resumed));
        ends.push(shop.version(&point));
        shop.project.ok(["ready"]);
        expect_code(shop.project.run(["rollback", "--resume"]), 0);
        shop.project.backup();
    }
    assert!(ends.iter().any(|end| end == "2"), "{ends:?}");
}

#[test]
fn a_server_that_is_away_or_a_database_that_is_not_there_is_said_and_nothing_is_touched() {
    let Some(shop) = Shop::new() else { return };
    let id = shop.project.backup();
    shop.upgrade();
    let text = fs::read_to_string(shop.project.config_path()).unwrap();
    let gone = text.replace(&shop.server.host().display().to_string(), "/nowhere/at/all");
    fs::write(shop.project.config_path(), gone).unwrap();
    let output = expect_code(shop.project.run(["rollback", &id]), 1);
    assert!(told(&output).contains("its server cannot be asked"), "{}", told(&output));
    expect_code(shop.project.run(["backup", "--only", "orders"]), 1);
    let report = expect_code(shop.project.run(["backup", "--json"]), 3);
    assert!(String::from_utf8_lossy(&report.stdout).contains("/nowhere/at/all"));
    fs::write(shop.project.config_path(), text).unwrap();
    assert_eq!(shop.version("kept"), "2");
}

#[test]
fn a_password_in_postgres_is_refused_and_never_stands_in_a_process_list() {
    let Some(shop) = Shop::new() else { return };
    let id = shop.project.backup();
    shop.upgrade();
    // Whatever is started is a program of the server's: one in front of them writes its arguments down.
    let bin = shop.project.top.join("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["psql", "pg_dump", "pg_restore"] {
        let script =
            format!("#!/bin/sh\necho \"$0 $*\" >> {}/args\nexec /usr/bin/{name} \"$@\"\n", bin.display());
        crate::lab::put(&bin.join(name), script.as_bytes());
        fs::set_permissions(bin.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    expect_code(shop.command(&["rollback", &id]).env("PATH", path).output().unwrap(), 0);
    let args = fs::read_to_string(bin.join("args")).unwrap();
    assert!(args.contains("pg_restore") && args.contains("psql") && args.contains("pg_dump"), "{args}");
    assert!(!args.contains(PASSWORD), "{args}");
    for bad in ["postgresql://u:canary@h/db", "host=h password=canary"] {
        let text = fs::read_to_string(shop.project.config_path()).unwrap();
        let from = text.lines().find(|line| line.starts_with("postgres = ")).unwrap();
        fs::write(shop.project.dir.join("bad.toml"), text.replace(from, &format!("postgres = {bad:?}")))
            .unwrap();
        let output = expect_code(shop.project.run(["-c", "bad.toml", "list"]), 14);
        assert!(told(&output).contains("a password stands in `postgres`"), "{}", told(&output));
    }
}

#[test]
fn the_old_database_is_kept_a_week_and_until_a_good_snapshot_came_after() {
    let Some(shop) = Shop::new() else { return };
    let id = shop.project.backup();
    shop.upgrade();
    shop.project.ok(["rollback", &id]);
    let later = |days: i64| {
        let now = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        let output = shop.command(&["backup"]).env("BACKSTAY_TEST_NOW", now.to_string()).output().unwrap();
        expect_code(output, 0);
        shop.databases().len()
    };
    assert_eq!((later(6), later(8)), (2, 1));
    assert_eq!(shop.version("kept"), "1");
}

#[test]
fn after_a_power_cut_a_server_that_is_not_up_yet_is_waited_for() {
    let Some(server) = postgres_of_its_own() else { return };
    let shop = Shop::on(server, SERVICE);
    let id = shop.project.backup();
    shop.upgrade();
    let mut killed = shop.command(&["rollback", &id]);
    let killed = killed.env("BACKSTAY_TEST_CRASH", "rollback: a database exchanged#1").output().unwrap();
    assert!(killed.status.code().is_none(), "{}", told(&killed));
    shop.server.is_reached(false);
    let said = shop.project.top.join("said");
    let waits = || {
        let mut resume = shop.command(&["rollback", "--resume"]);
        let resume = resume.stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
        until("it waits", || {
            fs::read_to_string(&said).unwrap().contains("waits until the server of database")
        });
        resume
    };
    let mut resume = waits();
    // Whoever cannot wait finds all as it was, and comes back.
    kill_process(Pid::from_child(&resume), Signal::TERM).unwrap();
    let code = resume.wait().unwrap().code();
    assert_eq!(code, Some(18), "{}", fs::read_to_string(&said).unwrap());
    expect_code(shop.project.run(["ready"]), 18);
    let mut resume = waits();
    shop.server.is_reached(true);
    let code = resume.wait().unwrap().code();
    assert_eq!(code, Some(17), "{}", fs::read_to_string(&said).unwrap());
    assert_eq!(shop.version("resumed"), "2");
    shop.project.ok(["ready"]);
    shop.project.backup();
}
