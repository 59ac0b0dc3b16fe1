//! Proposals for made-up projects, and configurations written from them.

use crate::config::propose::{Proposal, What, propose};
use crate::config::template::{Values, add_store, render};
use crate::config::tests::{RECIPIENT, public_key};
use crate::config::{Config, Place, Spec, Trusted};
use crate::model::mark::Role;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Makes a project of `files`; one that ends in `.db` becomes a SQLite database, one that ends in `/` a folder.
fn project(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in files {
        let path = dir.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.ends_with(".db") {
            let db = rusqlite::Connection::open(&path).unwrap();
            db.execute_batch("CREATE TABLE t (x)").unwrap();
        } else {
            fs::write(path, "x").unwrap();
        }
    }
    dir
}

fn values() -> Values {
    Values {
        project: "tsushin".into(),
        vault: Some("a".repeat(26).parse().unwrap()),
        endpoints: BTreeMap::new(),
        stores: vec![("local".into(), "backups".into()), ("usb".into(), "/mnt/usb \"1\"/b".into())],
        recipients: vec![RECIPIENT.into()],
        identity_file: Some("/home/app/.config/backstay/identity.txt".into()),
        key_file: "/home/app/.config/backstay/signing_key".into(),
        trusted: vec![Trusted {
            key: public_key(),
            name: "web-1".into(),
            roles: vec![Role::Host, Role::Prune],
        }],
        state_dir: "/var/lib/backstay/tsushin".into(),
    }
}

