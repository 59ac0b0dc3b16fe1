//! Whole files in, all mistakes out.

use super::*;
use crate::model::mark::Role;
use std::time::Duration;

pub(super) const RECIPIENT: &str = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";

pub(super) fn public_key() -> String {
    let mut raw = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    raw.extend([7; 32]);
    format!("ssh-ed25519 {}", data_encoding::BASE64.encode(&raw))
}

/// What every valid file needs beside components.
fn tail() -> String {
    format!(
        "[[store]]\nname = \"local\"\npath = \"backups\"\n[encryption]\nrecipients = [\"{RECIPIENT}\"]\n\
         [signing]\nkey_file = \"/home/app/key\"\n[state]\ndir = \"/var/lib/backstay/x\"\n"
    )
}

fn with(components: &str) -> String {
    format!("[project]\nname = \"x\"\n{components}\n{}", tail())
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    let variable = |name: &str| match name {
        "TEAM" => Some("canary-team".into()),
        _ => None,
    };
    let around = Surroundings { host: "web-1", variable: &variable };
    super::parse(text, Path::new("/srv/app/backstay.toml"), None, &around)
}

/// The only mistake in `text`, as it is shown without the last line.
fn only(text: &str) -> String {
    let error = parse(text).expect_err(text);
    assert_eq!(error.mistakes().len(), 1, "{error}\n{text}");
    let all = error.to_string();
    all.trim_start_matches("/srv/app/").split("\n\n").next().unwrap().to_owned()
}

fn whats(text: &str) -> Vec<String> {
    let error = parse(text).expect_err(text);
    let line = |m: &Mistake| m.place.as_ref().map_or(0, |p| p.line);
    error.mistakes().iter().map(|m| format!("{}: {}", line(m), m.what)).collect()
}

const EVERYTHING: &str = r#"
[project]
name = "tsushin"
vault = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
[[component]]
name = "backend"
path = "backend"
exclude = ["venv/", "!keep", "\\#x"]
exclude_from = [".gitignore"]
exclude_caches = true
exclude_if_present = [".nobackup"]
one_file_system = true
allow_unreadable = ["run/"]
strict = true
leave = [".env"]
[[component]]
name = "settings"
paths = [".env", "/etc/nginx/app"]
[[component]]
name = "db"
sqlite = "backend/data/agent.db"
check = "always"
lock_limit = "5s"
[[component]]
name = "orders"
command = ["pg_dump", "-Fc", ""]
restore_command = "pg_restore -d orders"
check = ["pg_restore", "--list"]
env_file = "pg.env"
timeout = "2h"
min_size = "10kB"
[[store]]
name = "local"
path = "backups"
[[store]]
name = "usb.1"
path = "/mnt/usb/x"
retention = { keep_within = "30d", keep_monthly = 12 }
[[store]]
name = "offsite"
url = "s3://bucket/{host}/${TEAM}/x"
endpoint = "https://MinIO.example:9000/"
region = "eu-central-1"
path_style = false
profile = "backup"
credentials_file = "/etc/backstay/s3.ini"
ca_file = "ca.pem"
storage_class = "STANDARD_IA"
sse = "aws:kms:arn:aws:kms:eu-central-1:1:key/x"
checksum = "sha256"
limit_upload = "5MiB/s"
limit_download = "10MB"
allow_http = false
prune = "elsewhere"
[encryption]
recipients = ["RECIPIENT"]
identity_file = "/home/app/id"
[signing]
key_file = "/home/app/key"
trusted = [{ key = "PUBLIC_KEY me@host", name = "web-1", roles = ["prune", "host"] }]
[retention]
keep_last = 4
keep_hourly_within = "2d"
keep_tags = ["stable"]
min_keep = 5
timezone = "Europe/Berlin"
[packing]
level = 9
archive_size = "64MiB"
[state]
dir = "/var/lib/backstay/tsushin"
"#;

#[test]
fn everything_that_is_accepted_is_understood() {
    let text = EVERYTHING.replace("RECIPIENT", RECIPIENT).replace("PUBLIC_KEY", &public_key());
    let config = parse(&text).unwrap();
    assert_eq!(config.dir, Path::new("/srv/app"));
    assert_eq!(config.text, text);
    assert_eq!(config.project.vault.as_ref().unwrap().to_string(), "a".repeat(26));
    let backend = config.component("backend").unwrap();
    assert_eq!(backend.spec.paths(), [Path::new("/srv/app/backend")]);
    assert_eq!(backend.exclude, ["venv/", "!keep", "\\#x"]);
    assert!(backend.exclude_caches && backend.one_file_system && backend.strict);
    assert_eq!((&backend.leave[0], &backend.allow_unreadable[0]), (&".env".to_owned(), &"run/".to_owned()));
    assert_eq!(config.component("settings").unwrap().spec.paths()[1], Path::new("/etc/nginx/app"));
    let Spec::Sqlite { check, lock_limit, .. } = config.component("db").unwrap().spec else { panic!() };
    assert_eq!((check, lock_limit), (SqliteCheck::Always, Duration::from_secs(5)));
    let Spec::Command { command, restore_command, check, env_file, timeout, min_size } =
        &config.components[3].spec
    else {
        panic!()
    };
    assert_eq!(*command, CommandLine::Args(vec!["pg_dump".into(), "-Fc".into(), String::new()]));
    assert_eq!(*restore_command, Some(CommandLine::Shell("pg_restore -d orders".into())));
    assert!(matches!(check, Some(CommandLine::Args(args)) if args.len() == 2));
    assert_eq!(env_file.as_deref(), Some(Path::new("/srv/app/pg.env")));
    assert_eq!((timeout.as_secs(), *min_size), (7200, 10_000));
}

