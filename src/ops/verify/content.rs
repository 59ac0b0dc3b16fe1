//! Whether the content that a listing promises is really there: every byte fetched, opened, unpacked and compared with its entry's hash.
//!
//! Nothing is made of it: small content is hashed as it comes, what does not come in order is put in order in memory, and only large files
//! and databases take room on disk, one at a time. A file counts as whole only when its hash was compared.

use crate::model::entry::FLAG_DATABASE;
use crate::model::manifest::ArchiveInfo;
use crate::model::{Entry, Extent, ObjectId};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::restore::read::{Archives, Piece, Reading, Sink};
use crate::ops::verify::scratch::Scratch;
use crate::source::sqlite::{Checked, check_file, check_file_wholly};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// Content that does not come in file order is put in order in memory up to this many bytes at a time.
const MEMORY: u64 = 32 << 20;

/// A file of a listing: its entry, and where its bytes lie.
pub(crate) struct Wanted {
    pub(super) entry: Entry,
    pub(super) extents: Vec<Extent>,
}

impl Wanted {
    pub(crate) fn new(entry: Entry, extents: Vec<Extent>) -> Self {
        Self { entry, extents }
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Bytes of its content; holes have none.
    pub(crate) fn bytes(&self) -> u64 {
        self.extents.iter().map(|e| e.length).sum()
    }

    /// What of it was proved when it is whole: the same extents with the same hash need not be read again.
    pub(super) fn proof(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.entry.hash.as_ref().map_or(&[][..], |h| &h.as_bytes()[..]));
        for e in &self.extents {
            hasher.update(e.archive.as_bytes());
            for number in [e.offset, e.tar_offset, e.length] {
                hasher.update(&number.to_le_bytes());
            }
        }
        let mut proof = [0; 16];
        proof.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        proof
    }

    /// True when reading archives from front to back gives the file from front to back.
    fn comes_in_order(&self) -> bool {
        let place = |e: &Extent| (e.archive, e.tar_offset);
        self.extents.windows(2).all(|pair| place(&pair[0]) < place(&pair[1]))
    }
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Its bytes are those of its hash.
    Whole,
    /// Its bytes cannot be had, or are others.
    Lost(String),
    /// Its bytes are right, and the database that they are fails its check.
    CheckFailed(String),
    /// Its bytes are right, and only the program whose database that is could check it.
    CheckUnknown(String),
    /// It could not be looked at here: no room for it.
    NotChecked(String),
}

/// Reads files and compares them.
pub(crate) struct Checker<'a> {
    pub(crate) reading: Reading<'a>,
    pub(crate) scratch: &'a Scratch,
    /// Hears how many bytes of content came.
    pub(crate) advance: &'a dyn Fn(u64),
    /// Whether databases are checked, too.
    pub(crate) databases: bool,
    /// With `integrity_check`, which takes far longer than `quick_check`.
    pub(crate) thorough: bool,
}

