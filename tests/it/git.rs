//! `--git`: what working trees are at is recorded and kept, nothing of them is touched, and a rollback puts them back without losing anything.

mod rollback;

use crate::common::project::{Project, exe, expect_code, have, is_root, not_run, program};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const COMPONENTS: &str = "[[component]]\nname = \"app\"\npath = \"app\"\nexclude = [\".git/\"]\n";

/// Runs git as a person would, with a configuration that must not reach backstay's own git.
fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(dir).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for name in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{name}_NAME"), "Somebody").env(format!("GIT_{name}_EMAIL"), "s@example");
    }
    let output = expect_code(command.output().unwrap(), 0);
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A project in a repository with one commit: `app/` is a component, `README` is not. None without git.
fn project() -> Option<Project> {
    if !have(&["git"]) {
        return None;
    }
    let project = Project::new(COMPONENTS, "");
    fs::create_dir(project.dir.join("app")).unwrap();
    commit(&project.dir, "first");
    Some(project)
}

/// Writes `text` everywhere and commits it.
fn commit(dir: &Path, text: &str) -> String {
    if !dir.join(".git").exists() {
        git(dir, &["init", "-q", "-b", "main"]);
        fs::write(dir.join(".gitignore"), "backups/\n").unwrap();
    }
    fs::write(dir.join("README"), text).unwrap();
    if dir.join("app").is_dir() {
        fs::write(dir.join("app/main.py"), text).unwrap();
    }
    git(dir, &["add", "."]);
    git(dir, &["commit", "-q", "-m", text]);
    git(dir, &["rev-parse", "HEAD"])
}

fn backup(project: &Project, args: &[&str]) -> Value {
    let report = project.json(["backup"].iter().chain(args));
    assert_eq!(report["problems"], serde_json::json!([]), "{report:#}");
    report
}

#[test]
fn the_commit_branch_and_description_are_recorded_and_tagged() {
    let Some(project) = project() else { return };
    git(&project.dir, &["tag", "-a", "-m", "one", "v1"]);
    let head = git(&project.dir, &["rev-parse", "HEAD"]);
    let report = backup(&project, &["--git", "--note", "Before the migration!"]);
    let (id, tree) = (report["snapshot"].as_str().unwrap(), &report["git"][0]);
    assert_eq!(tree["commit"], head.as_str());
    assert_eq!(
        (&tree["branch"], &tree["describe"], &tree["dirty"]),
        (&"main".into(), &"v1".into(), &false.into())
    );
    assert_eq!(tree["tag"], "pre-before-the-migration");
    assert_eq!(git(&project.dir, &["rev-parse", &format!("refs/backstay/{id}")]), head);
    assert_eq!(git(&project.dir, &["rev-parse", "pre-before-the-migration^{commit}"]), head);
    assert_eq!(git(&project.dir, &["cat-file", "-t", "pre-before-the-migration"]), "tag");
    let show = project.json(["show", "latest"]);
    assert_eq!(show["git"][0]["commit"], head.as_str());
    assert_eq!(show["git"][0]["path"], ".");
    let text = String::from_utf8(project.ok(["show", "latest"]).stdout).unwrap();
    assert!(text.contains(&format!("{head} on main (v1)")), "{text}");
    // A note is sealed; a tag may be pushed.
    assert!(
        !git(&project.dir, &["cat-file", "-p", "pre-before-the-migration"]).contains("Before the migration")
    );
    // Without a name there is no tag, and without --git nothing at all.
    let report = backup(&project, &["--git"]);
    assert_eq!(report["git"][0]["tag"], Value::Null);
    let before = git(&project.dir, &["for-each-ref"]);
    assert_eq!(backup(&project, &["--note", "x"])["git"], serde_json::json!([]));
    assert_eq!(git(&project.dir, &["for-each-ref"]), before);
}

/// Everything of a repository that a backup must leave as it is, byte for byte.
fn untouched(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for name in [".git/index", ".git/HEAD", ".git/refs/heads/main", "README", "app/main.py", "staged"] {
        found.push((PathBuf::from(name), fs::read(dir.join(name)).unwrap_or_default()));
    }
    let names = fs::read_dir(dir.join(".git")).unwrap().map(|e| e.unwrap().path());
    let mut names: Vec<PathBuf> = names.collect();
    names.sort();
    found.extend(names.into_iter().map(|name| (name, Vec::new())));
    found
}

