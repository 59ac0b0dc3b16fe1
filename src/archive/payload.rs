//! age v1 files, sealed and opened in pieces, so that several threads can work on one.
//!
//! The age crate makes and reads the header (stanzas, MAC, everything about recipients); a wrapper around a recipient or identity sees the
//! file key pass. The payload is done here, as <https://age-encryption.org/v1> says under "Payload": the key is HKDF-SHA256 of the file key
//! with the 16-byte nonce as salt and `payload` as info; plaintext goes in chunks of 64 KiB, each sealed by ChaCha20-Poly1305 with an
//! 11-byte big-endian counter and a last-chunk byte as nonce; the last chunk may be shorter, and is empty only when all is.
//!
//! Two different chunks sealed under one counter would give both away. So a [`Sealer`] hands each counter out once, in a [`SealJob`] that
//! sealing consumes, and no key outlives its object. Keys must never be printed; their bytes are wiped when dropped here (ring's expanded
//! copy is not: ring offers no way).

use crate::archive::error::{ArchiveError, Damage};
use crate::keys::{Identities, RecipientSet};
use age::secrecy::ExposeSecret;
use age_core::format::{FileKey, Stanza};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Plaintext bytes of a full chunk.
pub const CHUNK: usize = 64 << 10;
/// Bytes that sealing adds to a chunk.
pub const TAG: usize = 16;
/// Bytes of a full sealed chunk.
pub const SEALED_CHUNK: usize = CHUNK + TAG;
/// An age header is at most this long.
pub const HEADER_MAX: usize = 64 << 10;
const NONCE: usize = 16;
/// As much of an object's beginning as is surely enough to open it.
pub const PREFIX_MAX: usize = HEADER_MAX + NONCE;

type CapturedKey = RefCell<Option<Zeroizing<[u8; 16]>>>;

fn capture(captured: &CapturedKey, file_key: &FileKey) {
    captured.replace(Some(Zeroizing::new(*file_key.expose_secret())));
}

/// Passes a recipient's work on and keeps the file key.
struct CapturingRecipient<'a> {
    inner: &'a dyn age::Recipient,
    captured: &'a CapturedKey,
}

impl age::Recipient for CapturingRecipient<'_> {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        capture(self.captured, file_key);
        self.inner.wrap_file_key(file_key)
    }
}

/// Passes an identity's work on and keeps the file key it found.
struct CapturingIdentity<'a> {
    inner: &'a dyn age::Identity,
    captured: &'a CapturedKey,
}

impl CapturingIdentity<'_> {
    fn keep(
        &self,
        found: Option<Result<FileKey, age::DecryptError>>,
    ) -> Option<Result<FileKey, age::DecryptError>> {
        if let Some(Ok(file_key)) = &found {
            capture(self.captured, file_key);
        }
        found
    }
}

impl age::Identity for CapturingIdentity<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        self.keep(self.inner.unwrap_stanza(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, age::DecryptError>> {
        self.keep(self.inner.unwrap_stanzas(stanzas))
    }
}

/// The key of a payload. Neither shown nor copied.
struct PayloadKey(LessSafeKey);

impl PayloadKey {
    /// From the file key and the last 16 bytes of `prefix`, the nonce.
    fn derive(captured: CapturedKey, prefix: &[u8]) -> Option<Self> {
        let file_key = captured.into_inner()?;
        let nonce = &prefix[prefix.len().checked_sub(NONCE)?..];
        let key = Zeroizing::new(age_core::primitives::hkdf(nonce, b"payload", &*file_key));
        Some(Self(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &*key).ok()?)))
    }

    fn nonce(number: u64, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = u8::from(last);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals one chunk with its last 16 bytes as room for the tag.
    fn seal(&self, number: u64, last: bool, chunk: &mut [u8]) -> Result<(), ArchiveError> {
        let (plain, room) = chunk.split_at_mut(chunk.len() - TAG);
        let tag = self.0.seal_in_place_separate_tag(Self::nonce(number, last), Aad::empty(), plain);
        let tag = tag.map_err(|_| ArchiveError::Misuse("a chunk was too long to seal"))?;
        room.copy_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens one chunk in place; its plaintext is what comes before the last 16 bytes.
    fn open(&self, number: u64, last: bool, chunk: &mut [u8]) -> Result<(), Damage> {
        let opened = self.0.open_in_place(Self::nonce(number, last), Aad::empty(), chunk);
        opened.map(|_| ()).map_err(|_| {
            let what = if last { "last " } else { "" };
            format!("its {what}age chunk (number {number}) is not what was sealed").into()
        })
    }
}

/// Plaintext laid out in chunks with room for their tags, so that sealing needs no copy.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
}

