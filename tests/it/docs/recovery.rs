//! docs/recovery.md, block by block, with the mishaps that it is about between them.

use super::blocks::{Block, Run, Stage, application, blocks};
use super::{commands, top};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

struct Story {
    stage: Stage,
    blocks: BTreeMap<String, Block>,
    order: Vec<String>,
    done: Vec<String>,
    kit: PathBuf,
}

impl Story {
    fn begin() -> Self {
        let stage = Stage::make();
        for dir in ["srv/tsushin", "stick", "other"] {
            fs::create_dir_all(stage.root.join(dir)).unwrap();
        }
        let text = fs::read_to_string(top().join("docs/recovery.md")).unwrap();
        let mut all = blocks(&text);
        all.retain(|block| block.comment.starts_with("test: "));
        let order: Vec<String> = all.iter().map(|b| b.name().to_owned()).collect();
        let blocks: BTreeMap<String, Block> = all.into_iter().map(|b| (b.name().to_owned(), b)).collect();
        assert_eq!(order.len(), blocks.len(), "two blocks have one name");
        let kit = stage.root.join("stick/kit.txt");
        Self { stage, blocks, order, done: Vec::new(), kit }
    }

    fn project(&self) -> PathBuf {
        self.stage.root.join("srv/tsushin")
    }

    fn store(&self) -> PathBuf {
        self.project().join("backups")
    }

    fn other(&self, name: &str) -> PathBuf {
        self.stage.root.join("other").join(name)
    }

    fn keys(&self) -> PathBuf {
        self.stage.home.join(".config/backstay/tsushin")
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        vec![
            ("PROJECT", text(self.project())),
            ("STORE", text(self.store())),
            ("KIT", text(self.kit.clone())),
            ("KEYS", text(self.keys())),
            ("STATE", text(self.stage.home.join(".local/state/backstay/tsushin"))),
            ("OTHER", text(self.stage.root.join("other"))),
        ]
    }

    fn shell(&self, script: &str) -> Run {
        self.stage.run(script, &self.stage.home, &self.settings())
    }

    /// Runs the block of this name.
    fn block(&mut self, name: &str) -> Run {
        if !self.done.iter().any(|d| d == name) {
            self.done.push(name.to_owned());
        }
        self.shell(&self.blocks[name].script)
    }

    /// Runs a block that must end well, and gives what it said.
    fn well(&mut self, name: &str) -> String {
        let run = self.block(name);
        assert_eq!(run.code, Some(0), "{name}:\n{}", run.output);
        run.output
    }

    /// What happens beside the document.
    fn meanwhile(&self, script: &str) {
        let run = self.shell(&format!("cd \"$PROJECT\"\n{script}"));
        assert_eq!(run.code, Some(0), "{script}:\n{}", run.output);
    }