#[test]
fn what_is_not_committed_is_kept_and_nothing_of_the_tree_is_touched() {
    let Some(project) = project() else { return };
    let dir = &project.dir;
    fs::write(dir.join("app/main.py"), "half done").unwrap();
    fs::write(dir.join("staged"), "staged").unwrap();
    git(dir, &["add", "staged"]);
    fs::write(dir.join("staged"), "staged, and changed again").unwrap();
    fs::write(dir.join("untracked"), "new").unwrap();
    // A refresh would write the index: its times lie.
    fs::write(dir.join("README"), "first").unwrap();
    let status = git(dir, &["--no-optional-locks", "status", "--porcelain"]);
    let before = untouched(dir);
    let report = backup(&project, &["--git", "--tag", "stable"]);
    assert_eq!(untouched(dir), before);
    assert_eq!(git(dir, &["--no-optional-locks", "status", "--porcelain"]), status);
    assert_eq!(git(dir, &["stash", "list"]), "");
    let kept = report["git"][0]["kept"].as_str().unwrap();
    assert_eq!(git(dir, &["show", &format!("{kept}:app/main.py")]), "half done");
    assert_eq!(git(dir, &["show", &format!("{kept}:staged")]), "staged, and changed again");
    assert_eq!(git(dir, &["show", &format!("{kept}^2:staged")]), "staged");
    // The tag is of what was committed: nothing was committed for anybody.
    assert_eq!(git(dir, &["rev-parse", "pre-stable^{commit}"]), git(dir, &["rev-parse", "main"]));
    assert_eq!(git(dir, &["rev-list", "--count", "main"]), "1");
    let text = String::from_utf8(project.ok(["show", "latest"]).stdout).unwrap();
    assert!(text.contains("with what was not committed, kept in refs/backstay/"), "{text}");
}

#[test]
fn tags_that_are_there_are_never_moved() {
    let Some(project) = project() else { return };
    let first = git(&project.dir, &["rev-parse", "HEAD"]);
    git(&project.dir, &["tag", "pre-a"]);
    git(&project.dir, &["tag", "pre-b/c"]);
    git(&project.dir, &["branch", "pre-d"]);
    commit(&project.dir, "second");
    for (name, plain) in [("a", false), ("b", false), ("d", true), ("d", false)] {
        let report = backup(&project, &["--git", "--tag", name]);
        let tag = report["git"][0]["tag"].as_str().unwrap();
        assert_eq!(tag == format!("pre-{name}"), plain, "{tag}");
        assert!(tag.starts_with(&format!("pre-{name}")), "{tag}");
        let of = git(&project.dir, &["rev-parse", &format!("refs/tags/{tag}^{{commit}}")]);
        assert_eq!(of, git(&project.dir, &["rev-parse", "HEAD"]));
    }
    assert_eq!(git(&project.dir, &["rev-parse", "refs/tags/pre-a"]), first);
    assert_eq!(git(&project.dir, &["rev-parse", "refs/heads/pre-d"]), first);
}

#[test]
fn a_detached_head_a_worktree_and_a_repository_in_a_subfolder_are_recorded() {
    let Some(project) = project() else { return };
    let head = git(&project.dir, &["rev-parse", "HEAD"]);
    git(&project.dir, &["checkout", "-q", "--detach"]);
    // A second repository, whose folder is a component's, and a linked working tree that is another's.
    let inner = project.dir.join("web");
    fs::create_dir(&inner).unwrap();
    let inner_head = commit(&inner, "web");
    git(&project.dir, &["worktree", "add", "-q", "-b", "side", "../side"]);
    fs::write(project.top.join("side/README"), "changed on the side").unwrap();
    let more = "[[component]]\nname = \"web\"\npath = \"web\"\nexclude = [\".git/\"]\n[[component]]\nname = \"side\"\npath = \"../side\"\n";
    project.configure(&format!("{COMPONENTS}{more}"), "");
    let report = backup(&project, &["--git", "--tag", "x"]);
    let trees = report["git"].as_array().unwrap();
    let paths: Vec<&str> = trees.iter().map(|t| t["path"].as_str().unwrap()).collect();
    assert_eq!(paths.len(), 3, "{report:#}");
    assert_eq!(paths[..2], [".", "web"]);
    assert_eq!((&trees[0]["commit"], &trees[0]["branch"]), (&head.as_str().into(), &Value::Null));
    assert_eq!((&trees[1]["commit"], &trees[1]["branch"]), (&inner_head.as_str().into(), &"main".into()));
    assert_eq!((&trees[2]["branch"], &trees[2]["dirty"]), (&"side".into(), &true.into()));
    assert_eq!(project.json(["show", "latest"])["git"].as_array().unwrap().len(), 3);
    let text = String::from_utf8(project.ok(["show", "latest"]).stdout).unwrap();
    assert!(text.contains("on no branch") && text.contains("web: "), "{text}");
}

