//! The recovery kit: one printable text with all that a fresh machine needs beside the credentials of its stores.
//!
//! A kit may hold every secret of a project. It must never be shown by `Debug`, and errors about a kit name lines, never what is on them.

use crate::keys::error::{KeyError, shown};
use crate::keys::file::write_secret;
use crate::keys::identity::{Identities, SecretIdentity};
use crate::keys::kit_block;
use crate::keys::kit_copies;
use crate::keys::kit_fields::{self, Parts};
use crate::keys::kit_text;
use crate::keys::naming::NamingKey;
use crate::keys::passphrase::{self, Ask, LockedError, Passphrase};
use crate::keys::signer::Signer;
use crate::keys::trust::TrustList;
use crate::model::chain::Heads;
use crate::model::{HostId, ObjectId, VaultId};
use data_encoding::BASE64;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A text larger than this is no kit.
const KIT_BYTES_MAX: usize = 4 << 20;

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAt {
    /// A folder.
    Path(String),
    /// An address; must not hold a secret.
    Url(String),
}

/// A store as a kit names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KitStore {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub at: StoreAt,
    /// Settings needed to reach it (endpoint, region, …). The maker of the kit leaves out what is secret.
    pub settings: BTreeMap<String, String>,
}

/// All that a kit holds. `Debug` shows no secret: the key types redact themselves.
#[derive(Debug, Clone)]
pub struct Kit {
    /// When it was made.
    pub printed: Timestamp,
    /// The project.
    pub project: String,
    /// The name of the machine.
    pub hostname: String,
    /// Its host id.
    pub host: HostId,
    /// The vault.
    pub vault: VaultId,
    /// The stores of the vault.
    pub stores: Vec<KitStore>,
    /// Private keys that open it; none when they are kept elsewhere.
    pub identities: Vec<SecretIdentity>,
    /// Whom objects are sealed to.
    pub recipients: Vec<String>,
    /// The host's signing key: with it a fresh machine introduces its own.
    pub signing_key: Option<Signer>,
    /// Trusted keys with their roles.
    pub trusted: TrustList,
    /// What component numbers are made with.
    pub naming_key: Option<NamingKey>,
    /// SHA-256 of `recover.py` as it lies in the stores, which may hold several versions.
    pub recover_py: Vec<ObjectId>,
    /// SHA-256 of `RECOVER.md` as it lies in the stores, which may hold several versions.
    pub recover_md: Vec<ObjectId>,
    /// The highest entries known of each signer: a history that ends below them was rolled back.
    pub heads: Heads,
}

/// Why a text is not a kit that can be used. Names lines, never what is on them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KitError {
    /// A passphrase protects it, and it does not open.
    #[error("the recovery kit cannot be opened")]
    Locked(#[source] LockedError),
    /// The file cannot be read.
    #[error("cannot read recovery kit {}", shown(path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no block.
    #[error("the text holds no recovery kit: the line {:?} is not there or mistyped", kit_block::BEGIN)]
    NoBlock,
    /// There are several.
    #[error("the text holds more than one recovery kit")]
    SeveralBlocks,
    /// The block does not end.
    #[error("the recovery kit is cut off, or its last line {:?} is mistyped", kit_block::END)]
    NoEnd,
    /// The check of a line does not fit.
    #[error("line {line} of the recovery kit is mistyped or incomplete")]
    Mistyped {
        /// Its number in the block.
        line: usize,
    },
    /// A line is not there, or comes at the wrong place.
    #[error("line {line} of the recovery kit is missing or not at its place")]
    MissingLine {
        /// Its number in the block.
        line: usize,
    },
    /// Each line is right, but not all together.
    #[error("the lines of the recovery kit do not belong together: one is from another kit")]
    Sum,
    /// Written by a later program.
    #[error("the recovery kit has format {format:?}, which this backstay does not understand (format 1)")]
    TooNew {
        /// Its format.
        format: String,
    },
    /// A line is typed right, but says something impossible.
    #[error("line {line} of the recovery kit cannot be used: {what} is not what it should be")]
    Bad {
        /// Its number in the block.
        line: usize,
        /// What it should hold.
        what: &'static str,
    },
    /// Something that every kit has is not there.
    #[error("the recovery kit does not say {what}")]
    Missing {
        /// What.
        what: &'static str,
    },
}