#[test]
fn stores_keys_and_rules_are_understood() {
    let config =
        parse(&EVERYTHING.replace("RECIPIENT", RECIPIENT).replace("PUBLIC_KEY", &public_key())).unwrap();
    let usb = config.store("usb.1").unwrap();
    assert_eq!(usb.place, Place::Path("/mnt/usb/x".into()));
    assert_eq!(config.retention_in(usb).monthly.count, Some(12));
    assert_eq!(config.retention_in(&config.stores[0]), &config.retention);
    let kept = &config.retention;
    assert_eq!((kept.keep_last, kept.min_keep, kept.keep_within), (Some(4), 5, None));
    assert_eq!(kept.hourly.within, Some(Duration::from_secs(2 * 86_400)));
    assert_eq!(config.signing.trusted[0].key, public_key());
    assert_eq!(config.signing.trusted[0].roles, [Role::Host, Role::Prune]);
    assert_eq!(config.packing, Packing { level: 9, archive_size: Some(64 << 20) });
}

#[test]
fn a_store_in_a_bucket_is_understood() {
    let config =
        parse(&EVERYTHING.replace("RECIPIENT", RECIPIENT).replace("PUBLIC_KEY", &public_key())).unwrap();
    let store = config.store("offsite").unwrap();
    assert!(!store.prune_here && config.stores[0].prune_here);
    let Place::Url(place) = &store.place else { panic!("{store:?}") };
    let expected = UrlPlace {
        cloud: Cloud::S3,
        shown: "s3://bucket/web-1/${TEAM}/x".into(),
        bucket: "bucket".into(),
        prefix: "web-1/canary-team/x".into(),
        endpoint: Some("https://minio.example:9000".into()),
        region: Some("eu-central-1".into()),
        path_style: false,
        profile: Some("backup".into()),
        credentials_file: Some("/etc/backstay/s3.ini".into()),
        ca_file: Some("/srv/app/ca.pem".into()),
        storage_class: Some("STANDARD_IA".into()),
        sse: Some(Sse::Kms(Some("arn:aws:kms:eu-central-1:1:key/x".into()))),
        checksum: Checksum::Sha256,
        limit_upload: Some(5 << 20),
        limit_download: Some(10_000_000),
        allow_http: false,
    };
    assert_eq!(**place, expected);
}

/// A file whose second store has these lines.
fn bucket(lines: &str) -> String {
    with(&format!("[[store]]\nname = \"offsite\"\n{lines}"))
}

fn url_place(lines: &str) -> UrlPlace {
    let config = parse(&bucket(lines)).unwrap_or_else(|e| panic!("{e}"));
    match &config.store("offsite").unwrap().place {
        Place::Url(place) => (**place).clone(),
        Place::Path(path) => panic!("{path:?}"),
    }
}

#[test]
fn a_bucket_without_settings_has_the_documented_defaults() {
    let aws = url_place("url = \"s3://bucket\"");
    assert_eq!((aws.path_style, aws.allow_http, aws.checksum), (false, false, Checksum::Auto));
    assert_eq!((aws.endpoint, aws.region, aws.sse, aws.limit_upload), (None, None, None, None));
    let own = url_place("url = \"s3://bucket\"\nendpoint = \"https://nas.example\"");
    assert!(own.path_style, "servers that are not AWS rarely have a name for each bucket");
    let local = url_place("url = \"s3://bucket\"\nendpoint = \"http://127.0.0.1:9000\"");
    assert!(local.allow_http, "nobody is between this machine and itself");
    let plain = url_place("url = \"s3://bucket\"\nendpoint = \"http://nas.local\"\nallow_http = true");
    assert!(plain.allow_http);
}

#[test]
fn what_is_wrong_with_a_bucket_is_told_with_its_line() {
    for (lines, what) in [
        ("", "3: store \"offsite\" does not say where it is"),
        ("path = \"a\"\nurl = \"s3://bucket\"", "6: `path` and `url` cannot stand in one store"),
        ("path = \"a\"\nendpoint = \"https://x\"", "6: `endpoint` means nothing in a store with `path`"),
        ("url = \"file:backups\"", "5: a directory is no URL here"),
        ("url = \"backups\"", "5: this is not a URL"),
        ("url = \"gcs://bucket\"", "5: Google's addresses begin with `gs://`"),
        ("url = \"s3://bucket/${NOT_SET}\"", "5: the variable NOT_SET is not set"),
        ("url = \"s3://bucket\"\nendpoint = \"http://nas.local\"", "6: `http://` sends"),
        ("url = \"s3://bucket\"\nendpoint = \"https://${TEAM}\"", "6: nothing is replaced in `endpoint`"),
        ("url = \"s3://bucket\"\nca_file = \"${TEAM}\"", "6: variables are not replaced in paths"),
        ("url = \"s3://bucket\"\nsse = \"aes\"", "6: this is no `sse`"),
        ("url = \"s3://bucket\"\nchecksum = \"md5\"", "6: \"md5\" is no word of `checksum`"),
        ("url = \"s3://bucket\"\nprune = \"never\"", "6: \"never\" is no word of `prune`"),
        (
            "url = \"s3://bucket\"\nstorage_class = \"DEEP_ARCHIVE\"",
            "6: objects of class DEEP_ARCHIVE cannot",
        ),
        ("url = \"s3://bucket\"\nlimit_upload = \"5Mbit/s\"", "6: \"5Mbit/s\" is not a size a second"),
        ("url = \"s3://bucket\"\nlimit_upload = \"1B/s\"", "6: `limit_upload` must be from 16KiB/s"),
        ("url = \"s3://bucket\"\nregion = \"EU (Frankfurt)\"", "6: this is no `region`"),
        ("url = \"s3://bucket\"\naccess_key = \"canary\"", "6: unknown key `access_key`"),
    ] {
        let told = whats(&bucket(lines));
        assert!(told.len() == 1 && told[0].starts_with(what), "{lines}\n{told:?}");
    }
    let many = "url = \"s3://B/{x}/${NOT_SET}\"\nendpoint = \"nas\"\nsse = \"x\"\nregion = \"X\"\ncredentials_file = \"backups/x\"";
    assert_eq!(whats(&bucket(many)).len(), 6, "{:?}", whats(&bucket(many)));
}