impl Batch {
    /// A batch holds at most this many chunks.
    pub const CHUNKS: usize = 16;

    /// Takes bytes from the front of `plain` until the batch is full; gives back what is left of it.
    pub fn push<'a>(&mut self, mut plain: &'a [u8]) -> &'a [u8] {
        while !plain.is_empty() && !self.is_full() {
            let in_chunk = self.bytes.len() % SEALED_CHUNK;
            let (now, rest) = plain.split_at(plain.len().min(CHUNK - in_chunk));
            self.bytes.extend_from_slice(now);
            if in_chunk + now.len() == CHUNK {
                self.bytes.extend_from_slice(&[0; TAG]);
            }
            plain = rest;
        }
        plain
    }

    /// True when nothing more fits in.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= Self::CHUNKS * SEALED_CHUNK
    }

    /// Makes an empty batch of an old buffer.
    pub fn reuse(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { bytes: buffer }
    }
}

/// Makes one age file: the header at once, then its chunks in batches.
pub struct Sealer {
    header: Vec<u8>,
    key: Arc<PayloadKey>,
    next: u64,
    closed: bool,
}

impl Sealer {
    /// A new file key, wrapped for `recipients`.
    pub fn new(recipients: &RecipientSet) -> Result<Self, ArchiveError> {
        let failed = |what: String| ArchiveError::Seal { what };
        let captured = CapturedKey::default();
        let mut list: Vec<&dyn age::Recipient> = recipients.as_dyn().collect();
        let Some(&first) = list.first() else {
            return Err(failed("there are none".into()));
        };
        let first = CapturingRecipient { inner: first, captured: &captured };
        list[0] = &first;
        let encryptor = age::Encryptor::with_recipients(list.into_iter());
        let encryptor = encryptor.map_err(|e| failed(e.to_string()))?;
        let mut header = Vec::new();
        // Writes header and nonce at once and, unless finished, nothing else.
        drop(encryptor.wrap_output(&mut header).map_err(|e| failed(e.to_string()))?);
        if header.len() > PREFIX_MAX {
            return Err(failed("the age header would be longer than 64 KiB".into()));
        }
        let key = PayloadKey::derive(captured, &header);
        let key = key.ok_or_else(|| failed("no file key was made".into()))?;
        Ok(Self { header, key: Arc::new(key), next: 0, closed: false })
    }

    /// Header and nonce: what the object begins with.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Gives the chunks of `batch` their numbers. All batches but the one with `last` must be full; after it there is no other.
    pub fn claim(&mut self, batch: Batch, last: bool) -> Result<SealJob, ArchiveError> {
        let mut bytes = batch.bytes;
        let partial = bytes.len() % SEALED_CHUNK;
        // A batch not filled up to a chunk's end has no room for the last tag yet. An empty one counts only for an empty file.
        if partial != 0 || (bytes.is_empty() && self.next == 0) {
            bytes.resize(bytes.len() + TAG, 0);
        }
        let full = bytes.len() == Batch::CHUNKS * SEALED_CHUNK;
        if self.closed || bytes.is_empty() || !(full || last) {
            return Err(ArchiveError::Misuse("age chunks were sealed out of turn"));
        }
        let first = self.next;
        self.next += bytes.len().div_ceil(SEALED_CHUNK) as u64;
        self.closed = last;
        Ok(SealJob { key: self.key.clone(), first, last, bytes })
    }
}

/// Chunks with their numbers, to be sealed once, on any thread.
pub struct SealJob {
    key: Arc<PayloadKey>,
    first: u64,
    last: bool,
    bytes: Vec<u8>,
}

impl SealJob {
    /// Seals; gives the bytes as they stand in the object.
    pub fn seal(mut self) -> Result<Vec<u8>, ArchiveError> {
        let count = self.bytes.len().div_ceil(SEALED_CHUNK) as u64;
        for (number, chunk) in (self.first..).zip(self.bytes.chunks_mut(SEALED_CHUNK)) {
            let last = self.last && number + 1 == self.first + count;
            self.key.seal(number, last, chunk)?;
        }
        Ok(self.bytes)
    }
}

/// Why an age header does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No stanza is for any of the identities (or the stanza that was is damaged, which age cannot tell apart).
    #[error("none of the identities opens it")]
    NoIdentity,
    /// It is not a header that format 1 allows.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

impl OpenError {
    /// The same about an object.
    pub fn of(self, subject: &str) -> ArchiveError {
        match self {
            Self::NoIdentity => ArchiveError::NoIdentity { subject: subject.to_owned() },
            Self::Damaged(damage) => damage.of(subject),
        }
    }
}

/// Opens chunks of one age file, in any order and on any thread.
pub struct Opener {
    key: PayloadKey,
    payload_offset: u64,
}

