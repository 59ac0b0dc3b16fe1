//! What is in a directory, and what that says of it: pattern files, cache tags, a database server's data.

use crate::model::RelPath;
use crate::model::entry::Kind;
use crate::model::report::ProblemKind;
use crate::platform::at;
use crate::platform::capture;
use crate::source::folder::databases;
use crate::source::folder::open::FILE;
use crate::source::folder::scan::lines_of;
use crate::source::folder::walk::Walker;
use rustix::fs::Mode;
use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

/// A pattern file longer than this is not one.
const PATTERN_FILE_MAX: u64 = 1 << 20;
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

impl Walker<'_, '_> {
    /// The names in `dir`, sorted; the rules that it brings are entered.
    pub(super) fn list(
        &mut self,
        path: &RelPath,
        dir: &OwnedFd,
        by_name: bool,
    ) -> rustix::io::Result<Vec<CString>> {
        let mut names = at::names_in(dir)?;
        names.sort_unstable();
        let has = |name: &[u8]| names.binary_search_by(|n| n.to_bytes().cmp(name)).is_ok();
        let spec = self.around.spec;
        for file in spec.exclude_from.iter().filter(|f| !f.contains('/') && has(f.as_bytes())) {
            self.pattern_file(path, dir, file);
        }
        if by_name {
            return Ok(names);
        }
        if spec.exclude_caches && has(CACHE_TAG) && is_cache(dir) {
            self.only(path, CACHE_TAG);
        }
        for name in spec.exclude_if_present.iter().filter(|name| has(name.as_bytes())) {
            self.only(path, name.as_bytes());
        }
        Ok(names)
    }

    /// Of what is in `path`, only `name` is taken from now on.
    fn only(&mut self, path: &RelPath, name: &[u8]) {
        let mut keep = String::from("!/");
        for c in String::from_utf8_lossy(name).chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | ' ' | '!' | '#') {
                keep.push('\\');
            }
            keep.push(c);
        }
        self.rules.enter(path, &["/*".to_owned(), keep]);
    }

    fn pattern_file(&mut self, path: &RelPath, dir: &OwnedFd, name: &str) {
        let read = || -> io::Result<Vec<u8>> {
            let fd = rustix::fs::openat(dir, name, FILE, Mode::empty())?;
            let kind = capture::kind_of(&rustix::fs::fstat(&fd)?);
            if kind != Some(Kind::File) {
                return Err(io::Error::other("it is not a regular file"));
            }
            let mut text = Vec::new();
            std::fs::File::from(fd).take(PATTERN_FILE_MAX + 1).read_to_end(&mut text)?;
            if text.len() as u64 > PATTERN_FILE_MAX {
                return Err(io::Error::other("it is larger than 1 MiB"));
            }
            Ok(text)
        };
        let Ok(file) = path.join(name.as_bytes()) else {
            return;
        };
        match read() {
            Ok(text) => {
                for bad in self.rules.enter(path, &lines_of(&text)) {
                    self.problem(ProblemKind::Warning, &file, bad, None);
                }
            }
            Err(e) => {
                let what = format!("its exclusion patterns are not in force: {e}");
                self.problem(ProblemKind::Warning, &file, what, None);
            }
        }
    }

    /// True, and said, when `names` are those of a database server's data directory.
    pub(super) fn is_server(&mut self, path: &RelPath, names: &mut Vec<CString>) -> bool {
        let taken = |name: &CString| path.join(name.to_bytes()).is_ok_and(|p| !self.rules.exclude(&p, false));
        let mut servers =
            names.iter().filter(|n| taken(n)).filter_map(|n| databases::server_of(n.to_bytes()));
        let Some(server) = servers.next() else {
            return false;
        };
        let what = format!("it looks like the data of a running {server} server");
        let hint = "exclude it and dump the database instead";
        if path.is_root() {
            // The root has to be a directory; that nothing of it was captured is said by the problem.
            self.problem(ProblemKind::Unreadable, path, what, Some(hint));
            names.clear();
            return false;
        }
        self.unreadable(path.clone(), what, Some(hint));
        true
    }
}

fn is_cache(dir: &OwnedFd) -> bool {
    let mut begin = [0; CACHE_SIGNATURE.len()];
    rustix::fs::openat(dir, CACHE_TAG, FILE, Mode::empty())
        .is_ok_and(|fd| std::fs::File::from(fd).read_exact(&mut begin).is_ok() && begin == CACHE_SIGNATURE)
}
