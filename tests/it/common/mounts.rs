//! File systems of a test's own. Needs root; the tests run themselves in a mount namespace, so nothing is mounted outside of it.

use crate::common::project::{cannot_run, expect_code, is_root};
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "BACKSTAY_TEST_FOLDER";

/// Runs the ignored test `child` of this program in a mount namespace of its own, with an empty folder. False, which is said, when that cannot be had.
pub(crate) fn in_own_mounts(child: &str) -> bool {
    if !is_root() {
        cannot_run(&format!("{child}: mounting needs root"));
        return false;
    }
    let can = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        cannot_run(&format!("{child}: this machine lets nobody mount anything (unshare -m, tmpfs)"));
        return false;
    }
    let top = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .arg("-m")
        .arg(std::env::current_exe().unwrap())
        .args([child, "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, top.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{words}");
    true
}

/// The folder that the parent gave; none when somebody runs all ignored tests.
pub(crate) fn given_folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Mounts what `args` say at `at`, which is made.
pub(crate) fn mount(args: &[&str], at: &Path) {
    std::fs::create_dir_all(at).unwrap();
    expect_code(Command::new("mount").args(args).arg(at).output().unwrap(), 0);
}

/// True when `program` succeeds.
pub(crate) fn run(program: &str, args: &[&str]) -> bool {
    let output = Command::new(program).args(args).output();
    output.is_ok_and(|output| output.status.success())
}

/// `EXT4_IOC_SHUTDOWN` with `NOLOGFLUSH`: what is not on the medium now never gets there. Python makes the call, because this code may not.
const CUT: &str = "import fcntl,os,struct,sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// Cuts the power of the ext4 that is mounted at `at`; false where that cannot be done.
pub(crate) fn cut_power(at: &Path) -> bool {
    run("python3", &["-c", CUT, at.to_str().unwrap()])
}
