//! A project that changes at random, and what each of its snapshots must give back.

use crate::common::everything::put_sparse;
use crate::common::project::{Project, exe, expect_code, noise, program};
use crate::common::trees::{Facts, Tree, assert_same, look, restorable};
use crate::common::uses::Listed;
use backstay::model::ObjectId;
use rustix::fs::{XattrFlags, lsetxattr};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

/// SplitMix64: the same numbers everywhere.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(super) fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    fn size(&mut self) -> usize {
        let most = [300, 20_000, 200_000, 1 << 20, 3 << 20][self.below(5) as usize];
        self.below(most) as usize
    }

    fn bytes(&mut self) -> Vec<u8> {
        let (seed, size) = (self.next(), self.size());
        if self.chance(4) { vec![b'z'; size] } else { noise(seed, size) }
    }
}

/// Files of at least so many bytes are nearly all holes, and are never read into memory.
const SPARSE_MIN: u64 = 260 << 20;

/// Rows of a database.
type Rows = Vec<(i64, Vec<u8>)>;

/// A snapshot, and what it must give back.
struct Made {
    id: String,
    components: Vec<&'static str>,
    tree: Tree,
    /// Of the databases in the tree.
    inner: BTreeMap<Vec<u8>, Rows>,
    outer: Rows,
    dump: Vec<u8>,
}

pub(super) struct World {
    project: Project,
    rng: Rng,
    seed: u64,
    made: Vec<Made>,
    /// Names of objects that were harmed.
    harmed: BTreeSet<String>,
    /// Catalogs of earlier rounds.
    catalogs: Vec<Vec<u8>>,
    own: String,
    /// What the snapshot before holds.
    last: Option<Listed>,
    /// How many bytes of each archive were in use when it was made.
    archives: BTreeMap<ObjectId, u64>,
    /// How many small archives a component may refer to.
    small_max: u64,
    /// Since the last snapshot it was changed who can open the next one.
    resealed: bool,
    /// Runs are for all components, and none is in full.
    calm: bool,
    /// Files that were databases before, to be put back.
    older: [Option<Vec<u8>>; 2],
    /// Connections to the databases that stay open, so that what they committed lies in a log.
    open: [Option<rusqlite::Connection>; 2],
    pub(super) tally: Tally,
}

/// How often what happened: where nothing did, nothing was tried.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Snapshots made while a log held what the database did not.
    pub(super) logs: usize,
    /// Snapshots with a file whose extents are in maps.
    pub(super) maps: usize,
    /// Archives that were packed again: something in them did not change, and the next snapshot does not refer to them.
    pub(super) again: usize,
    /// Those of them of which more than half was in use: they were folded.
    pub(super) folded: usize,
    /// Databases renamed, copied, made anew, put back, emptied, or changed in their metadata or kind.
    pub(super) databases: usize,
    /// Catalogs lost, cut, damaged or put back.
    pub(super) catalogs: usize,
    /// Changes of who can open snapshots.
    pub(super) recipients: usize,
    /// Objects lost, cut or changed.
    pub(super) objects: usize,
    /// Snapshots that were restored and compared at the end.
    pub(super) restored: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.logs += other.logs;
        self.maps += other.maps;
        self.again += other.again;
        self.folded += other.folded;
        self.databases += other.databases;
        self.catalogs += other.catalogs;
        self.recipients += other.recipients;
        self.objects += other.objects;
        self.restored += other.restored;
    }
}

const COMPONENTS: &str = r#"
[[component]]
name = "app"
path = "app"
[[component]]
name = "db"
sqlite = "outer.db"
[[component]]
name = "dump"
command = ["cat", "dump.sql"]
"#;

