//! A rollback with `--git`: working trees go back, and nothing that is not committed is lost.

use super::*;

#[test]
fn a_rollback_puts_the_working_tree_back_and_moves_no_branch() {
    let Some(project) = project() else { return };
    let dir = &project.dir;
    fs::write(dir.join("gone-later"), "x").unwrap();
    let first = commit(dir, "one");
    let id = backup(&project, &["--git"])["snapshot"].as_str().unwrap().to_owned();
    fs::remove_file(dir.join("gone-later")).unwrap();
    fs::write(dir.join("added"), "new").unwrap();
    fs::write(dir.join("app/added.py"), "new").unwrap();
    let second = commit(dir, "two");
    let plan = project.json(["rollback", &id, "--git", "--dry-run"]);
    assert_eq!(
        (&plan["git"][0]["from"], &plan["git"][0]["to"]),
        (&second.as_str().into(), &first.as_str().into())
    );
    let report = project.json(["rollback", &id, "--git"]);
    assert_eq!(report["git"][0]["commit"], first.as_str());
    assert_eq!(git(dir, &["rev-parse", "HEAD"]), first);
    assert_eq!(git(dir, &["rev-parse", "main"]), second, "a branch was moved");
    assert_eq!(git(dir, &["status", "--porcelain"]), "", "the tree is that of the commit");
    assert_eq!(fs::read_to_string(dir.join("README")).unwrap(), "one");
    assert_eq!(fs::read_to_string(dir.join("app/main.py")).unwrap(), "one");
    assert!(
        dir.join("gone-later").exists() && !dir.join("added").exists() && !dir.join("app/added.py").exists()
    );
    project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!(git(dir, &["symbolic-ref", "--short", "HEAD"]), "main");
    assert_eq!(git(dir, &["status", "--porcelain"]), "");
    assert_eq!(fs::read_to_string(dir.join("README")).unwrap(), "two");
    assert!(dir.join("added").exists() && !dir.join("gone-later").exists());
}

#[test]
fn a_rollback_of_what_was_not_committed_shows_it_as_it_was() {
    let Some(project) = project() else { return };
    fs::write(project.dir.join("app/main.py"), "half done").unwrap();
    let id = backup(&project, &["--git"])["snapshot"].as_str().unwrap().to_owned();
    commit(&project.dir, "two");
    project.ok(["rollback", &id, "--git"]);
    assert_eq!(git(&project.dir, &["status", "--porcelain"]), " M app/main.py");
    assert_eq!(fs::read_to_string(project.dir.join("app/main.py")).unwrap(), "half done");
}

#[test]
fn a_rollback_with_git_refuses_to_lose_what_is_not_committed() {
    let Some(project) = project() else { return };
    let dir = &project.dir;
    fs::write(dir.join("later"), "tracked then").unwrap();
    let first = commit(dir, "one");
    let id = backup(&project, &["--git"])["snapshot"].as_str().unwrap().to_owned();
    git(dir, &["rm", "-q", "later"]);
    let second = commit(dir, "two");
    let refused = |words: &str, code: i32| {
        let output = expect_code(project.run(["rollback", &id, "--git"]), code);
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
        assert_eq!(git(dir, &["rev-parse", "HEAD"]), second);
        assert_eq!(fs::read_to_string(dir.join("app/main.py")).unwrap(), "two");
    };
    fs::write(dir.join("README"), "not committed").unwrap();
    refused("--git would lose what is not committed in", 1);
    git(dir, &["add", "README"]);
    refused("README", 1);
    git(dir, &["reset", "-q", "--hard"]);
    fs::write(dir.join("later"), "of a person, and unknown to git").unwrap();
    refused("is in the way", 1);
    fs::remove_file(dir.join("later")).unwrap();
    fs::write(dir.join(".git/MERGE_HEAD"), format!("{first}\n")).unwrap();
    refused("in the middle of something", 1);
    fs::remove_file(dir.join(".git/MERGE_HEAD")).unwrap();
    fs::rename(dir.join(".git"), project.top.join("away")).unwrap();
    let output = expect_code(project.run(["rollback", &id, "--git"]), 1);
    assert!(said(&output).contains("there is no git repository"), "{}", said(&output));
    fs::rename(project.top.join("away"), dir.join(".git")).unwrap();
    let plain = project.backup();
    let output = expect_code(project.run(["rollback", &plain, "--git"]), 2);
    assert!(said(&output).contains("recorded nothing of git"), "{}", said(&output));
    project.ok(["rollback", &id, "--git"]);
    assert_eq!(git(dir, &["rev-parse", "HEAD"]), first);
}

