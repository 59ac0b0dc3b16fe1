//! Reading stretches of archives in parallel, delivered in order of archive and tar offset.

use crate::archive::{ArchiveError, ArchiveReader, Pool, RangeRead, Ticket};
use crate::keys::Identities;
use crate::model::manifest::{ArchiveInfo, Frame};
use crate::model::{Extent, ObjectId, Record};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::objects::archive_error;
use crate::ops::restore::cursor::Cursor;
use crate::ops::restore::spare::Spare;
use crate::ops::sources::Sources;
use crate::store::{Key, Store};
use crossbeam_channel::{Receiver, bounded};
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

/// A stretch of a file to be read; `file` is the caller's number for the file. A million of them may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'e> {
    pub(crate) extent: &'e Extent,
    pub(crate) file: usize,
}

/// The archives that pieces lie in, with every frame needed.
#[derive(Debug, Default)]
pub(crate) struct Archives(BTreeMap<ObjectId, ArchiveInfo>);

impl Archives {
    /// Adds what a segment or map says of archives.
    pub(crate) fn add(&mut self, infos: Vec<ArchiveInfo>) {
        for info in infos {
            match self.0.get_mut(&info.sha256) {
                None => {
                    self.0.insert(info.sha256, info);
                }
                Some(known) => known.frames.extend(info.frames),
            }
        }
    }

    /// Sorts frames and drops doubles; call it once, when all is added. Fails when listings contradict each other: every byte of an
    /// archive lies in one frame.
    pub(crate) fn settle(&mut self) -> std::result::Result<(), String> {
        for info in self.0.values_mut() {
            info.frames.sort_by_key(|f| (f.tar_offset, f.offset));
            info.frames.dedup();
            let apart =
                |pair: &[Frame]| pair[0].tar_offset.saturating_add(pair[0].tar_length) <= pair[1].tar_offset;
            if !info.frames.windows(2).all(apart) {
                return Err(format!("it gives frames of {} that overlap", Key::Archive(info.sha256)));
            }
        }
        Ok(())
    }
}

/// Hears bytes of pieces, and which files cannot be had.
pub(crate) trait Sink {
    /// Bytes of the file at `offset`.
    fn bytes(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<()>;
    /// Some bytes of the file cannot be had.
    fn lost(&mut self, file: usize, why: &str) -> Result<()>;
}

/// What reading needs.
pub(crate) struct Reading<'a> {
    pub(crate) sources: &'a Arc<Sources>,
    pub(crate) record: &'a Record,
    pub(crate) identities: &'a Identities,
    pub(crate) pool: &'a Pool,
    pub(crate) interrupt: &'a Interrupt,
}

struct StoreRange {
    store: Arc<dyn Store>,
    key: Key,
}

impl RangeRead for StoreRange {
    fn read_range(
        &self,
        offset: u64,
        length: u64,
    ) -> std::result::Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(self.store.get_range(&self.key, offset, length)?)
    }
}

/// Neighbouring frames are read together up to this many bytes of tar.
const BATCH_TAR_BYTES: u64 = 8 << 20;
/// How many batches are under way at once: bounds memory.
const BATCHES_AHEAD: usize = 5;
/// So many threads more than processors: those that wait for a store are not missed.
const WAITING_THREADS: usize = 3;

/// A pool for reading: its threads fetch, open and decompress.
pub(crate) fn reading_pool() -> Pool {
    Pool::new(crate::platform::processors() + WAITING_THREADS)
}

/// An archive opened in the first store, or why it cannot be used there.
type Open = std::result::Result<Arc<ArchiveReader>, String>;

/// Buffers that were used and may be used again.
#[derive(Clone, Default)]
struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, used: Vec<Vec<u8>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(used);
    }
}

/// Frames that are being read, of the group with this number.
struct UnderWay {
    group: usize,
    frames: Vec<Frame>,
    ticket: Ticket<std::result::Result<Vec<Vec<u8>>, ArchiveError>>,
}

/// The pieces that lie in one archive.
struct Group<'p> {
    info: &'p ArchiveInfo,
    reader: Arc<ArchiveReader>,
    spare: Spare<'p>,
    cursor: Cursor<'p>,
    /// Frames not asked for yet.
    batches: std::vec::IntoIter<Vec<Frame>>,
}

