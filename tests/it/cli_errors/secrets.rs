//! Secrets never appear: in no output, no argument of a process, no file that others may read, and nowhere in the store.

use crate::common::person::{Bytes, Person, everything_below};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A secret, and what it is.
struct Canary(&'static str, String);

/// The secrets of `person`, each a piece long enough to mean nothing else.
fn canaries(person: &Person) -> Vec<Canary> {
    let identity = fs::read_to_string(person.identity()).unwrap();
    let key = identity.find("AGE-SECRET-KEY-1").unwrap() + 16;
    let signing = fs::read_to_string(person.keys().join("signing_key")).unwrap();
    // The second half of an OpenSSH key: the first is the same for all, and the public part.
    let body: String = signing.lines().filter(|line| !line.starts_with("-----")).collect();
    let naming = fs::read_to_string(person.keys().join("naming_key")).unwrap();
    vec![
        Canary("the identity", identity[key..key + 24].to_owned()),
        Canary("the signing key", body[body.len() - 90..body.len() - 50].to_owned()),
        Canary("the naming key", naming.trim()[..24].to_owned()),
        Canary("a password in an env_file", "canary-pgpassword".into()),
        Canary("a password in the environment", "canary-environment".into()),
        Canary("a secret of the application", "canary-of-the-env-file".into()),
    ]
}

#[track_caller]
fn assert_absent(canaries: &[Canary], text: &[u8], place: &str) {
    for Canary(what, secret) in canaries {
        let found = text.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{what} is in {place}");
    }
}

#[test]
fn secrets_appear_nowhere() {
    let person = Person::set_up();
    let env_file = person.app.join("orders.env");
    fs::write(&env_file, "PGPASSWORD=canary-pgpassword\n").unwrap();
    fs::set_permissions(&env_file, fs::Permissions::from_mode(0o600)).unwrap();
    // One command sees every argument of every process while the backup runs, the other says its password aloud and fails.
    person.configure(
        "[[component]]\nname = \"arguments\"\ncommand = \"cat /proc/[0-9]*/cmdline 2>/dev/null || true\"\nenv_file = \"orders.env\"\n\
         [[component]]\nname = \"orders\"\ncommand = \"test -n \\\"$PGPASSWORD\\\" && exit 1\"\nenv_file = \"orders.env\"",
    );
    let canaries = canaries(&person);
    let identity = person.identity();
    let identity = identity.to_str().unwrap().to_owned();
    let kit = person.kit();
    let kit = kit.to_str().unwrap().to_owned();
    let commands: &[(&[&str], i32)] = &[
        (&["init"], 0),
        (&["init", "--json"], 0),
        (&["backup", "-v", "--progress", "json"], 3),
        (&["backup", "--json", "--progress", "plain"], 3),
        (&["backup", "--dry-run"], 0),
        (&["list", "-v"], 0),
        (&["list", "--json", "-i", &identity], 0),
        (&["list", "--kit", &kit], 0),
        (&["show", "--json"], 0),
        (&["ls", "latest", "-r"], 0),
        (&["restore", "latest", "backend", "--to", "../back"], 0),
        (&["restore", "latest", ".env", "--to", "../x"], 16),
        (&["restore", "latest", "./.env", "--in-place"], 2),
        (&["kit"], 2),
        (&["kit", "-o", "../kit.txt"], 0),
        (&["show", "-i", &kit], 12),
        (&["list", "--kit", &identity], 12),
        (&["show", "nonsense"], 2),
        (&["init", "--recipient", &identity], 2),
    ];
    for (args, code) in commands {
        let mut command = person.command(*args);
        command.env("AWS_SECRET_ACCESS_KEY", "canary-environment").env("RUST_BACKTRACE", "full");
        let output = command.output().unwrap();
        let said = [&output.stdout[..], &output.stderr].concat();
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {}", String::from_utf8_lossy(&said));
        assert_absent(&canaries, &said, &format!("what {args:?} says"));
    }
    let arguments = person.ok(["cat", "latest", "arguments"]).out;
    assert!(arguments.contains("backup"), "the arguments of backstay itself are among them: {arguments}");
    assert_absent(&canaries, arguments.as_bytes(), "the arguments of a process");
    for (path, mode, Bytes(content)) in everything_below(&person.top) {
        let made = !path.starts_with(person.app.join("backend")) && path != person.app.join(".env");
        let open = mode & 0o077 != 0 && content.len() > 1;
        if (open && made) || path.starts_with(person.store()) {
            assert_absent(&canaries, &content, &path.display().to_string());
        }
    }
}

#[test]
fn a_secret_in_the_configuration_is_refused_and_not_repeated() {
    let person = Person::set_up();
    let secret = fs::read_to_string(person.identity()).unwrap();
    let secret = secret.lines().find(|line| line.starts_with("AGE-SECRET-KEY")).unwrap().to_owned();
    let config = fs::read_to_string(person.config_path()).unwrap();
    let cases = [
        (format!("[[component]]\nname = \"x\"\npath = \"{secret}\""), secret.clone()),
        (
            "[[component]]\nname = \"x\"\ncommand = \"mysqldump --password=canary-argument\"".into(),
            "canary-argument".into(),
        ),
        (
            "[[component]]\nname = \"x\"\ncommand = \"pg_dump postgres://me:canary-url@host/x\"".into(),
            "canary-url".into(),
        ),
    ];
    for (text, canary) in cases {
        fs::write(person.config_path(), format!("{config}\n{text}\n")).unwrap();
        let said = person.fails(14, ["backup"]);
        assert!(!said.err.contains(&canary[..canary.len().min(40)]), "{said}");
        let document = person.json(14, ["backup"]).to_string();
        assert!(!document.contains(&canary[..canary.len().min(40)]), "{document}");
    }
    assert_eq!(person.snapshots(), 0);
}

#[test]
fn children_do_not_get_the_keys_of_stores() {
    let person = Person::set_up();
    person.configure("[[component]]\nname = \"environment\"\ncommand = [\"env\"]");
    let variables =
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "BACKSTAY_ANY"];
    let mut command = person.command(["backup"]);
    command.envs(variables.map(|name| (name, "canary-of-a-store"))).env("PGHOST", "theirs");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = person.ok(["cat", "latest", "environment"]).out;
    assert!(seen.contains("PATH=") && seen.contains("PGHOST=theirs"), "{seen}");
    assert!(!seen.contains("canary") && variables.iter().all(|name| !seen.contains(name)), "{seen}");
}

