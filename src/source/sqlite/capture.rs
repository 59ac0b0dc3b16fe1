//! The parent's side: starts the child and reads what it sends.

use crate::durable::crash;
use crate::model::record::CheckResult;
use crate::platform::environment;
use crate::source::sqlite::SqliteSpec;
use crate::source::sqlite::child::CHILD_COMMAND;
use crate::source::sqlite::copy::remove_copies;
use crate::source::sqlite::error::{Failure, SqliteError};
use crate::source::sqlite::wire::{Frame, Header, Request, Tag, Trailer, WirePath};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// What a check of the captured state said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckOutcome {
    /// The result. `None` with messages: it could not be checked here, because its schema needs what only its own program has.
    pub result: CheckResult,
    /// What is wrong, or why it was not checked; at most 20 lines.
    pub messages: Vec<String>,
}

/// A database being captured: reads as the `size` bytes of a database file without sidecars, of one moment. Dropping it before `finish` ends the child, and the capture
/// must then not be used.
pub struct SqliteCapture {
    /// So many bytes can be read.
    pub size: u64,
    /// Size of a page in bytes: changes come in these.
    pub page_size: u32,
    /// `sqlite-pages`, `sqlite-backup` or `sqlite-copy`.
    pub method: &'static str,
    /// When the transaction began: the state is of this moment.
    pub instant: Timestamp,
    talk: Talk,
    left: u64,
    /// So much of the frame that is being read has not come yet.
    coming: u64,
}

impl std::fmt::Debug for SqliteCapture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "SqliteCapture({}, {} of {} bytes left)",
            self.talk.database.display(),
            self.left,
            self.size
        )
    }
}

/// Starts a child and waits until it has its transaction (or, in rollback-journal mode, its copy).
pub fn capture(spec: &SqliteSpec) -> Result<SqliteCapture, SqliteError> {
    let failed =
        |what: &str, e: &dyn Display| SqliteError::ChildDied(spec.database.clone(), format!("{what}: {e}"));
    let mut command = Command::new(&spec.exe);
    environment::without_secrets(&mut command);
    command.arg(CHILD_COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|e| failed(&format!("cannot start {}", spec.exe.display()), &e))?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let process = Process { child, spool: spec.spool.clone() };
    let (Some(mut input), Some(output)) = (input, output) else {
        return Err(failed("its pipes are missing", &""));
    };
    // Where the system allows it, a whole frame goes through at once: a tenth of the switches between the two.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&output, crate::source::sqlite::wire::CHUNK);
    let request = serde_json::to_vec(&request_of(spec)).map_err(|e| failed("cannot ask it", &e))?;
    // A child that died early is noticed, with its reason, when the answer is read.
    drop(input.write_all(&request));
    drop(input);
    SqliteCapture::begin(spec.database.clone(), Box::new(output), Some(process))
}

fn request_of(spec: &SqliteSpec) -> Request {
    let ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX >> 20);
    Request {
        database: WirePath::from(&*spec.database),
        spool: WirePath::from(&*spec.spool),
        no_links: spec.no_links,
        lock_limit_ms: ms(spec.lock_limit),
        busy_limit_ms: ms(spec.busy_limit),
        check: spec.check,
        pages: true,
    }
}

/// A child that does not outlive its capture, nor do its copies in the spool.
struct Process {
    child: Child,
    spool: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        remove_copies(&self.spool, self.child.id());
    }
}

const CUT_SHORT: &str = "its answer is cut short";

/// The frames of one child.
struct Talk {
    database: PathBuf,
    from: Box<dyn Read + Send>,
    process: Option<Process>,
    /// Why it ended, once it did.
    failed: Option<SqliteError>,
}