impl Reading<'_> {
    /// Reads all `pieces` and gives them to `sink`. While one archive is read the next is opened.
    pub(crate) fn deliver(
        &self,
        mut pieces: Vec<Piece<'_>>,
        archives: &Archives,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        pieces.sort_by_key(|p| (p.extent.archive, p.extent.tar_offset, p.file));
        let mut groups: Vec<(&ArchiveInfo, &[Piece<'_>])> = Vec::new();
        for pieces in pieces.chunk_by(|a, b| a.extent.archive == b.extent.archive) {
            match pieces.first().and_then(|first| archives.0.get(&first.extent.archive)) {
                Some(info) => groups.push((info, pieces)),
                None => lose(pieces, "no listing says where its archive's frames lie", sink)?,
            }
        }
        let groups = &groups;
        std::thread::scope(|scope| {
            let (tell, opened) = bounded::<Result<Open>>(1);
            let open = move || {
                for (info, _) in groups {
                    let first: Arc<dyn Store> = Arc::clone(self.sources) as _;
                    if tell.send(self.open(&first, info)).is_err() {
                        break; // nobody reads on
                    }
                }
            };
            let thread = Builder::new().name("backstay-open".into()).spawn_scoped(scope, open);
            thread.doing(Class::Failed, || "no thread can be started".into())?;
            self.read_groups(groups, &opened, sink)
        })
    }

    fn read_groups<'s>(
        &'s self,
        groups: &'s [(&'s ArchiveInfo, &'s [Piece<'s>])],
        opened: &Receiver<Result<Open>>,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let mut under_way: VecDeque<UnderWay> = VecDeque::new();
        // Those that are being read, by number; the last is the one that batches are taken from.
        let mut open: VecDeque<(usize, Group<'s>)> = VecDeque::new();
        let mut rest = groups.iter().enumerate();
        let buffers = Buffers::default();
        loop {
            self.interrupt.check()?;
            while under_way.len() < BATCHES_AHEAD {
                if let Some(asked) =
                    open.back_mut().and_then(|(number, group)| group.ask(*number, self.pool, &buffers))
                {
                    under_way.push_back(asked);
                } else if let Some((number, (info, pieces))) = rest.next() {
                    let gone = || OpError::new(Class::Failed, "internal: nobody opens archives any more");
                    let reader = opened.recv().map_err(|_| gone())??;
                    open.extend(self.begin(info, pieces, reader, sink)?.map(|group| (number, group)));
                } else {
                    break;
                }
            }
            let Some(next) = under_way.pop_front() else {
                break;
            };
            while open.front().is_some_and(|(number, _)| *number != next.group) {
                open.pop_front().map_or(Ok(()), |(_, group)| group.end(sink))?;
            }
            if let Some((_, group)) = open.front_mut() {
                group.take(next, &buffers, sink)?;
            }
        }
        open.into_iter().try_for_each(|(_, group)| group.end(sink))
    }

    /// The group of an archive's pieces; none when the archive cannot be had from any store, and then they are lost.
    fn begin<'s>(
        &'s self,
        info: &'s ArchiveInfo,
        pieces: &'s [Piece<'s>],
        reader: Open,
        sink: &mut dyn Sink,
    ) -> Result<Option<Group<'s>>> {
        let mut spare = Spare::of(self, info);
        let reader = match reader {
            Ok(reader) => reader,
            Err(why) => match spare.reader() {
                Some(reader) => reader,
                None => {
                    let key = Key::Archive(info.sha256);
                    lose(pieces, &format!("{key}: {why}"), sink)?;
                    return Ok(None);
                }
            },
        };
        let batches = batches(info, pieces).into_iter();
        Ok(Some(Group { info, reader, spare, cursor: Cursor::over(pieces), batches }))
    }
}

impl Group<'_> {
    /// Lets the next frames be read.
    fn ask(&mut self, group: usize, pool: &Pool, buffers: &Buffers) -> Option<UnderWay> {
        let frames = self.batches.next()?;
        let (reader, wanted, buffers) = (Arc::clone(&self.reader), frames.clone(), buffers.clone());
        let read = move || reader.read_frames_with(&wanted, &mut || buffers.take());
        Some(UnderWay { group, frames, ticket: pool.submit(read) })
    }

    /// Gives what was read to the sink.
    fn take(&mut self, read: UnderWay, buffers: &Buffers, sink: &mut dyn Sink) -> Result<()> {
        match read.ticket.wait() {
            Ok(Ok(contents)) => {
                self.cursor.deliver(&read.frames, &contents, sink)?;
                buffers.give(contents);
                Ok(())
            }
            Ok(Err(_)) | Err(_) => {
                one_by_one(&self.reader, &mut self.spare, &read.frames, &mut self.cursor, sink)
            }
        }
    }

    fn end(self, sink: &mut dyn Sink) -> Result<()> {
        self.cursor.uncovered(self.info, sink)
    }
}

