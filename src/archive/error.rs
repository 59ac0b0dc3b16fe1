//! What can go wrong with archives and manifest objects.

use crate::archive::pool::PoolGone;
use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::path::PathBuf;

/// Why an archive or a manifest object could not be written or read. `subject` names the object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It is sealed to other recipients; another identity is needed.
    #[error("none of the identities given opens {subject}")]
    NoIdentity {
        /// The object.
        subject: String,
    },
    /// Written by a later program; upgrading helps.
    #[error("{subject}: {what}")]
    TooNew {
        /// The object.
        subject: String,
        /// What this program does not understand.
        what: String,
    },
    /// It is not what the format says, or its bytes were changed; another copy is needed.
    #[error("{subject} is damaged: {what}")]
    Damaged {
        /// The object.
        subject: String,
        /// What is wrong.
        what: String,
    },
    /// A local file could not be written.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file or its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Where the object comes from failed; the object itself may be sound.
    #[error("cannot read {subject}")]
    Source {
        /// The object.
        subject: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// This member cannot be said in tar; the archive is as it was before.
    #[error("{path} cannot be a tar member: {what}")]
    Unstorable {
        /// The member's path, escaped.
        path: String,
        /// Why not.
        what: String,
    },
    /// A member's data is not as long as was announced; the archive is as it was before.
    #[error("{path}: {given} bytes were given where {announced} were announced")]
    Length {
        /// The member's path, escaped.
        path: String,
        /// Announced bytes.
        announced: u64,
        /// Bytes given (or that would have been).
        given: u64,
    },
    /// Compressed bytes did not decompress to what went in: memory, processor or library is at fault, and nothing of it was kept.
    #[error("a frame of {subject} failed its check before it was sealed: {what}")]
    Frame {
        /// The object.
        subject: String,
        /// What happened.
        what: String,
    },
    /// The age header could not be made for these recipients.
    #[error("cannot seal to these recipients: {what}")]
    Seal {
        /// What age says.
        what: String,
    },
    /// A worker thread ended early.
    #[error(transparent)]
    Pool(#[from] PoolGone),
    /// A mistake in this program: steps in an order that makes no sense.
    #[error("internal: {0}")]
    Misuse(&'static str),
}

/// What is wrong with bytes that were read, before it is known which object they belong to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Damage(pub(crate) Cow<'static, str>);

impl Damage {
    /// The same about an object.
    pub fn of(self, subject: &str) -> ArchiveError {
        ArchiveError::Damaged { subject: subject.to_owned(), what: self.0.into_owned() }
    }
}

impl From<&'static str> for Damage {
    fn from(what: &'static str) -> Self {
        Self(Cow::Borrowed(what))
    }
}
impl From<String> for Damage {
    fn from(what: String) -> Self {
        Self(Cow::Owned(what))
    }
}

/// An error through a `Read` that may carry one of ours from a layer below, which then counts.
pub(crate) fn from_read(error: io::Error, subject: &str) -> ArchiveError {
    match error.downcast::<ArchiveError>() {
        Ok(ours) => ours,
        Err(error) => ArchiveError::Source { subject: subject.to_owned(), source: error.into() },
    }
}

/// Fills `buffer` from `input` as far as there is input; says how many bytes came.
pub(crate) fn fill(input: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
