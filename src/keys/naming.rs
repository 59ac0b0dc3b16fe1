//! The naming key: public records tell components apart by numbers made with it, and learn no names.

use crate::keys::error::KeyError;
use crate::keys::file::{read_secret, write_secret};
use crate::model::ComponentName;
use data_encoding::{BASE64, HEXLOWER};
use ring::hmac;
use ring::rand::SecureRandom;
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

/// 32 random bytes of a host. Who knows them can test guesses at component names, nothing more.
#[derive(Clone, PartialEq, Eq)]
pub struct NamingKey(Zeroizing<[u8; 32]>);

impl NamingKey {
    /// Makes a new one.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        ring::rand::SystemRandom::new().fill(bytes.as_mut()).map_err(|_| KeyError::Random)?;
        Ok(Self(bytes))
    }

    /// Parses the base64 text that the file, the kit and the index hold.
    pub fn parse(text: &str) -> Option<Self> {
        let raw = Zeroizing::new(BASE64.decode(text.trim().as_bytes()).ok()?);
        let mut bytes = Zeroizing::new([0; 32]);
        if raw.len() != bytes.len() {
            return None;
        }
        bytes.copy_from_slice(&raw);
        Some(Self(bytes))
    }

    /// Its base64 text: for the key file, the kit and the (encrypted) index, nothing else.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0.as_ref()))
    }

    /// Writes a new key file for its owner alone.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let mut text = Zeroizing::new(String::with_capacity(64));
        text.push_str(&self.reveal());
        text.push('\n');
        write_secret(path, &text)
    }

    /// Loads a key file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let why = "it does not hold 32 bytes in base64";
        let malformed = || KeyError::Malformed { path: path.to_owned(), why: why.to_owned() };
        Self::parse(&read_secret(path)?).ok_or_else(malformed)
    }

    fn hmac(&self, parts: [&[u8]; 2]) -> hmac::Tag {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref());
        let mut context = hmac::Context::with_key(&key);
        parts.iter().for_each(|part| context.update(part));
        context.sign()
    }
}

impl fmt::Debug for NamingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NamingKey(…)")
    }
}

/// The number of a component in records (section 6.6 of the format).
pub fn component_number(key: &NamingKey, name: &ComponentName) -> u64 {
    let tag = key.hmac([b"component\0", name.as_str().as_bytes()]);
    let mut top = [0; 8];
    top.copy_from_slice(&tag.as_ref()[..8]);
    (u64::from_be_bytes(top) >> 12).max(1)
}

/// The `setup` of a component whose settings are `canonical` (a form of the writer's choice, always the same for the same settings).
pub fn setup(key: &NamingKey, canonical: &[u8]) -> String {
    HEXLOWER.encode(&key.hmac([b"setup\0", canonical]).as_ref()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn numbers_and_setups_are_those_of_the_format() {
        let key = NamingKey::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        // python3: hmac.new(bytes(range(32)), b"component\0backend", "sha256").hexdigest()
        let name = "backend".parse().unwrap();
        assert_eq!(format!("{:013x}", component_number(&key, &name)), NUMBER);
        assert_eq!(setup(&key, b"x"), SETUP);
    }
    const NUMBER: &str = "56117bc655107";
    const SETUP: &str = "450814a06cbf660b";

    #[test]
    fn the_key_file_is_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("naming_key");
        let key = NamingKey::generate().unwrap();
        key.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(NamingKey::load(&path).unwrap() == key);
        assert!(matches!(key.write(&path), Err(KeyError::Exists { .. })));
        std::fs::write(&path, "AAAA\n").unwrap();
        assert!(matches!(NamingKey::load(&path), Err(KeyError::Malformed { .. })));
        assert!(!format!("{key:?}").contains(&key.reveal()[..6]));
    }
}