impl Reading<'_> {
    /// Opens an archive in one store; the inner error is why it cannot be used.
    pub(super) fn open(
        &self,
        store: &Arc<dyn Store>,
        info: &ArchiveInfo,
    ) -> Result<std::result::Result<Arc<ArchiveReader>, String>> {
        let key = Key::Archive(info.sha256);
        let source = Arc::new(StoreRange { store: Arc::clone(store), key: key.clone() });
        let reader = match ArchiveReader::open(source, info.clone(), self.identities) {
            Ok(reader) => Arc::new(reader),
            Err(ArchiveError::NoIdentity { .. }) if self.should_open(info) => {
                return Ok(Err("its age header does not open with the key that it was sealed to".into()));
            }
            Err(e @ ArchiveError::NoIdentity { .. }) => {
                return Err(archive_error(e, format!("cannot open {key}")));
            }
            Err(e) => return Ok(Err(chain_text(&e))),
        };
        Ok(self.foreign(&reader).map_or(Ok(reader), Err))
    }

    /// True when an identity at hand is one of those that the record says the archive is sealed to.
    fn should_open(&self, info: &ArchiveInfo) -> bool {
        let object = self.record.object(&info.sha256);
        let recipients = object.and_then(|o| self.record.recipients.get(o.recipients as usize));
        recipients.is_some_and(|recipients| self.identities.open_any(recipients))
    }

    /// Why the archive must not be used: it was made for another host. One whose own line cannot be read is not known to be: what its
    /// damage costs is found frame by frame.
    fn foreign(&self, reader: &ArchiveReader) -> Option<String> {
        match reader.about() {
            Ok(about) if about.host == self.record.host && about.vault == self.record.vault => None,
            Ok(about) => Some(format!("it was made by host {} of vault {}", about.host, about.vault)),
            Err(e @ ArchiveError::TooNew { .. }) => Some(chain_text(&e)),
            Err(_) => None,
        }
    }
}

/// Reads frames again that could not be read together, so that only those are lost that are damaged.
fn one_by_one(
    reader: &ArchiveReader,
    spare: &mut Spare<'_>,
    batch: &[Frame],
    cursor: &mut Cursor<'_>,
    sink: &mut dyn Sink,
) -> Result<()> {
    for frame in batch.chunks(1) {
        match reader.read_frames(frame) {
            Ok(content) => cursor.deliver(frame, &content, sink)?,
            Err(e) => match spare.read(frame) {
                Some(content) => cursor.deliver(frame, &content, sink)?,
                None => {
                    let key = Key::Archive(spare.info().sha256);
                    cursor.lose(frame, &format!("{key}: {}", chain_text(&e)), sink)?;
                }
            },
        }
    }
    Ok(())
}

fn lose(pieces: &[Piece<'_>], why: &str, sink: &mut dyn Sink) -> Result<()> {
    pieces.iter().try_for_each(|piece| sink.lost(piece.file, why))
}

/// The frames that pieces touch, neighbours together.
fn batches(info: &ArchiveInfo, pieces: &[Piece<'_>]) -> Vec<Vec<Frame>> {
    let mut batches: Vec<Vec<Frame>> = Vec::new();
    let mut reached = 0;
    for piece in pieces {
        for frame in info.frames_of(piece.extent.tar_offset, piece.extent.length) {
            if frame.tar_offset + frame.tar_length <= reached {
                continue;
            }
            reached = frame.tar_offset + frame.tar_length;
            match batches.last_mut() {
                Some(batch) if continues(batch, frame) => batch.push(*frame),
                _ => batches.push(vec![*frame]),
            }
        }
    }
    batches
}

fn continues(batch: &[Frame], next: &Frame) -> bool {
    let bytes: u64 = batch.iter().map(|f| f.tar_length).sum();
    let adjacent = batch.last().is_some_and(|f| f.offset + f.length == next.offset);
    adjacent && bytes + next.tar_length <= BATCH_TAR_BYTES
}

pub(crate) use crate::ops::backup::chain_text;
