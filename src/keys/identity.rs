//! Recipients (public keys to encrypt to) and identities (private keys that open).

use crate::keys::error::KeyError;
use crate::keys::file::write_secret;
use crate::keys::passphrase::{Ask, read_maybe_locked};
use crate::model::id::RecipientId;
use age::secrecy::ExposeSecret;
use jiff::Timestamp;
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

const SECRET_PREFIX: &str = "AGE-SECRET-KEY-";
const PLUGIN_PREFIX: &str = "AGE-PLUGIN-";

/// A recipient text that cannot be used. Shows the text only when it cannot be a private key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadRecipient {
    /// There is none.
    #[error("there is no recipient")]
    None,
    /// Somebody gave the private key.
    #[error("a recipient is given as a private key; give its public half (age1…)")]
    Private,
    /// A kind that this program cannot seal to.
    #[error(
        "recipient age1{kind}1… is of a kind for age plugins, which are not supported; use an age1… recipient"
    )]
    Plugin {
        /// The plugin's name.
        kind: String,
    },
    /// Something else.
    #[error("{text:?} is not an age recipient (age1…)")]
    NotOne {
        /// Its beginning.
        text: String,
    },
}

fn bad_recipient(text: &str) -> BadRecipient {
    let upper = text.to_ascii_uppercase();
    // Anywhere in the text: a line pasted with something before it must not be shown either.
    if upper.contains("AGE-SECRET-KEY") || upper.contains(PLUGIN_PREFIX) || upper.contains("PRIVATE KEY") {
        return BadRecipient::Private;
    }
    // `1` is no letter of the data part, so a second one ends a plugin's name.
    match text.strip_prefix("age1").and_then(|rest| rest.rsplit_once('1')) {
        Some((kind, _)) => BadRecipient::Plugin { kind: kind.chars().take(40).collect() },
        None => BadRecipient::NotOne { text: text.chars().take(80).collect() },
    }
}

/// The recipients that objects are sealed to: at least one.
#[derive(Clone)]
pub struct RecipientSet {
    recipients: Vec<age::x25519::Recipient>,
    texts: Vec<String>,
}

impl RecipientSet {
    /// Parses recipient texts (`age1…`), sorted and each once.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, BadRecipient> {
        let mut texts: Vec<String> = texts.iter().map(|t| t.as_ref().trim().to_owned()).collect();
        texts.sort();
        texts.dedup();
        let parse = |text: &String| text.parse().map_err(|_| bad_recipient(text));
        let recipients = texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if recipients.is_empty() {
            return Err(BadRecipient::None);
        }
        Ok(Self { recipients, texts })
    }

    /// For the age crate.
    pub fn as_dyn(&self) -> impl Iterator<Item = &dyn age::Recipient> {
        self.recipients.iter().map(|r| r as &dyn age::Recipient)
    }

    /// The texts, sorted.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The fingerprints, in the order of the texts.
    pub fn ids(&self) -> Vec<RecipientId> {
        self.texts.iter().map(|t| RecipientId::of_text(t)).collect()
    }
}

/// One private X25519 key. It is wiped when dropped and its `Debug` shows the public half only.
#[derive(Clone)]
pub struct SecretIdentity(age::x25519::Identity);

/// Makes a new identity; gives it and its recipient's text.
pub fn generate() -> (SecretIdentity, String) {
    let identity = SecretIdentity(age::x25519::Identity::generate());
    let recipient = identity.recipient();
    (identity, recipient)
}

impl SecretIdentity {
    /// Parses `AGE-SECRET-KEY-1…`; `None` when it is not a whole key.
    pub fn parse(text: &str) -> Option<Self> {
        // The checksum allows either case; files and kits have the one that age writes.
        text.starts_with(SECRET_PREFIX).then(|| text.parse().ok().map(Self)).flatten()
    }

    /// The text of its recipient (`age1…`).
    pub fn recipient(&self) -> String {
        self.0.to_public().to_string()
    }