#[test]
fn a_rollback_with_git_that_was_killed_ends_with_both() {
    let Some(project) = project() else { return };
    let first = git(&project.dir, &["rev-parse", "HEAD"]);
    let id = backup(&project, &["--git"])["snapshot"].as_str().unwrap().to_owned();
    let second = commit(&project.dir, "two");
    for name in ["rollback: healthy", "rollback: git moved"] {
        let mut command = program(exe(), &project.home);
        command.current_dir(&project.dir).args(["rollback", &id, "--git"]);
        let killed = command.env("BACKSTAY_TEST_CRASH", format!("{name}#1")).output().unwrap();
        assert_eq!(killed.status.code(), None, "{}", said(&killed));
        project.ok(["rollback", "--resume"]);
        assert_eq!(git(&project.dir, &["rev-parse", "HEAD"]), first, "{name}");
        assert_eq!(git(&project.dir, &["status", "--porcelain"]), "", "{name}");
        project.ok(["rollback", "--undo", "--yes"]);
        assert_eq!(git(&project.dir, &["rev-parse", "HEAD"]), second, "{name}");
    }
}

/// A project that was put back to a commit with `deploy.sh` changed and `later` not there; gives both commits.
fn put_back(project: &Project) -> (String, String) {
    let dir = &project.dir;
    fs::write(dir.join("deploy.sh"), "then").unwrap();
    let first = commit(dir, "one");
    let id = backup(project, &["--git"])["snapshot"].as_str().unwrap().to_owned();
    fs::write(dir.join("deploy.sh"), "now").unwrap();
    fs::create_dir(dir.join("later")).unwrap();
    fs::write(dir.join("later/x"), "now").unwrap();
    let second = commit(dir, "two");
    project.ok(["rollback", &id, "--git"]);
    assert!(!dir.join("later").exists());
    (first, second)
}

#[test]
fn taking_a_rollback_back_refuses_to_lose_what_is_not_committed() {
    let Some(project) = project() else { return };
    let dir = &project.dir;
    let (first, second) = put_back(&project);
    let snapshots = project.json(["list"])["snapshots"].as_array().unwrap().len();
    let refused = |path: &str, text: &str, words: &str| {
        let output = expect_code(project.run(["rollback", "--undo", "--yes"]), 1);
        for words in [path, words, "Nothing was changed"] {
            assert!(said(&output).contains(words), "{words}: {}", said(&output));
        }
        assert_eq!(fs::read_to_string(dir.join(path)).unwrap(), text);
        assert_eq!(git(dir, &["rev-parse", "HEAD"]), first);
        assert_eq!(fs::read_to_string(dir.join("app/main.py")).unwrap(), "one");
        assert_eq!(project.json(["list"])["snapshots"].as_array().unwrap().len(), snapshots);
    };
    // Changed; staged; staged, and the file as it was.
    fs::write(dir.join("deploy.sh"), "work").unwrap();
    refused("deploy.sh", "work", "not committed");
    git(dir, &["add", "deploy.sh"]);
    refused("deploy.sh", "work", "not committed");
    fs::write(dir.join("deploy.sh"), "then").unwrap();
    refused("deploy.sh", "then", "not committed");
    git(dir, &["reset", "-q", "--hard"]);
    // Unknown to git where the other commit has a file, in place of its folder, and as a folder in place of the file.
    fs::create_dir(dir.join("later")).unwrap();
    fs::write(dir.join("later/x"), "work").unwrap();
    refused("later/x", "work", "is in the way");
    fs::remove_file(dir.join("later/x")).unwrap();
    fs::create_dir(dir.join("later/x")).unwrap();
    fs::write(dir.join("later/x/y"), "work").unwrap();
    refused("later/x/y", "work", "is in the way");
    fs::remove_dir_all(dir.join("later")).unwrap();
    fs::write(dir.join("later"), "work").unwrap();
    refused("later", "work", "is in the way");
    git(dir, &["add", "later"]);
    refused("later", "work", "is in the way");
    git(dir, &["rm", "-q", "-f", "later"]);
    // What is there already as the commit has it is no loss.
    fs::create_dir(dir.join("later")).unwrap();
    fs::write(dir.join("later/x"), "now").unwrap();
    project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!(git(dir, &["rev-parse", "HEAD"]), second);
    assert_eq!(git(dir, &["status", "--porcelain"]), "");
}

