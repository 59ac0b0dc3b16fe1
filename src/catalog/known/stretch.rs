//! One segment's entries as the catalog keeps them: compact, in walk order, with what tells whether a file is still the one that was read.
//!
//! Most rows are only compared with what a walk found, so a row gives its path and its facts without the rest being decoded.

use crate::catalog::known::rest::{get_rest, put_rest};
use crate::catalog::known::usage::Usage;
use crate::catalog::known::wire::{Source, put, put_bytes, put_time};
use crate::model::entry::{FLAG_CRASH_CONSISTENT, FLAG_DATABASE, Kind};
use crate::model::record::CheckResult;
use crate::model::{ContentHash, Entry, ObjectId, RelPath};
use crate::platform::capture::Ident;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What is known of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The entry as its segment has it. A file with maps has all its extents here, too.
    pub entry: Entry,
    /// Which file in which state was read; `None` where that says nothing.
    pub ident: Option<Ident>,
    /// Whether equal facts mean equal bytes: the file was last changed well before it was read.
    pub safe: bool,
    /// Databases: the sidecars that hold bytes of it (`-wal`, `-journal`), in this order, where they were not empty.
    pub beside: [Option<Ident>; 2],
    /// Databases: what their check said.
    pub check: CheckResult,
    /// When its content was read last, in days since 1970.
    pub read: u32,
    /// The pieces of its block hashes, in order; none where it has none.
    pub blocks: Vec<ObjectId>,
    /// Its content was found under another path, so that others may refer to the same bytes.
    pub copied: bool,
}

impl Row {
    /// A row of something that is no database.
    pub fn new(entry: Entry, ident: Option<Ident>, safe: bool) -> Self {
        Self {
            entry,
            ident,
            safe,
            beside: [None, None],
            check: CheckResult::None,
            read: 0,
            blocks: Vec::new(),
            copied: false,
        }
    }
}

/// Sums over the entries of a stretch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Number of entries.
    pub entries: u64,
    /// Number of files.
    pub files: u64,
    /// Number of directories.
    pub dirs: u64,
    /// Sum of file sizes in bytes.
    pub size: u64,
}

impl Sums {
    /// Counts an entry.
    pub fn count(&mut self, entry: &Entry) {
        self.entries += 1;
        self.files += u64::from(entry.kind == Kind::File);
        self.dirs += u64::from(entry.kind == Kind::Dir);
        self.size += entry.size;
    }

    /// Adds other sums.
    pub fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.files += other.files;
        self.dirs += other.dirs;
        self.size += other.size;
    }
}

/// A decoded stretch, its rows still packed.
#[derive(Debug)]
pub struct Stretch {
    /// The archives that its extents refer to, with about how many bytes of their tar stream it uses, headers included and no byte counted twice.
    pub archives: Vec<(ObjectId, u64)>,
    /// The maps that its entries refer to, with their sizes.
    pub maps: Vec<(ObjectId, u64)>,
    /// Its sums.
    pub sums: Sums,
    /// Whether other stretches may use the same bytes of these archives.
    pub shared: bool,
    names: Vec<Arc<str>>,
    bytes: Vec<u8>,
    rows_at: usize,
}

/// The facts of a row, its rest not decoded.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a> {
    /// Path within the component.
    pub path: &'a [u8],
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// See [`Row::ident`].
    pub ident: Option<Ident>,
    /// See [`Row::safe`].
    pub safe: bool,
    /// See [`Row::read`].
    pub read: u32,
    /// A database that was captured through SQLite.
    pub database: bool,
    /// A database or sidecar that was packed as bytes.
    pub crash_consistent: bool,
    /// See [`Row::copied`].
    pub copied: bool,
    /// The entry's number for all names of one inode.
    pub link: Option<u64>,
    /// The owner's name.
    pub user: Option<&'a Arc<str>>,
    /// The group's name.
    pub group: Option<&'a Arc<str>>,
    /// Length of a file in bytes.
    pub size: u64,
    mtime: (i64, u32),
    rest: &'a [u8],
    stretch: &'a Stretch,
}