    /// The private key's text: for a key file or a kit, nothing else.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    /// Writes a new identity file as `age-keygen` does, for its owner alone.
    ///
    /// Fails with [`KeyError::Exists`] when there is a file already.
    pub fn write(&self, path: &Path, created: Timestamp) -> Result<(), KeyError> {
        write_all(std::slice::from_ref(self), path, created)
    }
}

/// The text of an identity file with all of `identities`.
pub fn file_text(identities: &[SecretIdentity], created: Timestamp) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(256 * identities.len() + 64));
    let seconds = created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    for part in ["# created: ", &seconds, "\n"] {
        text.push_str(part);
    }
    for identity in identities {
        for part in ["# public key: ", &identity.recipient(), "\n", &identity.reveal(), "\n"] {
            text.push_str(part);
        }
    }
    text
}

/// Writes a new identity file with all of `identities`, for its owner alone; [`KeyError::Exists`] when there is a file already.
pub fn write_all(identities: &[SecretIdentity], path: &Path, created: Timestamp) -> Result<(), KeyError> {
    write_secret(path, &file_text(identities, created))
}

impl fmt::Debug for SecretIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretIdentity({})", self.recipient())
    }
}

/// Private keys that open objects; never shown.
#[derive(Default)]
pub struct Identities {
    identities: Vec<Box<dyn age::Identity + Send + Sync>>,
    public: Vec<String>,
}

impl Identities {
    /// From keys already in hand whose recipients are not known.
    pub fn new(identities: Vec<Box<dyn age::Identity + Send + Sync>>) -> Self {
        Self { identities, public: Vec::new() }
    }

    /// From private keys.
    pub fn from_secrets(secrets: impl IntoIterator<Item = SecretIdentity>) -> Self {
        let mut all = Self::default();
        for secret in secrets {
            let recipient = secret.recipient();
            if !all.public.contains(&recipient) {
                all.public.push(recipient);
                all.identities.push(Box::new(secret.0));
            }
        }
        all
    }

    /// Loads several identity files into one set.
    pub fn load(paths: &[impl AsRef<Path>]) -> Result<Self, KeyError> {
        let mut secrets = Vec::new();
        for path in paths {
            secrets.append(&mut load_identity_file(path.as_ref())?);
        }
        Ok(Self::from_secrets(secrets))
    }

    /// Adds the keys of another source.
    pub fn extend(&mut self, other: Self) {
        self.identities.extend(other.identities);
        for recipient in other.public {
            if !self.public.contains(&recipient) {
                self.public.push(recipient);
            }
        }
    }

    /// For the age crate.
    pub fn as_dyn(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.identities.iter().map(|i| &**i as &dyn age::Identity)
    }

    /// The recipients that these keys open for, as far as they are known, to compare with a [`RecipientSet`].
    pub fn public(&self) -> Vec<String> {
        self.public.clone()
    }

    /// True when one of the keys is known to open objects with one of these recipients.
    pub fn open_any(&self, recipients: &[RecipientId]) -> bool {
        self.public.iter().any(|text| recipients.contains(&RecipientId::of_text(text)))
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities")
            .field("count", &self.identities.len())
            .field("public", &self.public)
            .finish()
    }
}

/// The private keys in an identity file: any number, with comments and empty lines, `\n` or `\r\n`.
pub fn load_identity_file(path: &Path) -> Result<Vec<SecretIdentity>, KeyError> {
    load_identity_file_asking(path, &|_| None)
}

