//! Reading a segment of which only some entries are wanted.

use super::{Lines, ManifestError, Segment, read_header};
use crate::model::entry::{Entry, RawEntry};
use crate::model::id::ObjectId;
use crate::model::path::RelPath;

/// A segment with the entries that were wanted, and what tells whether it is the one that the index means.
#[derive(Debug)]
pub struct Sifted {
    /// The wanted entries, and all archives.
    pub segment: Segment,
    /// How many entries it has in all.
    pub count: u64,
    /// The first and the last path of these.
    pub ends: Option<(RelPath, RelPath)>,
}

impl Sifted {
    /// Reads a segment; all of it, or what is `wanted`, and of everything else only that its path is in order. Where one entry is asked for, reading thousands of
    /// others costs more than fetching them.
    pub fn read(bytes: &[u8], wanted: Option<&dyn Fn(&RelPath) -> bool>) -> Result<Self, ManifestError> {
        let mut lines = Lines::new(bytes);
        let header = read_header(&mut lines, "segment")?;
        let names: Vec<ObjectId> = header.archives.iter().map(|a| a.sha256).collect();
        let component = header.component.ok_or_else(|| lines.malformed("no component"))?;
        let mut segment = Segment { component, archives: header.archives, entries: Vec::new() };
        let keeps = |path: &RelPath| wanted.is_none_or(|wanted| wanted(path));
        // The last path, where its entry is not kept.
        let (mut count, mut first, mut passed) = (0, None, None::<RelPath>);
        while let Some(line) = lines.raw()? {
            let over = wanted.and_then(|_| plain_path(line)).filter(|path| !keeps(path));
            let entry = match over {
                Some(path) => Err(path),
                None => Ok(entry_of(&lines, line, &names, segment.entries.last())?),
            };
            let entry = entry.and_then(|entry| if keeps(&entry.path) { Ok(entry) } else { Err(entry.path) });
            let path = entry.as_ref().map_or_else(|path| path, |entry| &entry.path);
            let last = passed.as_ref().or_else(|| segment.entries.last().map(|e| &e.path));
            if last.is_some_and(|last| last >= path) {
                return Err(lines.malformed(format!("{path} is out of order or listed twice")));
            }
            first.get_or_insert_with(|| path.clone());
            count += 1;
            match entry {
                Ok(entry) => {
                    segment.entries.push(entry);
                    passed = None;
                }
                Err(path) => passed = Some(path),
            }
        }
        let last = passed.or_else(|| segment.entries.last().map(|e| e.path.clone()));
        Ok(Self { segment, count, ends: first.zip(last) })
    }
}

fn entry_of(
    lines: &Lines<'_>,
    line: &[u8],
    archives: &[ObjectId],
    before: Option<&Entry>,
) -> Result<Entry, ManifestError> {
    let raw: RawEntry = serde_json::from_slice(line).map_err(|e| lines.malformed(e))?;
    raw.check(archives, before).map_err(|why| lines.malformed(why))
}

/// The path of a line that begins with one that JSON writes as it is: how this program writes most entries. `None` says nothing.
fn plain_path(line: &[u8]) -> Option<RelPath> {
    let rest = line.strip_prefix(br#"{"path":""#)?;
    let end = rest.iter().position(|b| matches!(b, b'"' | b'\\'))?;
    if rest[end] == b'"' { RelPath::new(&rest[..end]).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"format":1,"needs":[],"type":"segment","component":"data","archives":[]}"#;

    fn line(path: &str) -> String {
        format!(
            r#"{{"path":"{path}","type":"dir","mode":"0755","uid":0,"gid":0,"user":"app","mtime":[0,0]}}"#
        )
    }

    fn sifted(lines: &[String], wanted: &[&str]) -> Result<Sifted, ManifestError> {
        let text = [&[HEADER.to_owned()], lines].concat().join("\n") + "\n";
        let wants = |path: &RelPath| wanted.iter().any(|w| w.as_bytes() == path.as_bytes());
        Sifted::read(text.as_bytes(), Some(&wants))
    }

    #[test]
    fn what_is_not_wanted_is_counted_and_must_be_in_order() {
        let lines: Vec<String> = [".", "a", "a/\\u0062", "a/c", "d\\\"", "e"].map(line).to_vec();
        let paths = |s: &Sifted| s.segment.entries.iter().map(|e| e.path.to_string()).collect::<Vec<_>>();
        let ends = |first: &str, last: &str| {
            Some((RelPath::new(first.as_bytes()).unwrap(), RelPath::new(last.as_bytes()).unwrap()))
        };
        for wanted in
            [&["a/b"][..], &["a/c"], &["."], &["e"], &["d\""], &[], &[".", "a", "a/b", "a/c", "d\"", "e"]]
        {
            let found = sifted(&lines, wanted).unwrap();
            assert_eq!(paths(&found), wanted);
            assert_eq!((found.count, &found.ends), (6, &ends(".", "e")), "{wanted:?}");
        }
        for end in 1..lines.len() {
            let found = sifted(&lines[..end], &["a"]).unwrap();
            assert_eq!(found.count, end as u64);
        }
        for (place, path) in [(1, "."), (1, "a/c/d"), (2, "z"), (3, "a/b"), (3, "a/\\u0062"), (5, "d")] {
            let mut wrong = lines.clone();
            wrong[place] = line(path);
            for wanted in [&[][..], &["a"], &["a/b"], &["a/c"]] {
                assert!(sifted(&wrong, wanted).is_err(), "{path} at {place}, {wanted:?}");
            }
        }
    }

    #[test]
    fn paths_that_are_no_text_are_told_apart_like_others() {
        let b64 = |path: &[u8]| {
            line("x")
                .replace(r#""path":"x""#, &format!(r#""path_b64":"{}""#, data_encoding::BASE64.encode(path)))
        };
        let lines = [line("a"), b64(b"b\xff"), b64(b"c\xfe")];
        let text = [HEADER, &lines[0], &lines[1], &lines[2], ""].join("\n");
        for wanted in [&b"a"[..], b"b\xff", b"c\xfe"] {
            let found = Sifted::read(text.as_bytes(), Some(&|path| path.as_bytes() == wanted)).unwrap();
            assert_eq!(found.segment.entries.len(), 1);
            assert_eq!(found.segment.entries[0].path.as_bytes(), wanted);
            let (first, last) = found.ends.unwrap();
            assert_eq!((found.count, first.as_bytes(), last.as_bytes()), (3, &b"a"[..], &b"c\xfe"[..]));
        }
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_said_where_it_is_wanted() {
        let lines = [line("a"), line("b").replace("0755", "x"), line("c")];
        assert_eq!(sifted(&lines, &["a", "c"]).unwrap().segment.entries.len(), 2);
        assert!(sifted(&lines, &["b"]).unwrap_err().to_string().contains("line 3"));
    }
}