impl Talk {
    fn died(&mut self, why: &(impl Display + ?Sized)) -> SqliteError {
        let mut why = why.to_string();
        if let Some(Process { child, .. }) = &mut self.process {
            drop(child.kill());
            if let Ok(status) = child.wait() {
                why = format!("{why}; {status}");
            }
            let mut words = Vec::new();
            if let Some(stderr) = &mut child.stderr {
                drop(stderr.take(1000).read_to_end(&mut words));
            }
            let words = crate::model::path::escape(words.trim_ascii());
            if !words.is_empty() {
                why = format!("{why}; {words}");
            }
        }
        self.fail(SqliteError::ChildDied(self.database.clone(), why))
    }

    fn fail(&mut self, error: SqliteError) -> SqliteError {
        self.failed.get_or_insert(error).clone()
    }

    /// Begins to read a frame that must be `wanted`; gives how many bytes of it follow.
    fn expect(&mut self, wanted: Tag) -> Result<u32, SqliteError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match Frame::read_head(&mut self.from) {
            Ok((tag, length)) if tag == wanted => Ok(length),
            Ok((Tag::Failure, length)) => {
                let failure: Failure = self.rest(length)?;
                Err(self.fail(SqliteError::of(&self.database.clone(), failure)))
            }
            Ok(_) => Err(self.died("it said something out of turn")),
            Err(e) => Err(self.broken(&e)),
        }
    }

    fn broken(&mut self, error: &io::Error) -> SqliteError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.died(CUT_SHORT),
            _ => self.died(error),
        }
    }

    /// Reads what follows of a frame that is JSON.
    fn rest<T: DeserializeOwned>(&mut self, length: u32) -> Result<T, SqliteError> {
        let mut buffer = vec![0; length as usize];
        self.from.read_exact(&mut buffer).map_err(|e| self.broken(&e))?;
        serde_json::from_slice(&buffer).map_err(|e| self.died(&e))
    }

    fn json<T: DeserializeOwned>(&mut self, wanted: Tag) -> Result<T, SqliteError> {
        let length = self.expect(wanted)?;
        self.rest(length)
    }
}

impl SqliteCapture {
    /// Reads the header from `from`.
    fn begin(
        database: PathBuf,
        from: Box<dyn Read + Send>,
        process: Option<Process>,
    ) -> Result<Self, SqliteError> {
        let mut talk = Talk { database, from, process, failed: None };
        let header: Header = talk.json(Tag::Header)?;
        let (size, method) = (header.size, header.method.word());
        if u64::from(header.page_size).checked_mul(header.pages) != Some(size) || size == 0 {
            return Err(talk.died("it announced an impossible size"));
        }
        let Header { page_size, instant, .. } = header;
        crash::point("sqlite: transaction begun");
        Ok(Self { size, page_size, method, instant, talk, left: size, coming: 0 })
    }

    /// Ends the capture, after all bytes were read. Only when this succeeds were they those of one state of the database.
    pub fn finish(mut self) -> Result<CheckOutcome, SqliteError> {
        if let Some(error) = self.talk.failed.take() {
            return Err(error);
        }
        if self.left > 0 {
            return Err(SqliteError::NotRead(self.talk.database.clone(), self.left));
        }
        let trailer: Trailer = self.talk.json(Tag::Trailer)?;
        crash::point("sqlite: all pages read");
        if let Some(Process { child, .. }) = &mut self.talk.process {
            match child.wait() {
                Ok(status) if status.success() => {}
                Ok(status) => return Err(self.talk.died(&format!("it ended with {status}"))),
                Err(e) => return Err(self.talk.died(&e)),
            }
        }
        Ok(CheckOutcome { result: trailer.check, messages: trailer.messages })
    }
}

