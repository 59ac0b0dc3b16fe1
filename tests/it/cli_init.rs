//! `init`: what it makes, and that it can be run at any time, anywhere, after any accident.

use crate::common::fault_server::FaultServer;
use crate::common::person::{Person, Said, everything_below, make_database};
use crate::common::project::{cannot_run, exe, is_root, program};
use crate::recover::CLOUD;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

#[test]
fn init_again_changes_no_byte() {
    let person = Person::set_up();
    person.backup();
    let before = everything_below(&person.top);
    for args in
        [&["init"][..], &["init", "--yes"], &["init", "--yes", "--store", "backups"], &["init", "--json"]]
    {
        person.ok(args);
        // Only the catalog's own reading of the clock could differ, and it does not.
        assert_eq!(everything_below(&person.top), before, "{args:?}");
    }
    let told = person.ok(["init"]);
    told.says(&["nothing was changed", "recovery-kit.txt"]);
}

#[test]
fn init_makes_a_missing_store_or_kit_again_and_never_another_vault() {
    let person = Person::set_up();
    fs::remove_file(person.kit()).unwrap();
    person.ok(["init"]).says(&["made recovery kit"]);
    person.ok(["--kit", person.kit().to_str().unwrap(), "list"]);
    fs::rename(person.store(), person.top.join("first")).unwrap();
    // It may lie on a disk that is not mounted: only who names it says that it is lost.
    person.fails(10, ["init"]).says(&["is the disk mounted?", "backstay init --replace-store local"]);
    assert!(!person.store().exists());
    person.ok(["init", "--replace-store", "local"]).says(&["made store"]);
    let vault = |store: &Path| {
        let info: serde_json::Value =
            serde_json::from_slice(&fs::read(store.join("backstay.json")).unwrap()).unwrap();
        (info["vault"].clone(), info["instance"].clone())
    };
    let (first, second) = (vault(&person.top.join("first")), vault(&person.store()));
    assert_eq!(first.0, second.0, "the vault");
    assert_ne!(first.1, second.1, "the store");
    // A new, empty store where snapshots were before is noticed, not taken for the old one.
    person.ok(["kit", "-o", "../kit-elsewhere.txt"]);
}

#[test]
fn a_run_that_was_killed_is_taken_up() {
    // Whatever a killed run left of its work, the next one completes it, with the same keys.
    let made = Person::set_up();
    let keys = ["project", "signing_key", "naming_key", "identity.txt"];
    for left in 1..=keys.len() {
        let person = Person::new();
        fs::create_dir_all(person.keys()).unwrap();
        for key in &keys[..left] {
            let bytes = fs::read(made.keys().join(key)).unwrap();
            let bytes = if *key == "project" {
                person.config_path().into_os_string().into_encoded_bytes()
            } else {
                bytes
            };
            fs::write(person.keys().join(key), bytes).unwrap();
            fs::set_permissions(person.keys().join(key), fs::Permissions::from_mode(0o600)).unwrap();
        }
        person.ok(["init", "--yes"]);
        for key in &keys[1..left] {
            assert_eq!(
                fs::read(person.keys().join(key)).unwrap(),
                fs::read(made.keys().join(key)).unwrap(),
                "{key} was there already"
            );
        }
        let id = person.backup();
        person.ok(["restore", &id, "--to", "../back"]);
    }
}

#[test]
fn a_killed_run_that_wrote_the_only_identity_into_the_kit_is_taken_up() {
    let person = Person::new();
    person.ok(["init", "--yes", "--offline-identity"]);
    let recipients = person.config()["encryption"]["recipients"].clone();
    let kit = fs::read(person.kit()).unwrap();
    // As if it had been killed between the kit and the configuration.
    fs::remove_file(person.config_path()).unwrap();
    fs::remove_dir_all(person.store()).unwrap();
    fs::remove_dir_all(person.home.join(".local")).unwrap();
    let said = person.run(["init", "--yes", "--offline-identity"]);
    assert_eq!(fs::read(person.kit()).unwrap(), kit, "a kit is never written over\n{said}");
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(person.config()["encryption"]["recipients"], recipients);
    person.backup();
    person.ok(["--kit", person.kit().to_str().unwrap(), "cat", "latest", "settings/.env"]);
}

