//! docs/2am.md and docs/moving.md, block by block, with what happened before each.

use super::blocks::{Block, Run, Stage, application, blocks};
use super::top;
use rusqlite::Connection;
use std::fs;
use std::path::PathBuf;

/// A page whose blocks are run one after the other.
struct Page {
    stage: Stage,
    blocks: Vec<Block>,
    done: usize,
    settings: Vec<(String, String)>,
}

impl Page {
    /// The page `name`; its block of settings gives the names, and `values` the values for this stage.
    fn open(name: &str, values: impl Fn(&Stage, &str) -> PathBuf) -> Self {
        let stage = Stage::make();
        for dir in ["srv/tsushin", "stick", "other"] {
            fs::create_dir_all(stage.root.join(dir)).unwrap();
        }
        let text = fs::read_to_string(top().join("docs").join(name)).unwrap();
        let blocks: Vec<Block> =
            blocks(&text).into_iter().filter(|b| b.comment.starts_with("test: ")).collect();
        assert_eq!(blocks[0].name(), "settings", "the page begins with its names");
        let names = blocks[0].script.lines().map(|line| line.split('=').next().unwrap().to_owned());
        let value = |name: &str| values(&stage, name).to_str().unwrap().to_owned();
        let settings = names.map(|name| (name.clone(), value(&name))).collect();
        Self { stage, blocks, done: 1, settings }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.settings.iter().find(|s| s.0 == name).unwrap().1.clone().into()
    }

    fn shell(&self, script: &str) -> Run {
        let settings: Vec<(&str, String)> =
            self.settings.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
        self.stage.run(script, &self.stage.home, &settings)
    }

    /// Runs the next block, which must have this name and end well.
    fn next(&mut self, name: &str) -> String {
        let block = &self.blocks[self.done];
        assert_eq!(block.name(), name, "the blocks are run in the order of the page");
        let run = self.shell(&block.script);
        assert_eq!(run.code, Some(0), "{name}:\n{}", run.output);
        self.done += 1;
        run.output
    }

    fn meanwhile(&self, script: &str) {
        let run = self.shell(&format!("cd \"$PROJECT\"\n{script}"));
        assert_eq!(run.code, Some(0), "{script}:\n{}", run.output);
    }

    fn end(&self) {
        assert_eq!(self.done, self.blocks.len(), "every block was run");
    }
}

fn places(stage: &Stage, name: &str) -> PathBuf {
    match name {
        "PROJECT" => stage.root.join("srv/tsushin"),
        "KIT" => stage.root.join("stick/kit.txt"),
        "KEYS" => stage.home.join(".config/backstay/tsushin"),
        "STATE" => stage.home.join(".local/state/backstay/tsushin"),
        "OTHER" => stage.root.join("other"),
        other => panic!("what is {other}?"),
    }
}

fn rows(database: &std::path::Path) -> i64 {
    let db = Connection::open(database).unwrap();
    db.query_row("SELECT count(*) FROM events", (), |row| row.get(0)).unwrap()
}

#[test]
fn the_blocks_of_2am_md_do_what_they_say() {
    let mut page = Page::open("2am.md", places);
    let project = page.path("PROJECT");
    let service = application(&project);
    page.meanwhile("backstay init --yes; backstay kit -o \"$KIT\"; backstay backup; sleep 1; backstay backup --note 'the evening'");
    fs::write(project.join("backend/main.py"), "ruined").unwrap();
    fs::write(project.join("backend/extra.py"), "new").unwrap();
    service.execute_batch("DELETE FROM events").unwrap();

    let said = page.next("look");
    assert!(said.contains("newest good") && said.contains("the evening"), "{said}");
    let said = page.next("changed");
    for line in ["M backend/main.py", "+ backend/extra.py", "M db/agent.db"] {
        assert!(said.contains(line), "{line}:\n{said}");
    }
    let said = page.next("file");
    assert!(said.contains("backend/main.py") && said.contains("is kept as"), "{said}");
    assert!(fs::read_to_string(project.join("backend/main.py")).unwrap().starts_with("def step"));
    let database = project.join("backend/data/agent.db");
    assert_eq!(rows(&database), 0);
    drop(service);
    page.next("database");
    assert_eq!(rows(&database), 1, "the row that was deleted is back");
    fs::write(project.join("backend/main.py"), "ruined again").unwrap();
    fs::write(project.join("backend/more.py"), "new").unwrap();
    let said = page.next("rollback");
    assert!(said.contains("backend"), "{said}");
    assert!(fs::read_to_string(project.join("backend/main.py")).unwrap().starts_with("def step"));
    assert!(!project.join("backend/more.py").exists());
    page.next("component");
    assert!(page.path("OTHER").join("before/backend/main.py").exists());
    fs::rename(&project, page.stage.root.join("srv/burnt")).unwrap();
    fs::create_dir(&project).unwrap();
    fs::rename(page.stage.root.join("srv/burnt/backups"), project.join("backups")).unwrap();
    page.next("machine");
    assert!(page.path("OTHER").join("everything/settings/.env").exists());
    fs::copy(page.stage.root.join("srv/burnt/backstay.toml"), project.join("backstay.toml")).unwrap();
    let said = page.next("doctor");
    assert!(said.contains("way out: ") && said.contains("exit code 18"), "{said}");
    page.end();
}

#[test]
fn the_blocks_of_moving_md_do_what_they_say() {
    let mut page = Page::open("moving.md", places);
    let _service = application(&page.path("PROJECT"));
    page.meanwhile("backstay init --yes --store \"$OTHER/store\"; backstay backup");
    let count = |page: &Page, project: &str| {
        let list = page.shell(&format!("cd {project}; backstay list --json")).output;
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        assert_eq!(list["history"].as_array().unwrap().len(), 0, "{list:#}");
        list["snapshots"].as_array().unwrap().len()
    };
    page.next("folder");
    assert_eq!(count(&page, "\"$PROJECT-new\""), 2);
    page.next("store");
    assert_eq!(count(&page, "\"$PROJECT-new\""), 3);
    page.next("second");
    assert_eq!(count(&page, "\"$PROJECT-new\""), 4);
    assert!(page.path("OTHER").join("third/backstay.json").exists());
    page.shell("cp -a \"$KEYS\" \"$OTHER/copy-of-keys\"; rm -rf ~/.config ~/.local; mv \"$PROJECT-new\" \"$OTHER/old-machine\"");
    page.next("machine");
    assert_eq!(count(&page, "\"$PROJECT-new\""), 5, "the history goes on");
    page.end();
}