impl Read for SqliteCapture {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        if let Some(error) = &self.talk.failed {
            return Err(io::Error::other(error.clone()));
        }
        while self.coming == 0 {
            self.coming = self.talk.expect(Tag::Data).map_err(io::Error::other)?.into();
            if self.coming > self.left {
                return Err(io::Error::other(self.talk.died("it sent more than it announced")));
            }
        }
        // Straight from the pipe to where it is needed.
        let length = usize::try_from(self.coming).unwrap_or(usize::MAX).min(buffer.len());
        match self.talk.from.read(&mut buffer[..length]) {
            Ok(0) => Err(io::Error::other(self.talk.died(CUT_SHORT))),
            Ok(got) => {
                (self.coming, self.left) = (self.coming - got as u64, self.left - got as u64);
                Ok(got)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => Err(io::Error::other(self.talk.broken(&e))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::sqlite::wire::Method;

    fn talk(frames: &[(Tag, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, content) in frames {
            Frame { tag: *tag, bytes: content.clone() }.write(&mut bytes).unwrap();
        }
        bytes
    }
    fn header(pages: u64) -> (Tag, Vec<u8>) {
        let header = Header {
            page_size: 512,
            pages,
            size: 512 * pages,
            journal_mode: "wal".into(),
            method: Method::Pages,
            instant: Timestamp::UNIX_EPOCH,
        };
        (Tag::Header, serde_json::to_vec(&header).unwrap())
    }
    fn trailer() -> (Tag, Vec<u8>) {
        (Tag::Trailer, serde_json::to_vec(&Trailer { check: CheckResult::Passed, messages: vec![] }).unwrap())
    }
    fn run(bytes: Vec<u8>) -> Result<(Vec<u8>, CheckOutcome), SqliteError> {
        let mut capture = SqliteCapture::begin("app.db".into(), Box::new(io::Cursor::new(bytes)), None)?;
        let mut read = Vec::new();
        // The reason of a failed read is what `finish` says.
        drop(capture.read_to_end(&mut read));
        let left = capture.left;
        let outcome = capture.finish()?;
        assert_eq!(left, 0);
        Ok((read, outcome))
    }

    #[test]
    fn a_whole_talk_gives_the_bytes_and_the_check() {
        let frames =
            [header(3), (Tag::Data, vec![1; 700]), (Tag::Data, vec![]), (Tag::Data, vec![2; 836]), trailer()];
        let (read, outcome) = run(talk(&frames)).unwrap();
        assert_eq!(read, [vec![1; 700], vec![2; 836]].concat());
        assert_eq!(outcome.result, CheckResult::Passed);
    }

    #[test]
    fn a_talk_cut_anywhere_is_an_error() {
        let whole = talk(&[header(1), (Tag::Data, vec![1; 512]), trailer()]);
        assert!(run(whole.clone()).is_ok());
        for end in 0..whole.len() {
            let error = run(whole[..end].to_vec()).unwrap_err();
            assert!(matches!(error, SqliteError::ChildDied(..)), "cut at {end}: {error}");
        }
    }

    #[test]
    fn too_few_or_too_many_bytes_are_an_error() {
        let few = talk(&[header(2), (Tag::Data, vec![1; 512]), trailer()]);
        assert!(matches!(run(few), Err(SqliteError::ChildDied(..))));
        let many = talk(&[header(1), (Tag::Data, vec![1; 513]), trailer()]);
        assert!(matches!(run(many), Err(SqliteError::ChildDied(..))));
        let nothing = talk(&[header(0), trailer()]);
        assert!(matches!(run(nothing), Err(SqliteError::ChildDied(..))));
    }

    #[test]
    fn a_failure_in_the_middle_is_what_finish_says() {
        let failure = Failure::new(crate::source::sqlite::error::Cause::WalGrew, "too much");
        let failure = (Tag::Failure, serde_json::to_vec(&failure).unwrap());
        let error = run(talk(&[header(2), (Tag::Data, vec![1; 512]), failure])).unwrap_err();
        assert_eq!(error, SqliteError::WalGrew("app.db".into(), "too much".into()));
    }

    #[test]
    fn finishing_before_all_is_read_is_an_error() {
        let bytes = talk(&[header(1), (Tag::Data, vec![1; 512]), trailer()]);
        let mut capture =
            SqliteCapture::begin("app.db".into(), Box::new(io::Cursor::new(bytes)), None).unwrap();
        capture.read_exact(&mut [0; 500]).unwrap();
        assert_eq!(capture.finish(), Err(SqliteError::NotRead("app.db".into(), 12)));
    }
}
