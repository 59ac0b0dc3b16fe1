//! One file's content, proved before any of it is let out.

use crate::model::index::Index;
use crate::model::{Entry, Kind, RelPath};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::holding::named_by;
use crate::ops::restore::read::{Piece, Reading, Sink, reading_pool};
use crate::ops::restore::{Listing, Opened, open};
use crate::ops::select::{self, Selection};
use crate::ops::session::Session;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Content up to this many bytes is proved in memory, larger content in a scratch file.
const IN_MEMORY: u64 = 16 << 20;

/// Writes one file's content to `out`, after all of it was proved: nothing unproved is ever let out.
pub fn cat(
    session: &Session,
    selector: &str,
    path: &str,
    untrusted: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let opened = open(session, selector, &named_by(session, &[path.to_owned()]), untrusted)?;
    let (component, wanted) = select::path(session, &opened.index, path)?;
    let wanted = match wanted {
        Some(wanted) => wanted,
        None => single_path(&opened.index, &component)?,
    };
    let selection = Selection { component, paths: vec![wanted.clone()] };
    let listing = Listing::read(&opened.reader(), &opened.index, &selection)?;
    select::refuse_left(&selection, &listing.entries)?;
    let place = listing.entries.iter().position(|e| e.path == wanted && e.kind == Kind::File);
    let place = place.ok_or_else(|| {
        OpError::new(Class::Usage, format!("{path} is not a file"))
            .hint("`backstay ls` lists what is in a directory")
    })?;
    gathered(session, &opened, &listing, place)?
        .copy_to(out)
        .or_else(|e| {
            // Whoever reads the output may stop when it has enough.
            if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) }
        })
        .doing(Class::Failed, || format!("cannot write the content of {path}"))
}

/// The content of the file at `place` of `listing`, proved; none of one that is larger than `most`.
pub(in crate::ops) fn small_file(
    session: &Session,
    opened: &Opened,
    listing: &Listing,
    place: usize,
    most: u64,
) -> Result<Option<Vec<u8>>> {
    if listing.entries[place].size > most.min(IN_MEMORY) {
        return Ok(None);
    }
    let mut content = Vec::new();
    let copied = gathered(session, opened, listing, place)?.copy_to(&mut content);
    copied.doing(Class::Failed, || format!("cannot hold the content of {}", listing.entries[place].path))?;
    Ok(Some(content))
}

/// All of a file, where it can be read.
fn gathered(session: &Session, opened: &Opened, listing: &Listing, place: usize) -> Result<Gather> {
    let extents = listing.extents(place);
    let mut gathered = Gather::new(&listing.entries[place])?;
    let pieces = extents.iter().map(|extent| Piece { extent, file: 0 }).collect();
    let pool = reading_pool();
    let reading = Reading {
        sources: &opened.sources,
        record: &opened.record,
        identities: &opened.identities,
        pool: &pool,
        interrupt: &session.around.interrupt,
    };
    reading.deliver(pieces, &listing.archives, &mut gathered)?;
    let ranges: Vec<(u64, u64)> = extents.iter().map(|e| (e.offset, e.length)).collect();
    gathered.prove(&listing.entries[place], &ranges)?;
    Ok(gathered)
}

fn single_path(index: &Index, component: &str) -> Result<RelPath> {
    let component = select::component(index, component)?;
    let first = component.segments.first().filter(|_| component.single).map(|s| s.first.clone());
    first.ok_or_else(|| {
        OpError::new(Class::Usage, format!("component {} is not one file", component.name))
            .hint(format!("name a path in it; `backstay ls ID {} -r` lists them", component.name))
    })
}

/// Gathers one file's content where it can be proved before it is let out.
struct Gather {
    scratch: Scratch,
    lost: Option<String>,
}

enum Scratch {
    Memory(Vec<u8>),
    File(File),
}

impl Gather {
    fn new(entry: &Entry) -> Result<Self> {
        let scratch = if entry.size <= IN_MEMORY {
            Scratch::Memory(vec![0; usize::try_from(entry.size).unwrap_or(0)])
        } else {
            let make = || -> io::Result<File> {
                let file = crate::durable::scratch_file(&std::env::temp_dir())?;
                file.set_len(entry.size)?;
                Ok(file)
            };
            Scratch::File(make().doing(Class::Failed, || "cannot make a scratch file".into())?)
        };
        Ok(Self { scratch, lost: None })
    }

    fn prove(&mut self, entry: &Entry, ranges: &[(u64, u64)]) -> Result<()> {
        let damaged = |why: &str| {
            OpError::new(Class::Damage, format!("{} cannot be had", entry.path)).because(why.to_owned())
        };
        if let Some(why) = &self.lost {
            return Err(damaged(why));
        }
        let mut hasher = blake3::Hasher::new();
        for &(offset, length) in ranges {
            self.range(offset, length, &mut |bytes| {
                hasher.update(bytes);
                Ok(())
            })
            .doing(Class::Failed, || "cannot read a scratch file".into())?;
        }
        if entry.hash.is_some_and(|h| h.as_bytes() == hasher.finalize().as_bytes()) {
            return Ok(());
        }
        Err(damaged("its content is not what its listing says"))
    }

    fn range(
        &mut self,
        offset: u64,
        length: u64,
        each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match &mut self.scratch {
            Scratch::Memory(bytes) => {
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
                each(bytes.get(place(offset)..place(offset + length)).unwrap_or(&[]))
            }
            Scratch::File(file) => {
                file.seek(SeekFrom::Start(offset))?;
                let mut rest = file.take(length);
                let mut buffer = vec![0; 1 << 20];
                loop {
                    match rest.read(&mut buffer)? {
                        0 => return Ok(()),
                        got => each(&buffer[..got])?,
                    }
                }
            }
        }
    }

    fn copy_to(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let size = match &self.scratch {
            Scratch::Memory(bytes) => bytes.len() as u64,
            Scratch::File(file) => file.metadata()?.len(),
        };
        self.range(0, size, &mut |bytes| out.write_all(bytes))?;
        out.flush()
    }
}

impl Sink for Gather {
    fn bytes(&mut self, _: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let write = |scratch: &mut Scratch| match scratch {
            Scratch::Memory(all) => {
                let at = usize::try_from(offset).unwrap_or(usize::MAX);
                let room = all.get_mut(at..at.saturating_add(bytes.len()));
                room.map(|room| room.copy_from_slice(bytes)).ok_or_else(|| io::Error::other("past the end"))
            }
            Scratch::File(file) => {
                file.seek(SeekFrom::Start(offset))?;
                file.write_all(bytes)
            }
        };
        write(&mut self.scratch).doing(Class::Failed, || "cannot write a scratch file".into())
    }

    fn lost(&mut self, _: usize, why: &str) -> Result<()> {
        self.lost.get_or_insert_with(|| why.to_owned());
        Ok(())
    }
}