impl Checker<'_> {
    /// Looks at `files`, whose extents lie in the archives of `infos`.
    pub(crate) fn check(&self, files: &[&Wanted], infos: Vec<ArchiveInfo>) -> Result<Vec<Content>> {
        let mut archives = Archives::default();
        archives.add(infos);
        match archives.settle() {
            Ok(()) => self.check_in(files, &archives),
            Err(why) => Ok(vec![Content::Lost(format!("its listing is damaged: {why}")); files.len()]),
        }
    }

    /// Looks at `files`, whose extents lie in `archives`, which are settled. Gives what became of each, by place. Fails only when nothing more can be read.
    pub(crate) fn check_in(&self, files: &[&Wanted], archives: &Archives) -> Result<Vec<Content>> {
        let mut outcomes: Vec<Content> = vec![Content::Whole; files.len()];
        let alone = |f: &Wanted| {
            (self.databases && f.entry.has_flag(FLAG_DATABASE)) || (!f.comes_in_order() && f.bytes() > MEMORY)
        };
        let (mut streamed, mut held, mut on_disk) = (Vec::new(), Vec::new(), Vec::new());
        for (place, file) in files.iter().enumerate() {
            match (alone(file), file.comes_in_order()) {
                (true, _) => on_disk.push(place),
                (false, true) => streamed.push(place),
                (false, false) => held.push(place),
            }
        }
        self.deliver(files, &streamed, archives, |_| Ok(Some(Keep::Stream)), &mut outcomes)?;
        for group in groups(files, &held) {
            self.deliver(files, &group, archives, |f| Ok(Some(Keep::memory(f))), &mut outcomes)?;
        }
        for place in on_disk {
            let mut short = None;
            let keep = |file: &Wanted| match self.scratch.room_for(file.entry.size) {
                Ok(()) => Keep::on_disk(self.scratch, file).map(Some),
                Err(why) => {
                    short = Some(why);
                    Ok(None)
                }
            };
            self.deliver(files, &[place], archives, keep, &mut outcomes)?;
            if let Some(why) = short {
                outcomes[place] = Content::NotChecked(why);
            }
        }
        Ok(outcomes)
    }

    fn deliver(
        &self,
        files: &[&Wanted],
        places: &[usize],
        archives: &Archives,
        mut keep: impl FnMut(&Wanted) -> Result<Option<Keep>>,
        outcomes: &mut [Content],
    ) -> Result<()> {
        let mut states = Vec::with_capacity(places.len());
        let mut pieces = Vec::new();
        for &place in places {
            let file = files[place];
            let Some(keep) = keep(file)? else {
                continue;
            };
            pieces.extend(file.extents.iter().map(|extent| Piece { extent, file: states.len() }));
            states.push(State { place, file, missing: file.bytes(), lost: None, keep, hashing: None });
        }
        let mut sink = Comparing { states, advance: self.advance };
        self.reading.deliver(pieces, archives, &mut sink)?;
        for state in sink.states {
            let place = state.place;
            outcomes[place] = state.outcome(self)?;
        }
        Ok(())
    }
}

/// Files in groups that fit into memory together.
fn groups(files: &[&Wanted], places: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for &place in places {
        let bytes = files[place].bytes();
        match groups.last_mut().filter(|_| bytes <= room) {
            Some(group) => group.push(place),
            None => {
                groups.push(vec![place]);
                room = MEMORY;
            }
        }
        room = room.saturating_sub(bytes);
    }
    groups
}

/// How the bytes of a file are kept until they can be hashed.
enum Keep {
    /// They come in order and are hashed as they come.
    Stream,
    /// All of them, in file order, without holes.
    Memory(Vec<u8>),
    /// In a file of their own, which goes with this.
    Disk(OnDisk),
}

/// A file in the scratch place.
struct OnDisk {
    file: File,
    path: PathBuf,
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        // What stays all the same is removed with the whole scratch place.
        let _left = std::fs::remove_file(&self.path);
    }
}

impl Keep {
    fn memory(file: &Wanted) -> Self {
        Self::Memory(vec![0; usize::try_from(file.bytes()).unwrap_or(0)])
    }

    fn on_disk(scratch: &Scratch, wanted: &Wanted) -> Result<Self> {
        let (file, path) = scratch.new_file()?;
        let cannot = || format!("cannot prepare {}", path.display());
        file.set_len(wanted.entry.size).doing(Class::Failed, cannot)?;
        Ok(Self::Disk(OnDisk { file, path }))
    }
}

/// One file on its way.
struct State<'f> {
    place: usize,
    file: &'f Wanted,
    missing: u64,
    lost: Option<String>,
    keep: Keep,
    /// The hasher and how many bytes it has: made with the first byte, so that a million files do not have one each.
    hashing: Option<Box<(blake3::Hasher, u64)>>,
}