#[test]
fn settings_in_a_folder_that_is_protected_whole_are_captured_wherever_the_configuration_lies() {
    let person = Person::new();
    let (small, config) = (person.top.join("small"), person.home.join("small.toml"));
    fs::create_dir_all(small.join("data")).unwrap();
    fs::write(small.join("data/a"), "content").unwrap();
    fs::write(small.join(".env"), "KEY=value\n").unwrap();
    let config = config.to_str().unwrap();
    person.ok(["init", "--yes", "-c", config, small.to_str().unwrap()]);
    let report = person.json(0, ["backup", "-c", config]);
    assert_eq!(report["complete"], true, "{report}");
}

#[test]
fn projects_of_one_name_get_keys_of_their_own() {
    let person = Person::set_up();
    let other = person.top.join("other/tsushin");
    person.make_app(&other);
    let said: Said = person.command(["init", "--yes"]).current_dir(&other).output().unwrap().into();
    said.code(0).says(&["/tsushin-2/"]);
    let key = |dir: &Path| fs::read(dir.join("signing_key")).unwrap();
    assert_ne!(key(&person.keys()), key(&person.keys().with_file_name("tsushin-2")));
    let text = fs::read_to_string(other.join("backstay.toml")).unwrap();
    assert!(text.contains("/backstay/tsushin-2\""), "its own state, too: {text}");
}

#[test]
fn a_store_of_another_vault_is_refused() {
    let person = Person::set_up();
    let other = person.top.join("other");
    person.make_app(&other);
    let before = everything_below(&person.store());
    let store = person.store();
    let run = |args: &[&str]| -> Said { person.command(args).current_dir(&other).output().unwrap().into() };
    run(&["init", "--yes", "--store", store.to_str().unwrap()])
        .code(14)
        .says(&["vault of another project", "another folder"]);
    assert_eq!(everything_below(&store), before);
    run(&["backup"]).code(13).says(&["belongs to another vault"]);
    assert_eq!(everything_below(&store), before);
}

#[test]
fn the_store_is_where_the_person_says_from_where_they_are() {
    let person = Person::new();
    let run =
        |args: &[&str]| -> Said { person.command(args).current_dir(&person.top).output().unwrap().into() };
    run(&["init", "tsushin", "--yes", "--store", "disk/vault"]).code(0);
    assert!(person.top.join("disk/vault/backstay.json").exists());
    let id = person.backup();
    assert!(person.top.join(format!("disk/vault/snapshots/{id}.json")).exists());
    assert!(!person.store().exists());
    let config = fs::read(person.config_path()).unwrap();
    for other in ["s3://bucket/x", "elsewhere"] {
        person.fails(2, ["init", "--yes", "--store", other]).says(&[
            "is there already and names no store",
            other,
            "add a [[store]]",
        ]);
    }
    for (url, why) in [("file:///tmp/x", "write it as a path"), ("sftp://host/x", "must begin with `s3://`")]
    {
        person.fails(2, ["init", "--yes", "--store", url]).says(&["cannot be used", why]);
    }
    assert_eq!(fs::read(person.config_path()).unwrap(), config);
    person.fails(2, ["init", "no-such-folder"]).says(&["no-such-folder is not a folder"]);
    person.fails(2, ["init", "../tsushin/.env"]).says(&[".env is not a folder"]);
}

#[test]
fn a_configuration_elsewhere_names_the_project_by_its_whole_path() {
    let person = Person::new();
    let etc = person.top.join("etc");
    fs::create_dir(&etc).unwrap();
    let config = etc.join("tsushin.toml");
    person.ok(["init", "--yes", "-c", config.to_str().unwrap()]);
    let said = person.json(0, ["backup", "-c", config.to_str().unwrap()]);
    assert_eq!(said["complete"], true);
    assert!(person.store().join("backstay.json").exists(), "beside the application, as was said");
    person.ok(["cat", "latest", "./backend/app/main.py", "-c", config.to_str().unwrap()]);
    person.fails(2, ["init", "--yes", "-c", "no/such/folder/x.toml"]).says(&["no folder", "make it first"]);
}

