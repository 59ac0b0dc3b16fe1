//! Signing keys: OpenSSH Ed25519 keys and SSHSIG signatures, as `ssh-keygen -Y` makes and checks them.

use crate::keys::error::KeyError;
use crate::keys::file::{read_secret, write_public, write_secret};
use crate::model::SignerId;
use crate::model::chain::signer_of_text;
use ring::rand::SecureRandom;
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const COMMENT: &str = "backstay";
const PEM_BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const PEM_END: &str = "\n-----END SSH SIGNATURE-----";

/// A public key that has signed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    /// Its id.
    pub id: SignerId,
    /// `ssh-ed25519 AAAA…`, without a comment.
    pub text: String,
}

/// Why a signature does not count.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// Not exactly one armored block.
    #[error("there is not exactly one SSH signature")]
    NotOne,
    /// The block is not what it should be.
    #[error("the SSH signature cannot be read")]
    Malformed,
    /// Another kind of key or hash.
    #[error("the signature is not by an Ed25519 key over SHA-512")]
    Kind,
    /// The signature is for something else.
    #[error("the signature is for {found:?}, not for {expected:?}")]
    Namespace {
        /// What it is for.
        found: String,
        /// What it should be for.
        expected: String,
    },
    /// It does not fit the bytes.
    #[error("the signature does not fit the text: one of the two was changed")]
    Wrong,
}

/// A private signing key. Wiped when dropped; `Debug` shows the id only.
#[derive(Clone)]
pub struct Signer {
    key: PrivateKey,
    id: SignerId,
    text: String,
}

impl Signer {
    /// Makes a new key.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; Ed25519PrivateKey::BYTE_SIZE]);
        ring::rand::SystemRandom::new()
            .fill(seed.as_mut())
            .map_err(|_| KeyError::Random)?;
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        PrivateKey::new(pair, COMMENT)
            .ok()
            .and_then(|key| Self::of(key).ok())
            .ok_or(KeyError::Random)
    }

    /// Parses an unencrypted OpenSSH private key. The error says what is wrong and holds nothing of the key.
    pub fn parse(pem: &str) -> Result<Self, &'static str> {
        let key = PrivateKey::from_openssh(pem.trim());
        Self::of(key.map_err(|_| "it is not a whole OpenSSH private key")?)
    }

    fn of(key: PrivateKey) -> Result<Self, &'static str> {
        let KeypairData::Ed25519(pair) = key.key_data() else {
            return Err(if key.is_encrypted() {
                ENCRYPTED
            } else {
                "it is not an Ed25519 key"
            });
        };
        // A file whose two halves do not belong together would give the private half away with its first signature.
        let derived = Ed25519Keypair::from_seed(&pair.private.to_bytes()).public;
        if derived != pair.public || key.public_key().key_data() != &KeyData::Ed25519(derived) {
            return Err("its public and private halves do not belong together");
        }
        let text =
            public_text(key.public_key().key_data()).ok_or("its public half cannot be written")?;
        let id = signer_of_text(&text).ok_or("its public half cannot be read")?;
        Ok(Self { key, id, text })
    }

    /// Loads a private key file, which others must not be able to read.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let pem = read_secret(path)?;
        Self::parse(&pem).map_err(|why| match why {
            ENCRYPTED => KeyError::Passphrase {
                path: path.to_owned(),
                what: "signing keys",
            },
            _ if pem.starts_with("ssh-") => malformed(path, "it is the public half of a key"),
            _ => malformed(path, why),
        })
    }

    /// Writes the private key for its owner alone to `path`, and the public one to `path` with `.pub` added. Overwrites neither.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let mut public = OsString::from(path);
        public.push(".pub");
        let public = PathBuf::from(public);
        if public.symlink_metadata().is_ok() {
            return Err(KeyError::Exists { path: public });
        }
        write_secret(path, &self.reveal()?)?;
        write_public(&public, &format!("{} {}\n", self.text, self.key.comment()))
    }

    /// The private key as OpenSSH text: for the key file and the kit, nothing else.
    pub fn reveal(&self) -> Result<Zeroizing<String>, KeyError> {
        self.key
            .to_openssh(LineEnding::LF)
            .map_err(|_| self.failed("write a file"))
    }

    /// The signer id.
    pub fn id(&self) -> SignerId {
        self.id
    }

    /// The public key, `ssh-ed25519 AAAA…`, without a comment.
    pub fn public_text(&self) -> &str {
        &self.text
    }

    /// An armored SSHSIG (SHA-512) over `line`.
    pub fn sign(&self, namespace: &str, line: &[u8]) -> Result<String, KeyError> {
        let signed = self.key.sign(namespace, HashAlg::Sha512, line);
        let armored = signed.and_then(|signature| signature.to_pem(LineEnding::LF));
        let mut text = armored.map_err(|_| self.failed("sign"))?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text)
    }

    fn failed(&self, verb: &'static str) -> KeyError {
        KeyError::Signing {
            verb,
            id: self.id.to_string(),
        }
    }
}

const ENCRYPTED: &str = "it is protected by a passphrase";

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.id)
    }
}

fn malformed(path: &Path, why: &str) -> KeyError {
    KeyError::Malformed {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

fn public_text(key: &KeyData) -> Option<String> {
    PublicKey::new(key.clone(), "")
        .to_openssh()
        .ok()
        .map(|text| text.trim_end().to_owned())
}

/// Checks that `armored` is one SSHSIG over `line` for `namespace` by an Ed25519 key, and says whose. Whether that key is trusted is not
/// asked here.
pub fn verify(namespace: &str, line: &[u8], armored: &str) -> Result<VerifyingKey, SignatureError> {
    let block = armored.strip_suffix('\n').unwrap_or(armored);
    // The decoder would pass over text before the block.
    let one = block.starts_with(PEM_BEGIN)
        && block.ends_with(PEM_END)
        && block.matches("-----").count() == 4;
    if !one {
        return Err(SignatureError::NotOne);
    }
    let signature = SshSig::from_pem(block).map_err(|_| SignatureError::Malformed)?;
    let data = signature.public_key();
    if !matches!(data, KeyData::Ed25519(_)) || signature.hash_alg() != HashAlg::Sha512 {
        return Err(SignatureError::Kind);
    }
    if signature.namespace() != namespace {
        let found = signature.namespace().chars().take(80).collect();
        return Err(SignatureError::Namespace {
            found,
            expected: namespace.to_owned(),
        });
    }
    let key = PublicKey::new(data.clone(), "");
    key.verify(namespace, line, &signature)
        .map_err(|_| SignatureError::Wrong)?;
    let text = public_text(data).ok_or(SignatureError::Malformed)?;
    let id = signer_of_text(&text).ok_or(SignatureError::Malformed)?;
    Ok(VerifyingKey { id, text })
}