impl World {
    pub(super) fn new(seed: u64) -> Self {
        println!("history {seed}");
        let mut rng = Rng(seed);
        // Small archives, so that there are many and their emptiest are packed again.
        let more = "[packing]\narchive_size = \"1MiB\"\nlevel = 1\n";
        let project = Project::new(COMPONENTS, more);
        let app = project.dir.join("app");
        fs::create_dir_all(app.join("data")).unwrap();
        for n in 0..20 {
            let dir = app.join(format!("d{}", n % 4));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(format!("f{n}")), rng.bytes()).unwrap();
        }
        fs::write(app.join("big"), noise(seed, 5 << 20)).unwrap();
        fs::write(project.dir.join("dump.sql"), rng.bytes()).unwrap();
        // So few that a history of some rounds comes to fold them.
        let small_max = 1 + rng.below(3);
        let own = project.config()["encryption"]["recipients"][0].as_str().unwrap().to_owned();
        let mut world = Self {
            project,
            rng,
            seed,
            made: Vec::new(),
            harmed: BTreeSet::new(),
            catalogs: Vec::new(),
            own,
            last: None,
            archives: BTreeMap::new(),
            small_max,
            resealed: false,
            calm: false,
            older: [None, None],
            open: [None, None],
            tally: Tally::default(),
        };
        world.put_stretches(&app.join("stretches"));
        for n in 0..2 {
            world.new_database(n);
        }
        world
    }

    /// A database where there is none.
    fn new_database(&mut self, which: usize) {
        let wal = if self.rng.chance(2) { "WAL" } else { "DELETE" };
        let sql = format!("PRAGMA journal_mode = {wal}; CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB);");
        rusqlite::Connection::open(&self.databases()[which]).unwrap().execute_batch(&sql).unwrap();
        self.change_database(which);
    }

    fn app(&self) -> PathBuf {
        self.project.dir.join("app")
    }

    fn databases(&self) -> [PathBuf; 2] {
        [self.app().join("data/in.db"), self.project.dir.join("outer.db")]
    }

    /// Everything below `app` but the database, in a fixed order.
    fn paths(&self, wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.app()];
        while let Some(dir) = open.pop() {
            for item in fs::read_dir(dir).unwrap() {
                let path = item.unwrap().path();
                if path.ends_with("data") {
                    continue;
                }
                if path.symlink_metadata().unwrap().is_dir() {
                    open.push(path.clone());
                }
                found.push(path);
            }
        }
        found.retain(|path| wanted(path));
        found.sort();
        found
    }

    fn pick(&mut self, wanted: impl Fn(&Path) -> bool) -> Option<PathBuf> {
        let paths = self.paths(wanted);
        (!paths.is_empty()).then(|| paths[self.rng.below(paths.len() as u64) as usize].clone())
    }

    fn file(&mut self) -> Option<PathBuf> {
        self.pick(|p| p.symlink_metadata().unwrap().is_file())
    }

    /// A name that nothing has.
    fn new_name(&mut self) -> PathBuf {
        let dir = self.pick(|p| p.symlink_metadata().unwrap().is_dir()).unwrap_or_else(|| self.app());
        dir.join(format!("n{:x}", self.rng.next()))
    }

    /// Several changes; sometimes none.
    pub(super) fn change(&mut self) {
        for _ in 0..self.rng.below(9) {
            self.change_tree();
        }
        for n in 0..2 {
            if self.rng.chance(2) {
                self.change_file_of_database(n);
            }
            if self.rng.chance(2) {
                self.change_database(n);
            }
        }
        if self.rng.chance(3) {
            let dump = self.project.dir.join("dump.sql");
            let mut bytes = fs::read(&dump).unwrap();
            let at = self.rng.below(bytes.len() as u64 + 1) as usize;
            let (seed, length) = (self.rng.next(), self.rng.below(500) as usize);
            drop(bytes.splice(at..at, noise(seed, length)));
            fs::write(&dump, bytes).unwrap();
        }
    }

    fn change_tree(&mut self) {
        match self.rng.below(18) {
            0 => {
                let (path, bytes) = (self.new_name(), self.rng.bytes());
                fs::write(path, bytes).unwrap();
            }
            1 => fs::create_dir(self.new_name()).unwrap(),
            2 => self.put_with_holes(),
            3 => {
                let Some(path) = self.pick(|_| true) else { return };
                if path.symlink_metadata().unwrap().is_dir() {
                    fs::remove_dir_all(path).unwrap();
                } else {
                    fs::remove_file(path).unwrap();
                }
            }
            4 => {
                let (Some(from), to) = (self.pick(|_| true), self.new_name()) else { return };
                // Not into itself.
                if !to.starts_with(&from) {
                    fs::rename(from, to).unwrap();
                }
            }
            5 => {
                let (Some(from), to) = (self.file(), self.new_name()) else { return };
                if from.metadata().unwrap().len() > 8 << 20 {
                    // Its holes stay holes.
                    let copied = Command::new("cp").arg("--sparse=always").args([from, to]).status().unwrap();
                    assert!(copied.success());
                } else {
                    fs::copy(from, to).unwrap();
                }
            }
            6 => {
                let (Some(from), to) = (self.file(), self.new_name()) else { return };
                fs::hard_link(from, to).unwrap();
            }
            7 => {
                let Some(path) = self.file() else { return };
                fs::remove_file(&path).unwrap();
                match self.rng.below(3) {
                    0 => fs::create_dir(path).unwrap(),
                    1 => std::os::unix::fs::symlink("to/nowhere", path).unwrap(),
                    _ => fs::write(path, b"").unwrap(),
                }
            }
            kind @ (8 | 10 | 11) => self.change_metadata(kind),
            9 => {
                // Another way to write a file: a new one in its place.
                let (Some(path), temporary) = (self.file(), self.new_name()) else { return };
                if path.metadata().unwrap().len() > SPARSE_MIN {
                    return;
                }
                let mut bytes = fs::read(&path).unwrap();
                let more = self.rng.bytes();
                bytes.extend_from_slice(&more);
                fs::write(&temporary, bytes).unwrap();
                fs::rename(temporary, path).unwrap();
            }
            12 => {
                let Some(path) = self.pick(|p| p.symlink_metadata().unwrap().is_dir()) else { return };
                let bytes = self.rng.bytes();
                fs::remove_dir_all(&path).unwrap();
                fs::write(path, bytes).unwrap();
            }
            _ => self.edit(),
        }
    }

    /// A file with a hole, or with many.
    fn put_with_holes(&mut self) {
        let path = self.new_name();
        if self.rng.chance(4) {
            return self.put_stretches(&path);
        }
        let size = self.rng.below(40 << 20) + 1;
        let (at, length) = (self.rng.below(size), self.rng.below(2 << 20) as usize);
        put_sparse(&path, size, &[(at, length.min((size - at) as usize))]);
    }

    /// A file of so many stretches of data that its extents are in maps, on both sides of a border between two of them.
    fn put_stretches(&mut self, path: &Path) {
        let size = SPARSE_MIN + self.rng.below(8 << 20);
        let step = size / 300;
        let stretches: Vec<(u64, usize)> =
            (0..300).map(|n| (n * step / 4096 * 4096, 1 + self.rng.below(4096) as usize)).collect();
        put_sparse(path, size, &stretches);
    }

    /// Changes mode, time or an attribute; the content stays as it is.
    fn change_metadata(&mut self, kind: u64) {
        match kind {
            8 => {
                let Some(path) = self.pick(|p| !p.symlink_metadata().unwrap().is_symlink()) else { return };
                let mode = if path.is_dir() { 0o711 } else { 0o400 + self.rng.below(64) as u32 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
            10 => {
                let Some(path) = self.file() else { return };
                let time = UNIX_EPOCH + Duration::from_secs(self.rng.below(2_000_000_000));
                File::open(path).unwrap().set_modified(time).unwrap();
            }
            _ => {
                let Some(path) = self.pick(|p| !p.symlink_metadata().unwrap().is_symlink()) else { return };
                let value = noise(self.rng.next(), 20);
                // Not every file system has them.
                let _not_everywhere = lsetxattr(path, "user.random", &value, XattrFlags::empty());
            }
        }
    }

    /// Changes the content of a file.
    fn edit(&mut self) {
        let path = if self.rng.chance(3) {
            Some(self.app().join("big")).filter(|p| p.is_file())
        } else {
            self.file()
        };
        let Some(path) = path else { return };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let facts = fs::metadata(&path).unwrap();
        let at = self.rng.below(facts.len() + 1);
        let (seed, length) = (self.rng.next(), self.rng.below(60_000) as usize);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        match self.rng.below(4) {
            0 => file.set_len(at).unwrap(),
            1 => file.write_all_at(&noise(seed, length), facts.len()).unwrap(),
            2 if facts.len() < 8 << 20 => {
                let mut bytes = fs::read(&path).unwrap();
                drop(bytes.splice(at as usize..at as usize, noise(seed, length)));
                fs::write(&path, bytes).unwrap();
            }
            _ => {
                let length = length.min((facts.len() - at) as usize);
                file.write_all_at(&noise(seed, length), at).unwrap();
                if self.rng.chance(2) {
                    // The same size and the same time: only the change time tells.
                    file.set_modified(facts.modified().unwrap()).unwrap();
                }
            }
        }
    }

    fn change_database(&mut self, which: usize) {
        let path = &self.databases()[which];
        let mut db = self.open[which].take().unwrap_or_else(|| rusqlite::Connection::open(path).unwrap());
        let rows: i64 = db.query_row("SELECT coalesce(max(id), 0) FROM t", [], |row| row.get(0)).unwrap();
        let all = db.transaction().unwrap();
        for _ in 0..self.rng.below(200) {
            let body = noise(self.rng.next(), self.rng.below(3000) as usize);
            match self.rng.below(5) {
                0 => all
                    .execute("DELETE FROM t WHERE id = ?1", [self.rng.below(rows as u64 + 1) as i64])
                    .unwrap(),
                1 => {
                    let id = self.rng.below(rows as u64 + 1) as i64;
                    all.execute("UPDATE t SET body = ?2 WHERE id = ?1", rusqlite::params![id, body]).unwrap()
                }
                _ => all.execute("INSERT INTO t (body) VALUES (?1)", [body]).unwrap(),
            };
        }
        all.commit().unwrap();
        if self.rng.chance(6) {
            db.execute_batch("VACUUM").unwrap();
        }
        if self.rng.chance(2) {
            // Whatever is committed from now on stays in the log, if there is one.
            let _pages: i64 = db.query_row("PRAGMA wal_autocheckpoint = 0", [], |row| row.get(0)).unwrap();
            self.open[which] = Some(db);
        }
    }

    /// What happens to the file of a database, while nobody has it open.
    fn change_file_of_database(&mut self, which: usize) {
        // What was in its log is in it then.
        self.open[which] = None;
        let path = self.databases()[which].clone();
        let other = path.with_file_name(format!("n{:x}.db", self.rng.next()));
        let bytes = fs::read(&path).unwrap();
        let before = path.metadata().unwrap().modified().unwrap();
        self.tally.databases += 1;
        match self.rng.below(9) {
            0 if which == 0 => {
                fs::rename(path, other).unwrap();
                self.new_database(which);
            }
            1 => {
                fs::remove_file(path).unwrap();
                self.new_database(which);
            }
            2 if which == 0 => drop(fs::copy(path, other).unwrap()),
            3 => {
                let mode = 0o600 + self.rng.below(64) as u32;
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
            4 => {
                self.change_database(which);
                self.open[which] = None;
                File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
            }
            5 => {
                // As somebody does it who lays a copy back: in its place, or over it.
                let Some(older) = self.older[which].clone() else { return };
                if self.rng.chance(2) {
                    fs::write(&other, older).unwrap();
                    fs::rename(other, path).unwrap();
                } else {
                    fs::write(path, older).unwrap();
                }
            }
            6 => {
                let all = "DELETE FROM t; VACUUM";
                rusqlite::Connection::open(path).unwrap().execute_batch(all).unwrap();
            }
            _ => self.change_another_database(),
        }
        self.older[which] = Some(bytes);
    }

    /// One that was renamed or copied becomes something else, or goes.
    fn change_another_database(&mut self) {
        let own = self.databases()[0].clone();
        let all = fs::read_dir(own.parent().unwrap()).unwrap().map(|item| item.unwrap().path());
        let is_other = |path: &PathBuf| {
            *path != own && path.extension().is_some_and(|ending| ending == "db") && path.is_file()
        };
        let mut others: Vec<PathBuf> = all.filter(is_other).collect();
        others.sort();
        if others.is_empty() {
            return;
        }
        let path = others[self.rng.below(others.len() as u64) as usize].clone();
        fs::remove_file(&path).unwrap();
        match self.rng.below(4) {
            0 => fs::create_dir(path).unwrap(),
            1 => std::os::unix::fs::symlink("in.db", path).unwrap(),
            2 => fs::write(path, self.rng.bytes()).unwrap(),
            _ => {}
        }
    }

    fn catalog(&self) -> PathBuf {
        let dir = self.project.config()["state"]["dir"].as_str().unwrap().to_owned();
        Path::new(&dir).join("catalog.db")
    }

    /// Something happens to what is remembered, to who can open snapshots, or to what is stored.
    pub(super) fn harm(&mut self) {
        let catalog = self.catalog();
        if let Ok(bytes) = fs::read(&catalog) {
            let what = self.rng.below(10);
            self.tally.catalogs += usize::from(what < 3 || (what == 3 && !self.catalogs.is_empty()));
            match what {
                0 => fs::remove_file(&catalog).unwrap(),
                1 => fs::write(&catalog, &bytes[..self.rng.below(bytes.len() as u64) as usize]).unwrap(),
                2 => {
                    let mut bytes = bytes.clone();
                    for _ in 0..=self.rng.below(20) {
                        let at = self.rng.below(bytes.len() as u64) as usize;
                        bytes[at] ^= 1 << self.rng.below(8);
                    }
                    fs::write(&catalog, bytes).unwrap();
                }
                3 if !self.catalogs.is_empty() => {
                    let old = self.rng.below(self.catalogs.len() as u64) as usize;
                    fs::write(&catalog, &self.catalogs[old]).unwrap();
                }
                _ => {}
            }
            self.catalogs.push(bytes);
        }
        if self.rng.chance(6) {
            self.tally.recipients += 1;
            self.resealed = true;
            let (_, other) = backstay::keys::identity::generate();
            let recipients = match self.rng.below(3) {
                0 => vec![self.own.clone()],
                1 => vec![self.own.clone(), other],
                _ => vec![self.new_own()],
            };
            let mut config = self.project.config();
            config["encryption"]["recipients"] = recipients.into();
            fs::write(self.project.config_path(), toml::to_string(&config).unwrap()).unwrap();
        }
        if self.rng.chance(4) {
            self.harm_object();
        }
    }

    /// Another identity from now on. The one before is kept, for what was sealed to it alone.
    fn new_own(&mut self) -> String {
        let Ok(made) = Command::new("age-keygen").output() else { return self.own.clone() };
        let text = String::from_utf8(made.stdout).unwrap();
        let public = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
        self.own = public.to_owned();
        let path = self.project.identity();
        let before = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{before}{text}")).unwrap();
        self.own.clone()
    }

    /// Loses, cuts or changes an object, whatever hangs on it.
    pub(super) fn harm_object(&mut self) {
        let mut objects = Vec::new();
        for kind in ["archives", "manifests"] {
            let Ok(dirs) = fs::read_dir(self.project.store.join(kind)) else { continue };
            for dir in dirs {
                objects.extend(fs::read_dir(dir.unwrap().path()).unwrap().map(|item| item.unwrap().path()));
            }
        }
        objects.sort();
        if objects.is_empty() {
            return;
        }
        let path = objects[self.rng.below(objects.len() as u64) as usize].clone();
        let name = path.file_name().unwrap().to_str().unwrap();
        self.tally.objects += 1;
        self.harmed.insert(name.split('.').next().unwrap().to_owned());
        let mut bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        match self.rng.below(3) {
            0 => {}
            1 => fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
            _ => {
                let at = self.rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.rng.below(8);
                fs::write(&path, &bytes).unwrap();
                // Of the same size: only reading tells. It finds nothing where no snapshot has it.
                let verified = self.project.run(["verify", "--read-data"]).status.code();
                assert!([Some(0), Some(13)].contains(&verified), "{verified:?}");
            }
        }
    }

    /// Which components a run is for; the others are not in its snapshot.
    fn asked_for(&mut self) -> Vec<&'static str> {
        let all = vec!["app", "db", "dump"];
        if self.calm || !self.rng.chance(4) {
            return all;
        }
        let not = self.rng.below(3) as usize;
        all.into_iter().enumerate().filter(|(n, _)| *n != not).map(|(_, name)| name).collect()
    }

    /// Makes a snapshot, in which nothing may be missing, and notes what it must give back.
    pub(super) fn backup(&mut self) {
        let mut command = program(exe(), &self.project.home);
        command.current_dir(&self.project.dir).args(["backup", "--json"]).env("BACKSTAY_TEST_SETTLE_MS", "0");
        command.env("BACKSTAY_TEST_SMALL_MAX", self.small_max.to_string());
        let components = self.asked_for();
        for db in self.databases() {
            let log = PathBuf::from(format!("{}-wal", db.display()));
            self.tally.logs += usize::from(log.metadata().is_ok_and(|log| log.len() > 0));
        }
        if components.len() < 3 {
            command.args(components.iter().flat_map(|name| ["--only", *name]));
        }
        if !self.calm && self.rng.chance(8) {
            command.arg("--full");
        }
        let output = command.output().unwrap();
        // That older snapshots are damaged is said, and no reason not to make a new one.
        let code = output.status.code().filter(|code| *code == 13 && !self.harmed.is_empty());
        let output = expect_code(output, code.unwrap_or(0));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["complete"], true, "{report:#}");
        let made = Made {
            components,
            id: report["snapshot"].as_str().unwrap().to_owned(),
            tree: without_rows(look(&self.app()), &self.app()),
            inner: inner_rows(&self.app()),
            outer: rows(&self.databases()[1]),
            dump: fs::read(self.project.dir.join("dump.sql")).unwrap(),
        };
        let listed = Listed::read(&self.project.store, &self.project.identity(), &made.id);
        self.made.push(made);
        self.compare_with_last(listed);
    }

    /// Counts what was packed again, and goes on from this snapshot.
    fn compare_with_last(&mut self, listed: Listed) {
        self.tally.maps += usize::from(listed.maps > 0);
        for (archive, (_, bytes)) in listed.used() {
            self.archives.entry(archive).or_insert(bytes);
        }
        let resealed = std::mem::take(&mut self.resealed);
        // Where objects were harmed, or may not be referred to any more, what they held is stored anew in any case.
        let harmed = |last: &Listed| {
            last.record.objects.iter().any(|object| self.harmed.contains(&object.id.to_string()))
        };
        if let Some(last) = self.last.take().filter(|last| !resealed && !listed.record.alone && !harmed(last))
        {
            let used = last.used();
            let again = last.packed_again_in(&listed);
            let is_full = |archive: &&ObjectId| used[*archive].1 * 2 > self.archives[*archive];
            let folded = again.iter().filter(is_full).count();
            self.tally.again += again.len();
            self.tally.folded += folded;
        }
        self.last = Some(listed);
    }

    /// Little comes, again and again, and nothing else happens: at the latest now there are more small archives than there may be. Only the last of these snapshots is kept in mind.
    pub(super) fn add_little_by_little(&mut self) {
        self.calm = true;
        let before = self.made.len();
        for n in 0..self.small_max + 2 {
            self.made.truncate(before);
            fs::write(self.app().join(format!("little-{n}")), noise(n, 5000)).unwrap();
            self.backup();
        }
    }

    pub(super) fn check_newest(&self) {
        if let Some(made) = self.made.last() {
            self.check(made, &self.restored(made));
        }
    }

    /// Restored whole, with nothing to complain about but that a run for some components is not all of the project.
    fn restored(&self, made: &Made) -> PathBuf {
        let to = (1..).map(|n| self.project.top.join(format!("restored-{n}")));
        let to = { to }.find(|to| !to.exists()).unwrap();
        let report = self.project.json(["restore", &made.id, "--to", to.to_str().unwrap()]);
        let problems = report["problems"].as_array().unwrap();
        let lacks =
            |problem: &serde_json::Value| problem["what"].as_str().unwrap().starts_with("it holds only ");
        assert!(problems.iter().all(|p| made.components.len() < 3 && lacks(p)), "{report:#}");
        to
    }

    /// Restores every snapshot of which no object was harmed.
    pub(super) fn check_all(&mut self, script: bool) {
        let mut restored = 0;
        for made in &self.made {
            let record =
                fs::read_to_string(self.project.store.join(format!("snapshots/{}.json", made.id))).unwrap();
            let harmed = self.harmed.iter().any(|name| record.contains(name.as_str()));
            if harmed {
                continue;
            }
            self.check(made, &self.restored(made));
            restored += 1;
            if script {
                let to = self.project.top.join("by script");
                let mut python = program(Path::new("python3"), &self.project.home);
                let store = &self.project.store;
                python
                    .arg("-B")
                    .arg(store.join("recover.py"))
                    .arg(store)
                    .arg("-i")
                    .arg(self.project.identity());
                python.args(["--trust", &self.project.trusted_key(), "restore", &made.id, "--to"]).arg(&to);
                expect_code(python.output().unwrap(), 0);
                self.check(made, &to);
            }
        }
        self.tally.restored += restored;
    }

    /// Compares and removes what was restored.
    fn check(&self, made: &Made, to: &Path) {
        println!("history {}, snapshot {}", self.seed, made.id);
        for component in ["app", "db", "dump"] {
            assert_eq!(to.join(component).exists(), made.components.contains(&component), "{component}");
        }
        if made.components.contains(&"app") {
            let app = to.join("app");
            assert_same(&restorable(made.tree.clone()), &without_rows(look(&app), &app));
            assert!(inner_rows(&app) == made.inner, "rows differ");
        }
        if made.components.contains(&"db") {
            assert_eq!(rows(&to.join("db/outer.db")), made.outer);
        }
        if made.components.contains(&"dump") {
            assert!(fs::read(to.join("dump/output")).unwrap() == made.dump, "the dump differs");
        }
        fs::remove_dir_all(to).unwrap();
    }
}