#[test]
fn folders_with_odd_names_are_projects_like_others() {
    let person = Person::new();
    for name in ["my app", "Ünï çödé", "-dash", "it's \"quoted\" \\ $HOME", "a\nb", "..."] {
        let app = person.top.join("odd").join(name);
        fs::create_dir_all(app.join("data")).unwrap();
        fs::write(app.join("main.py"), name).unwrap();
        make_database(&app.join("data/app.db"), 3);
        let run = |args: &[&str]| -> Said { person.command(args).current_dir(&app).output().unwrap().into() };
        run(&["init", "--yes"]).code(0);
        run(&["backup"]).code(0);
        let said = run(&["cat", "latest", "./main.py"]).code(0);
        assert_eq!(said.out, name);
        let to = person.top.join("odd-back");
        run(&["restore", "latest", "--to", to.to_str().unwrap()]).code(0);
        fs::remove_dir_all(to).unwrap();
    }
}

#[test]
fn init_without_a_home_or_an_answer_says_so_and_makes_nothing() {
    let person = Person::new();
    let before = everything_below(&person.top);
    let said: Said = person.command(["init", "--yes"]).env_remove("HOME").output().unwrap().into();
    said.code(2).says(&["HOME is not set", "set HOME"]);
    person.run(["init"]).code(2).says(&["worth protecting", "nobody is here to ask", "add --yes"]);
    person
        .fails(2, ["init", "--yes", "--offline-identity", "--recipient", "age1x"])
        .says(&["exclude each other"]);
    assert_eq!(everything_below(&person.top), before);
    let xdg = |name| person.top.join(name);
    let mut command = person.command(["init", "--yes"]);
    command.env_remove("HOME").env("XDG_CONFIG_HOME", xdg("config")).env("XDG_STATE_HOME", xdg("state"));
    Said::from(command.output().unwrap()).code(0);
    assert!(xdg("config").join("backstay/tsushin/identity.txt").exists());
    assert!(xdg("state").join("backstay/tsushin").exists());
}

#[test]
fn a_recipient_that_is_none_is_refused_before_a_configuration_is_written() {
    let person = Person::new();
    let said = person.run(["init", "--yes", "--recipient", "age1nonsense"]);
    assert_eq!(said.code, 2, "{said}");
    assert!(said.err.contains("recipient"), "{said}");
    assert!(!person.config_path().exists());
}

#[test]
fn with_an_offline_identity_this_machine_cannot_open_its_backups() {
    let person = Person::new();
    let told = person.json(0, ["init", "--yes", "--offline-identity"]);
    assert_eq!((&told["identity_only_in_kit"], &told["kit_opens"]), (&true.into(), &true.into()));
    let again = person.json(0, ["init"]);
    assert_eq!((&again["identity_only_in_kit"], &again["kit_opens"]), (&true.into(), &true.into()));
    assert!(!person.identity().exists());
    person.backup();
    let kit = person.top.join("away.txt");
    fs::rename(person.kit(), &kit).unwrap();
    person.ok(["list"]).says(&["no identity is here", "-i FILE", "--kit FILE"]);
    for args in [&["show"][..], &["cat", "latest", "./.env"], &["restore", "latest", "--to", "../x"]] {
        person.fails(12, args).says(&["no identity is here", "-i FILE", "--kit FILE"]);
    }
    assert!(!person.top.join("x").exists());
    let kit = kit.to_str().unwrap();
    person.ok(["--kit", kit, "restore", "latest", "--to", "../x"]);
    // A kit made now cannot have the identity, and says so.
    person.ok(["init"]).says(&["made recovery kit", "No identity is in it"]);
    person.ok(["kit", "-o", "../without.txt"]).says(&["warning: no identity is on this machine"]);
    person.fails(12, ["--kit", "../without.txt", "show"]);
}