#[test]
fn two_stores_in_one_place_are_refused() {
    let two = |a: &str, b: &str| bucket(&format!("{a}\n[[store]]\nname = \"third\"\n{b}"));
    for (a, b, what) in [
        ("url = \"s3://bucket/a\"", "url = \"s3://bucket/a/\"", "is in the same place as store \"offsite\""),
        ("url = \"s3://bucket\"", "url = \"s3://bucket/a\"", "lie inside each other"),
        ("url = \"s3://bucket/a/b\"", "url = \"s3://bucket/a\"", "lie inside each other"),
        (
            "url = \"s3://bucket/a\"\nendpoint = \"https://Nas\"",
            "url = \"s3://bucket/a\"\nendpoint = \"https://nas/\"",
            "is in the same place as",
        ),
    ] {
        let told = whats(&two(a, b));
        assert!(told.len() == 1 && told[0].contains(what), "{told:?}");
    }
    let other = "url = \"s3://bucket/a\"\nendpoint = \"https://nas\"";
    assert_eq!(parse(&two("url = \"s3://bucket/a\"", other)).unwrap().stores.len(), 3);
    assert_eq!(parse(&two("url = \"s3://bucket/a\"", "url = \"s3://bucket/ab\"")).unwrap().stores.len(), 3);
}

#[test]
fn no_secret_of_a_store_is_shown() {
    for lines in [
        "url = \"s3://AKIA:canary/x@bucket/y\"",
        "url = \"s3://canary@bucket/y\"",
        "url = \"s3://bucket/y?X-Amz-Signature=canary\"",
        "url = \"s3://bucket\"\nendpoint = \"https://me:canary@nas\"",
        "url = \"s3://bucket\"\nsecret_access_key = \"canary\"",
        "url = \"s3://bucket\"\naccess_key_id = \"canary\"",
        "url = \"s3://bucket/${TEAM}/..\"",
    ] {
        let told = parse(&bucket(lines)).expect_err(lines);
        let all = format!("{told}\n{told:?}\n{:?}", told.lines());
        // The stretch of the text that the path of the debug text has is that of the file.
        assert!(!all.contains("canary"), "{lines}\n{all}");
    }
}