    /// The first archive of the newest snapshot.
    fn archive(&self) -> PathBuf {
        let list = self.shell("cd \"$PROJECT\"; backstay list --json").output;
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        // Not by name: two ids of one second sort by chance.
        let newest = list["snapshots"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap();
        let path = self.store().join("snapshots").join(format!("{newest}.json"));
        let text = fs::read_to_string(path).unwrap();
        let record: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let id = record["objects"][0][2].as_str().unwrap().to_owned();
        self.store().join("archives").join(&id[..2]).join(format!("{id}.tar.zst.age"))
    }

    fn is_main(&self, path: &Path) {
        assert_eq!(fs::read(path).unwrap(), fs::read(self.project().join("backend/main.py")).unwrap());
    }
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_blocks_of_recovery_md_do_what_they_say() {
    let mut story = Story::begin();
    let _service = application(&story.project());
    let wanted = story.blocks["settings"].script.lines().map(|l| l.split('=').next().unwrap().to_owned());
    let given: Vec<String> = story.settings().iter().map(|s| s.0.to_owned()).collect();
    assert_eq!(wanted.collect::<Vec<_>>(), given);
    story.done.push("settings".into());
    story.meanwhile("backstay init --yes; backstay backup --note 'the first'");

    files_are_gone(&mut story);
    the_machine_is_gone(&mut story);
    the_identity_is_gone(&mut story);
    the_store_is_damaged(&mut story);
    the_store_moves_and_is_gone(&mut story);
    assert_eq!(story.done, story.order, "every block was run, in the order of the document");
}

fn files_are_gone(story: &mut Story) {
    let shown = story.well("kit");
    assert!(shown.contains("the first") && shown.contains("component backend"), "{shown}");
    let kit: Vec<String> = fs::read_to_string(&story.kit).unwrap().lines().map(str::to_owned).collect();
    assert!(commands::check(&story.kit, &kit) >= 2, "the kit names commands");

    let main = story.project().join("backend/main.py");
    let before = fs::read(&main).unwrap();
    fs::write(&main, "ruined").unwrap();
    story.well("in-place");
    assert_eq!(fs::read(&main).unwrap(), before);
    story.meanwhile("grep -q ruined backend/main.py.before-restore-*; rm backend/main.py.before-restore-*");

    story.well("restore");
    story.is_main(&story.other("restored/backend/main.py"));
    assert!(story.other("only-the-database/db/agent.db").exists());
    assert!(!story.other("only-the-database/backend").exists());
}

fn the_machine_is_gone(story: &mut Story) {
    let config = fs::read_to_string(story.project().join("backstay.toml")).unwrap();
    story.meanwhile("cp -a \"$KEYS\" \"$OTHER/copy-of-keys\"; rm -r ~/.config ~/.local backstay.toml");
    recovered_elsewhere(story);
    story.well("lost-host");
    story.is_main(&story.other("new/backend/main.py"));
    assert!(story.other("new/settings/.env").exists() && story.other("new/db/agent.db").exists());
    story.well("config");
    assert_eq!(fs::read_to_string(story.other("backstay.toml")).unwrap(), config);
    story.well("key-folder");
    story.meanwhile("test $(backstay list | wc -l) = 3");
}

/// On another machine, with a copy of the store: the story goes on with the first.
fn recovered_elsewhere(story: &mut Story) {
    let home = story.stage.root.join("home-of-new");
    story.meanwhile("cp -a \"$STORE\" \"$OTHER/stick\"");
    fs::create_dir(&home).unwrap();
    let script = story.blocks["recover"].script.replace("$STORE", "$OTHER/stick");
    story.done.push("recover".into());
    let run = story.shell(&format!("export HOME=\"{}\"\n{script}", home.display()));
    assert_eq!(run.code, Some(0), "{}", run.output);
    story.is_main(&story.other("tsushin/backend/main.py"));
    assert!(story.other("tsushin/backend/data/agent.db").exists() && story.other("tsushin/.env").exists());
    assert!(home.join(".config/backstay/tsushin/signing_key").exists());
}

fn the_identity_is_gone(story: &mut Story) {
    fs::remove_file(story.keys().join("identity.txt")).unwrap();
    story.meanwhile("! backstay show latest");
    story.well("identity");
    let said = story.well("new-identity");
    assert!(said.contains("snapshot ") && said.contains("component backend"), "{said}");
    story.kit = story.stage.root.join("stick/kit.txt.new");
}

fn the_store_is_damaged(story: &mut Story) {
    story.meanwhile("backstay backup --full");
    assert_eq!(story.well("check"), "", "a whole store has nothing to say");
    let archive = story.archive();
    flip_a_byte(&archive);
    let run = story.block("check");
    let name = archive.file_name().unwrap().to_str().unwrap();
    assert!(run.code != Some(0) && run.output.contains(name), "{}", run.output);
    let said = story.well("damaged");
    assert!(said.contains("exit code 13"), "{said}");
    assert!(story.other("what-is-left/db/agent.db").exists(), "what is whole came back");
    assert!(!story.other("what-is-left/backend/main.py").exists(), "what is damaged did not");
    story.is_main(&story.other("the-one-before/backend/main.py"));
    flip_a_byte(&archive);

    story
        .meanwhile("first=\"$STORE/snapshots/$(backstay list | awk 'NR == 2 {print $1}').json\"; mv \"$first\" \"$OTHER/hidden\"");
    let said = story.well("by-id");
    assert!(said.contains("NOT WHOLE") && said.contains("exit code 13"), "{said}");
    story.is_main(&story.other("by-id/backend/main.py"));
    story.meanwhile("id=$(grep -o '\"snapshot\":\"[^\"]*' \"$OTHER/hidden\" | cut -d '\"' -f 4); mv \"$OTHER/hidden\" \"$STORE/snapshots/$id.json\"");
}

fn the_store_moves_and_is_gone(story: &mut Story) {
    story.well("move");
    story.meanwhile("printf '\n[[store]]\nname = \"second\"\npath = \"%s/second\"\n' \"$OTHER\" >> backstay.toml; backstay init; backstay backup");
    story.meanwhile("backstay list > \"$OTHER/before\"; rm -r \"$OTHER/store\"; ! backstay init");
    story.meanwhile("backstay restore latest backend --to \"$OTHER/from-second\" || test $? = 4");
    story.is_main(&story.other("from-second/backend/main.py"));
    let listed = story.well("replace-store");
    let before = fs::read_to_string(story.other("before")).unwrap();
    assert!(listed.contains(&before), "{listed}\ninstead of\n{before}");
    story.well("new-vault");
    story.meanwhile("test $(backstay list | wc -l) = 2; test -f \"$OTHER/new-store/backstay.json\"");
    story.well("script");
    story.is_main(&story.other("without-backstay/backend/main.py"));
    let said = story.well("signature");
    assert!(said.contains("Good \"backstay-recover-1\" signature"), "{said}");
}
