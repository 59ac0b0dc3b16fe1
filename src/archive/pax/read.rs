//! Reading a tar stream strictly. Nothing is extracted.

use super::block::Ustar;
use super::member::{MemberKind, TARGET_MAX, path_fault, ranges_fault, sparse_path};
use super::records::{REAL_SIZE, Records, XATTR, decimal, parse_time};
use super::{BLOCK, MAP_BYTES_MAX, PAX_BYTES_MAX, USTAR_SIZE_MAX, padding};
use crate::archive::error::{ArchiveError, Damage, fill, from_read};
use std::collections::BTreeMap;
use std::io::Read;

/// A member of a tar stream, as a reader gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarMember {
    /// Where its first header block begins in the stream.
    pub header_offset: u64,
    /// Where its data begins: of a sparse file behind the map.
    pub data_offset: u64,
    /// Length of its data: of a sparse file what is stored.
    pub size: u64,
    /// Path, without a slash at its end.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's name.
    pub user: Option<String>,
    /// Group's name.
    pub group: Option<String>,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Target of a link.
    pub target: Option<Vec<u8>>,
    /// Numbers of a device.
    pub dev: Option<(u32, u32)>,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Of a sparse file its true size and the stretches that are stored.
    pub sparse: Option<(u64, Vec<(u64, u64)>)>,
    /// All pax records, in their order.
    pub pax: Vec<(String, Vec<u8>)>,
}

/// Reads members one after the other and refuses everything that format 1 does not allow, the stream's end included.
pub struct TarReader<R> {
    input: R,
    subject: String,
    offset: u64,
    /// Data of the member at hand that was not read yet.
    left: u64,
    /// Padding behind it.
    pad: usize,
    ended: bool,
    scratch: Vec<u8>,
}

impl<R: Read> TarReader<R> {
    /// Reads from `input`; `subject` names it in errors.
    pub fn new(input: R, subject: &str) -> Self {
        let subject = subject.to_owned();
        Self { input, subject, offset: 0, left: 0, pad: 0, ended: false, scratch: Vec::new() }
    }

    /// How far the stream was read: after the last member, its length.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// The next member, whatever of the one before was not read being passed over; `None` at the stream's end, which is exactly two zero blocks.
    pub fn next_member(&mut self) -> Result<Option<TarMember>, ArchiveError> {
        self.skip_rest()?;
        if self.ended {
            return Ok(None);
        }
        let header_offset = self.offset;
        let block = self.block()?;
        if block == [0; BLOCK] {
            self.finish()?;
            return Ok(None);
        }
        let mut ustar = self.checked(Ustar::parse(&block))?;
        let mut pax = Records::default();
        if ustar.kind == b'x' {
            pax = self.pax_records(&ustar)?;
            let block = self.block()?;
            ustar = self.checked(Ustar::parse(&block))?;
        }
        let stored = self.checked(stored_size(&ustar, &pax))?;
        let mut member = self.checked(member_of(&ustar, pax))?;
        member.header_offset = header_offset;
        self.left = stored;
        self.pad = padding(stored);
        if let Some(real_size) = member.sparse.as_ref().map(|sparse| sparse.0) {
            let ranges = self.sparse_map(stored, real_size)?;
            let fault = ranges_fault(&ranges, real_size, self.left);
            self.checked(fault.map_or(Ok(()), |f| Err(f.into())))?;
            member.sparse = Some((real_size, ranges));
        }
        member.data_offset = self.offset;
        member.size = self.left;
        Ok(Some(member))
    }

