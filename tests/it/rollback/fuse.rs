//! A real file system on which names can be moved only over others, or not at all: FUSE without its second kind of rename, as `rclone mount` makes one.

use super::SERVICE;
use crate::common::mounts::{given_folder, in_own_mounts};
use crate::common::project::{Gone, Project, cannot_run, expect_code};
use crate::common::servers::rclone_program;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

#[test]
fn on_a_file_system_that_cannot_rename_without_replacing_nothing_is_stopped() {
    in_own_mounts("rollback::fuse::no_moves");
}

/// What serves the file system; ended with its value.
struct Mounted(Child);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// The file system of a folder; none of one that cannot be asked at this moment.
fn device(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|facts| std::os::unix::fs::MetadataExt::dev(&facts))
}

/// `rclone mount` of `what` at `at`; none, which is said, where that cannot be had.
fn mounted(top: &Path, what: &Path, at: &Path) -> Option<Mounted> {
    let Some(program) = rclone_program() else {
        cannot_run("no `rclone` here: a rollback on FUSE was not tried");
        return None;
    };
    // It asks for the helper of FUSE 3; that of FUSE 2 takes the same orders.
    let helpers = ["/usr/bin/fusermount3", "/usr/bin/fusermount", "/bin/fusermount"].map(Path::new);
    let Some(helper) = helpers.into_iter().find(|path| path.exists()) else {
        cannot_run("no `fusermount` here: a rollback on FUSE was not tried");
        return None;
    };
    let bin = top.join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(helper, bin.join("fusermount3")).unwrap();
    let log = fs::File::create(top.join("log")).unwrap();
    let mut command = Command::new(program);
    command.args(["mount", "--config", "", "--vfs-cache-mode", "writes", "--cache-dir"]);
    command.arg(top.join("cache")).arg(format!(":local:{}", what.display())).arg(at);
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    let mut child =
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    for _ in 0..600 {
        if device(at).is_some_and(|at| Some(at) != device(top)) {
            return Some(Mounted(child));
        }
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    let said = fs::read_to_string(top.join("log")).unwrap();
    cannot_run(&format!(
        "`rclone mount` makes no file system here, so a rollback on FUSE was not tried: {said}"
    ));
    drop(Mounted(child));
    None
}

#[test]
#[ignore = "runs only as a child of the test above"]
fn no_moves() {
    if given_folder().is_none() {
        return;
    }
    let top = Gone::new();
    let (behind, at) = (top.path().join("behind"), top.path().join("at"));
    for dir in [&behind, &at] {
        fs::create_dir(dir).unwrap();
    }
    let Some(mounted) = mounted(&top.path(), &behind, &at) else { return };
    let component = format!("[[component]]\nname = \"data\"\npath = {:?}\n", at.display().to_string());
    let project = Project::new(&component, SERVICE);
    fs::create_dir(at.join("app")).unwrap();
    fs::write(at.join("app/version"), "1").unwrap();
    let id = project.backup();
    fs::write(at.join("app/version"), "2").unwrap();
    let output = expect_code(project.run(["rollback", &id]), 1);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cannot rename without replacing (RENAME_NOREPLACE)"), "{said}");
    assert!(!said.contains("stopping"), "{said}");
    assert_eq!(fs::read_to_string(at.join("app/version")).unwrap(), "2");
    let litter: Vec<_> = fs::read_dir(&at).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(litter, ["app"], "{said}");
    project.ok(["ready"]);
    drop(mounted);
}
