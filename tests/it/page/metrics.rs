//! The metrics are one valid text, whatever the projects are called.

use super::*;

/// One sample: its labels and its value.
type Sample = (BTreeMap<String, String>, f64);

/// A strict reader of the text format of Prometheus: each family once, with its help and type before its samples, no sample twice.
fn exposition(text: &str) -> BTreeMap<String, Vec<Sample>> {
    assert!(text.ends_with('\n'));
    let mut families: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    let (mut help, mut kind, mut seen) = (None, None, BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').unwrap();
            assert!(!words.is_empty() && !families.contains_key(name), "{line}");
            (help, kind) = (Some(name.to_owned()), None);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!((help.as_deref(), of), (Some(name), "gauge"), "{line}");
            families.insert(name.to_owned(), Vec::new());
            kind = Some(name.to_owned());
        } else {
            let (name, rest) = line.split_once('{').unwrap_or_else(|| panic!("{line}"));
            assert_eq!(kind.as_deref(), Some(name), "{line}");
            let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(is_name), "{line}");
            let (labels, value) = labels(rest);
            assert!(seen.insert((name.to_owned(), labels.clone())), "twice: {line}");
            families.get_mut(name).unwrap().push((labels, value.trim().parse().unwrap()));
        }
    }
    families
}

/// The labels after `{`, and what follows `}`.
fn labels(mut rest: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    while !rest.starts_with('}') {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        rest = loop {
            match chars.next().unwrap() {
                (at, '"') => break &after[at + 1..],
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("\\{c} is no escape"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} twice");
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (labels, &rest[1..])
}

#[test]
fn metrics_of_all_projects_are_one_valid_text() {
    let one = lab("page = \"127.0.0.1:0\"");
    let two = Lab::new(
        |dir| put(&dir.join("x/a"), b"x"),
        &format!("component = [{{ name = \"x\", path = \"x\" }}]\n{NEVER}"),
    );
    let mut config = two.config();
    config["project"].as_table_mut().unwrap().insert("name".into(), "second".into());
    two.set_config(&config);
    one.backup();
    two.backup();
    let configs = [one.path("project/backstay.toml"), two.path("project/backstay.toml")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    for config in &configs {
        command.arg("--config").arg(config);
    }
    command
        .arg("agent")
        .current_dir(one.path("project"))
        .env_clear()
        .env("HOME", one.path("home"))
        .env("TZ", "UTC");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let err = BufReader::new(child.stderr.take().unwrap());
    let mut agent = Agent { child, err, said: String::new(), state: two.state() };
    let address = agent.address();
    let view = until_there("an answer", || {
        let view = get(address, "/status.json").json();
        [0, 1].iter().all(|n| !view["projects"][n]["looked_at"].is_null()).then_some(view)
    });
    assert_eq!(view["projects"][1]["status"]["project"], "second");
    let answer = get(address, "/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let families = exposition(&answer.body);
    let of = |family: &str, project: &str| -> Vec<Sample> {
        let all = families.get(family).unwrap_or_else(|| panic!("there is no {family}"));
        all.iter().filter(|(labels, _)| labels["project"] == project).cloned().collect()
    };
    for project in ["project", "second"] {
        assert_eq!(of("backstay_last_run_exit_code", project)[0].1, 0.0, "{}", answer.body);
        assert_eq!(of("backstay_schedule_next_timestamp_seconds", project).len(), 2);
    }
    let page = get(address, "/").body;
    assert!(page.contains("2 projects on ") && page.contains("aria-label=\"Projects\""), "{page}");
}