#[test]
fn a_short_file_has_the_documented_defaults() {
    let config = parse(&with(
        "[[component]]\nname = \"db\"\nsqlite = \"a.db\"\n[[component]]\nname=\"c\"\ncommand=\"x\"",
    ))
    .unwrap();
    assert_eq!(config.packing, Packing { level: 3, archive_size: None });
    assert_eq!(config.retention.keep_within, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(config.retention.weekly.within, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(config.retention.min_keep, 3);
    let Spec::Sqlite { check, lock_limit, .. } = config.components[0].spec else { panic!() };
    assert_eq!((check, lock_limit.as_secs()), (SqliteCheck::Auto, 2));
    let Spec::Command { timeout, min_size, .. } = config.components[1].spec else { panic!() };
    assert_eq!((timeout.as_secs(), min_size), (6 * 3600, 1));
}

#[test]
fn a_host_that_only_verifies_needs_neither_components_nor_recipients() {
    let text = with("").replace(&format!("[encryption]\nrecipients = [\"{RECIPIENT}\"]\n"), "");
    assert!(parse(&text).unwrap().components.is_empty());
}

#[test]
fn a_mistake_is_shown_with_its_line_a_mark_and_a_way_out() {
    assert_eq!(
        only(&with("[[component]]\nname = \"backend\"\npath = \"backend\"\nexlude = [\"venv/\"]")),
        "backstay.toml:6:1: unknown key `exlude` in [[component]]
  |
6 | exlude = [\"venv/\"]
  | ^^^^^^
  = did you mean `exclude`?"
    );
    assert_eq!(
        only(&with("[[component]]\nname = \"db\"\nsqlite = \"a.db\"\nlock_limit = \"2 sec\" # short")),
        "backstay.toml:6:14: \"2 sec\" is not a duration
  |
6 | lock_limit = \"2 sec\" # short
  |              ^^^^^^^
  = did you mean `2s`?"
    );
    assert_eq!(
        only(&with(
            "[packing]\narchive_size = \"1GiB\"\n[[component]]\nname = \"a\"\npath = \"a\"\narchive_size = \"1GiB\""
        )),
        "backstay.toml:8:1: `archive_size` is not supported by this version of backstay yet
  |
8 | archive_size = \"1GiB\"
  | ^^^^^^^^^^^^
  = set `archive_size` in [packing]; it holds for all components"
    );
    assert_eq!(
        only(&with("").replace("[state]\ndir = \"/var/lib/backstay/x\"\n", "")),
        "backstay.toml: there is no [state]
  = add [state] with `dir`: it says where this host keeps its catalog, lock and spool"
    );
}

#[test]
fn syntax_errors_have_their_line_too() {
    assert_eq!(
        only(&with("[[component]]\nname = db\npath = \".\"")),
        "backstay.toml:4:8: string values must be quoted, expected literal string
  |
4 | name = db
  |        ^^
  = put texts in quotes: \"…\""
    );
    assert_eq!(
        only(&with("[[component]]\nname = \"a\"\npaths = [\".env\"\npath = \"x\"")),
        "backstay.toml:6:1: missing comma between array elements, expected `,`
  |
6 | path = \"x\"
  | ^
  = is a `]` or a comma missing before it? the rest of the file could not be read"
    );
    assert!(only(&with("x = 1\nname = \"y\"\n").replace("x = 1\n", "")).contains("duplicate key"));
}

const FULL_OF_MISTAKES: &str = r#"[project]
name = "My App"
[[component]]
name = "Backend"
path = "~/backend"
exclude = "venv/"
exclude_form = [".gitignore"]
[[component]]
name = "db"
sqlite = "a.db"
path = "b"
strict = "yes"
[[component]]
name = "db"
command = []
timeout = 30
[[store]]
name = "s3"
url = "s3://B"
[[store]]
name = "usb"
path = "file:backups"
[encryption]
recipients = ["age1tooshort", "ssh-ed25519 AAAA"]
[signing]
key_file = "/k"
trusted = [{ key = "ssh-rsa AAAA", name = "n", roles = ["hots"] }]
[retention]
keep_daily = 0
keep_within = "7"
[agent]
page = []
[packing]
level = 22
archive_size = "64M"
"#;

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let text = FULL_OF_MISTAKES;
    let expected = [
        "2: \"My App\" is no name: a-z, 0-9, `-`, `_` and `.`, the first a letter or digit, at most 64",
        "6: `exclude` must be a list of patterns, not a text",
        "7: unknown key `exclude_form` in [[component]]",
        "12: `strict` must be true or false, not a text",
        "15: `command` names no program",
        "16: `timeout` must be a duration, not a number",
        "19: the name of the bucket is none",
        "27: \"hots\" is no word of `roles`",
        "29: `keep_daily` must be from 1 to 100000",
        "30: \"7\" is not a duration",
        "32: `page` must be a text, not a list",
        "34: `level` must be from 1 to 19",
        "35: \"64M\" is not a size",
        "0: there is no [state]",
    ];
    let told = whats(text);
    for what in expected {
        assert!(told.iter().any(|t| t == what), "{what}\n---\n{}", told.join("\n"));
    }
    for what in [
        "4: \"Backend\" is not a component name",
        "5: `~` in",
        "11: `sqlite` and `path` cannot",
        "14: there are two components",
        "22: \"file:backups\"",
        "24: \"age1tooshort\"",
        "24: SSH keys",
        "27: this is not an OpenSSH",
    ] {
        assert!(told.iter().any(|t| t.starts_with(what)), "{what}\n---\n{}", told.join("\n"));
    }
    assert_eq!(told.len(), 22, "{}", told.join("\n"));
    assert!(parse(text).unwrap_err().to_string().ends_with("22 mistakes in /srv/app/backstay.toml"));
}

#[test]
fn every_key_refuses_every_wrong_type_by_name() {
    use crate::config::{keys::SECTIONS, schema::Kind};
    let values = ["\"t\"", "7", "1.5", "true", "2026-01-01", "[]", "[1]", "{ zzz = 1 }", "[[\"x\"]]"];
    for section in SECTIONS {
        for key in section.known() {
            let fits = |value: &str| match key.kind {
                Kind::Table(_) => value == "{ zzz = 1 }",
                Kind::Tables(_) => value == "[]",
                Kind::Times(_) => ["\"t\"", "[]", "{ zzz = 1 }"].contains(&value),
                Kind::Command | Kind::Check | Kind::Text | Kind::Name | Kind::Path => value == "\"t\"",
                Kind::Flag => value == "true",
                Kind::Count { .. } => value == "7",
                Kind::Duration { .. } | Kind::Size { .. } | Kind::Rate { .. } | Kind::Word(_) => false,
                _ => value == "[]",
            };
            for value in values.iter().filter(|v| !fits(v)) {
                let line = format!("{} = {value}", key.name);
                let text = match section.title {
                    "the file" => line,
                    // A table of a list's last element.
                    title => match ["service", "component"]
                        .iter()
                        .find(|list| title.trim_start_matches('[').starts_with(&format!("{list}.")))
                    {
                        Some(list) => format!("[[{list}]]\n{title}\n{line}"),
                        None => format!("{title}\n{line}"),
                    },
                };
                let error = parse(&text).expect_err(&text).to_string();
                let said =
                    ["` must be", "` names no", "is not a", "is no word of `"].map(|s| error.contains(s));
                assert!(said.contains(&true) && error.contains(key.name), "{text}\n{error}");
                assert!(!error.contains(&format!("`{}` is missing", key.name)), "{text}\n{error}");
            }
        }
    }
}

#[test]
fn keys_of_later_versions_are_refused_by_name_whatever_they_hold() {
    use crate::config::{keys::SECTIONS, schema::Kind};
    let mut number = 0;
    for section in SECTIONS {
        for key in section.keys.iter().filter(|k| matches!(k.kind, Kind::Later(_))) {
            for value in ["\"t\"", "7", "[]", "{}"] {
                let text = match section.title {
                    "the file" => format!("{} = {value}\n{}", key.name, with("")),
                    title => {
                        with("").replace("[[store]]", &format!("{title}\n{} = {value}\n[[store]]", key.name))
                    }
                };
                let error = parse(&text).expect_err(&text).to_string();
                assert!(error.contains("is not supported by this version of backstay yet"), "{error}");
                assert!(error.contains(key.name), "{error}");
                number += 1;
            }
        }
    }
    // With every version there are fewer.
    assert!(number > 0, "no key is of a later version: this test can go");
    assert_eq!(whats(&with("[[component]]\nname = \"o\"\npath = \"o\"\narchive_size = \"1MiB\"")).len(), 1);
}

#[test]
fn places_in_each_others_way_are_refused() {
    let folder = |name: &str, path: &str| format!("[[component]]\nname = \"{name}\"\npath = \"{path}\"\n");
    for (components, what) in [
        (folder("a", "x") + &folder("b", "./x/"), "/srv/app/x is in component \"a\" and in component \"b\""),
        (folder("a", "backups/old"), "component \"a\" lies inside store \"local\""),
        (folder("a", "backups"), "component \"a\" is the same directory as store \"local\""),
        (folder("a", "/var/lib/backstay/x/y"), "component \"a\" lies inside the state directory"),
        ("[[component]]\nname = \"p\"\npaths = [\"x\", \"y\", \"x\"]".into(), "/srv/app/x is listed twice"),
        ("[[store]]\nname = \"second\"\npath = \"backups/b\"".into(), "lies inside"),
        ("[[store]]\nname = \"second\"\npath = \"backups\"".into(), "is the same directory as"),
        ("[[store]]\nname = \"local\"\npath = \"other\"".into(), "there are two stores \"local\""),
    ] {
        let told = whats(&with(&components));
        assert!(told.len() == 1 && told[0].contains(what), "{told:?}");
    }
    let inside = with("").replace("/home/app/key", "backups/key");
    assert!(only(&inside).contains("who has the store would have the key"));
    // What is common and fine: folders in each other, the store and the state inside a component.
    let nested = folder("all", ".")
        + &folder("backend", "backend")
        + "[[component]]\nname = \"db\"\nsqlite = \"backend/a.db\"";
    parse(&with(&nested).replace("/var/lib/backstay/x", "state")).unwrap();
}

#[test]
fn a_component_is_of_one_kind_and_takes_only_its_keys() {
    let one = |rest: &str| with(&format!("[[component]]\nname = \"c\"\n{rest}"));
    for (rest, what) in [
        ("", "component \"c\" says nothing to protect"),
        ("sqlite = \"a\"\nexclude = [\"x\"]", "`exclude` means nothing in a component with `sqlite`"),
        ("path = \"a\"\nrestore_command = \"x\"", "it belongs to components with `command`"),
        ("postgres = \"service=o\"\ncheck = [\"x\"]", "`check` means nothing in a component with `postgres`"),
        ("sqlite = \"a\"\ncheck = [\"x\"]", "must be `auto`, `always` or `never`"),
        ("path = \"a\"\nexclude = [\"a[z-b]\"]", "\"a[z-b]\" is not a pattern"),
        ("path = \"a\"\nexclude = [\"# x\"]", "is a comment"),
        ("path = \"a\"\nexclude_from = [\"a/.gitignore\"]", "takes file names"),
        ("path = \"a\"\nexclude = [\"\"]", "holds an empty text"),
        ("path = \"a\\u0000b\"", "NUL"),
        ("path = [\"a\"]", "`path` must be a path, not a list"),
        ("path = \"${HOME}/a\"", "variables are not replaced in paths"),
    ] {
        assert!(only(&one(rest)).contains(what), "{}", only(&one(rest)));
    }
    for secret in [
        "[\"d\", \"--password=hunter2\"]",
        "\"PGPASSWORD=hunter2 d\"",
        "\"PGPASSWORD='hunter2' d\"",
        "'d --password=\"hunter2\"'",
        "[\"sh\", \"-c\", \"PGPASSWORD=hunter2 d\"]",
        "'OPTS=\"--password=hunter2\" d'",
        "'docker exec -e\"PGPASSWORD=hunter2\" d'",
        "'docker exec -ePGPASSWORD=hunter2 d'",
        "\"d postgres://u:hunter2@h/d\"",
        "\"d 'postgres://u:hunter2@h/d'\"",
    ] {
        let told = only(&one(&format!("command = {secret}")));
        assert!(told.contains("a password stands in `command`") && !told.contains("hunter2"), "{told}");
    }
    parse(&one("command = \"PGPASSWORD=$P d --password='' --password=\\\"$P\\\" postgres://u@h\"")).unwrap();
    parse(&one("command = 'sh -c \"PGPASSWORD=\\\"$P\\\" d\"'")).unwrap();
    parse(&one("command = 'curl http://localhost:8080?mail=a@b'")).unwrap();
    for (rest, key) in [
        ("[[hook]]\non = [\"backup\"]\nbefore = \"d --password=hunter2\"", "before"),
        ("[[service]]\nname = \"w\"\nstop = \"d --password=hunter2\"\nstart = \"d\"", "stop"),
        (
            "[[service]]\nname = \"w\"\nstop = \"d\"\nstart = \"d\"\nhealth = { command = \"d --password=hunter2\" }",
            "command",
        ),
        ("[notify]\nfailure = [{ command = \"d --password=hunter2\" }]", "command"),
    ] {
        let told = parse(&with(rest)).unwrap_err().to_string();
        assert!(
            told.contains(&format!("a password stands in `{key}`")) && !told.contains("hunter2"),
            "{told}"
        );
    }
}

#[test]
fn a_retention_whose_only_rule_is_an_empty_list_is_refused() {
    assert!(only(&with("[retention]\nkeep_tags = []")).contains("this retention keeps nothing"));
    parse(&with("[retention]\nkeep_tags = [\"stable\"]")).unwrap();
}

#[test]
fn a_private_key_in_the_file_is_refused_and_never_shown() {
    let key = format!("AGE-SECRET-KEY-1{}", "QPZRY9X8".repeat(8));
    for text in [with(&format!("# my key: {key}")), with("").replace(RECIPIENT, &key.to_lowercase())] {
        let told = parse(&text).unwrap_err().to_string();
        assert!(told.contains("private key") && !told.to_uppercase().contains("QPZRY9X8"), "{told}");
    }
    parse(&with("# identities look like AGE-SECRET-KEY-1...")).unwrap();
}

#[test]
fn what_is_no_configuration_is_said_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backstay.toml");
    let load = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        Config::load(&file).unwrap_err().to_string()
    };
    assert!(load(b"").contains("the file is empty"));
    assert!(load(b"\xef\xbb\xbf \n").contains("the file is empty"));
    assert!(load(&vec![b'#'; 10 << 20]).contains("is larger than 1 MiB"));
    let told = load(b"[project]\nname = \"caf\xe9\"\n");
    assert!(told.contains("backstay.toml:2:12: this is not UTF-8\n"), "{told}");
    assert!(load(b"\xff\xfe[\0p\0").contains("it looks like UTF-16"));
    assert!(!load(b"a\x1b[2J = 1").contains('\u{1b}'));
    let broken = [
        "\0",
        "=",
        "[",
        "[[",
        "]",
        "a.",
        "\"\"\"",
        "a = [[[[",
        "a = '''\n",
        "[a]\n[a]",
        "a=1\na.b=2",
        "a = \"\\q\"",
        "é",
    ];
    for text in broken {
        assert!(!load(text.as_bytes()).is_empty(), "{text}");
    }
    load(format!("a = {}", "[".repeat(100_000)).as_bytes());
    assert!(Config::load(dir.path()).unwrap_err().to_string().contains("is a directory"));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(Config::load(&file), Err(ConfigErrors::Unreadable { .. })));
    std::fs::write(&file, with("")).unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.stores[0].place, Place::Path(dir.path().join("backups")));
}

