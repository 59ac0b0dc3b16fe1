//! Members and plain tar streams for tests.

use crate::archive::error::ArchiveError;
use crate::archive::pax::{
    BLOCK, Member, MemberKind, Sparse, TarMember, TarReader, encode, padding,
};
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
    Member {
        size: size as u64,
        ..member(path, MemberKind::File)
    }
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
pub(crate) const SPARSE_RANGES: [(u64, u64); 2] = [(65_536, 5), (1 << 20, 700)];
pub(crate) const SPARSE_SIZE: u64 = 3 << 20;

impl Zoo {
    pub(crate) fn new() -> Self {
        let part = "directory-with-a-name-of-fifty-five-characters-in-it-00/";
        let long = format!(
            "backend/{}{}",
            part.repeat(5),
            "f".repeat(330 - 8 - 5 * part.len())
        );
        assert_eq!(long.len(), 330);
        let xattrs = [
            ("user.text", &b"value"[..]),
            ("user.binary", b"\0\xff\n=\0"),
            ("user.a=b", b"unsaid"),
        ];
        let xattrs = xattrs.map(|(name, value)| (name.to_owned(), value.to_vec()));
        Self {
            long: long.into_bytes(),
            long_target: vec![b't'; 243],
            xattrs: xattrs.into(),
        }
    }

    pub(crate) fn members(&self) -> Vec<(Member<'_>, Vec<u8>)> {
        use MemberKind::{Block, Char, Dir, Fifo, HardLink, Symlink};
        let small = |path| (file(path, 5), b"small".to_vec());
        let with = |change: &dyn Fn(&mut Member<'_>), path: &'static [u8]| {
            let mut member = file(path, 5);
            change(&mut member);
            (member, b"small".to_vec())
        };
        let mut all = vec![
            (
                Member {
                    mode: 0o755,
                    ..member(b"backend", Dir)
                },
                vec![],
            ),
            small(b"backend/a"),
            (
                Member {
                    mode: 0o755,
                    ..member(b"backend/dir", Dir)
                },
                vec![],
            ),
            (file(&self.long, 600), vec![b'l'; 600]),
            small(ODD_NAME),
            small("backend/größe".as_bytes()),
            small(b"backend/new\nline"),
            small(b"backend/-leading"),
            with(
                &|m| m.mtime = (1_763_884_800, 123_456_789),
                b"backend/nanos",
            ),
            with(&|m| m.mtime = (-5, 0), b"backend/old"),
            with(&|m| m.mtime = (-5, 250_000_000), b"backend/oldnanos"),
            with(&|m| m.mtime = (9_999_999_999, 0), b"backend/future"),
            with(
                &|m| (m.uid, m.gid) = (4_294_967_294, 2_097_152),
                b"backend/ids",
            ),
            with(
                &|m| (m.user, m.group) = (None, Some("a-group-name-of-more-than-31-chars")),
                b"backend/names",
            ),
            with(&|m| m.mode = 0o6755, b"backend/setuid"),
            (member(b"backend/link", Symlink), vec![]),
            (
                Member {
                    target: Some(&self.long_target),
                    ..member(b"backend/longlink", Symlink)
                },
                vec![],
            ),
            (
                Member {
                    target: Some(b"../\xff"),
                    ..member(b"backend/oddlink", Symlink)
                },
                vec![],
            ),
            (member(b"backend/hard", HardLink), vec![]),
            (
                Member {
                    target: Some(&self.long),
                    ..member(b"backend/hardlong", HardLink)
                },
                vec![],
            ),
            (member(b"backend/fifo", Fifo), vec![]),
            (
                Member {
                    dev: Some((4095, 1_048_575)),
                    ..member(b"backend/char", Char)
                },
                vec![],
            ),
            (member(b"backend/block", Block), vec![]),
            (
                Member {
                    xattrs: &self.xattrs,
                    ..file(b"backend/xattrs", 5)
                },
                b"small".to_vec(),
            ),
        ];
        let sparse = Some(Sparse {
            real_size: SPARSE_SIZE,
            ranges: &SPARSE_RANGES,
        });
        all.push((
            Member {
                sparse,
                ..file(SPARSE_NAME, 705)
            },
            vec![b's'; 705],
        ));
        let hole = Some(Sparse {
            real_size: 1 << 20,
            ranges: &[],
        });
        all.push((
            Member {
                sparse: hole,
                ..file(b"backend/hole", 0)
            },
            vec![],
        ));
        all.push(small(b"backend/last"));
        all
    }

    pub(crate) fn tar(&self, keep: impl Fn(&Member<'_>) -> bool) -> Vec<u8> {
        let mut out = Vec::new();
        for (member, data) in self.members().iter().filter(|(m, _)| keep(m)) {
            append(&mut out, member, data);
        }
        end(out)
    }
}

/// The content of the zoo's sparse file.
pub(crate) fn sparse_content() -> Vec<u8> {
    let mut content = vec![0; SPARSE_SIZE as usize];
    for (offset, length) in SPARSE_RANGES {
        content[offset as usize..(offset + length) as usize].fill(b's');
    }
    content
}