impl Opener {
    /// From the beginning of an object: its header and nonce, and whatever follows ([`PREFIX_MAX`] bytes are always enough).
    pub fn new(prefix: &[u8], identities: &Identities) -> Result<Self, OpenError> {
        let prefix = &prefix[..prefix.len().min(PREFIX_MAX)];
        let mut rest = prefix;
        let decryptor = age::Decryptor::new_buffered(&mut rest).map_err(|e| header_damage(&e))?;
        if decryptor.is_scrypt() {
            return Err(Damage::from("it is sealed with a passphrase, which format 1 does not allow").into());
        }
        let captured = CapturedKey::default();
        let wrapped: Vec<_> =
            identities.as_dyn().map(|inner| CapturingIdentity { inner, captured: &captured }).collect();
        // Succeeds only when the header's MAC is right under the file key found.
        let opened = decryptor.decrypt(wrapped.iter().map(|i| i as &dyn age::Identity));
        opened.map(drop).map_err(|e| match e {
            age::DecryptError::NoMatchingKeys => OpenError::NoIdentity,
            other => header_damage(&other),
        })?;
        drop(wrapped);
        let used = prefix.len() - rest.len();
        let key = PayloadKey::derive(captured, &prefix[..used]);
        let key = key.ok_or_else(|| Damage::from("its age header gave no key"))?;
        Ok(Self { key, payload_offset: used as u64 })
    }

    /// Where the first chunk lies in the object.
    pub fn payload_offset(&self) -> u64 {
        self.payload_offset
    }

    /// `sealed` holds whole chunks from number `first` on, the object's last one at its end if `holds_last`. Replaces them by their
    /// plaintext. After an error what is in `sealed` must not be used.
    pub fn open_chunks(&self, first: u64, holds_last: bool, sealed: &mut Vec<u8>) -> Result<(), Damage> {
        let length = sealed.len();
        let count = length.div_ceil(SEALED_CHUNK) as u64;
        let odd = length % SEALED_CHUNK;
        if count == 0 || (odd != 0 && !holds_last) || (odd != 0 && odd < TAG) {
            return Err("its age payload is cut off".into());
        }
        if odd == TAG && first + count > 1 {
            return Err("its last age chunk is empty".into());
        }
        let mut plain = 0;
        for number in first..first + count {
            let at = (number - first) as usize * SEALED_CHUNK;
            let end = length.min(at + SEALED_CHUNK);
            let last = holds_last && number + 1 == first + count;
            self.key.open(number, last, &mut sealed[at..end])?;
            sealed.copy_within(at..end - TAG, plain);
            plain += end - at - TAG;
        }
        sealed.truncate(plain);
        Ok(())
    }
}

fn header_damage(error: &age::DecryptError) -> OpenError {
    let what = match error {
        age::DecryptError::Io(_) => "its age header is cut off, or longer than 64 KiB",
        age::DecryptError::UnknownFormat => "it is an age file of an unknown version",
        age::DecryptError::InvalidMac => "the MAC of its age header is wrong",
        _ => "its age header is malformed",
    };
    Damage::from(what).into()
}

/// Seals `plain` as one age file, in this thread.
pub fn seal_all(plain: &[u8], recipients: &RecipientSet) -> Result<Vec<u8>, ArchiveError> {
    let mut sealer = Sealer::new(recipients)?;
    let chunks = plain.len() / CHUNK + 1;
    let mut object = Vec::with_capacity(sealer.header().len() + plain.len() + chunks * TAG);
    object.extend_from_slice(sealer.header());
    let mut rest = plain;
    loop {
        let mut batch = Batch::default();
        rest = batch.push(rest);
        object.extend_from_slice(&sealer.claim(batch, rest.is_empty())?.seal()?);
        if rest.is_empty() {
            return Ok(object);
        }
    }
}