const FORMAT: u8 = 2;
/// A stretch unpacks to at most this many bytes; a file with very many extents has a stretch of its own.
const STRETCH_BYTES_MAX: usize = 1 << 30;
const SAFE: u8 = 1;
const IDENT: u8 = 2;
const LINK: u8 = 4;
const DATABASE: u8 = 8;
const CRASH: u8 = 16;
const COPIED: u8 = 32;
const KINDS: [Kind; 8] =
    [Kind::File, Kind::Dir, Kind::Symlink, Kind::Fifo, Kind::Char, Kind::Block, Kind::Socket, Kind::Left];

fn kind_byte(kind: Kind) -> u8 {
    KINDS.iter().position(|k| *k == kind).unwrap_or(0) as u8
}

fn put_ident(out: &mut Vec<u8>, ident: &Ident) {
    put(out, ident.dev);
    put(out, ident.ino);
    put(out, ident.size);
    put_time(out, ident.mtime);
    put_time(out, ident.ctime);
}

pub(super) fn put_ident_or_none(out: &mut Vec<u8>, ident: Option<&Ident>) {
    out.push(u8::from(ident.is_some()));
    if let Some(ident) = ident {
        put_ident(out, ident);
    }
}

pub(super) fn get_ident(source: &mut Source<'_>) -> Option<Ident> {
    Some(Ident {
        dev: source.number()?,
        ino: source.number()?,
        size: source.number()?,
        mtime: source.time()?,
        ctime: source.time()?,
    })
}

/// Names of owners, each once.
#[derive(Default)]
struct Table<'a> {
    names: Vec<&'a str>,
}

impl<'a> Table<'a> {
    /// 0 for none, else the place plus one.
    fn place(&mut self, name: Option<&'a str>) -> u64 {
        let Some(name) = name else {
            return 0;
        };
        let place = self.names.iter().position(|n| *n == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        place as u64 + 1
    }
}

impl Stretch {
    /// The compressed bytes of `rows`, which are in walk order.
    pub fn encode(rows: &[Row]) -> io::Result<Vec<u8>> {
        let mut usage = Usage::default();
        let mut maps: BTreeMap<ObjectId, u64> = BTreeMap::new();
        let mut sums = Sums::default();
        for row in rows {
            sums.count(&row.entry);
            usage.add(&row.entry.extents);
            maps.extend(row.entry.maps.iter().map(|m| (m.object, m.size)));
        }
        let shared = rows.iter().any(|row| row.copied || row.entry.link.is_some());
        let live = usage.bytes();
        let archives: Vec<ObjectId> = live.keys().copied().collect();
        let (mut table, mut body) = (Table::default(), Vec::with_capacity(rows.len() * 160));
        for row in rows {
            put_row(&mut body, row, &mut table, &archives);
        }
        let mut out = vec![FORMAT, u8::from(shared)];
        for list in [&live, &maps] {
            put(&mut out, list.len() as u64);
            for (id, number) in list {
                out.extend_from_slice(&id.0);
                put(&mut out, *number);
            }
        }
        for number in [sums.entries, sums.files, sums.dirs, sums.size, table.names.len() as u64] {
            put(&mut out, number);
        }
        for name in &table.names {
            put_bytes(&mut out, name.as_bytes());
        }
        out.extend_from_slice(&body);
        zstd::bulk::compress(&out, 1)
    }

    /// Unpacks what [`encode`](Self::encode) gave; `None` when it is something else.
    pub fn open(compressed: &[u8]) -> Option<Self> {
        let size = zstd::zstd_safe::get_frame_content_size(compressed).ok()??;
        let size = usize::try_from(size).ok().filter(|size| *size <= STRETCH_BYTES_MAX)?;
        let bytes = zstd::bulk::decompress(compressed, size).ok()?;
        let mut source = Source(&bytes);
        let [FORMAT, shared] = source.array()? else { return None };
        let mut list = || {
            let count = source.count(33)?;
            (0..count)
                .map(|_| Some((ObjectId(source.array()?), source.number()?)))
                .collect::<Option<Vec<_>>>()
        };
        let (archives, maps) = (list()?, list()?);
        let sums = Sums {
            entries: source.number()?,
            files: source.number()?,
            dirs: source.number()?,
            size: source.number()?,
        };
        let count = source.count(1)?;
        let mut name = || Some(Arc::from(std::str::from_utf8(source.bytes()?).ok()?));
        let names = (0..count).map(|_| name()).collect::<Option<Vec<_>>>()?;
        let rows_at = bytes.len() - source.0.len();
        Some(Self { archives, maps, sums, shared: shared != 0, names, bytes, rows_at })
    }