impl Kit {
    /// The whole kit as text of at most 78 columns (names and addresses that are longer aside): how to use it, then the block.
    pub fn render(&self) -> Zeroizing<String> {
        // Enough at once: a text that grows leaves copies of the keys behind.
        let mut text = Zeroizing::new(String::with_capacity(256 << 10));
        kit_text::instructions(self, &mut text);
        kit_block::encode(&kit_fields::fields(self), &mut text);
        text
    }

    /// The same, protected by `passphrase`: as much typing, with the same checks, and worth nothing without it.
    pub fn render_locked(&self, passphrase: &Passphrase) -> Result<Zeroizing<String>, LockedError> {
        let locked = BASE64.encode(&passphrase::lock(&self.render(), passphrase)?);
        let mut text = Zeroizing::new(String::with_capacity(locked.len() * 2 + 4096));
        kit_text::locked_instructions(self, &mut text);
        let fields = [("kit", kit_block::LOCKED.to_owned()), (kit_block::LOCKED_FIELD, locked)];
        let fields = fields.map(|(name, value)| (name, Zeroizing::new(value)));
        kit_block::encode(&fields, &mut text);
        Ok(text)
    }

    /// Parses a kit, in whatever text it lies. One that a passphrase protects is [`KitError::Locked`].
    pub fn parse(text: &str) -> Result<Self, KitError> {
        Self::parse_asking(text, &|_| None)
    }

    /// The same of one that a passphrase may protect, which `ask` gives.
    pub fn parse_asking(text: &str, ask: &Ask) -> Result<Self, KitError> {
        let fields = kit_block::decode(text)?;
        if fields.first().is_some_and(|first| first.value.as_str() == kit_block::LOCKED) {
            let locked = fields.iter().find(|field| field.name == kit_block::LOCKED_FIELD);
            let locked = locked.and_then(|field| BASE64.decode(field.value.as_bytes()).ok());
            let locked = locked.ok_or(KitError::Locked(LockedError::Damaged))?;
            let text =
                passphrase::unlock_asking(&locked, "the recovery kit", ask).map_err(KitError::Locked)?;
            // Not asked again: a kit within a kit within a kit is none of ours.
            return Self::parse(&text);
        }
        let mut parts = Parts::default();
        fields.iter().try_for_each(|field| parts.take(field))?;
        parts.finish()
    }

    /// Reads a kit from a file. Its mode is not asked for: kits come on sticks and from scanners, when there is no time for that.
    pub fn load(path: &Path) -> Result<Self, KitError> {
        Self::load_asking(path, &|_| None)
    }

    /// The same of one that a passphrase may protect, which `ask` gives.
    pub fn load_asking(path: &Path, ask: &Ask) -> Result<Self, KitError> {
        Self::parse_asking(&Self::text_of(path)?, ask)
    }