#[test]
fn keys_of_a_bucket_appear_nowhere_whatever_becomes_of_it() {
    use crate::common::fault_server::{Fault, FaultServer, Nth, Op};
    let person = Person::set_up();
    let server = FaultServer::start();
    for op in [Op::Put, Op::Get, Op::List, Op::Bucket, Op::Head] {
        server.fault(op, Nth::All, Fault::Refuse(403, "AccessDenied", None));
    }
    let keys = "aws_access_key_id = canary-id\naws_secret_access_key = canary-secret\naws_session_token = canary-token\n";
    let write = |name: &str, text: &str| {
        let path = person.home.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    write(".aws/credentials", &format!("[default]\n{keys}[other]\n{keys}"));
    let file = write("s3.ini", &format!("[default]\n{keys}"));
    let broken = write("broken.ini", &format!("[default]\n{keys}canary-of-a-line\n"));
    let config = fs::read_to_string(person.config_path()).unwrap();
    let settings = [
        String::new(),
        "profile = \"other\"".to_owned(),
        "profile = \"none\"".to_owned(),
        format!("credentials_file = \"{}\"", file.display()),
        format!("credentials_file = \"{}\"", broken.display()),
    ];
    for setting in settings {
        let store = format!(
            "[[store]]\nname = \"offsite\"\nurl = \"s3://bucket/x\"\nendpoint = \"{}\"",
            server.endpoint()
        );
        fs::write(person.config_path(), format!("{config}\n{store}\n{setting}\n")).unwrap();
        for args in [
            &["backup", "-v", "--progress", "json"][..],
            &["backup", "--json", "--progress", "plain"],
            &["init"],
            &["init", "--json"],
            &["list", "-v", "--store", "offsite"],
            &["list", "--json", "--store", "offsite"],
        ] {
            let mut command = person.command(args);
            command.env("AWS_ACCESS_KEY_ID", "canary-env-id").env("AWS_SECRET_ACCESS_KEY", "canary-env");
            let output = command.env("RUST_BACKTRACE", "full").output().unwrap();
            let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
            assert!(!output.status.success(), "{args:?} with {setting}: {said}");
            // A server may say whose key it refused; backstay itself names no part of one.
            assert!(!said.contains("canary"), "{args:?} with {setting}: {said}");
        }
    }
    let state = person.home.join(".local/state");
    for (path, _, Bytes(content)) in
        everything_below(&state).into_iter().chain(everything_below(&person.store()))
    {
        assert!(!content.windows(6).any(|w| w == b"canary"), "{}", path.display());
    }
}

#[test]
fn the_kit_that_is_written_holds_what_it_must_and_is_private() {
    let person = Person::set_up();
    person.ok(["kit", "-o", "../kit.txt"]);
    let path = person.top.join("kit.txt");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("AGE-SECRET-KEY-1") && text.contains("signing-key"), "{text}");
    let known = ["list", "restore", "recover.py"].iter().all(|word| text.contains(word));
    assert!(
        known && text.contains("backstay recover kit.txt"),
        "it names the commands that are there: {text}"
    );
    assert!(Path::new(&path).exists());
}