#[test]
fn a_submodule_belongs_to_its_project_and_what_git_does_not_keep_of_it_is_said() {
    let Some(project) = project() else { return };
    let library = project.top.join("library");
    fs::create_dir(&library).unwrap();
    commit(&library, "library");
    let url = library.to_str().unwrap();
    git(&project.dir, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, "app/lib"]);
    git(&project.dir, &["commit", "-q", "-m", "with a library"]);
    let report = backup(&project, &["--git"]);
    assert_eq!(report["git"].as_array().unwrap().len(), 1);
    assert_eq!(report["git"][0]["dirty"], false);
    fs::write(project.dir.join("app/lib/README"), "changed inside").unwrap();
    let output = project.run(["backup", "--git", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(15), "{report:#}");
    assert_eq!((&report["good"], &report["git"][0]["dirty"]), (&true.into(), &true.into()));
    assert!(report["problems"][0]["what"].as_str().unwrap().contains("lies in a submodule"), "{report:#}");
}

#[test]
fn without_git_a_repository_or_a_commit_nothing_is_begun() {
    let Some(project) = project() else { return };
    let count = |project: &Project| project.json(["list"])["snapshots"].as_array().unwrap().len();
    // No git: a PATH that has everything else a backup needs, which is nothing.
    let empty = project.top.join("empty");
    fs::create_dir(&empty).unwrap();
    let mut command = program(exe(), &project.home);
    command.current_dir(&project.dir).env("PATH", &empty).args(["backup", "--git"]);
    let output = expect_code(command.output().unwrap(), 1);
    assert!(said(&output).contains("git is not installed"), "{}", said(&output));
    assert!(said(&output).contains("leave --git away"), "{}", said(&output));
    // A branch without a commit.
    let unborn = Project::new(COMPONENTS, "");
    fs::create_dir(unborn.dir.join("app")).unwrap();
    git(&unborn.dir, &["init", "-q"]);
    let output = expect_code(unborn.run(["backup", "--git"]), 2);
    assert!(said(&output).contains("no commit yet"), "{}", said(&output));
    // No repository.
    fs::remove_dir_all(unborn.dir.join(".git")).unwrap();
    let output = expect_code(unborn.run(["backup", "--git"]), 2);
    assert!(said(&output).contains("nothing of this project lies in a git repository"), "{}", said(&output));
    assert_eq!((count(&project), count(&unborn)), (0, 0));
}