#[test]
fn a_schedule_is_read_and_its_mistakes_show_their_lines() {
    let one = "[[component]]\nname = \"db\"\nsqlite = \"x.db\"\n";
    let of = |schedule: &str| with(&format!("{one}[schedule]\n{schedule}"));
    let text = "backup = [\"0 3 * * *\", { at = \"*/15 * * * *\", only = [\"db\"] }]\nverify = \"@daily\"\ntimezone = \"Europe/Berlin\"\njitter = \"20m\"";
    let schedule = parse(&of(text)).unwrap().schedule.unwrap();
    let jobs: Vec<String> = schedule.jobs.iter().map(ToString::to_string).collect();
    assert_eq!(jobs, ["backup at 0 3 * * *", "backup of db at */15 * * * *", "verify at @daily"]);
    assert_eq!((schedule.jitter.as_secs(), schedule.verify_percent), (1200, 5));
    assert_eq!(parse(&of("backup = \"0 3 * * *\"")).unwrap().schedule.unwrap().jobs.len(), 1);
    assert_eq!(
        only(&of("backup = [\"0 3 * * *\", { at = \"0 25 * * *\" }]")),
        "backstay.toml:7:31: hour: \"25\" is not possible
  |
7 | backup = [\"0 3 * * *\", { at = \"0 25 * * *\" }]
  |                               ^^^^^^^^^^^^
  = a number from 0 to 23"
    );
    for (wrong, what) in [
        ("backup = [\"0 0 30 2 *\"]", "is never due"),
        ("backup = [\"@daily\", \"@daily\"]", "backup at @daily stands here twice"),
        ("backup = [{ at = \"@daily\", only = [\"dbb\"] }]", "there is no component \"dbb\""),
        ("backup = [{ only = [\"db\"] }]", "`at` is missing from [[schedule.backup]]"),
        ("backup = 3", "`backup` must be a time or a list of times, not a number"),
        ("verify = [\"@daily\"]", "`verify` must be a text, not a list"),
        ("jitter = \"20m\"", "this schedule runs nothing"),
        ("backup = []", "this schedule runs nothing"),
        ("prune = \"@daily\"\ntimezone = \"Berlin\"", "is no time zone that this machine knows"),
        ("prune = \"@daily\"\nverify_percent = 101", "`verify_percent` must be from 0 to 100"),
    ] {
        assert!(only(&of(wrong)).contains(what), "{wrong}: {}", only(&of(wrong)));
    }
    let nothing = only(&with("[schedule]\nbackup = \"@daily\""));
    assert!(nothing.contains("there is no [[component]] to back up"), "{nothing}");
}

#[test]
fn who_is_told_is_read_and_no_secret_address_is_taken_or_shown() {
    let of = |notify: &str| with(&format!("[notify]\n{notify}"));
    let text = "failure = [{ ntfy = \"https://ntfy.example/x\", token_file = \"t\" }, { slack_file = \"credential:slack\", events = [\"damage\"] }, { command = [\"/bin/tell\", \"x\"] }]\n\
                ping = { url_file = \"env:BACKSTAY_PING\", start_and_fail = false }\nstale = \"26h\"";
    let notify = parse(&of(text)).unwrap().notify;
    let names: Vec<String> = notify.targets.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["ntfy https://ntfy.example/x", "slack of credential:slack", "command /bin/tell"]);
    assert_eq!(notify.targets[0].token, Some(Secret::File("/srv/app/t".into())));
    assert_eq!(notify.targets[1].events, [Tell::Damage]);
    assert_eq!(
        notify.ping.unwrap(),
        Ping { url: Secret::Variable("BACKSTAY_PING".into()), all: false, within: Duration::from_secs(30) }
    );
    for (wrong, what) in [
        (
            "failure = [{ webhook = \"https://u:canary@h.example/x\" }]",
            "the address of `webhook` has a part that may be secret",
        ),
        (
            "failure = [{ webhook = \"https://h.example/x?key=canary\" }]",
            "the address of `webhook` has a part that may be secret",
        ),
        ("failure = [{ ntfy = \"canary\" }]", "`ntfy` must be an address"),
        (
            "failure = [{ ntfy = \"http://h.example/x\", token_file = \"t\" }]",
            "a token would go over the network in the clear",
        ),
        (
            "failure = [{ slack_file = \"https://hooks.example/canary\" }]",
            "this is an address, and a file that holds one is asked for",
        ),
        ("failure = [{ slack = \"https://hooks.example/canary\" }]", "unknown key `slack`"),
        ("failure = [{ ntfy_file = \"env:NTFY\" }]", "must begin with BACKSTAY_"),
        ("failure = [{ ntfy_file = \"credential:../x\" }]", "this is no name of a credential"),
        ("failure = [{ ntfy = \"https://h.example/x\", command = \"y\" }]", "a target is told in one way"),
        (
            "failure = [{ command = \"y\", token_file = \"t\" }]",
            "`token_file` means nothing beside `command`",
        ),
        ("failure = [{ email = \"a@b\" }]", "`from` is missing beside `email`"),
        ("failure = [{ within = \"1h\", command = \"y\" }]", "`within` must be from 1s to 5m"),
        ("ping = { url = \"https://hc.example/canary\" }", "unknown key `url`"),
    ] {
        let error = parse(&of(wrong)).expect_err(wrong).to_string();
        assert!(error.contains(what), "{wrong}: {error}");
        assert!(
            !error.contains("canary") || wrong.starts_with("failure = [{ ntfy = \"canary\""),
            "{wrong}: {error}"
        );
    }
}