/// Proposes, writes, reads back, and compares.
fn round_trip(dir: &Path) -> (Proposal, String) {
    let proposal = propose(dir);
    let text = render(&proposal, &values());
    let config = Config::parse(&text, &dir.join("backstay.toml")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(config.components.len(), proposal.components.len());
    for (component, proposed) in config.components.iter().zip(&proposal.components) {
        assert_eq!(component.name.as_str(), proposed.name);
        let patterns: Vec<_> = proposed.exclude.iter().map(|(p, _)| p.clone()).collect();
        assert_eq!(component.exclude, patterns);
        match (&component.spec, &proposed.what) {
            (Spec::Folder { path }, What::Folder(p)) if p == "." => assert_eq!(path, dir),
            (Spec::Folder { path }, What::Folder(p)) | (Spec::Sqlite { path, .. }, What::Sqlite(p)) => {
                assert_eq!(*path, dir.join(p));
            }
            (Spec::Paths { paths }, What::Paths(p)) => {
                assert!(paths.iter().zip(p).all(|(a, b)| *a == dir.join(b)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(config.signing.trusted, values().trusted);
    assert_eq!(config.project.vault, values().vault);
    assert_eq!(config.stores.len(), 2);
    (proposal, text)
}

/// `name: what` of each component.
fn outline(proposal: &Proposal) -> Vec<String> {
    let what = |what: &What| match what {
        What::Folder(p) => format!("folder {p}"),
        What::Paths(p) => format!("paths {}", p.join(" ")),
        What::Sqlite(p) => format!("sqlite {p}"),
    };
    proposal.components.iter().map(|c| format!("{}: {}", c.name, what(&c.what))).collect()
}

fn excluded(proposal: &Proposal, name: &str) -> Vec<String> {
    let component = proposal.components.iter().find(|c| c.name == name).unwrap();
    component.exclude.iter().map(|(p, _)| p.clone()).collect()
}

fn noted(proposal: &Proposal, what: &str) -> bool {
    proposal.notes.iter().any(|note| note.contains(what))
}

#[test]
fn a_backend_a_frontend_and_their_database_become_components() {
    let dir = project(&[
        "backend/main.py",
        "backend/requirements.txt",
        "backend/data/agent.db",
        "backend/venv/lib/x.py",
        "backend/env/pyvenv.cfg",
        "backend/env/lib/hidden.db",
        "backend/__pycache__/main.pyc",
        "frontend/package.json",
        "frontend/next.config.js",
        "frontend/app/page.tsx",
        "frontend/node_modules/sql/test.db",
        "frontend/.next/cache/webpack.db",
        "backups/backend_20250101_000000/data/agent.db",
        ".env",
        "docker-compose.yml",
        "README.md",
        ".git/HEAD",
        ".github/workflows/ci.yml",
    ]);
    let (proposal, text) = round_trip(dir.path());
    assert_eq!(
        outline(&proposal),
        [
            "backend: folder backend",
            "frontend: folder frontend",
            "files: paths README.md",
            "settings: paths .env docker-compose.yml",
            "db: sqlite backend/data/agent.db",
        ]
    );
    let backend = excluded(&proposal, "backend");
    assert_eq!(
        backend,
        [".git/", "venv/", ".venv/", "__pycache__/", ".pytest_cache/", ".mypy_cache/", "/env/"]
    );
    assert_eq!(excluded(&proposal, "frontend"), [".git/", "node_modules/", ".next/", "/dist/", "/build/"]);
    assert!(noted(&proposal, "backups looks like earlier backups"));
    assert!(noted(&proposal, "hidden folders are in no component: .github"));
    assert!(text.contains("# Note: backups looks like earlier backups and is left out.\n"), "{text}");
    check_text(&text);
}

/// The parts of the written text that people rely on.
fn check_text(text: &str) {
    let db = "\n[[component]]\nname = \"db\"\nsqlite = \"backend/data/agent.db\"\n# captured while it is in use; left out of the folder it lies in\n";
    assert!(text.contains(db), "{text}");
    assert!(text.contains(&format!("{db}full_every = \"30d\"")), "small as it is: {text}");
    assert!(text.contains("    \"node_modules/\",                    # installed packages\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
}

#[test]
fn what_is_large_is_not_proposed_to_be_packed_anew_every_month() {
    let dir = project(&["app.py", "data/one.db"]);
    let large = |name: &str, size: u64| {
        let file = fs::File::options().write(true).create(true).truncate(false).open(dir.path().join(name));
        file.unwrap().set_len(size).unwrap(); // a hole, but it counts
    };
    let small = || {
        let (proposal, _) = round_trip(dir.path());
        proposal.components.iter().map(|c| (c.name.clone(), c.small)).collect::<Vec<_>>()
    };
    assert_eq!(small(), [("app".to_owned(), true), ("db".to_owned(), true)]);
    large("video.bin", 2 << 30);
    assert_eq!(small(), [("app".to_owned(), false), ("db".to_owned(), true)]);
    large("data/one.db", 1 << 30);
    assert_eq!(small(), [("app".to_owned(), false), ("db".to_owned(), false)]);
}

#[test]
fn a_flat_python_application_is_one_component() {
    let dir = project(&[
        "app.py",
        "templates/index.html",
        "static/site.css",
        "data/one.db",
        "data/two.db",
        ".env",
        ".venv/pyvenv.cfg",
    ]);
    let (proposal, _) = round_trip(dir.path());
    assert_eq!(outline(&proposal)[..2], ["app: folder .", "settings: paths .env"]);
    let mut databases = outline(&proposal)[2..].to_vec();
    databases.sort();
    assert_eq!(databases, ["one: sqlite data/one.db", "two: sqlite data/two.db"]);
    assert!(excluded(&proposal, "app").contains(&"__pycache__/".to_owned()));
    assert!(!excluded(&proposal, "app").iter().any(|p| p.contains("build") || p.contains("dist")));
}

#[test]
fn a_rust_workspace_excludes_one_target_folder() {
    let dir = project(&[
        "Cargo.toml",
        "src/main.rs",
        "crates/a/Cargo.toml",
        "crates/a/src/lib.rs",
        "target/debug/x.db",
        "docs/build/x.md",
    ]);
    let (proposal, _) = round_trip(dir.path());
    assert_eq!(outline(&proposal), ["app: folder ."]);
    assert_eq!(excluded(&proposal, "app"), [".git/", "/target/"]);
}

#[test]
fn a_php_application_excludes_vendor_beside_its_manifest_only() {
    let dir = project(&[
        "composer.json",
        "index.php",
        "vendor/autoload.php",
        "lib/vendor/own.php",
        "nginx.conf",
        "app.service",
    ]);
    let (proposal, _) = round_trip(dir.path());
    assert_eq!(outline(&proposal), ["app: folder .", "settings: paths app.service nginx.conf"]);
    assert_eq!(excluded(&proposal, "app"), [".git/", "/vendor/"]);
}

#[test]
fn an_empty_folder_gives_an_honest_template() {
    let dir = project(&[]);
    let (proposal, text) = round_trip(dir.path());
    assert!(proposal.components.is_empty() && noted(&proposal, "nothing to protect"));
    assert!(text.contains("Write components like these"));
}

#[test]
fn nothing_but_data_is_protected_too() {
    let dir = project(&["photos/a.jpg", "letters/b.txt", "notes.txt"]);
    assert_eq!(
        outline(&round_trip(dir.path()).0),
        ["letters: folder letters", "photos: folder photos", "files: paths notes.txt"]
    );
    let dir = project(&["notes.txt"]);
    assert_eq!(outline(&round_trip(dir.path()).0), ["app: folder ."]);
    let dir = project(&["only.db"]);
    assert_eq!(outline(&round_trip(dir.path()).0), ["db: sqlite only.db"]);
    let many: Vec<String> = (0..40).map(|i| format!("d{i}/x.txt")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(outline(&round_trip(project(&many).path()).0), ["app: folder ."]);
}

#[test]
fn the_number_of_a_process_is_proposed_in_no_list_of_files() {
    let dir = project(&["photos/a.jpg", "letters/b.txt", "notes.txt", "app.pid"]);
    let proposed = outline(&round_trip(dir.path()).0);
    assert_eq!(proposed.last().map(String::as_str), Some("files: paths notes.txt"), "{proposed:?}");
    let dir = project(&["photos/a.jpg", "letters/b.txt", "app.pid"]);
    let proposed = outline(&round_trip(dir.path()).0);
    assert!(proposed.iter().all(|line| !line.contains("app.pid")), "{proposed:?}");
}

#[test]
fn running_database_servers_are_said_and_left_out() {
    let dir = project(&[
        "server/main.go",
        "client/app.ts",
        "server/pg/PG_VERSION",
        "mysql/ibdata1",
        "compose.yaml",
    ]);
    fs::write(
        dir.path().join("compose.yaml"),
        "services:\n  db:\n    image: \"postgres:17\"\n  m:\n    image: mariadb\n",
    )
    .unwrap();
    let (proposal, _) = round_trip(dir.path());
    assert_eq!(
        outline(&proposal),
        ["client: folder client", "server: folder server", "settings: paths compose.yaml"]
    );
    assert_eq!(excluded(&proposal, "server"), [".git/", "/pg/"]);
    assert!(noted(&proposal, "mysql is the data of a running MySQL"));
    assert!(noted(&proposal, "compose.yaml runs PostgreSQL") && noted(&proposal, "compose.yaml runs MySQL"));
}

#[test]
fn odd_names_and_links_give_a_valid_file_and_a_note() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = project(&[
        "Ünï \"x\" [1]/a.txt",
        "日本/b.txt",
        "settings/c.txt",
        "db/d.txt",
        ".env",
        "a.db",
        "x.db",
        "x[*]/package.json",
        "x[*]/dist/y",
    ]);
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
    fs::write(dir.path().join("line\nbreak"), "").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
    let (proposal, _) = round_trip(dir.path());
    assert!(
        noted(&proposal, "cannot stand in a configuration") && noted(&proposal, "link is a symbolic link")
    );
    let names: std::collections::BTreeSet<_> = proposal.components.iter().map(|c| &c.name).collect();
    assert_eq!(names.len(), proposal.components.len());
    assert!(outline(&proposal).contains(&"settings-2: paths .env".to_owned()), "{:?}", outline(&proposal));
}

#[test]
fn patterns_for_folders_with_odd_names_match_exactly_them() {
    let dir = project(&["main.py", "x[*]/package.json"]);
    let proposal = propose(dir.path());
    let patterns = excluded(&proposal, "app");
    let mut builder = ignore::gitignore::GitignoreBuilder::new(dir.path());
    patterns.iter().for_each(|p| {
        builder.add_line(None, p).unwrap();
    });
    let rules = builder.build().unwrap();
    assert!(rules.matched(dir.path().join("x[*]/dist"), true).is_ignore(), "{patterns:?}");
    assert!(!rules.matched(dir.path().join("x*/dist"), true).is_ignore());
}

#[test]
fn the_look_ends_in_a_folder_without_end() {
    let deep = format!("{}x.py", "d/".repeat(40));
    let many: Vec<String> = (0..300).map(|i| format!("{}/{}.py", i % 7, i)).collect();
    let mut files: Vec<&str> = many.iter().map(String::as_str).collect();
    files.push(&deep);
    let (proposal, _) = round_trip(project(&files).path());
    assert!(noted(&proposal, "not looked through to the end"));
}

#[test]
fn values_that_need_quoting_survive() {
    let mut values = values();
    values.stores.push(("offsite".into(), "s3://bucket/{host}/x".into()));
    values.state_dir = "/var/lib/it's \"quoted\" \\ 東京".into();
    values.identity_file = None;
    values.trusted = Vec::new();
    let text = render(&Proposal::default(), &values);
    let config = Config::parse(&text, Path::new("/x/backstay.toml")).unwrap();
    assert_eq!(config.state_dir, Path::new(&values.state_dir));
    assert_eq!(config.encryption.identity_file, None);
}

#[test]
fn the_commented_examples_of_the_template_are_valid_too() {
    let text = render(&Proposal::default(), &values());
    let uncomment = |line: &str| -> Option<String> {
        let rest = line.strip_prefix("# ")?;
        let key = rest.split(['=', ' ']).next()?;
        let example = rest.starts_with("[[")
            || rest.starts_with("[packing]")
            || rest.starts_with("[schedule]")
            || rest.starts_with("[notify]")
            || rest.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        example.then(|| rest.to_owned())
    };
    let all: String =
        text.lines().map(|line| uncomment(line).unwrap_or_else(|| line.to_owned()) + "\n").collect();
    let config = Config::parse(&all, Path::new("/x/backstay.toml")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.components.len(), 3);
    assert_eq!(config.schedule.unwrap().jobs.len(), 4);
    let config = Config::parse(&all, Path::new("/x/backstay.toml")).unwrap();
    assert!(matches!(&config.store("offsite").unwrap().place, Place::Url(place) if place.path_style));
    assert!(config.packing.archive_size.is_some() && config.components[0].exclude_caches);
}

#[test]
fn a_store_is_added_and_the_rest_stays() {
    let text = render(&Proposal::default(), &values());
    let path = Path::new("/x/backstay.toml");
    let more = add_store(text.trim_end(), path, "disk", "/mnt/\"disk\"").unwrap();
    assert!(more.starts_with(text.trim_end()));
    let config = Config::parse(&more, path).unwrap();
    assert_eq!(config.stores.len(), 3);
    assert_eq!(config.stores[2].name, "disk");
    assert_eq!(config.stores[0].name, "local", "the primary stays the primary");
    assert!(
        add_store(&text, path, "local", "/mnt/x").unwrap_err().to_string().contains("two stores \"local\"")
    );
    assert!(add_store(&text, path, "twice", "backups").is_err());
    let more = add_store(&text, path, "offsite", "s3://bucket/x").unwrap();
    let config = Config::parse(&more, path).unwrap();
    assert!(matches!(&config.stores[2].place, Place::Url(place) if place.bucket == "bucket"));
    assert!(add_store(&more, path, "twice", "s3://bucket/x").is_err());
    let inline = "store = [{ name = \"a\", path = \"b\" }]\n";
    assert!(add_store(inline, path, "c", "d").is_err());
}
