//! Members and plain tar streams for tests.

use crate::archive::error::ArchiveError;
use crate::archive::pax::{BLOCK, Member, MemberKind, Sparse, TarMember, TarReader, encode, padding};
use std::collections::BTreeMap;

pub(crate) static NO_XATTRS: BTreeMap<String, Vec<u8>> = BTreeMap::new();

/// A small member: files are empty, links lead to `backend/a`.
pub(crate) fn member(path: &[u8], kind: MemberKind) -> Member<'_> {
    let is_link = matches!(kind, MemberKind::Symlink | MemberKind::HardLink);
    Member {
        path,
        kind,
        mode: 0o640,
        uid: 1000,
        gid: 1000,
        user: Some("app"),
        group: Some("app"),
        mtime: (1_763_884_800, 0),
        size: 0,
        target: is_link.then_some(b"backend/a"),
        dev: matches!(kind, MemberKind::Char | MemberKind::Block).then_some((8, 1)),
        xattrs: &NO_XATTRS,
        sparse: None,
    }
}

pub(crate) fn file(path: &[u8], size: usize) -> Member<'_> {
    Member { size: size as u64, ..member(path, MemberKind::File) }
}

/// Header, data, padding.
pub(crate) fn append(out: &mut Vec<u8>, member: &Member<'_>, data: &[u8]) {
    assert_eq!(member.size, data.len() as u64);
    encode(member, out).unwrap();
    out.extend_from_slice(data);
    out.resize(out.len() + padding(member.size), 0);
}

pub(crate) fn end(mut out: Vec<u8>) -> Vec<u8> {
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

/// All members of a stream, with their data.
pub(crate) fn read_all(tar: &[u8]) -> Result<Vec<(TarMember, Vec<u8>)>, ArchiveError> {
    let mut reader = TarReader::new(tar, "a stream");
    let mut all = Vec::new();
    while let Some(member) = reader.next_member()? {
        // Sizes that the stream cannot have are not believed.
        let mut data = vec![0; member.size.min(tar.len() as u64 + 1) as usize];
        reader.read_data(&mut data)?;
        all.push((member, data));
    }
    Ok(all)
}

/// One of everything that is hard to say in tar, with its data.
pub(crate) struct Zoo {
    long: Vec<u8>,
    long_target: Vec<u8>,
    xattrs: BTreeMap<String, Vec<u8>>,
}

pub(crate) const ODD_NAME: &[u8] = b"backend/odd\xff\xfename";
pub(crate) const SPARSE_NAME: &[u8] = b"backend/sparse";
pub(crate) const SPARSE_RANGES: [(u64, u64); 2] = [(65_536, 512), (1 << 20, 700)];
pub(crate) const SPARSE_SIZE: u64 = 3 << 20;

impl Zoo {
    pub(crate) fn new() -> Self {
        let part = "directory-with-a-name-of-fifty-five-characters-in-it-00/";
        let long = format!("backend/{}{}", part.repeat(5), "f".repeat(330 - 8 - 5 * part.len()));
        assert_eq!(long.len(), 330);
        let xattrs = [("user.text", &b"value"[..]), ("user.binary", b"\0\xff\n=\0"), ("user.a=b", b"unsaid")];
        let xattrs = xattrs.map(|(name, value)| (name.to_owned(), value.to_vec()));
        Self { long: long.into_bytes(), long_target: vec![b't'; 243], xattrs: xattrs.into() }
    }

    pub(crate) fn members(&self) -> Vec<(Member<'_>, Vec<u8>)> {
        let directory = |path| (Member { mode: 0o755, ..member(path, MemberKind::Dir) }, vec![]);
        let mut all = vec![directory(b"backend"), directory(b"backend/dir")];
        all.extend(self.names());
        all.extend(odd_metadata());
        all.extend(self.links_and_devices());
        let xattrs = &self.xattrs;
        all.push((Member { xattrs, ..file(b"backend/xattrs", 5) }, b"small".to_vec()));
        let sparse = Some(Sparse { real_size: SPARSE_SIZE, ranges: &SPARSE_RANGES });
        all.push((Member { sparse, ..file(SPARSE_NAME, 1212) }, vec![b's'; 1212]));
        let sparse = Some(Sparse { real_size: 1 << 20, ranges: &[] });
        all.push((Member { sparse, ..file(b"backend/hole", 0) }, vec![]));
        all.push(small(b"backend/last"));
        all
    }

    fn names(&self) -> Vec<(Member<'_>, Vec<u8>)> {
        let odd: [&[u8]; 5] =
            [b"backend/a", ODD_NAME, "backend/größe".as_bytes(), b"backend/new\nline", b"backend/-leading"];
        let mut all: Vec<_> = odd.into_iter().map(small).collect();
        all.push((file(&self.long, 600), vec![b'l'; 600]));
        all
    }

    fn links_and_devices(&self) -> Vec<(Member<'_>, Vec<u8>)> {
        use MemberKind::{Block, Char, Fifo, HardLink, Symlink};
        let to = |path, kind, target| Member { target: Some(target), ..member(path, kind) };
        let all = [
            to(b"backend/link", Symlink, b"a"),
            to(b"backend/longlink", Symlink, &self.long_target),
            to(b"backend/oddlink", Symlink, b"../\xff"),
            to(b"backend/hard", HardLink, b"backend/a"),
            to(b"backend/hardlong", HardLink, &self.long),
            member(b"backend/fifo", Fifo),
            Member { dev: Some((4095, 1_048_575)), ..member(b"backend/char", Char) },
            member(b"backend/block", Block),
        ];
        all.map(|member| (member, vec![])).into()
    }

    pub(crate) fn tar(&self, keep: impl Fn(&Member<'_>) -> bool) -> Vec<u8> {
        let mut out = Vec::new();
        for (member, data) in self.members().iter().filter(|(m, _)| keep(m)) {
            append(&mut out, member, data);
        }
        end(out)
    }
}

fn small(path: &[u8]) -> (Member<'_>, Vec<u8>) {
    (file(path, 5), b"small".to_vec())
}

fn odd_metadata() -> Vec<(Member<'static>, Vec<u8>)> {
    let at = |path, mtime| Member { mtime, ..file(path, 5) };
    let ids = file(b"backend/ids", 5);
    let names = file(b"backend/names", 5);
    let all = [
        at(b"backend/nanos", (1_763_884_800, 123_456_789)),
        at(b"backend/old", (-5, 0)),
        at(b"backend/oldnanos", (-5, 250_000_000)),
        at(b"backend/future", (9_999_999_999, 0)),
        Member { uid: 4_294_967_294, gid: 2_097_152, ..ids },
        Member { user: None, group: Some("a-group-name-of-more-than-31-chars"), ..names },
        Member { mode: 0o6755, ..file(b"backend/setuid", 5) },
    ];
    all.map(|member| (member, b"small".to_vec())).into()
}

/// The content of the zoo's sparse file.
pub(crate) fn sparse_content() -> Vec<u8> {
    let mut content = vec![0; SPARSE_SIZE as usize];
    for (offset, length) in SPARSE_RANGES {
        content[offset as usize..(offset + length) as usize].fill(b's');
    }
    content
}