#[test]
fn an_email_target_is_read_and_a_wrong_one_is_refused_with_its_line() {
    let of = |target: &str| with(&format!("[notify]\nfailure = [{{ {target} }}]"));
    let right = "email = \"ops@x.example\", from = \"b+x@h\", smtp = \"smtps://me@m.example\", password_file = \"p\", events = [\"damage\"]";
    let target = parse(&of(right)).unwrap().notify.targets.remove(0);
    assert_eq!(target.to_string(), "email ops@x.example");
    let Way::Mail(mail) = target.way else { panic!("{target:?}") };
    let login = Some(("me".to_owned(), Secret::File("/srv/app/p".into())));
    assert_eq!((mail.port, mail.tls, mail.login), (465, MailTls::Implicit, login));
    let mail = "email = \"a@b\", from = \"c@d\", smtp = \"smtps://m\"";
    let with_smtp =
        |smtp: &str| format!("email = \"a@b\", from = \"c@d\", smtp = \"{smtp}\", password_file = \"p\"");
    for (wrong, what) in [
        ("email = \"a@b\", from = \"c@d\"".to_owned(), "`smtp` is missing beside `email`"),
        (mail.replace("a@b", "Ops <a@b>"), "`email` must be one e-mail address"),
        (mail.replace("a@b", "a@b, c@d"), "`email` must be one e-mail address"),
        (mail.replace("a@b", "a@b\\r\\nBcc: x@y"), "`email` must be one e-mail address"),
        (mail.replace("c@d", "c@d\\nX: y"), "`from` must be one e-mail address"),
        (mail.replace("smtps://m", "https://m"), "`smtp` must be an address: smtps://"),
        (with_smtp("smtps://me:canary@m.example"), "a password does not belong into `smtp`"),
        (with_smtp("smtps://m.example"), "`password_file` without a user in `smtp`"),
        (mail.replace("//m", "//me@m"), "a user of a mail server needs a password"),
        (format!("{mail}, token_file = \"t\""), "`token_file` means nothing beside `email`"),
        (format!("{mail}, command = \"y\""), "a target is told in one way"),
        ("command = \"y\", smtp = \"smtps://m\"".to_owned(), "`smtp` means nothing beside `command`"),
        (with_smtp("smtps://me@m").replace("\"p\"", "\"env:PASSWORD\""), "must begin with BACKSTAY_"),
    ] {
        let text = of(&wrong);
        let line = text.lines().position(|line| line.starts_with("failure")).unwrap() + 1;
        let error = parse(&text).expect_err(&wrong).to_string();
        assert!(error.contains(what) && error.contains(&format!(":{line}")), "{wrong}: {error}");
        assert!(!error.contains("canary"), "{wrong}: {error}");
    }
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_do_no_harm() {
    let text = format!("\u{feff}{}", with("[[component]]\nname = \"a\"\npath = \"b\"")).replace('\n', "\r\n");
    assert_eq!(parse(&text).unwrap().components.len(), 1);
}

#[test]
fn canonical_text_changes_exactly_with_what_is_captured() {
    let of = |rest: &str| {
        let text = with(&format!("[[component]]\nname = \"a\"\n{rest}"));
        parse(&text).unwrap().components[0].canonical()
    };
    let plain = of("path = \"x\"");
    assert_eq!(
        String::from_utf8(plain.clone()).unwrap(),
        "component 1\npath \"/srv/app/x\"\nexclude_caches \"false\"\none_file_system \"false\"\n"
    );
    for rest in ["", "strict = true", "leave = [\"a\"]", "allow_unreadable = [\"a\"]"] {
        assert_eq!(of(&format!("path = \"./x/\"\n{rest}")), plain, "{rest}");
    }
    let mut all = vec![plain];
    for rest in [
        "path = \"y\"",
        "sqlite = \"x\"",
        "paths = [\"x\"]",
        "command = \"x\"",
        "command = [\"x\"]",
        "path = \"x\"\nexclude = [\"a\", \"b\"]",
        "path = \"x\"\nexclude = [\"b\", \"a\"]",
        "path = \"x\"\nexclude_from = [\"a\"]",
        "path = \"x\"\nexclude_caches = true",
        "path = \"x\"\none_file_system = true",
    ] {
        all.push(of(rest));
    }
    let number = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), number);
    assert_eq!(of("paths = [\"x\", \"y\"]"), of("paths = [\"y\", \"x\"]"));
}