/// After a rollback somebody commits once more; gives that commit.
fn put_back_and_gone_on(project: &Project) -> String {
    put_back(project);
    let dir = &project.dir;
    fs::write(dir.join("deploy.sh"), "mended").unwrap();
    git(dir, &["commit", "-q", "-a", "-m", "mended"]);
    git(dir, &["rev-parse", "HEAD"])
}

#[test]
fn a_repository_that_went_on_after_a_rollback_stays_where_it_is_and_that_is_told() {
    let Some(project) = project() else { return };
    let dir = &project.dir;
    let third = put_back_and_gone_on(&project);
    let output = expect_code(project.run(["rollback", "--undo", "--yes"]), 15);
    assert!(said(&output).contains(&format!("HEAD is at {third}")), "{}", said(&output));
    assert_eq!(git(dir, &["rev-parse", "HEAD"]), third);
    assert_eq!(git(dir, &["diff", "--cached", "--name-only"]), "");
    assert_eq!(fs::read_to_string(dir.join("deploy.sh")).unwrap(), "mended");
    assert_eq!(fs::read_to_string(dir.join("app/main.py")).unwrap(), "two");
}

#[test]
fn what_git_could_not_take_back_is_told_also_by_the_run_that_ends_an_undo_that_was_killed() {
    let Some(project) = project() else { return };
    let dir = &project.dir;
    let third = put_back_and_gone_on(&project);
    let mut undo = program(exe(), &project.home);
    undo.current_dir(dir).args(["rollback", "--undo", "--yes"]);
    let killed = undo.env("BACKSTAY_TEST_CRASH", "rollback: journal kept#1").output().unwrap();
    assert_eq!(killed.status.code(), None, "{}", said(&killed));
    let output = expect_code(project.run(["rollback", "--resume"]), 17);
    assert!(said(&output).contains(&format!("HEAD is at {third}")), "{}", said(&output));
    assert_eq!(fs::read_to_string(dir.join("app/main.py")).unwrap(), "two");
}

#[test]
fn what_a_person_wrote_while_a_rollback_was_under_way_is_not_lost_to_git() {
    let Some(project) = project() else { return };
    let dir = &project.dir;
    fs::write(dir.join("later"), "then").unwrap();
    commit(dir, "one");
    let id = backup(&project, &["--git"])["snapshot"].as_str().unwrap().to_owned();
    git(dir, &["rm", "-q", "later"]);
    project.configure(COMPONENTS, "[[hook]]\non = \"rollback\"\nbefore = \"echo work > later\"\n");
    let second = commit(dir, "two");
    let output = expect_code(project.run(["rollback", &id, "--git"]), 15);
    assert!(said(&output).contains("later is in the way"), "{}", said(&output));
    assert_eq!(fs::read_to_string(dir.join("later")).unwrap(), "work\n");
    assert_eq!(git(dir, &["rev-parse", "HEAD"]), second);
    assert_eq!(fs::read_to_string(dir.join("app/main.py")).unwrap(), "one");
}

/// After a kill in the middle of git's own work some files are of the one commit and some of the other.
#[test]
fn a_way_back_of_git_that_was_cut_off_half_way_is_gone_to_its_end() {
    let Some(project) = project() else { return };
    let dir = &project.dir;
    fs::write(dir.join("later"), "then").unwrap();
    let first = commit(dir, "one");
    let id = backup(&project, &["--git"])["snapshot"].as_str().unwrap().to_owned();
    git(dir, &["rm", "-q", "later"]);
    fs::write(dir.join("added"), "now").unwrap();
    commit(dir, "two");
    let mut command = program(exe(), &project.home);
    command.current_dir(dir).args(["rollback", &id, "--git"]);
    let killed = command.env("BACKSTAY_TEST_CRASH", "rollback: healthy#1").output().unwrap();
    assert_eq!(killed.status.code(), None, "{}", said(&killed));
    git(dir, &["rm", "-q", "added"]);
    fs::write(dir.join("README"), "one").unwrap();
    fs::write(dir.join("later"), "then").unwrap();
    project.ok(["rollback", "--resume"]);
    assert_eq!(git(dir, &["rev-parse", "HEAD"]), first);
    assert_eq!(git(dir, &["status", "--porcelain"]), "");
}