    /// The row that begins at `at` (0 is the first), and where the next begins; `None` at the end, and where the bytes make no sense.
    pub fn row(&self, at: usize) -> Option<(RowRef<'_>, usize)> {
        let mut source = Source(self.bytes.get(self.rows_at + at..)?);
        let length = usize::try_from(source.number()?).ok()?;
        let mut row = Source(source.take(length)?);
        let next = self.bytes.len() - self.rows_at - source.0.len();
        Some((self.get_row(&mut row)?, next))
    }

    /// All rows in order. Ends early where the bytes make no sense: compare with [`Sums::entries`].
    pub fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (row, next) = self.row(at)?;
            at = next;
            Some(row)
        })
    }

    fn get_row<'a>(&'a self, source: &mut Source<'a>) -> Option<RowRef<'a>> {
        let [kind, bits] = source.array()?;
        let path = source.bytes()?;
        let (mode, uid, gid) = (source.small()?, source.small()?, source.small()?);
        let mut name = || match source.number()? {
            0 => Some(None),
            place => Some(Some(self.names.get(usize::try_from(place - 1).ok()?)?)),
        };
        let (user, group) = (name()?, name()?);
        let (size, mtime, read) = (source.number()?, source.time()?, source.small()?);
        let ident = if bits & IDENT == 0 { None } else { Some(get_ident(source)?) };
        let link = if bits & LINK == 0 { None } else { Some(u64::from_le_bytes(source.array()?)) };
        Some(RowRef {
            path,
            kind: *KINDS.get(usize::from(kind))?,
            mode,
            uid,
            gid,
            ident,
            safe: bits & SAFE != 0,
            read,
            database: bits & DATABASE != 0,
            crash_consistent: bits & CRASH != 0,
            copied: bits & COPIED != 0,
            link,
            user,
            group,
            mtime,
            size,
            rest: source.0,
            stretch: self,
        })
    }
}

fn put_row<'a>(out: &mut Vec<u8>, row: &'a Row, table: &mut Table<'a>, archives: &[ObjectId]) {
    let entry = &row.entry;
    let mut bytes = Vec::with_capacity(160);
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    bytes.push(kind_byte(entry.kind));
    let facts = bit(row.safe, SAFE) | bit(row.ident.is_some(), IDENT) | bit(entry.link.is_some(), LINK);
    let flags =
        bit(entry.has_flag(FLAG_DATABASE), DATABASE) | bit(entry.has_flag(FLAG_CRASH_CONSISTENT), CRASH);
    bytes.push(facts | flags | bit(row.copied, COPIED));
    put_bytes(&mut bytes, entry.path.as_bytes());
    for number in [entry.mode, entry.uid, entry.gid] {
        put(&mut bytes, u64::from(number));
    }
    put(&mut bytes, table.place(entry.user.as_deref()));
    put(&mut bytes, table.place(entry.group.as_deref()));
    put(&mut bytes, entry.size);
    put_time(&mut bytes, entry.mtime);
    put(&mut bytes, u64::from(row.read));
    if let Some(ident) = &row.ident {
        put_ident(&mut bytes, ident);
    }
    if let Some(link) = entry.link {
        bytes.extend_from_slice(&link.to_le_bytes());
    }
    put_rest(&mut bytes, row, archives);
    put_bytes(out, &bytes);
}

impl RowRef<'_> {
    /// The hash of a file's content, without the rest being decoded.
    pub fn hash(&self) -> Option<ContentHash> {
        crate::catalog::known::rest::get_hash(&mut Source(self.rest))?
    }

    /// The whole row; `None` when its bytes make no sense.
    pub fn decode(&self) -> Option<Row> {
        let mut entry = Entry::new(RelPath::new(self.path).ok()?, self.kind);
        (entry.mode, entry.uid, entry.gid) = (self.mode, self.uid, self.gid);
        (entry.user, entry.group) = (self.user.cloned(), self.group.cloned());
        (entry.size, entry.mtime, entry.link) = (self.size, self.mtime, self.link);
        let mut row = Row::new(entry, self.ident, self.safe);
        (row.read, row.copied) = (self.read, self.copied);
        let mut source = Source(self.rest);
        get_rest(&mut source, &mut row, &self.stretch.archives)?;
        source.is_empty().then_some(row)
    }
}