/// The rows of the tables below `## heading`, split into cells without backticks.
fn rows(doc: &str, heading: &str) -> Vec<Vec<String>> {
    let from = doc.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let rest = &doc[from + 4..];
    let section = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn the_documentation_has_every_key_with_its_type_and_default_and_no_other() {
    use crate::config::{
        keys::{FILE, SECTIONS},
        schema::{Kind, Need},
    };
    let doc = include_str!("../../docs/configuration.md");
    for section in SECTIONS {
        let is_file = section.title == FILE.title;
        let heading = if is_file { "The file".to_owned() } else { format!("`{}`", section.title) };
        let expected: Vec<Vec<String>> = section
            .known()
            .map(|key| {
                let default = match key.need {
                    Need::Required(_) => "required",
                    Need::Default(text) => text,
                };
                let mut row = vec![format!("`{}`", key.name), key.kind.describe(), default.to_owned()];
                if ["[[component]]", "[[store]]"].contains(&section.title) {
                    let only: Vec<_> = key.only.iter().map(|kind| format!("`{kind}`")).collect();
                    row.push(if only.is_empty() { "all".to_owned() } else { only.join(", ") });
                }
                row
            })
            .collect();
        let told: Vec<Vec<String>> = rows(doc, &heading)
            .into_iter()
            .map(|mut row| {
                let meaning = row.pop().unwrap();
                assert!(meaning.len() > 10, "{row:?}");
                row
            })
            .collect();
        assert_eq!(told, expected, "{heading}");
        let later = section.keys.iter().filter(|k| matches!(k.kind, Kind::Later(_)));
        let later = later.map(|k| format!("`{}`", k.name)).collect::<Vec<_>>().join(", ");
        let place = heading.replace("The", "the");
        let told = rows(doc, "Not supported yet").into_iter().find(|row| row[0] == place);
        assert_eq!(told.map_or_else(String::new, |row| row[1].clone()), later, "{heading}");
    }
}

#[test]
fn the_example_of_the_documentation_is_valid() {
    let doc = include_str!("../../docs/configuration.md");
    let example = doc.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(parse(example).unwrap().components.len(), 4);
    assert_eq!(parse(example).unwrap().stores.len(), 2);
}

#[test]
fn a_page_that_others_could_read_needs_a_token() {
    use crate::config::{PageAt, Secret};
    let page =
        |agent: &str| parse(&with(&format!("[agent]\n{agent}"))).map(|config| config.agent.page.unwrap());
    for here in
        ["127.0.0.1:9317", "[::1]:0", "localhost:9317", "127.8.8.8:80", "unix:/run/b.sock", "unix:b.sock"]
    {
        let found = page(&format!("page = \"{here}\"")).unwrap();
        assert!(found.token.is_none() && found.at.is_here(), "{here}");
    }
    assert_eq!(page("page = \"unix:run/b\"").unwrap().at, PageAt::Unix("/srv/app/run/b".into()));
    for beyond in ["0.0.0.0:9317", "[::]:9317", "192.0.2.7:9317", "[::ffff:127.0.0.1]:9317"] {
        let error = page(&format!("page = \"{beyond}\"")).unwrap_err().to_string();
        assert!(
            error.contains(&format!("could read the page at {beyond}")) && error.contains("token_file"),
            "{error}"
        );
        let found = page(&format!("page = \"{beyond}\"\ntoken_file = \"credential:page\"")).unwrap();
        assert_eq!(found.token, Some(Secret::Credential("page".to_owned())), "{beyond}");
    }
    for wrong in
        ["9317", ":9317", "example.org:9317", "http://127.0.0.1:9317", "127.0.0.1", "127.0.0.1:99999"]
    {
        let error = page(&format!("page = \"{wrong}\"")).unwrap_err().to_string();
        assert!(error.contains("an address of this machine, in numbers, and a port"), "{wrong}: {error}");
    }
    let long = page(&format!("page = \"unix:/{}\"", "x".repeat(107))).unwrap_err().to_string();
    assert!(long.contains("at most 107 bytes, and this one 108"), "{long}");
    let alone = parse(&with("[agent]\ntoken_file = \"/t\"")).unwrap_err().to_string();
    assert!(alone.contains("`token_file` means nothing without `page`"), "{alone}");
}

#[test]
fn services_that_wait_for_each_other_or_for_nobody_or_are_two_things_are_refused() {
    let service = |name: &str, rest: &str| {
        format!("[[service]]\nname = \"{name}\"\nstop = \"s\"\nstart = \"s\"\n{rest}\n")
    };
    let circle =
        service("a", "after = [\"c\"]") + &service("b", "after = [\"a\"]") + &service("c", "after = [\"b\"]");
    let told = only(&with(&circle));
    for words in ["wait for each other in a circle", "take one name out of an `after`"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // One that leads into no circle is none, in whatever order they are told.
    let line = service("a", "after = [\"b\", \"c\"]") + &service("b", "after = [\"c\"]") + &service("c", "");
    let config = parse(&with(&line)).unwrap();
    let ordered = Service::in_order(&config.services).unwrap();
    assert_eq!(ordered.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
    for (after, name) in [("nobody", "nobody"), ("a", "a")] {
        let told = only(&with(&service("a", &format!("after = [\"{after}\"]"))));
        let words = format!("there is no other service \"{name}\" that \"a\" could be started after");
        assert!(told.contains(&words), "{words}: {told}");
    }
    for (kinds, words) in [
        ("systemd = \"x\"\nstop = \"s\"\nstart = \"s\"", "`systemd` and `stop` cannot stand in one service"),
        (
            "compose = { file = \"f\" }\nsystemd = \"x\"",
            "`compose` and `systemd` cannot stand in one service",
        ),
    ] {
        let told = whats(&with(&format!("[[service]]\nname = \"a\"\n{kinds}")));
        assert!(told.iter().any(|told| told.contains(words)), "{words}: {told:?}");
    }
    let told = only(&with("[[service]]\nname = \"a\""));
    assert!(told.contains("does not say how it is stopped and started"), "{told}");
    let told = only(&with(&(service("a", "") + &service("a", ""))));
    assert!(told.contains("there are two services \"a\""), "{told}");
}
