//! Signing keys: OpenSSH Ed25519 keys and SSHSIG signatures, as `ssh-keygen -Y` makes and checks them.

use crate::keys::error::KeyError;
use crate::keys::file::{read_secret, write_secret};
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
        ring::rand::SystemRandom::new().fill(seed.as_mut()).map_err(|_| KeyError::Random)?;
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        PrivateKey::new(pair, COMMENT).ok().and_then(|key| Self::of(key).ok()).ok_or(KeyError::Random)
    }

    /// Parses an unencrypted OpenSSH private key. The error says what is wrong and holds nothing of the key.
    pub fn parse(pem: &str) -> Result<Self, &'static str> {
        let key = PrivateKey::from_openssh(pem.trim());
        Self::of(key.map_err(|_| "it is not a whole OpenSSH private key")?)
    }

    fn of(key: PrivateKey) -> Result<Self, &'static str> {
        let KeypairData::Ed25519(pair) = key.key_data() else {
            return Err(if key.is_encrypted() { ENCRYPTED } else { "it is not an Ed25519 key" });
        };
        // A file whose two halves do not belong together would give the private half away with its first signature.
        let derived = Ed25519Keypair::from_seed(&pair.private.to_bytes()).public;
        if derived != pair.public || key.public_key().key_data() != &KeyData::Ed25519(derived) {
            return Err("its public and private halves do not belong together");
        }
        let text = public_text(key.public_key().key_data()).ok_or("its public half cannot be written")?;
        let id = signer_of_text(&text).ok_or("its public half cannot be read")?;
        Ok(Self { key, id, text })
    }

    /// Loads a private key file, which others must not be able to read.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let pem = read_secret(path)?;
        Self::parse(&pem).map_err(|why| match why {
            ENCRYPTED => KeyError::Passphrase { path: path.to_owned(), what: "signing keys" },
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
        write_secret(&public, &format!("{} {}\n", self.text, self.key.comment()))
    }

    /// The private key as OpenSSH text: for the key file and the kit, nothing else.
    pub fn reveal(&self) -> Result<Zeroizing<String>, KeyError> {
        self.key.to_openssh(LineEnding::LF).map_err(|_| self.failed("write a file"))
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
        KeyError::Signing { verb, id: self.id.to_string() }
    }
}

const ENCRYPTED: &str = "it is protected by a passphrase";

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.id)
    }
}

fn malformed(path: &Path, why: &str) -> KeyError {
    KeyError::Malformed { path: path.to_owned(), why: why.to_owned() }
}

fn public_text(key: &KeyData) -> Option<String> {
    PublicKey::new(key.clone(), "").to_openssh().ok().map(|text| text.trim_end().to_owned())
}