#[test]
fn no_hook_no_prompt_and_no_configuration_of_a_person_reaches_git() {
    let Some(project) = project() else { return };
    let dir = &project.dir;
    fs::write(dir.join("app/main.py"), "half done").unwrap();
    let trap = project.top.join("trap");
    fs::write(&trap, format!("#!/bin/sh\ntouch '{}/sprung'\ncat\n", project.top.display())).unwrap();
    fs::set_permissions(&trap, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for hook in ["reference-transaction", "post-checkout", "post-index-change", "pre-commit"] {
        fs::create_dir_all(dir.join(".git/hooks")).unwrap();
        fs::copy(&trap, dir.join(".git/hooks").join(hook)).unwrap();
    }
    git(dir, &["config", "core.fsmonitor", trap.to_str().unwrap()]);
    git(dir, &["config", "tag.gpgSign", "true"]);
    git(dir, &["config", "gpg.program", trap.to_str().unwrap()]);
    let _sprung_by_this_test = fs::remove_file(project.top.join("sprung"));
    // A person's own configuration, and variables that lead elsewhere.
    let config = format!(
        "[core]\n\tfsmonitor = {0}\n\thooksPath = {1}\n[commit]\n\tgpgSign = true\n[alias]\n\tstatus = false\n",
        trap.display(),
        project.top.display()
    );
    fs::write(project.home.join(".gitconfig"), config).unwrap();
    let mut command = program(exe(), &project.home);
    command.current_dir(dir).args(["backup", "--git", "--tag", "x"]);
    command.env("GIT_DIR", "/nowhere").env("GIT_INDEX_FILE", "/nowhere").env("GIT_WORK_TREE", "/nowhere");
    expect_code(command.output().unwrap(), 0);
    assert!(!project.top.join("sprung").exists());
    assert_eq!(git(dir, &["cat-file", "-t", "pre-x"]), "tag");
}

#[test]
fn root_acts_as_the_owner_of_a_repository_and_nobody_else_trusts_a_strangers() {
    let Some(project) = project() else { return };
    if !is_root() {
        return not_run("the repository of another user (needs root)");
    }
    fs::write(project.dir.join("app/main.py"), "half done").unwrap();
    let open =
        |path: &Path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    open(&project.top);
    let chown = Command::new("chown").args(["-R", "12345:12345"]).arg(&project.dir).status().unwrap();
    assert!(chown.success());
    for own in [project.store.clone(), project.config_path()] {
        assert!(Command::new("chown").args(["-R", "0:0"]).arg(own).status().unwrap().success());
    }
    // The configuration must be root's with all above it.
    std::os::unix::fs::chown(&project.dir, Some(0), Some(0)).unwrap();
    let output = expect_code(project.run(["backup", "--git", "--tag", "x"]), 1);
    assert!(said(&output).contains("belongs to another user"), "the folder is root's: {}", said(&output));
    // A repository that is its owner's through and through.
    let inner = project.dir.join("app");
    assert!(Command::new("chown").args(["-R", "0:0"]).arg(&inner).status().unwrap().success());
    git(&inner, &["init", "-q"]);
    git(&inner, &["add", "."]);
    git(&inner, &["commit", "-q", "-m", "inner"]);
    fs::write(inner.join("main.py"), "changed").unwrap();
    let marks = project.top.join("uids");
    fs::write(&marks, "").unwrap();
    fs::set_permissions(&marks, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    fs::write(inner.join(".gitattributes"), "main.py filter=mark\n").unwrap();
    git(&inner, &["config", "filter.mark.clean", &format!("sh -c 'id -u >> {}; cat'", marks.display())]);
    assert!(Command::new("chown").args(["-R", "12345:12345"]).arg(&inner).status().unwrap().success());
    fs::remove_dir_all(project.dir.join(".git")).unwrap();
    let report = backup(&project, &["--git", "--tag", "x"]);
    assert_eq!(report["git"][0]["dirty"], true);
    let uids = fs::read_to_string(&marks).unwrap();
    assert!(!uids.is_empty() && uids.lines().all(|uid| uid == "12345"), "{uids}");
    let mut waiting = vec![inner.join(".git")];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let facts = path.symlink_metadata().unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&facts), 12345, "{}", path.display());
            if facts.is_dir() {
                waiting.push(path);
            }
        }
    }
}

#[test]
fn a_bundle_in_the_snapshot_gives_the_repository_back() {
    let Some(project) = project() else { return };
    let head = git(&project.dir, &["rev-parse", "HEAD"]);
    let report = backup(&project, &["--git=bundle"]);
    let names: Vec<&str> =
        report["components"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["app", "git"]);
    assert_eq!(project.json(["show", "latest"])["git"][0]["bundle"], "git");
    let restored = project.restore("latest", &["git"]);
    let file = fs::read_dir(restored.join("git")).unwrap().next().unwrap().unwrap().path();
    let clone = project.top.join("clone");
    git(&project.top, &["clone", "-q", file.to_str().unwrap(), clone.to_str().unwrap()]);
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), head);
    // A bundle is no part of the application.
    commit(&project.dir, "second");
    project.ok(["rollback", "latest"]);
    assert_eq!(fs::read_to_string(project.dir.join("app/main.py")).unwrap(), "first");
}
