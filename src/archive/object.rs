//! Manifest objects (segments, maps, indexes): small, whole in memory, sealed like archives but without tar and seek table.

use crate::archive::error::{ArchiveError, Damage};
use crate::archive::frames::{self, Packer, Unpacker, parse_block_header, parse_header};
use crate::archive::payload;
use crate::keys::{Identities, RecipientSet};
use crate::model::ObjectId;
use crate::model::manifest::MANIFEST_BYTES_MAX;

/// Manifests are compressed at zstd's default level.
const LEVEL: i32 = 3;
const SUBJECT: &str = "the manifest object";

/// Packs and seals `content` (at most [`MANIFEST_BYTES_MAX`] bytes); gives the object's name and bytes.
pub fn seal_manifest(content: &[u8], recipients: &RecipientSet) -> Result<(ObjectId, Vec<u8>), ArchiveError> {
    if content.len() > MANIFEST_BYTES_MAX {
        return Err(ArchiveError::Misuse("a manifest object would be larger than 64 MiB"));
    }
    let mut packer = Packer::new(LEVEL)?;
    let (mut plain, mut frame) = (Vec::new(), Vec::new());
    for block in content.chunks(frames::CONTENT_MAX) {
        packer.pack(block, &mut frame)?;
        plain.extend_from_slice(&frame);
    }
    let object = payload::seal_all(&plain, recipients)?;
    Ok((ObjectId::of(&object), object))
}

/// Opens the bytes of a manifest object. The caller has compared their SHA-256 with the object's name.
pub fn open_manifest(object: &[u8], identities: &Identities) -> Result<Vec<u8>, ArchiveError> {
    let plain = payload::open_all(object, identities).map_err(|e| e.of(SUBJECT))?;
    let mut unpacker = Unpacker::new()?;
    let mut content = Vec::new();
    let mut rest = &plain[..];
    while !rest.is_empty() {
        let (frame, after) = split_frame(rest).map_err(|e| e.of(SUBJECT))?;
        let declared = parse_header(frame).map_err(|e| e.of(SUBJECT))?.content;
        if content.len() + declared > MANIFEST_BYTES_MAX {
            return Err(Damage::from("it unpacks to more than 64 MiB").of(SUBJECT));
        }
        content.extend_from_slice(&unpacker.unpack(frame).map_err(|e| e.of(SUBJECT))?);
        rest = after;
    }
    Ok(content)
}

/// Splits the frame off that `bytes` begins with.
fn split_frame(bytes: &[u8]) -> Result<(&[u8], &[u8]), Damage> {
    let cut = || Damage::from("a zstd frame is cut off");
    let mut at = parse_header(bytes)?.length;
    loop {
        let raw = bytes.get(at..at + 3).ok_or_else(cut)?;
        let block = parse_block_header([raw[0], raw[1], raw[2]])?;
        at += 3 + block.length;
        if block.last {
            // The checksum.
            return bytes.split_at_checked(at + 4).ok_or_else(cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::keys::{Keys, bytes, text};

    fn sealed_frames(keys: &Keys, plain: &[u8]) -> Vec<u8> {
        payload::seal_all(plain, &keys.recipients).unwrap()
    }

    fn frame(content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Packer::new(LEVEL).unwrap().pack(content, &mut out).unwrap();
        out
    }

    #[test]
    fn manifests_round_trip_and_are_named_by_their_bytes() {
        let keys = Keys::new(2);
        for content in [vec![], text(1), text(100_000), bytes(9, frames::CONTENT_MAX * 2 + 1)] {
            let (id, object) = seal_manifest(&content, &keys.recipients).unwrap();
            assert_eq!(id, ObjectId::of(&object));
            assert!(open_manifest(&object, &keys.identities).unwrap() == content);
        }
    }

    #[test]
    fn every_cut_and_every_flip_of_a_small_manifest_is_noticed() {
        let keys = Keys::new(1);
        let (_, object) = seal_manifest(&text(700), &keys.recipients).unwrap();
        for cut in 0..object.len() {
            assert!(open_manifest(&object[..cut], &keys.identities).is_err(), "cut at {cut}");
        }
        for at in 0..object.len() {
            let mut flipped = object.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(open_manifest(&flipped, &keys.identities).is_err(), "flip at {at}");
        }
    }

    #[test]
    fn garbage_skippable_frames_and_cut_frames_under_a_good_seal_are_refused() {
        let keys = Keys::new(1);
        let good = frame(b"line\n");
        let table = frames::encode_seek_table(&[]).unwrap();
        let bad = [
            [&good[..], b"x"].concat(),
            [&good[..], &table].concat(),
            [&table[..], &good].concat(),
            good[..good.len() - 1].to_vec(),
            [&good[..], &good[..7]].concat(),
        ];
        for plain in bad {
            let opened = open_manifest(&sealed_frames(&keys, &plain), &keys.identities);
            assert!(matches!(opened, Err(ArchiveError::Damaged { .. })), "{opened:?}");
        }
    }

    #[test]
    fn a_bomb_stops_at_64_mib() {
        let keys = Keys::new(1);
        let bomb = frame(&vec![0; frames::CONTENT_MAX]).repeat(17);
        assert!(bomb.len() < 10_000);
        let opened = open_manifest(&sealed_frames(&keys, &bomb), &keys.identities);
        assert!(opened.unwrap_err().to_string().contains("64 MiB"));
        assert!(seal_manifest(&vec![0; MANIFEST_BYTES_MAX + 1], &keys.recipients).is_err());
    }
}