/// A database is captured as one file without sidecars, so its rows are compared instead of its bytes.
fn without_rows(mut tree: Tree, app: &Path) -> Tree {
    tree.retain(|path, _| !SIDECARS.iter().any(|ending| path.ends_with(ending)));
    for (path, facts) in &mut tree {
        if path == b"data" {
            facts.mtime = (0, 0); // each one who opens a database makes and removes files there
        }
        if is_database(&app.join(OsStr::from_bytes(path))) {
            let Facts { kind, mode, owner, .. } = *facts;
            *facts = Facts { kind, mode, owner, ..Facts::default() };
        }
    }
    tree
}

const SIDECARS: [&[u8]; 3] = [b".db-wal", b".db-shm", b".db-journal"];

fn is_database(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_file())
        && path.extension().is_some_and(|ending| ending == "db")
        && fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0"))
}

/// Of each database in the tree.
fn inner_rows(app: &Path) -> BTreeMap<Vec<u8>, Rows> {
    let all = fs::read_dir(app.join("data")).unwrap().map(|item| item.unwrap().path());
    let databases = all.filter(|path| is_database(path));
    databases.map(|path| (path.file_name().unwrap().as_bytes().to_vec(), rows(&path))).collect()
}

fn rows(path: &Path) -> Rows {
    let db = rusqlite::Connection::open(path).unwrap();
    let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let mut query = db.prepare("SELECT id, body FROM t ORDER BY id").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}