/// Opens a whole age file in memory.
pub fn open_all(object: &[u8], identities: &Identities) -> Result<Vec<u8>, OpenError> {
    let opener = Opener::new(object, identities)?;
    let mut payload = object[opener.payload_offset as usize..].to_vec();
    opener.open_chunks(0, true, &mut payload)?;
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::keys::{Keys, bytes};

    /// Lengths around the ends of chunks and batches.
    fn lengths() -> Vec<usize> {
        let batch = Batch::CHUNKS * CHUNK;
        let around = |n: usize| [n - 1, n, n + 1];
        let mut all = vec![0, 1, 15, 16, 17];
        all.extend(
            [CHUNK, 2 * CHUNK, 3 * CHUNK, batch, batch + CHUNK, 2 * batch].into_iter().flat_map(around),
        );
        all
    }

    #[test]
    fn the_age_crate_opens_what_we_seal_and_we_open_what_it_seals() {
        let keys = Keys::new(2);
        for length in lengths() {
            let plain = bytes(length as u64, length);
            let ours = seal_all(&plain, &keys.recipients).unwrap();
            assert!(age::decrypt(&keys.raw[1], &ours).unwrap() == plain, "{length}");
            assert!(open_all(&ours, &keys.identities).unwrap() == plain, "{length}");
            let theirs = age::encrypt(&keys.raw[0].to_public(), &plain).unwrap();
            assert!(open_all(&theirs, &keys.identities).unwrap() == plain, "{length}");
        }
    }

    #[test]
    fn stock_age_opens_what_we_seal_and_we_open_what_it_seals() {
        let keys = Keys::new(1);
        let Some(oracle) = crate::archive::tests::tools::Tool::find("age") else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let identity = dir.path().join("identity");
        std::fs::write(&identity, keys.secret_text(0)).unwrap();
        for length in [0, 1, CHUNK, CHUNK + 1, 17 * CHUNK] {
            let plain = bytes(3, length);
            let ours = seal_all(&plain, &keys.recipients).unwrap();
            let opened = oracle.pipe(&["-d".as_ref(), "-i".as_ref(), identity.as_os_str()], &ours);
            assert!(opened == plain, "{length}");
            let recipient = keys.raw[0].to_public().to_string();
            let theirs = oracle.pipe(&["-r".as_ref(), recipient.as_ref()], &plain);
            assert!(open_all(&theirs, &keys.identities).unwrap() == plain, "{length}");
        }
    }

    #[test]
    fn a_stranger_is_told_that_no_identity_opens_it_and_not_that_it_is_damaged() {
        let sealed = seal_all(b"x", &Keys::new(1).recipients).unwrap();
        assert!(matches!(open_all(&sealed, &Keys::new(1).identities), Err(OpenError::NoIdentity)));
        let none = Identities::new(vec![]);
        assert!(matches!(open_all(&sealed, &none), Err(OpenError::NoIdentity)));
    }

    #[test]
    fn passphrase_files_and_headers_over_64_kib_are_refused() {
        let keys = Keys::new(1);
        let mut scrypt = age::scrypt::Recipient::new("x".to_owned().into());
        scrypt.set_work_factor(2);
        let sealed = age::encrypt(&scrypt, b"x").unwrap();
        assert!(matches!(open_all(&sealed, &keys.identities), Err(OpenError::Damaged(_))));
        let mut endless = b"age-encryption.org/v1\n".to_vec();
        while endless.len() < 200 << 10 {
            endless.extend_from_slice(b"-> X25519 AAAA\n");
            endless.extend_from_slice("AAAA".repeat(16).as_bytes());
            endless.extend_from_slice(b"\nAA\n");
        }
        assert!(matches!(open_all(&endless, &keys.identities), Err(OpenError::Damaged(_))));
    }

    #[test]
    fn every_cut_every_appended_byte_and_every_flip_is_noticed() {
        let keys = Keys::new(1);
        let plain = bytes(5, CHUNK + 100);
        let sealed = seal_all(&plain, &keys.recipients).unwrap();
        let cuts = (0..sealed.len()).filter(|n| n % 977 == 0 || *n < 600 || sealed.len() - n < 200);
        for cut in cuts {
            assert!(open_all(&sealed[..cut], &keys.identities).is_err(), "cut at {cut}");
        }
        let mut longer = sealed.clone();
        longer.push(0);
        assert!(open_all(&longer, &keys.identities).is_err());
        for at in (0..sealed.len()).filter(|n| n % 701 == 0 || *n < 300) {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(open_all(&flipped, &keys.identities).is_err(), "flip at {at}");
        }
    }

    #[test]
    fn an_empty_last_chunk_after_others_is_refused() {
        let keys = Keys::new(1);
        let mut sealer = Sealer::new(&keys.recipients).unwrap();
        let mut object = sealer.header().to_vec();
        let mut chunk = vec![0; SEALED_CHUNK];
        sealer.key.seal(0, false, &mut chunk).unwrap();
        object.extend_from_slice(&chunk);
        let mut empty = vec![0; TAG];
        sealer.key.seal(1, true, &mut empty).unwrap();
        object.extend_from_slice(&empty);
        assert!(open_all(&object, &keys.identities).is_err());
        sealer.closed = true;
        assert!(sealer.claim(Batch::default(), true).is_err(), "nothing is sealed after the last");
    }

    #[test]
    fn batches_that_are_not_full_and_not_last_are_refused() {
        let keys = Keys::new(1);
        let mut sealer = Sealer::new(&keys.recipients).unwrap();
        let mut batch = Batch::default();
        batch.push(&[1; CHUNK]);
        assert!(sealer.claim(batch, false).is_err());
    }
}
