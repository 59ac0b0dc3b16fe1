//! The demo's application: small, but with everything that real ones have.

use crate::ops::error::{Class, Doing, OpError, Result};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The code of the first version.
const FIRST: &str = "from fastapi import FastAPI\napp = FastAPI()\nVERSION = 1\n";

/// The database of the application at `app`.
pub(super) fn database(app: &Path) -> PathBuf {
    app.join("backend/data/agent.db")
}

fn write(path: &Path, text: &str) -> Result<()> {
    let doing = || format!("cannot write {}", path.display());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).doing(Class::Failed, doing)?;
    }
    fs::write(path, text).doing(Class::Failed, doing)
}

/// Makes the application.
pub(super) fn make(app: &Path) -> Result<()> {
    write(&app.join("backend/main.py"), FIRST)?;
    for n in 0..40 {
        let body = format!("def step_{n}(x):\n    return x * {n}\n").repeat(20);
        write(&app.join(format!("backend/steps/step_{n}.py")), &body)?;
    }
    write(&app.join("backend/requirements.txt"), "fastapi==0.115\nuvicorn==0.34\n")?;
    write(&app.join("backend/__pycache__/main.pyc"), "compiled")?;
    write(
        &app.join("frontend/package.json"),
        "{\"name\": \"tsushin\", \"scripts\": {\"dev\": \"next dev\"}}\n",
    )?;
    write(
        &app.join("frontend/app/page.tsx"),
        "export default function Page() { return <h1>tsushin</h1> }\n",
    )?;
    write(&app.join("frontend/node_modules/next/index.js"), "module.exports = {}\n")?;
    write(&app.join(".env"), "SECRET_KEY=not-a-real-one\n")?;
    fs::create_dir_all(app.join("backend/data"))
        .doing(Class::Failed, || "cannot make the data folder".into())?;
    special_things(app).doing(Class::Failed, || "cannot make the demo's special files".into())
}

fn special_things(app: &Path) -> std::io::Result<()> {
    fs::set_permissions(app.join(".env"), fs::Permissions::from_mode(0o600))?;
    fs::set_permissions(app.join("backend/main.py"), fs::Permissions::from_mode(0o755))?;
    symlink("main.py", app.join("backend/current"))?;
    fs::hard_link(app.join("backend/requirements.txt"), app.join("backend/requirements.lock"))?;
    let mut sparse = fs::File::create(app.join("backend/data/sparse.img"))?;
    sparse.seek(SeekFrom::Start(8 << 20))?;
    sparse.write_all(b"the end of eight mebibytes of nothing")
}

/// Deploys a new version.
pub(super) fn change(app: &Path) -> Result<()> {
    write(&app.join("backend/main.py"), "from fastapi import FastAPI\napp = FastAPI()\nVERSION = 2\n")?;
    write(&app.join("backend/steps/step_new.py"), "def step_new(x):\n    return x\n")?;
    let gone = app.join("backend/steps/step_3.py");
    fs::remove_file(&gone).doing(Class::Failed, || format!("cannot remove {}", gone.display()))
}

/// Ruins it.
pub(super) fn damage(app: &Path) -> Result<()> {
    write(&app.join("backend/main.py"), "oops")?;
    let steps = app.join("backend/steps");
    fs::remove_dir_all(&steps).doing(Class::Failed, || format!("cannot remove {}", steps.display()))
}

/// A version that does not start.
pub(super) fn break_it(app: &Path) -> Result<()> {
    write(&app.join("backend/main.py"), "VERSION = 3\nbroken\n")
}

/// The first version again, as the service that runs was started.
pub(super) fn mend_it(app: &Path) -> Result<()> {
    write(&app.join("backend/main.py"), FIRST)
}

/// What is live must be the first version, with what a rollback leaves.
pub(super) fn expect_first(app: &Path) -> Result<()> {
    expect(&app.join("backend/main.py"), "VERSION = 1")?;
    expect(&app.join("backend/steps/step_3.py"), "step_3")?;
    expect(&app.join("frontend/node_modules/next/index.js"), "module.exports")?;
    match app.join("backend/steps/step_new.py").exists() {
        true => Err(OpError::new(Class::Failed, "a file of the second version is still there")),
        false => Ok(()),
    }
}

/// The restored second version must be the second version.
pub(super) fn expect_changed(restored: &Path) -> Result<()> {
    expect(&restored.join("backend/main.py"), "VERSION = 2")?;
    expect(&restored.join("backend/steps/step_new.py"), "step_new")?;
    expect(&restored.join("backend/steps/step_7.py"), "step_7")?;
    expect(&restored.join("settings/.env"), "SECRET_KEY")?;
    for absent in ["backend/steps/step_3.py", "backend/__pycache__", "frontend/node_modules"] {
        if restored.join(absent).exists() {
            return Err(OpError::new(Class::Failed, format!("{absent} came back, and should not have")));
        }
    }
    let sparse = restored.join("backend/data/sparse.img");
    let facts =
        fs::metadata(&sparse).doing(Class::Failed, || format!("cannot look at {}", sparse.display()))?;
    if facts.blocks() * 512 > facts.size() / 2 {
        return Err(OpError::new(Class::Failed, "the sparse file came back with its holes filled"));
    }
    Ok(())
}

/// The file that was restored in place is back, and the damaged one is beside it.
pub(super) fn main_is_back(app: &Path) -> Result<()> {
    expect(&app.join("backend/main.py"), "VERSION = 2")?;
    let listing =
        fs::read_dir(app.join("backend")).doing(Class::Failed, || "cannot list the backend".into())?;
    let kept =
        listing.flatten().find(|e| e.file_name().to_string_lossy().starts_with("main.py.before-restore-"));
    match kept {
        Some(kept) => expect(&kept.path(), "oops"),
        None => Err(OpError::new(Class::Failed, "the damaged file was not kept")),
    }
}

fn expect(path: &Path, text: &str) -> Result<()> {
    let content =
        fs::read_to_string(path).doing(Class::Failed, || format!("{} did not come back", path.display()))?;
    if content.contains(text) {
        return Ok(());
    }
    Err(OpError::new(Class::Failed, format!("{} came back with other content", path.display())))
}

/// A copy of the application's files to compare with later; what backups leave out is left out here too.
pub(super) fn copy_files(app: &Path, copy: &Path) -> Result<()> {
    let doing = || format!("cannot copy the application to {}", copy.display());
    fs::create_dir_all(copy).doing(Class::Failed, doing)?;
    for part in ["backend", "frontend"] {
        let done = Command::new("cp")
            .arg("-a")
            .arg(app.join(part))
            .arg(copy)
            .status()
            .doing(Class::Failed, doing)?;
        if !done.success() {
            return Err(OpError::new(Class::Failed, doing()));
        }
    }
    let left_out = ["backend/__pycache__", "frontend/node_modules"];
    for part in left_out {
        fs::remove_dir_all(copy.join(part)).doing(Class::Failed, doing)?;
    }
    for sidecar in ["", "-wal", "-shm"] {
        // The database is compared by its rows.
        let _absent = fs::remove_file(copy.join(format!("backend/data/agent.db{sidecar}")));
    }
    Ok(())
}
