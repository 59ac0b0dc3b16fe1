//! Which configuration, kit and store are meant, from wherever one works.

use crate::common::person::Person;
use crate::common::project::{exe, program};
use std::fs;

#[test]
fn options_of_all_commands_stand_before_or_after_the_command() {
    let person = Person::set_up();
    person.backup();
    let app = person.app.to_str().unwrap();
    let config = person.config_path();
    let config = config.to_str().unwrap();
    let expected = person.ok(["list", "--json"]).out;
    let forms: [&[&str]; 8] = [
        &["--json", "list"],
        &["list", "--json", "-C", app],
        &["-C", app, "list", "--json"],
        &["--json", "-c", config, "list"],
        &["list", "-c", config, "--json"],
        &["-q", "list", "--json"],
        &["--store", "local", "list", "--json", "--progress=none"],
        &["snapshots", "--json"],
    ];
    for form in forms {
        let mut command = program(exe(), &person.home);
        let said = command.current_dir(&person.app).args(form).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), expected, "{form:?}: {said:?}");
    }
}

#[test]
fn the_project_is_found_from_anywhere() {
    let person = Person::set_up();
    person.backup();
    let elsewhere = person.top.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let at = |dir: &std::path::Path, config: Option<&str>, args: &[&str]| {
        let mut command = person.command(args);
        command.current_dir(dir);
        config.map(|path| command.env("BACKSTAY_CONFIG", path));
        crate::common::person::Said::from(command.output().unwrap())
    };
    let place = person.store();
    let place = place.to_str().unwrap();
    // Upward, -C, -c, the environment; an empty variable is none; -C and -c go before it.
    at(&person.app.join("backend/app"), None, &["list", "-v"]).code(0).says(&[place]);
    at(&person.app.join("backend/app"), Some(""), &["list"]).code(0);
    at(&elsewhere, None, &["list", "-v", "-C", "../tsushin"]).code(0).says(&[place]);
    at(&elsewhere, None, &["list", "-v", "-c", "../tsushin/backstay.toml"]).code(0).says(&[place]);
    at(&elsewhere, Some("../tsushin/backstay.toml"), &["list", "-v"]).code(0).says(&[place]);
    at(&elsewhere, Some("../nowhere"), &["list", "-C", "../tsushin"]).code(0);
    at(&elsewhere, Some("../nowhere"), &["list", "-c", "../tsushin/backstay.toml"]).code(0);
    at(&elsewhere, Some("../nowhere"), &["list"])
        .code(14)
        .error()
        .says(&["/nowhere cannot be used", "No such file"]);
    at(&elsewhere, None, &["list"]).code(14).error().says(&["no backstay.toml in", "backstay init"]);
    at(&elsewhere, None, &["list", "-C", "nowhere"]).code(2).says(&["cannot work in nowhere"]);
    at(&elsewhere, None, &["list", "-C", "x", "-c", "y"]).code(2).says(&["cannot be used with"]);
    // With -C, paths are those of that directory.
    at(&elsewhere, None, &["-C", "../tsushin", "ls", "latest", "./backend/app"]).code(0);
    let restored =
        at(&elsewhere, None, &["-C", "../tsushin", "restore", "latest", "./.env", "--to", "../from-there"]);
    assert!(restored.out.contains(person.top.join("from-there").to_str().unwrap()), "{restored}");
    // Paths are shown as they are, without a way up and down again.
    let restored = at(
        &elsewhere,
        None,
        &["-C", "../tsushin/backend", "restore", "latest", "../.env", "--to", "../../x/../y"],
    );
    assert_eq!(restored.code, 0, "{restored}");
    assert!(restored.out.contains(person.top.join("y").to_str().unwrap()), "{restored}");
}

#[test]
fn a_path_through_a_symbolic_link_is_the_same_place() {
    let person = Person::set_up();
    person.backup();
    let link = person.top.join("link");
    std::os::unix::fs::symlink(&person.app, &link).unwrap();
    let config = link.join("backstay.toml");
    let said = person.ok(["-c", config.to_str().unwrap(), "cat", "latest", "./backend/app/main.py"]);
    assert!(said.out.contains("FastAPI"), "{said}");
}

#[test]
fn with_the_kit_alone_everything_can_be_read_from_another_home() {
    let person = Person::set_up();
    person.backup();
    let (elsewhere, other_home) = (person.top.join("laptop"), person.top.join("other-home"));
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir(&other_home).unwrap();
    fs::copy(person.kit(), elsewhere.join("kit.txt")).unwrap();
    let run = |args: &[&str]| {
        let mut command = program(exe(), &other_home);
        command.current_dir(&elsewhere).args(["--kit", "kit.txt"]).args(args);
        crate::common::person::Said::from(command.output().unwrap())
    };
    assert!(run(&["list"]).code(0).out.contains("backend frontend settings db"));
    run(&["show"]).code(0);
    assert_eq!(run(&["cat", "latest", "settings/.env"]).code(0).out, "SECRET_KEY=canary-of-the-env-file\n");
    run(&["restore", "latest", "--to", "all"]).code(0);
    assert!(elsewhere.join("all/backend/app/main.py").exists());
    for args in [["backup", "-q"], ["kit", "-okit2.txt"]] {
        run(&args).code(2).error().says(&["needs a configuration", "leave --kit away"]);
    }
    // The store was moved.
    fs::rename(person.store(), elsewhere.join("moved")).unwrap();
    run(&["list"]).code(10).error().says(&["where the kit says it is", "--store PATH"]);
    run(&["list", "--store", "moved"]).code(0);
    run(&["restore", "latest", "db", "--to", "db", "--store", "../laptop/moved"]).code(0);
    assert_eq!(fs::read_dir(&other_home).unwrap().count(), 0, "reading with a kit leaves nothing behind");
}

#[test]
fn a_store_that_was_moved_is_read_where_it_is_and_written_where_the_configuration_says() {
    let person = Person::set_up();
    person.backup();
    fs::rename(person.store(), person.top.join("moved")).unwrap();
    person.fails(10, ["list"]).says(&["store \"local\"", "cannot be opened", "is the disk mounted?"]);
    person.fails(10, ["backup"]);
    assert!(!person.store().exists(), "no store is made where one is missing");
    assert!(person.ok(["list", "--store", "../moved"]).out.contains("good"));
    person.ok(["restore", "latest", "--to", "../back", "--store", "../moved"]);
    person.fails(2, ["backup", "--store", "../moved"]).says(&["only read", "change its `path`"]);
    person.fails(10, ["list", "--store", "nope"]).says(&["the configuration names: local"]);
    person.reconfigure("path = \"backups\"", "path = \"../moved\"");
    person.backup();
    // The same store under another name is no other store.
    person.reconfigure("name = \"local\"", "name = \"disk\"");
    person.backup();
    assert_eq!(fs::read_dir(person.top.join("moved/snapshots")).unwrap().count(), 3);
}