    /// Reads data of the member at hand; 0 at its end.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let given = fill(&mut self.input, &mut buffer[..most]);
        let given = given.map_err(|e| from_read(e, &self.subject))?;
        if given < most {
            return Err(self.damaged("the tar stream is cut off"));
        }
        self.left -= given as u64;
        self.offset += given as u64;
        Ok(given)
    }

    fn damaged(&self, what: impl Into<Damage>) -> ArchiveError {
        let what = format!("{} (tar offset {})", what.into(), self.offset);
        Damage::from(what).of(&self.subject)
    }

    fn checked<T>(&self, result: Result<T, Damage>) -> Result<T, ArchiveError> {
        result.map_err(|e| self.damaged(e))
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        let given = fill(&mut self.input, buffer).map_err(|e| from_read(e, &self.subject))?;
        if given < buffer.len() {
            return Err(self.damaged("the tar stream is cut off"));
        }
        self.offset += given as u64;
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK], ArchiveError> {
        let mut block = [0; BLOCK];
        self.exactly(&mut block)?;
        Ok(block)
    }

    /// The second zero block, and nothing after it.
    fn finish(&mut self) -> Result<(), ArchiveError> {
        if self.block()? != [0; BLOCK] {
            return Err(self.damaged("a zero block stands between members"));
        }
        let more = fill(&mut self.input, &mut [0]).map_err(|e| from_read(e, &self.subject))?;
        if more != 0 {
            return Err(self.damaged("something follows the end of the tar stream"));
        }
        self.ended = true;
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<(), ArchiveError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(64 << 10, 0);
        while self.left > 0 {
            self.read_data(&mut scratch)?;
        }
        self.scratch = scratch;
        let pad = std::mem::take(&mut self.pad);
        self.zeros(pad)
    }

    fn zeros(&mut self, count: usize) -> Result<(), ArchiveError> {
        let mut block = [0; BLOCK];
        self.exactly(&mut block[..count])?;
        if block.iter().any(|&b| b != 0) {
            return Err(self.damaged("padding in the tar stream is not zero"));
        }
        Ok(())
    }

    fn pax_records(&mut self, header: &Ustar) -> Result<Records, ArchiveError> {
        if header.size > PAX_BYTES_MAX as u64 {
            return Err(self.damaged("a pax header is longer than 1 MiB"));
        }
        let mut bytes = vec![0; header.size as usize];
        self.exactly(&mut bytes)?;
        self.zeros(padding(header.size))?;
        self.checked(Records::parse(&bytes))
    }

    /// Reads the map at the head of a sparse member's data: a count, then so many pairs, one number a line, filled up with zeros.
    fn sparse_map(&mut self, stored: u64, real_size: u64) -> Result<Vec<(u64, u64)>, ArchiveError> {
        let most = stored.min(MAP_BYTES_MAX as u64);
        let mut map = MapText { bytes: Vec::new(), at: 0, most };
        let count = self.map_number(&mut map)?;
        let mut ranges = Vec::new();
        for _ in 0..count {
            ranges.push((self.map_number(&mut map)?, self.map_number(&mut map)?));
        }
        // GNU tar makes the file as long as the map reaches, others as long as the record says: so both must say the same.
        if ranges.last().is_none_or(|(offset, length)| offset.checked_add(*length) != Some(real_size)) {
            return Err(self.damaged("a sparse map does not reach to the file's end"));
        }
        ranges.pop_if(|last| last.1 == 0);
        if map.bytes[map.at..].iter().any(|&b| b != 0) {
            return Err(self.damaged("padding of a sparse map is not zero"));
        }
        Ok(ranges)
    }

    fn map_number(&mut self, map: &mut MapText) -> Result<u64, ArchiveError> {
        loop {
            let rest = &map.bytes[map.at..];
            // The longest number and its line's end take 21 bytes.
            if let Some(end) = rest.iter().take(21).position(|&b| b == b'\n') {
                let number = decimal(&rest[..end]);
                map.at += end + 1;
                return self.checked(number.ok_or_else(|| "a sparse map is malformed".into()));
            }
            if rest.len() > 20 || (map.bytes.len() + BLOCK) as u64 > map.most {
                return Err(self.damaged("a sparse map is malformed, cut off or too long"));
            }
            let mut block = [0; BLOCK];
            self.read_data(&mut block)?;
            map.bytes.extend_from_slice(&block);
        }
    }
}

struct MapText {
    bytes: Vec<u8>,
    at: usize,
    most: u64,
}

/// How many bytes lie behind the headers. Where header and pax record disagree, programs would find different members
/// (CVE-2025-62518), so a record counts only for what the header cannot say, and the header must then say 0.
fn stored_size(ustar: &Ustar, pax: &Records) -> Result<u64, Damage> {
    match pax.number("size")? {
        None => Ok(ustar.size),
        Some(size) if size == ustar.size => Ok(size),
        Some(size) if size > USTAR_SIZE_MAX && ustar.size == 0 && size < u64::MAX - BLOCK as u64 => Ok(size),
        Some(_) => Err("the sizes in a tar header and its pax header disagree".into()),
    }
}