#[test]
fn a_recipient_of_ones_own_opens_with_ones_own_identity() {
    let holder = Person::set_up();
    let recipient = holder.config()["encryption"]["recipients"][0].as_str().unwrap().to_owned();
    let person = Person::new();
    person.ok(["init", "--yes", "--recipient", &recipient]).says(&["No identity is in it"]);
    person.backup();
    let identity = holder.identity();
    let identity = identity.to_str().unwrap();
    assert!(person.ok(["list", "-i", identity]).out.contains("backend frontend settings db"));
    person.ok(["-i", identity, "restore", "latest", "--to", "../back"]);
    person.fails(12, ["show"]);
    person.fails(2, ["init", "--recipient", "age1other"]).says(&["does not name recipient", "`recipients`"]);
    holder
        .fails(2, ["init", "--offline-identity"])
        .says(&["names an identity file", "remove `identity_file`"]);
}

#[test]
fn everything_that_is_made_is_for_its_owner_alone_whatever_the_umask() {
    let person = Person::new();
    let before: BTreeSet<_> = everything_below(&person.top).into_iter().map(|(path, ..)| path).collect();
    let script = r#"umask 000
        "$0" init --yes && "$0" backup && "$0" kit -o ../kit.txt && "$0" list && "$0" man ../man
        echo changed > backend/app/main.py && "$0" backup"#;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]).arg(exe()).env_clear().env("HOME", &person.home);
    command.env("PATH", std::env::var_os("PATH").unwrap()).current_dir(&person.app);
    Said::from(command.output().unwrap()).code(0);
    for (path, mode, _) in everything_below(&person.top) {
        // Manual pages are for everybody.
        // SQLite makes its own files beside a database, as open as that is.
        let of_sqlite = path.starts_with(person.app.join("backend/data"));
        if of_sqlite || before.contains(&path) || path.starts_with(person.top.join("man")) {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected = match (path.is_dir(), name) {
            (true, _) => 0o700,
            (false, "backstay.toml" | ".gitignore") => 0o644,
            (false, _) => 0o600,
        };
        assert_eq!(format!("{mode:o}"), format!("{expected:o}"), "{}", path.display());
    }
}

#[test]
fn as_root_a_project_that_others_may_change_is_refused_with_a_way_out() {
    if !is_root() {
        cannot_run("a configuration that root must not believe (needs root)");
        return;
    }
    let person = Person::set_up();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for path in [person.config_path(), person.app.clone()] {
        let was = path.metadata().unwrap().permissions().mode();
        mode(&path, was | 0o002);
        let said =
            person.fails(14, ["list"]).says(&["running as root", "everybody", "as the user that owns it"]);
        assert!(said.err.contains("/etc/backstay"), "{said}");
        person.fails(14, ["init"]);
        mode(&path, was);
    }
    chown(person.config_path(), Some(65534), None).unwrap();
    person.fails(14, ["backup"]).says(&["user 65534, who owns it"]);
    // Somebody else's project: said before anything is made, with the ways there are.
    let other = Person::new();
    chown(&other.app, Some(65534), None).unwrap();
    let before = everything_below(&other.top);
    other.fails(14, ["init", "--yes"]).says(&[
        "as root",
        "user 65534, who owns it",
        "as the user whose",
        "backstay init -c /etc/backstay/",
    ]);
    assert_eq!(everything_below(&other.top), before);
    // And that way works.
    let config = other.top.join("tsushin.toml");
    other.ok(["init", "--yes", "-c", config.to_str().unwrap()]);
    let mut command = program(exe(), &other.home);
    let said = Said::from(command.args(["backup", "-c"]).arg(&config).output().unwrap());
    said.code(0);
}

#[test]
fn a_store_that_cannot_be_made_is_said_before_anything_is() {
    let person = Person::new();
    // Also root cannot make a folder below a file.
    fs::write(person.top.join("file"), "").unwrap();
    let before = everything_below(&person.top);
    person.fails(10, ["init", "--yes", "--store", "../file/store"]).says(&[
        "cannot make store \"local\"",
        "Not a directory",
        "nothing was made",
    ]);
    let bucket = ["init", "--yes", "--store", "../good", "--store", "s3://bucket/app"];
    let mut command = person.command(bucket);
    let said: Said = command.env("AWS_EC2_METADATA_DISABLED", "true").output().unwrap().into();
    said.code(10).error().says(&["store \"store-2\"", "no credentials were found"]);
    assert_eq!(everything_below(&person.top), before);
    let said = person.ok(["init", "--yes", "--store", "../good", "--store", "../too"]);
    let (good, too) = (person.top.join("good"), person.top.join("too"));
    said.says(&[&format!("Snapshots will be kept in {} and in {}.", good.display(), too.display())]);
    person.backup();
}

#[test]
fn a_first_init_that_failed_half_way_says_what_it_made_and_how_to_go_on() {
    let person = Person::set_up();
    let other = person.top.join("other");
    person.make_app(&other);
    let store = person.store();
    let run = |args: &[&str]| -> Said { person.command(args).current_dir(&other).output().unwrap().into() };
    run(&["init", "--yes", "--store", store.to_str().unwrap()]).code(14).error().says(&[
        "made signing key",
        "made configuration",
        "what was made stays",
        "run `backstay init` again",
    ]);
    let config = fs::read_to_string(other.join("backstay.toml")).unwrap();
    let own = store.with_file_name("own");
    fs::write(other.join("backstay.toml"), config.replace(store.to_str().unwrap(), own.to_str().unwrap()))
        .unwrap();
    run(&["init"]).code(0).says(&["made store"]);
    run(&["backup"]).code(0);
}

#[test]
fn a_configuration_made_anew_says_what_the_names_of_stores_mean_unless_snapshots_lie_elsewhere() {
    let person = Person::set_up();
    let vault = person.config()["project"]["vault"].clone();
    fs::remove_file(person.config_path()).unwrap();
    fs::remove_file(person.kit()).unwrap();
    person.ok(["init", "--yes", "--store", "../new"]).says(&["made store"]);
    assert_eq!(person.config()["project"]["vault"], vault);
    person.backup();
    fs::remove_file(person.config_path()).unwrap();
    let before = everything_below(&person.home);
    person.fails(10, ["init", "--yes", "--store", "../newer"]).says(&[
        "kept snapshots in a store \"local\"",
        "with --store PATH",
        "nothing was made",
    ]);
    assert!(!person.config_path().exists() && !person.top.join("newer").exists());
    assert_eq!(everything_below(&person.home), before);
    person.ok(["init", "--yes", "--store", "../new"]);
    assert_eq!(person.json(0, ["list"])["snapshots"].as_array().unwrap().len(), 1);
}

#[test]
fn what_an_earlier_project_forbids_is_said_before_a_key_folder_is_made() {
    let person = Person::set_up();
    person.backup();
    fs::remove_file(person.config_path()).unwrap();
    fs::rename(person.keys(), person.top.join("keys")).unwrap();
    let before = everything_below(&person.top);
    person.fails(10, ["init", "--yes", "--store", "../newer"]).says(&["kept snapshots", "nothing was made"]);
    assert_eq!(everything_below(&person.top), before);
}

#[test]
fn a_bucket_of_another_server_is_set_up_by_the_endpoint_of_the_environment() {
    let (person, server) = (Person::new(), FaultServer::start());
    let mut init = person.command(["init", "--yes", "--store", "s3://bucket/app"]);
    let said: Said = init.envs(CLOUD).env("AWS_ENDPOINT_URL_S3", server.endpoint()).output().unwrap().into();
    said.code(0);
    assert_eq!(person.config()["store"][0]["endpoint"].as_str(), Some(&*server.endpoint()));
    // From there on the configuration says it.
    let said: Said = person.command(["backup"]).envs(CLOUD).output().unwrap().into();
    said.code(0);
}