/// Checks that `armored` is one SSHSIG over `line` for `namespace` by an Ed25519 key, and says whose. Whether that key is trusted is not
/// asked here.
pub fn verify(namespace: &str, line: &[u8], armored: &str) -> Result<VerifyingKey, SignatureError> {
    let block = armored.strip_suffix('\n').unwrap_or(armored);
    // The decoder would pass over text before the block.
    let one = block.starts_with(PEM_BEGIN) && block.ends_with(PEM_END) && block.matches("-----").count() == 4;
    if !one {
        return Err(SignatureError::NotOne);
    }
    let signature = SshSig::from_pem(block).map_err(|_| SignatureError::Malformed)?;
    // The decoder is lenient about lengths and versions that stock tools refuse: one signature has one text.
    let canonical = signature.to_pem(LineEnding::LF).is_ok_and(|text| text.trim_end() == block);
    if !canonical || signature.version() != SshSig::VERSION || !signature.reserved().is_empty() {
        return Err(SignatureError::Malformed);
    }
    let data = signature.public_key();
    if !matches!(data, KeyData::Ed25519(_)) || signature.hash_alg() != HashAlg::Sha512 {
        return Err(SignatureError::Kind);
    }
    if signature.namespace() != namespace {
        let found = signature.namespace().chars().take(80).collect();
        return Err(SignatureError::Namespace { found, expected: namespace.to_owned() });
    }
    let key = PublicKey::new(data.clone(), "");
    key.verify(namespace, line, &signature).map_err(|_| SignatureError::Wrong)?;
    let text = public_text(data).ok_or(SignatureError::Malformed)?;
    let id = signer_of_text(&text).ok_or(SignatureError::Malformed)?;
    Ok(VerifyingKey { id, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::namespace;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    const LINE: &[u8] = b"{\"a\":1}\n";

    #[test]
    fn a_written_key_is_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d/signing_key");
        let signer = Signer::generate().unwrap();
        signer.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let public = std::fs::read_to_string(dir.path().join("d/signing_key.pub")).unwrap();
        assert_eq!(public, format!("{} backstay\n", signer.public_text()));
        let loaded = Signer::load(&path).unwrap();
        assert_eq!((loaded.id(), loaded.public_text()), (signer.id(), signer.public_text()));
        assert!(matches!(signer.write(&path), Err(KeyError::Exists { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(
            matches!(signer.write(&path), Err(KeyError::Exists { .. })),
            "the public half of another key"
        );
        assert!(!path.exists());
    }

    #[test]
    fn files_that_are_no_signing_key_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let pem = Signer::generate().unwrap().reveal().unwrap();
        let put = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Signer::load(&path)
        };
        assert!(matches!(put(&pem, 0o644), Err(KeyError::OpenToOthers { .. })));
        assert!(put(&pem.replace('\n', "\r\n"), 0o600).is_ok());
        assert!(matches!(put("", 0o600), Err(KeyError::Empty { .. })));
        for end in 1..pem.trim_end().len() {
            let error = put(&pem[..end], 0o600).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("b3BlbnNz"), "{error}");
        }
        let public = put(Signer::generate().unwrap().public_text(), 0o600).unwrap_err();
        assert!(public.to_string().contains("public half"), "{public}");
    }

    #[test]
    fn a_signature_counts_for_its_line_key_and_namespace_only() {
        let signer = Signer::generate().unwrap();
        let armored = signer.sign(namespace::RECORD, LINE).unwrap();
        let key = verify(namespace::RECORD, LINE, &armored).unwrap();
        assert_eq!((key.id, key.text.as_str()), (signer.id(), signer.public_text()));
        let elsewhere = verify(namespace::MARK, LINE, &armored);
        assert!(matches!(elsewhere, Err(SignatureError::Namespace { .. })), "{elsewhere:?}");
        for other in [&b"{\"a\":2}\n"[..], b"{\"a\":1}", b"", b"{\"a\":1}\n\n"] {
            assert_eq!(verify(namespace::RECORD, other, &armored), Err(SignatureError::Wrong));
        }
    }

    #[test]
    fn only_one_block_and_nothing_beside_it_is_a_signature() {
        let armored = Signer::generate().unwrap().sign("n", LINE).unwrap();
        assert!(verify("n", LINE, armored.trim_end()).is_ok());
        let wrong = [
            String::new(),
            armored.repeat(2),
            format!("x\n{armored}"),
            format!("\n{armored}"),
            format!("{armored}\n"),
            format!("{armored}x"),
            armored.replace("SSH SIGNATURE", "SSH SIGNATURES"),
            armored.lines().take(2).collect::<Vec<_>>().join("\n"),
        ];
        for text in wrong {
            assert!(verify("n", LINE, &text).is_err(), "{text}");
        }
        let bytes = armored.as_bytes();
        for at in 0..bytes.len() - 1 {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert!(verify("n", LINE, &changed).is_err(), "{at}");
        }
    }

    #[test]
    fn debug_output_holds_no_private_key() {
        let signer = Signer::generate().unwrap();
        assert_eq!(format!("{signer:?}"), format!("Signer({})", signer.id()));
    }

    /// True when `ssh-keygen` is there.
    fn ssh_keygen(args: &[&str], dir: &Path, input: &[u8]) -> Option<std::process::Output> {
        use std::io::Write;
        let piped = || Stdio::piped();
        let mut command = Command::new("ssh-keygen");
        command.args(args).current_dir(dir).stdin(piped()).stdout(piped()).stderr(piped());
        match command.spawn() {
            Err(e) => {
                crate::not_run(&format!("ssh-keygen cannot be run: {e}"));
                None
            }
            Ok(mut child) => {
                child.stdin.take().unwrap().write_all(input).unwrap();
                Some(child.wait_with_output().unwrap())
            }
        }
    }

    #[test]
    fn stock_ssh_keygen_accepts_our_signatures_and_refuses_changed_ones() {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::generate().unwrap();
        let allowed = format!("web-1 namespaces=\"backstay-*\" {}\n", signer.public_text());
        std::fs::write(dir.path().join("allowed"), allowed).unwrap();
        std::fs::write(dir.path().join("sig"), signer.sign(namespace::RECORD, LINE).unwrap()).unwrap();
        let verify = |namespace, line| {
            let args = ["-Y", "verify", "-f", "allowed", "-I", "web-1", "-n", namespace, "-s", "sig"];
            ssh_keygen(&args, dir.path(), line)
        };
        let Some(good) = verify(namespace::RECORD, LINE) else {
            return;
        };
        assert!(good.status.success(), "{good:?}");
        assert!(!verify(namespace::MARK, LINE).unwrap().status.success());
        assert!(!verify(namespace::RECORD, b"{}\n").unwrap().status.success());
    }

    #[test]
    fn we_accept_keys_and_signatures_of_ssh_keygen() {
        let dir = tempfile::tempdir().unwrap();
        let make = ["-q", "-t", "ed25519", "-N", "", "-C", "me@host", "-f", "key"];
        let Some(made) = ssh_keygen(&make, dir.path(), b"") else {
            return;
        };
        assert!(made.status.success(), "{made:?}");
        let signed =
            ssh_keygen(&["-Y", "sign", "-f", "key", "-n", namespace::MARK], dir.path(), LINE).unwrap();
        let armored = String::from_utf8(signed.stdout).unwrap();
        let key = verify(namespace::MARK, LINE, &armored).unwrap();
        let signer = Signer::load(&dir.path().join("key")).unwrap();
        assert_eq!(key.id, signer.id());
        let public = std::fs::read_to_string(dir.path().join("key.pub")).unwrap();
        let trusted = crate::keys::TrustedKey::parse(&public).unwrap();
        assert_eq!((trusted.id, trusted.name.as_str()), (signer.id(), "me@host"));

        let args = ["-q", "-t", "ed25519", "-N", "a passphrase", "-f", "locked"];
        assert!(ssh_keygen(&args, dir.path(), b"").unwrap().status.success());
        let locked = Signer::load(&dir.path().join("locked")).unwrap_err();
        assert!(matches!(locked, KeyError::Passphrase { .. }), "{locked}");
        let args = ["-q", "-t", "ecdsa", "-N", "", "-f", "other"];
        assert!(ssh_keygen(&args, dir.path(), b"").unwrap().status.success());
        assert!(Signer::load(&dir.path().join("other")).is_err());
        let args = ["-Y", "sign", "-f", "other", "-n", namespace::MARK];
        let foreign = String::from_utf8(ssh_keygen(&args, dir.path(), LINE).unwrap().stdout).unwrap();
        assert!(verify(namespace::MARK, LINE, &foreign).is_err());
        let args = ["-Y", "sign", "-O", "hashalg=sha256", "-f", "key", "-n", namespace::MARK];
        let short = String::from_utf8(ssh_keygen(&args, dir.path(), LINE).unwrap().stdout).unwrap();
        assert!(verify(namespace::MARK, LINE, &short).is_err(), "{short}");
    }
}
