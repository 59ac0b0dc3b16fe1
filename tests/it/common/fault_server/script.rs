//! What goes wrong, with which request.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    /// A whole object is put.
    Put,
    /// A whole object is read.
    Get,
    /// A part of an object is read.
    Range,
    Head,
    List,
    /// One object, or several in one request.
    Delete,
    /// An upload in parts begins.
    Begin,
    Part,
    Complete,
    Abort,
    /// Uploads that are under way are listed.
    Uploads,
    /// All versions are listed.
    Versions,
    /// The bucket itself: its being there, its versioning, its lock.
    Bucket,
}

/// Which of the requests that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nth {
    /// The first so many.
    First(usize),
    /// This one alone, counted from 1.
    Only(usize),
    All,
}

impl Nth {
    fn holds(self, number: usize) -> bool {
        match self {
            Self::First(count) => number <= count,
            Self::Only(one) => number == one,
            Self::All => true,
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is done; this is answered, with `Retry-After` in seconds.
    Refuse(u16, &'static str, Option<u32>),
    /// It is done, and then this is answered.
    DoneThen(u16, &'static str),
    /// It is done, and the connection ends without an answer.
    DoneThenGone,
    /// It is done, and no answer comes.
    DoneThenSilent,
    /// The connection ends after so many bytes of the request's body.
    CutUp(usize),
    /// Nothing of the request's body is taken.
    StallUp,
    /// The request's body is taken slower than any useful connection.
    DripUp,
    /// A byte of the request's body is another one when it arrives.
    SpoilUp,
    /// The answer is announced whole and ends after so many bytes of its body.
    CutDown(usize),
    /// The answer comes in chunks and ends after so many bytes without the last one.
    CutChunks(usize),
    /// The answer comes in chunks and is ended properly after so many bytes.
    ShortChunks(usize),
    /// The answer stops after so many bytes and the connection stays.
    StallDown(usize),
    /// One byte of the answer at a time, slower than any useful connection.
    Drip,
    /// A byte of the body is another one.
    WrongBytes,
    /// The bytes of another object.
    OtherObject,
    /// Nothing is done; 200 and an error in the body.
    OkError(&'static str),
    /// Nothing is done; 200 and nothing.
    OkEmpty,
    /// The page of a hotel: 200 and HTML, nothing is done.
    Captive,
    /// Said not to be there, whatever is there.
    Hidden,
    /// Said to have this size.
    StaleSize(u64),
    /// Nothing is done; sent elsewhere.
    Redirect(u16, String),
    /// The request is done twice, as by a proxy that delivers it again.
    Twice,
    /// The newest object is left out of the listing.
    ListNewestMissing,
    /// The listing goes on for ever with the same page.
    ListLoop,
    /// Each key is listed twice, in reverse order.
    ListMess,
}

/// A line of the script.
#[derive(Debug)]
pub(crate) struct Rule {
    pub op: Op,
    /// What the key must contain.
    pub key: String,
    pub nth: Nth,
    pub fault: Fault,
    seen: AtomicUsize,
}

impl Rule {
    pub(crate) fn new(op: Op, key: &str, nth: Nth, fault: Fault) -> Self {
        Self { op, key: key.to_owned(), nth, fault, seen: AtomicUsize::new(0) }
    }

    /// Counts a request, and gives what goes wrong with it.
    pub(crate) fn take(&self, op: Op, key: &str) -> Option<Fault> {
        if self.op != op || !key.contains(&self.key) {
            return None;
        }
        let number = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        self.nth.holds(number).then(|| self.fault.clone())
    }

    /// Whether a request ever fitted: a fault that never happened proves nothing.
    pub(crate) fn happened(&self) -> bool {
        self.seen.load(Ordering::SeqCst) > 0
    }
}

/// How the server is throughout.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    /// Seconds by which its `Date` is off.
    pub skew: i64,
    /// Keys on a page of a listing.
    pub page: usize,
    /// `If-None-Match` is ignored, always.
    pub overwrites: bool,
    /// `If-None-Match` is answered with 501.
    pub refuses_conditions: bool,
    /// Ranges are answered with 200 and the whole object.
    pub whole_for_ranges: bool,
    /// `x-amz-checksum-sha256` is refused as not known.
    pub refuses_checksums: bool,
    /// `x-amz-checksum-sha256` is not compared.
    pub ignores_checksums: bool,
    /// The signed SHA-256 of a body is not compared.
    pub ignores_signed: bool,
    /// Only requests signed with this key are let in; others get `ExpiredToken`.
    pub accepts_key: Option<String>,
    /// A put or a part without a checksum is refused, as in a bucket with a default retention.
    pub needs_checksums: bool,
    /// It keeps versions, gives them numbers, lists them and says so.
    pub versioned: bool,
    /// It says that it keeps versions.
    pub says_versioned: bool,
    /// It says that it has object lock.
    pub says_locked: bool,
    /// Nobody may remove a version.
    pub holds_versions: bool,
    /// What its ETags look like; without one they are left out.
    pub etag: Option<&'static str>,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            skew: 0,
            page: 1000,
            overwrites: false,
            refuses_conditions: false,
            whole_for_ranges: false,
            refuses_checksums: false,
            ignores_checksums: false,
            needs_checksums: false,
            versioned: false,
            says_versioned: false,
            says_locked: false,
            holds_versions: false,
            ignores_signed: false,
            accepts_key: None,
            etag: Some("\"d41d8cd98f00b204e9800998ecf8427e-1\""),
        }
    }
}