/// The same of a file that may be protected by a passphrase, which `ask` gives.
pub fn load_identity_file_asking(path: &Path, ask: &Ask) -> Result<Vec<SecretIdentity>, KeyError> {
    let text = read_maybe_locked(path, ask)?;
    let malformed = |why: String| KeyError::Malformed { path: path.to_owned(), why };
    let first = text.trim_start();
    if first.starts_with("-----BEGIN ") && first.contains("PRIVATE KEY-----") {
        return Err(malformed("it is an SSH or TLS key, not an age identity".into()));
    }
    let mut identities = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.to_ascii_uppercase().starts_with(PLUGIN_PREFIX) {
            return Err(KeyError::Plugin { path: path.to_owned(), line: number });
        }
        match SecretIdentity::parse(line) {
            Some(identity) => identities.push(identity),
            None => return Err(malformed(format!("line {number} {}", what_instead(line)))),
        }
    }
    if identities.is_empty() {
        return Err(KeyError::Empty { path: path.to_owned() });
    }
    Ok(identities)
}

/// What a line is that should be an identity, without showing any of it.
fn what_instead(line: &str) -> &'static str {
    let upper = line.to_ascii_uppercase();
    // Also a prefix of the prefix: the file was cut off there.
    if upper.starts_with(SECRET_PREFIX) || SECRET_PREFIX.starts_with(&upper) {
        return "is not a whole identity: it is cut off or mistyped, or of a newer kind";
    }
    if upper.starts_with("AGE1") {
        return "is a recipient, the public half; the identity begins with AGE-SECRET-KEY-1";
    }
    "is neither a comment nor an identity (AGE-SECRET-KEY-1…)"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::file::read_secret;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    fn put(dir: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn a_written_identity_is_private_and_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/identity.txt");
        let (identity, recipient) = generate();
        identity.write(&path, "2026-11-23T08:00:00.7Z".parse().unwrap()).unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode(&path), mode(&dir.path().join("a/b")), mode(&dir.path().join("a"))),
            (0o600, 0o700, 0o700)
        );
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "# created: 2026-11-23T08:00:00Z");
        assert_eq!(lines[1], format!("# public key: {recipient}"));
        assert!(lines[2].starts_with("AGE-SECRET-KEY-1") && lines.len() == 3);
        assert_eq!(Identities::load(&[&path]).unwrap().public(), [recipient]);
        let again = identity.write(&path, Timestamp::UNIX_EPOCH);
        assert!(matches!(again, Err(KeyError::Exists { .. })), "{again:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn several_keys_comments_and_crlf_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let ((a, ra), (b, rb)) = (generate(), generate());
        let text = format!("# mine\r\n\r\n{}\r\n# other\r\n  {}  \r\n", *a.reveal(), *b.reveal());
        let path = put(dir.path(), "i", text.as_bytes());
        let mut loaded = Identities::load(&[&path]).unwrap();
        assert_eq!(loaded.public(), [ra.clone(), rb]);
        loaded.extend(Identities::from_secrets([a]));
        assert_eq!(loaded.public().len(), 2);
        assert!(loaded.open_any(&RecipientSet::parse(&[ra]).unwrap().ids()));
        assert!(!loaded.open_any(&RecipientSet::parse(&[generate().1]).unwrap().ids()));
    }

    #[test]
    fn every_bad_file_has_its_own_error_without_key_text() {
        let dir = tempfile::tempdir().unwrap();
        let (identity, recipient) = generate();
        let secret = identity.reveal();
        let other = if &secret[30..31] == "Q" { "P" } else { "Q" };
        let flipped = format!("{}{other}{}", &secret[..30], &secret[31..]);
        let cases: [(&[u8], &str); 11] = [
            (b"", "holds no key"),
            (b"# only\n\n# comments\n", "holds no key"),
            (b"hello\n", "neither a comment nor an identity"),
            (b"\xff\xfe\x00", "not text"),
            (flipped.as_bytes(), "cut off or mistyped"),
            (recipient.as_bytes(), "the public half"),
            (b"AGE-PLUGIN-YUBIKEY-1QQPQQQQ\n", "plugins are not supported"),
            (b"age-encryption.org/v1\n-> scrypt x 18\n", "cannot be opened"),
            (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "cannot be opened"),
            (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "not an age identity"),
            (&[b'#'; 70_000], "too large"),
        ];
        for (bytes, expected) in cases {
            let path = put(dir.path(), "i", bytes);
            let error = load_identity_file(&path).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(expected), "{shown}");
            assert!(!shown.contains(&secret[20..40]), "{shown}");
        }
        let missing = load_identity_file(&dir.path().join("none")).unwrap_err();
        assert!(matches!(missing, KeyError::Missing { .. }));
        let folder = load_identity_file(dir.path()).unwrap_err();
        assert!(!matches!(folder, KeyError::Missing { .. }), "{folder}");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = put(dir.path(), "i", generate().0.reveal().as_bytes());
        for mode in [0o640, 0o604, 0o620, 0o601, 0o644] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = load_identity_file(&path).unwrap_err();
            assert!(matches!(error, KeyError::OpenToOthers { .. }), "{mode:o}: {error}");
            assert!(error.hint().unwrap().starts_with("chmod 600 "));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(load_identity_file(&path).unwrap().len(), 1);
    }

    #[test]
    fn a_file_cut_off_anywhere_gives_an_error_or_its_whole_keys() {
        let dir = tempfile::tempdir().unwrap();
        let (identity, recipient) = generate();
        let whole = dir.path().join("whole");
        identity.write(&whole, Timestamp::UNIX_EPOCH).unwrap();
        let bytes = read_secret(&whole).unwrap();
        for end in 0..bytes.len() {
            let path = put(dir.path(), "cut", &bytes.as_bytes()[..end]);
            match Identities::load(&[&path]) {
                // Only the line end is missing.
                Ok(found) => assert_eq!((found.public(), end), (vec![recipient.clone()], bytes.len() - 1)),
                Err(error) => {
                    assert!(!format!("{error:?}").contains(&identity.reveal()[16..30]), "{error:?}");
                }
            }
        }
    }

    #[test]
    fn recipients_that_cannot_be_used_say_why_and_never_show_a_private_key() {
        let (identity, recipient) = generate();
        let secret = identity.reveal();
        let said = |text: &str| RecipientSet::parse(&[text]).err().unwrap().to_string();
        assert!(
            said("age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t")
                .contains("plugins")
        );
        assert!(said("age1pq1qqqq").contains("age1pq1"));
        assert!(said("x").contains("\"x\""));
        assert!(said(&recipient[..40]).contains("not an age recipient"));
        for private in [secret.to_string(), secret.to_lowercase(), format!("key: {}", *secret)] {
            let shown = said(&private);
            assert!(
                shown.contains("private key") && !shown.to_uppercase().contains(&secret[16..30]),
                "{shown}"
            );
        }
        assert!(RecipientSet::parse::<&str>(&[]).is_err());
        let set = RecipientSet::parse(&[&recipient, &recipient]).unwrap();
        assert_eq!(set.texts(), [recipient]);
    }

    #[test]
    fn debug_output_holds_no_private_key() {
        let (identity, recipient) = generate();
        let all = Identities::from_secrets([identity.clone()]);
        let shown = format!("{identity:?} {all:?}");
        assert!(shown.contains(&recipient));
        assert!(!shown.to_uppercase().contains(&identity.reveal()[16..40]), "{shown}");
    }

    #[test]
    fn age_keygen_and_we_read_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("theirs");
        match Command::new("age-keygen").arg("-o").arg(&theirs).output() {
            Err(e) => return crate::not_run(&format!("age-keygen cannot be run: {e}")),
            Ok(out) => assert!(out.status.success(), "{out:?}"),
        }
        let public = |path: &Path| {
            let out = Command::new("age-keygen").arg("-y").arg(path).output().unwrap();
            assert!(out.status.success(), "{out:?}");
            String::from_utf8(out.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(Identities::load(&[&theirs]).unwrap().public(), [public(&theirs)]);
        let ours = dir.path().join("ours");
        let (identity, recipient) = generate();
        identity.write(&ours, Timestamp::now()).unwrap();
        assert_eq!(public(&ours), recipient);
    }
}