fn kind_of(flag: u8) -> Result<MemberKind, Damage> {
    Ok(match flag {
        b'0' => MemberKind::File,
        b'1' => MemberKind::HardLink,
        b'2' => MemberKind::Symlink,
        b'3' => MemberKind::Char,
        b'4' => MemberKind::Block,
        b'5' => MemberKind::Dir,
        b'6' => MemberKind::Fifo,
        _ => {
            return Err(
                format!("a tar header is of kind {:?}, which is not allowed", char::from(flag)).into()
            );
        }
    })
}

/// Puts the header and its pax records together; offsets and sizes are not known yet.
fn member_of(ustar: &Ustar, pax: Records) -> Result<TarMember, Damage> {
    let kind = kind_of(ustar.kind)?;
    let (path, real_size) = path_of(ustar, &pax, kind)?;
    let is_device = matches!(kind, MemberKind::Char | MemberKind::Block);
    if kind != MemberKind::File && stored_size(ustar, &pax)? != 0 {
        return Err("something other than a file has data".into());
    }
    if !is_device && ustar.dev != (0, 0) {
        return Err("something other than a device has device numbers".into());
    }
    let mtime = match pax.get("mtime") {
        Some(value) => parse_time(value).ok_or("the pax record \"mtime\" is not a time")?,
        None => (i64::try_from(ustar.mtime).unwrap_or(i64::MAX), 0),
    };
    let xattrs = pax.0.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(XATTR)?;
        Some((name.to_owned(), value.clone()))
    });
    Ok(TarMember {
        header_offset: 0,
        data_offset: 0,
        size: 0,
        path,
        kind,
        mode: ustar.mode,
        uid: id(pax.number("uid")?.unwrap_or(ustar.uid))?,
        gid: id(pax.number("gid")?.unwrap_or(ustar.gid))?,
        user: owner(pax.text("uname")?, &ustar.user)?,
        group: owner(pax.text("gname")?, &ustar.group)?,
        mtime,
        target: target_of(ustar, &pax, kind)?,
        dev: is_device.then_some(ustar.dev),
        xattrs: xattrs.collect(),
        sparse: real_size.map(|size| (size, Vec::new())),
        pax: pax.0,
    })
}

/// The member's path, and of a sparse member its true size.
fn path_of(ustar: &Ustar, pax: &Records, kind: MemberKind) -> Result<(Vec<u8>, Option<u64>), Damage> {
    let path = pax.get("path").unwrap_or(&ustar.path);
    let path = match (kind, path.strip_suffix(b"/")) {
        (MemberKind::Dir, Some(path)) => path,
        (MemberKind::Dir, None) => {
            return Err("the path of a directory does not end with a slash".into());
        }
        _ => path,
    };
    if let Some(fault) = path_fault(path) {
        return Err(format!("a member is refused: {fault}").into());
    }
    let keys = ["GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", REAL_SIZE];
    let values = keys.map(|key| pax.get(key));
    if values.iter().all(Option::is_none) {
        return Ok((path.to_vec(), None));
    }
    let [Some(b"1"), Some(b"0"), Some(name), Some(_)] = values else {
        return Err("a sparse member is not of GNU's format 1.0".into());
    };
    if kind != MemberKind::File || path_fault(name).is_some() || sparse_path(name) != path {
        return Err("a sparse member has two names that do not belong together".into());
    }
    Ok((name.to_vec(), pax.number(REAL_SIZE)?))
}

fn target_of(ustar: &Ustar, pax: &Records, kind: MemberKind) -> Result<Option<Vec<u8>>, Damage> {
    let target = pax.get("linkpath").unwrap_or(&ustar.target);
    let fine = match kind {
        MemberKind::Symlink => !target.is_empty() && target.len() <= TARGET_MAX,
        MemberKind::HardLink => path_fault(target).is_none(),
        _ if target.is_empty() => return Ok(None),
        _ => false,
    };
    match fine {
        true => Ok(Some(target.to_vec())),
        false => Err("a link's target is missing, impossible or where no link is".into()),
    }
}

fn id(number: u64) -> Result<u32, Damage> {
    u32::try_from(number).map_err(|_| "an owner's number is too large".into())
}

fn owner(from_pax: Option<String>, from_ustar: &[u8]) -> Result<Option<String>, Damage> {
    if from_pax.is_some() {
        return Ok(from_pax);
    }
    let name = std::str::from_utf8(from_ustar).map_err(|_| Damage::from("an owner's name is not UTF-8"))?;
    Ok((!name.is_empty()).then(|| name.to_owned()))
}