impl State<'_> {
    /// Where the byte at `offset` of the file lies among the bytes that extents cover.
    fn covered_before(&self, offset: u64) -> u64 {
        let before = self.file.extents.iter().take_while(|e| e.offset + e.length <= offset);
        let (whole, count) = before.fold((0, 0), |(sum, count), e| (sum + e.length, count + 1));
        whole + self.file.extents.get(count).map_or(0, |e| offset.saturating_sub(e.offset))
    }

    fn take(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        match &mut self.keep {
            Keep::Stream => {
                let hashing = self.hashing.get_or_insert_with(|| Box::new((blake3::Hasher::new(), 0)));
                hashing.0.update(bytes);
                hashing.1 += bytes.len() as u64;
                let done = hashing.1;
                if self.covered_before(offset) + bytes.len() as u64 != done {
                    self.lost = Some("its bytes did not come in order".into());
                }
            }
            Keep::Memory(_) => {
                let from = usize::try_from(self.covered_before(offset)).unwrap_or(usize::MAX);
                let Keep::Memory(all) = &mut self.keep else { return Ok(()) };
                match from.checked_add(bytes.len()).and_then(|to| all.get_mut(from..to)) {
                    Some(place) => place.copy_from_slice(bytes),
                    None => self.lost = Some("more bytes came than its listing says".into()),
                }
            }
            Keep::Disk(disk) => {
                let cannot = || format!("cannot write {}", disk.path.display());
                disk.file.write_all_at(bytes, offset).doing(Class::Failed, cannot)?;
            }
        }
        Ok(())
    }

    fn outcome(mut self, by: &Checker<'_>) -> Result<Content> {
        if let Some(why) = self.lost.take() {
            return Ok(Content::Lost(why));
        }
        if self.missing > 0 {
            return Ok(Content::Lost("not all of its bytes came".into()));
        }
        let found = match (&self.keep, self.hashing.take()) {
            (Keep::Stream, Some(hashing)) => hashing.0.finalize(),
            (Keep::Stream, None) => blake3::hash(&[]),
            (Keep::Memory(all), _) => blake3::hash(all),
            (Keep::Disk(disk), _) => hash_extents(disk, &self.file.extents)?,
        };
        if self.file.entry.hash.is_none_or(|hash| hash.as_bytes() != found.as_bytes()) {
            return Ok(Content::Lost("its content is not what its listing says".into()));
        }
        match &self.keep {
            Keep::Disk(disk) if by.databases && self.file.entry.has_flag(FLAG_DATABASE) => {
                Ok(check_database(disk, by.thorough))
            }
            _ => Ok(Content::Whole),
        }
    }
}

fn hash_extents(disk: &OnDisk, extents: &[Extent]) -> Result<blake3::Hash> {
    let cannot = || format!("cannot read {} back", disk.path.display());
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    for extent in extents {
        let mut done = 0;
        while done < extent.length {
            let want = usize::try_from(extent.length - done).unwrap_or(buffer.len()).min(buffer.len());
            disk.file
                .read_exact_at(&mut buffer[..want], extent.offset + done)
                .doing(Class::Failed, cannot)?;
            hasher.update(&buffer[..want]);
            done += want as u64;
        }
    }
    Ok(hasher.finalize())
}

fn check_database(disk: &OnDisk, thorough: bool) -> Content {
    match if thorough { check_file_wholly(&disk.path) } else { check_file(&disk.path) } {
        Checked::Sound => Content::Whole,
        Checked::Unsound(why) => Content::CheckFailed(why),
        Checked::Unknown(why) => Content::CheckUnknown(why),
    }
}

/// Hears bytes and compares.
struct Comparing<'f, 'a> {
    states: Vec<State<'f>>,
    advance: &'a dyn Fn(u64),
}

impl Sink for Comparing<'_, '_> {
    fn bytes(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        (self.advance)(bytes.len() as u64);
        let state = &mut self.states[file];
        match state.missing.checked_sub(bytes.len() as u64) {
            _ if state.lost.is_some() => return Ok(()),
            Some(missing) => state.missing = missing,
            None => state.lost = Some("more bytes came than its listing says".into()),
        }
        state.take(offset, bytes)
    }

    fn lost(&mut self, file: usize, why: &str) -> Result<()> {
        self.states[file].lost.get_or_insert_with(|| why.to_owned());
        Ok(())
    }
}

/// Files that were found whole, and listings all of whose files were: they need not be read again in the same store.
#[derive(Default)]
pub(super) struct Seen {
    files: HashSet<[u8; 16]>,
    listings: HashSet<ObjectId>,
    /// Whole ones that only their own program can check, and why.
    foreign: HashMap<[u8; 16], String>,
}

impl Seen {
    pub(super) fn file(&self, file: &Wanted) -> bool {
        self.files.contains(&file.proof())
    }

    pub(super) fn listing(&self, object: &ObjectId) -> bool {
        self.listings.contains(object)
    }

    pub(super) fn add_file(&mut self, file: &Wanted) {
        self.files.insert(file.proof());
    }

    pub(super) fn foreign(&self, file: &Wanted) -> Option<&str> {
        self.foreign.get(&file.proof()).map(String::as_str)
    }

    pub(super) fn add_foreign(&mut self, file: &Wanted, why: String) {
        self.add_file(file);
        self.foreign.insert(file.proof(), why);
    }

    pub(super) fn add_listing(&mut self, object: ObjectId) {
        self.listings.insert(object);
    }
}