    /// The text of a file that should hold a kit. A scanned page may hold anything around the block.
    pub fn text_of(path: &Path) -> Result<Zeroizing<String>, KitError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(256 << 10));
        let file = std::fs::File::open(path);
        let read = file.and_then(|f| f.take(KIT_BYTES_MAX as u64).read_to_end(&mut bytes));
        read.map_err(|source| KitError::Unreadable { path: path.to_owned(), source })?;
        Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What `text`, in which this kit lies, says otherwise where people read it and no check guards it.
    pub fn differing_copies(&self, text: &str) -> Vec<String> {
        kit_copies::differing(self, text)
    }

    /// True when a text that begins like this may be a kit: it is worth everything to a thief who reaches a store.
    pub fn may_begin(bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        let page = format!("<title>{}", kit_text::TITLE.to_ascii_lowercase());
        text.contains(kit_block::BEGIN)
            || text.trim_start().starts_with(kit_text::TITLE)
            || text.contains(&page)
    }

    /// The part of its text that machines read, line by line.
    pub fn block_of(text: &str) -> Vec<&str> {
        let lines = text.lines().skip_while(|line| *line != kit_block::BEGIN);
        lines.take_while(|line| *line != kit_block::END).chain([kit_block::END]).collect()
    }

    /// Writes the kit into a new file for its owner alone.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        write_secret(path, &self.render())
    }

    /// The private keys, ready to open objects.
    pub fn open_with(&self) -> Identities {
        Identities::from_secrets(self.identities.iter().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::identity;
    use crate::keys::trust::TrustedKey;
    use crate::model::SignerId;
    use crate::model::mark::Role;

    fn kit(secrets: bool) -> Kit {
        let (identity, recipient) = identity::generate();
        let signer = Signer::generate().unwrap();
        let trusted = |text: &str| TrustedKey::parse(text).unwrap();
        let other = Signer::generate().unwrap();
        let mut keys: TrustList =
            [trusted(&format!("{} web-1", signer.public_text())).with_roles([Role::Host, Role::Verify])]
                .into_iter()
                .collect();
        let mut named = trusted(other.public_text()).with_roles([Role::Prune]);
        named.name = "the office, ground floor".into();
        named.host = Some(HostId::from(signer.id()));
        keys.add(named);
        let endpoint = [("endpoint".to_owned(), "https://minio.example:9000/a=b".to_owned())];
        let path = "/srv/Sicherung %20 ä/".to_owned() + &"tief/".repeat(30);
        let store = |name: &str, at, settings| KitStore { name: name.into(), at, settings };
        Kit {
            printed: "2026-11-23T08:00:00Z".parse().unwrap(),
            project: "tsushin\n>".into(),
            hostname: String::new(),
            host: HostId::from(signer.id()),
            vault: VaultId::from_random([7; 17]),
            stores: vec![
                store("local", StoreAt::Path(path), BTreeMap::new()),
                store("offsite", StoreAt::Url("s3://bucket/web-1/x".into()), endpoint.into()),
            ],
            identities: if secrets { vec![identity, identity::generate().0] } else { Vec::new() },
            recipients: vec![recipient],
            signing_key: secrets.then_some(signer),
            trusted: keys,
            naming_key: secrets.then(|| NamingKey::generate().unwrap()),
            recover_py: vec![ObjectId::of(b"py"), ObjectId::of(b"older py")],
            recover_md: if secrets { vec![ObjectId::of(b"md")] } else { Vec::new() },
            heads: [(SignerId([3; 16]), (17, ObjectId::of(b"head")))].into(),
        }
    }

    fn assert_same(a: &Kit, b: &Kit) {
        // `Debug` shows all but the secrets; these are compared by what they reveal.
        assert_eq!(format!("{a:?}"), format!("{b:?}"));
        let secrets = |kit: &Kit| {
            let keys: Vec<String> = kit.identities.iter().map(|i| i.reveal().to_string()).collect();
            let signing = kit.signing_key.as_ref().map(|k| k.public_text().to_owned());
            (keys, signing, kit.naming_key.as_ref().map(|k| k.reveal().to_string()))
        };
        assert_eq!(secrets(a), secrets(b));
    }

    #[test]
    fn a_kit_comes_back_whole_from_whatever_text_it_lies_in() {
        for secrets in [true, false] {
            let kit = kit(secrets);
            let text = kit.render();
            assert_same(&Kit::parse(&text).unwrap(), &kit);
            let (before, block) = text.split_at(text.find(kit_block::BEGIN).unwrap());
            let reflowed = before.split_whitespace().collect::<Vec<_>>().join(" ");
            let crlf = format!("{reflowed}\r\n{}", block.replace('\n', "  \r\n"));
            assert_same(&Kit::parse(&crlf).unwrap(), &kit);
            let quoted = text.lines().map(|line| format!("> > {line}\n\n")).collect::<String>();
            assert_same(&Kit::parse(&quoted).unwrap(), &kit);
            let squeezed = block.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join("\t") + "\n");
            let squeezed = squeezed.collect::<String>().replace("BEGIN\tBACKSTAY\tKIT", "BEGIN BACKSTAY KIT");
            assert_same(
                &Kit::parse(&squeezed.replace("END\tBACKSTAY\tKIT", "END BACKSTAY KIT")).unwrap(),
                &kit,
            );
        }
    }

    #[test]
    fn a_copy_for_people_that_differs_from_the_block_is_named_by_its_line() {
        let kit = kit(true);
        let text = kit.render();
        assert_eq!(kit.differing_copies(&text), [""; 0]);
        // Whoever typed in the block alone has what the machine needs.
        assert_eq!(kit.differing_copies(&text[text.find(kit_block::BEGIN).unwrap()..]), [""; 0]);
        let flip = |word: &str| {
            let last = word.chars().last().unwrap();
            format!("{}{}", &word[..word.len() - 1], if last == 'Q' { 'P' } else { 'Q' })
        };
        let identity = kit.identities[1].reveal();
        for (copy, what) in [
            (identity.to_string(), "another identity"),
            (kit.recipients[0].clone(), "another recipient"),
            (kit.recover_py[1].to_string(), "another hash of recover.py"),
        ] {
            let at = text.find(&copy).unwrap();
            assert!(at < text.find(kit_block::BEGIN).unwrap());
            let number = text[..at].lines().count() + usize::from(text[..at].ends_with('\n'));
            let wrong = text.replacen(&copy, &flip(&copy), 1);
            let found = kit.differing_copies(&wrong);
            assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
            assert!(found[0].contains(&format!("line {number} ")), "{found:?} for {number}");
            assert!(!found[0].contains(&copy[copy.len() - 12..copy.len() - 1]), "{found:?}");
        }
        // So that `grep` does not find it at all.
        let gone = text.replacen(&*identity, &identity.replace("AGE-SECRET", "AGE-SECERT"), 1);
        assert_eq!(kit.differing_copies(&gone).len(), 1);
        assert!(Kit::may_begin(text.as_bytes()) && Kit::may_begin(b"<title>backstay recovery kit</title>"));
        assert!(!Kit::may_begin(b"# How to get the data back"));
    }

    #[test]
    fn every_changed_character_is_noticed_and_its_line_named() {
        let mut kit = kit(true);
        // Small, because there are very many changes to try.
        kit.identities.truncate(1);
        kit.stores.truncate(1);
        kit.stores[0].at = StoreAt::Path("/srv".into());
        kit.trusted = TrustList::default();
        let text = kit.render();
        let start = text.find(kit_block::BEGIN).unwrap();
        let block = &text.as_bytes()[start..];
        let mut changed = block.to_vec();
        let mut line = 0;
        for at in 0..block.len() {
            let old = block[at];
            // All but blanks for blanks: how many there are does not matter.
            for new in (b'!'..=b'~').chain(*b" \n").filter(|new| *new != old) {
                if old.is_ascii_whitespace() && new.is_ascii_whitespace() {
                    continue;
                }
                changed[at] = new;
                let result = Kit::parse(std::str::from_utf8(&changed).unwrap());
                let error = result.expect_err(&format!("{} -> {} at {at}", old as char, new as char));
                if let KitError::Mistyped { line: named } = error {
                    // A line end that vanished is found on the line before.
                    assert!(named == line || named == line + 1, "{named} for {line}");
                }
            }
            changed[at] = old;
            line += usize::from(old == b'\n');
        }
    }

    #[test]
    fn lines_left_out_doubled_or_exchanged_are_named() {
        let text = kit(true).render();
        let lines: Vec<&str> = text.lines().collect();
        let begin = lines.iter().position(|l| *l == kit_block::BEGIN).unwrap();
        let end = lines.iter().position(|l| *l == kit_block::END).unwrap();
        for at in begin + 1..end {
            let mut left_out = lines.clone();
            left_out.remove(at);
            let error = Kit::parse(&left_out.join("\n")).unwrap_err();
            assert!(matches!(error, KitError::MissingLine { line } if line == at - begin), "{error}");
            let mut doubled = lines.clone();
            doubled.insert(at, lines[at]);
            assert!(matches!(
                Kit::parse(&doubled.join("\n")),
                Err(KitError::MissingLine { .. } | KitError::NoEnd)
            ));
        }
        assert!(matches!(Kit::parse(&lines[..end].join("\n")), Err(KitError::NoEnd)));
        assert!(matches!(Kit::parse(&lines[..begin].join("\n")), Err(KitError::NoBlock)));
        assert!(matches!(Kit::parse(&format!("{0}{0}", *text)), Err(KitError::SeveralBlocks)));
        // A right line of another kit fits its own check only.
        let other = kit(true).render();
        let identity = |text: &str| text.lines().position(|l| l.contains(" identity AGE")).unwrap();
        let mut mixed = lines.clone();
        let theirs: Vec<&str> = other.lines().collect();
        mixed[identity(&text)] = theirs[identity(&other)];
        assert!(matches!(Kit::parse(&mixed.join("\n")), Err(KitError::Sum)));
    }

    #[test]
    fn a_kit_of_a_later_format_is_too_new_not_damaged() {
        let mut text = String::new();
        kit_block::encode(
            &[("kit", Zeroizing::new("2".into())), ("new", Zeroizing::new("x".into()))],
            &mut text,
        );
        assert!(matches!(Kit::parse(&text), Err(KitError::TooNew { .. })));
    }

    #[test]
    fn the_text_fits_a_page_and_says_whether_it_opens_anything() {
        for secrets in [true, false] {
            let kit = kit(secrets);
            let text = kit.render();
            let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 78).collect();
            assert!(wide.is_empty(), "{wide:?}");
            assert_eq!(text.contains("THIS KIT DOES NOT OPEN THE BACKUPS"), !secrets);
            assert!(text.contains("backstay --kit kit.txt list") && text.contains("recover.py"));
            assert_eq!(text.contains("AGE-SECRET-KEY-1"), secrets);
            assert!(kit.recover_py.iter().all(|hash| text.contains(&format!("{hash}  recover.py"))));
        }
    }

    #[test]
    fn neither_debug_nor_errors_show_secrets() {
        let kit = kit(true);
        let pem = kit.signing_key.as_ref().unwrap().reveal().unwrap();
        let mut shown = format!("{kit:?}");
        let text = kit.render();
        for line in 0..text.lines().count() {
            let broken: Vec<String> = text
                .lines()
                .enumerate()
                .map(|(i, l)| if i == line { l.replace(' ', "") } else { l.to_owned() })
                .collect();
            if let Err(error) = Kit::parse(&broken.join("\n")) {
                shown.push_str(&format!("{error} {error:?}"));
            }
        }
        for identity in &kit.identities {
            assert!(!shown.contains(&identity.reveal()[16..32]));
        }
        let body: String = pem.lines().filter(|l| !l.starts_with('-')).collect();
        assert!(!shown.contains(&body[150..170]) && !shown.contains(&kit.naming_key.unwrap().reveal()[..12]));
    }

    #[test]
    fn a_kit_file_is_private_and_read_back() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kit.txt");
        let kit = kit(true);
        kit.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_same(&Kit::load(&path).unwrap(), &kit);
        assert_eq!(kit.open_with().public().len(), 2);
        assert!(matches!(Kit::load(dir.path()), Err(KitError::Unreadable { .. })));
    }
}
