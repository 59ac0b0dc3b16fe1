//! From what people type to snapshots, components and paths.

use crate::model::chain::{KnownSnapshot, Trust};
use crate::model::entry::Why;
use crate::model::index::{Index, IndexComponent, SegmentRef};
use crate::model::manifest::Segment;
use crate::model::selector::{Selector, SelectorError, Summary};
use crate::model::{Entry, HostId, Kind, RelPath};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::holding::{holds, numbered};
use crate::ops::objects::SnapshotReader;
use crate::ops::session::{HostChoice, Session};
use crate::ops::vault::{Vault, is_trusted};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is wanted of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Its name.
    pub component: String,
    /// These paths and what is below them; everything when empty.
    pub paths: Vec<RelPath>,
}

impl Selection {
    /// True when `path` is wanted, or is a directory on the way to something wanted.
    pub fn wants(&self, path: &RelPath) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|p| path.is_within(p) || (p.is_within(path)))
    }

    /// A segment's entries that are wanted.
    pub fn read(
        &self,
        reader: &SnapshotReader<'_>,
        component: &IndexComponent,
        reference: &SegmentRef,
    ) -> Result<Segment> {
        match self.paths.is_empty() {
            true => reader.segment(component, reference),
            false => reader.segment_of(component, reference, &|path| self.wants(path)),
        }
    }

    /// True when a listing from `first` to `last` may hold something wanted.
    pub fn touches(&self, first: &RelPath, last: &RelPath) -> bool {
        if self.paths.is_empty() {
            return true;
        }
        self.paths.iter().any(|p| {
            let below_begins_after = p > last;
            let ended_before = first > p && !first.is_within(p);
            let on_the_way = p.parts().count() > 0 && ancestors(p).any(|a| a >= *first && a <= *last);
            (!below_begins_after && !ended_before) || on_the_way
        })
    }

    /// Fails when a path that was named is not there.
    pub fn check_found(&self, entries: &[Entry]) -> Result<()> {
        for path in &self.paths {
            if !entries.iter().any(|e| e.path.is_within(path)) {
                let what = format!("there is no {}/{path} in this snapshot", self.component);
                return Err(OpError::new(Class::NotFound, what)
                    .hint(format!("`backstay ls ID {}` lists what is there", self.component)));
            }
        }
        Ok(())
    }
}

/// Fails when a path that was named is listed only as something that was not captured: of it nothing can come back.
pub fn refuse_left(selection: &Selection, entries: &[Entry]) -> Result<()> {
    for path in &selection.paths {
        let Some(why) = entries.iter().find(|e| e.path == *path).and_then(not_captured) else { continue };
        let what = format!("{}/{path} is not in this snapshot: {why}", selection.component);
        return Err(
            OpError::new(Class::NotFound, what).hint("`backstay find NAME` lists the snapshots that have it")
        );
    }
    Ok(())
}

/// Why an entry has no content that could be given back, if it has none.
fn not_captured(entry: &Entry) -> Option<&'static str> {
    if entry.kind == Kind::Socket {
        return Some("it was a socket, which is noted and never stored");
    }
    Some(match entry.why? {
        Why::Unreadable => "it could not be read when the snapshot was made",
        Why::Vanished => "it vanished while the snapshot was made",
        Why::Component => "it belongs to another component",
        Why::Store => "it is a store",
        Why::State => "it is backstay's own state",
        Why::Sidecar => "it belongs to a database, which has its content in its own file",
        Why::Mount => "it is on another file system",
    })
}

fn ancestors(path: &RelPath) -> impl Iterator<Item = RelPath> {
    std::iter::successors(path.parent(), RelPath::parent)
}

/// Which hosts' snapshots are meant: `--host`, `--all-hosts`, or this one.
pub fn hosts(session: &Session, vault: &Vault) -> Result<Vec<HostId>> {
    let all = vault.hosts();
    match &session.around.hosts {
        HostChoice::All => Ok(all),
        HostChoice::Named(text) => {
            let found: Vec<HostId> =
                all.iter().copied().filter(|h| h.to_string().starts_with(text)).collect();
            let found = if found.is_empty() { hosts_named(session, &all, text) } else { found };
            let found = if found.is_empty() { hosts_untrusted(vault, text) } else { found };
            match found.len() {
                1 => Ok(found),
                0 => {
                    Err(OpError::new(Class::NotFound, format!("no host {text:?} has trusted snapshots here"))
                        .hint("`backstay list --all-hosts` shows what is here; a host counts when its key is among [signing] trusted"))
                }
                _ => Err(OpError::new(Class::Usage, format!("{text:?} means more than one host"))
                    .hint("give more of the host's id; `backstay list --all-hosts --json` shows them")),
            }
        }
        HostChoice::Own => match session.host {
            Some(own) => Ok(vec![vault.host_of(&crate::model::SignerId(own.0))]),
            None => Ok(all),
        },
    }
}

/// What is wrong with the history of the hosts that are meant; empty when all is well.
pub fn breaks_of(vault: &Vault, hosts: &[HostId]) -> Vec<String> {
    hosts.iter().flat_map(|host| vault.history.breaks_of(host)).map(ToString::to_string).collect()
}

/// The same, and what is wrong with chains of keys that are of no host with snapshots here: what verifiers and pruners say counts for all.
pub fn breaks_told(vault: &Vault, hosts: &[HostId]) -> Vec<String> {
    let (all, keys) = (vault.hosts(), vault.history.keys());
    let of_none = |b: &&crate::model::chain::Break| !all.iter().any(|host| keys.is_of(&b.signer, host));
    let mut told = breaks_of(vault, hosts);
    told.extend(vault.history.breaks.iter().filter(of_none).map(ToString::to_string));
    told
}

/// Hosts that a trusted key's name in the configuration stands for.
fn hosts_named(session: &Session, all: &[HostId], name: &str) -> Vec<HostId> {
    let named = session.trust.keys().iter().filter(|k| k.name == name);
    let hosts = named.map(|k| k.host.unwrap_or_else(|| k.id.into()));
    hosts.filter(|h| all.contains(h)).collect()
}

/// Hosts of which nothing is trusted, by so much of their ids that nobody hits one by chance. What chooses finds nothing of theirs.
fn hosts_untrusted(vault: &Vault, text: &str) -> Vec<HostId> {
    let meant = |host: &&HostId| text.len() >= 8 && host.to_string().starts_with(text);
    vault.history.hosts.keys().filter(meant).copied().collect()
}

/// Finds the snapshot that `text` means, and refuses one that must not be used.
pub fn snapshot<'v>(
    session: &Session,
    vault: &'v Vault,
    text: &str,
    accept_untrusted: bool,
) -> Result<&'v KnownSnapshot> {
    holding(session, vault, text, &[], accept_untrusted)
}

/// The same; a word that chooses (`latest`, `@TIME`, a tag) means one that holds all components with these `names`.
pub fn holding<'v>(
    session: &Session,
    vault: &'v Vault,
    text: &str,
    names: &[String],
    accept_untrusted: bool,
) -> Result<&'v KnownSnapshot> {
    let found = find(session, vault, text, names)?;
    refuse_unfit(found, accept_untrusted)?;
    Ok(found)
}

/// Finds the snapshot that `text` means, whatever is wrong with it.
pub fn named<'v>(session: &Session, vault: &'v Vault, text: &str) -> Result<&'v KnownSnapshot> {
    find(session, vault, text, &[])
}

fn find<'v>(session: &Session, vault: &'v Vault, text: &str, names: &[String]) -> Result<&'v KnownSnapshot> {
    let now = session.around.clock.now();
    let selector = Selector::parse(text, now, jiff::tz::TimeZone::system)
        .map_err(|e| tag_of_that_name(vault, text).unwrap_or_else(|| selector_error(e)))?;
    let hosts = hosts(session, vault)?;
    let chooses = selector.chooses();
    let meant = |s: &&KnownSnapshot| !chooses || (is_trusted(s) && hosts.contains(&s.record.host));
    let mut pool: Vec<&KnownSnapshot> = vault.snapshots().filter(meant).collect();
    if hosts.len() > 1 {
        // Of several hosts there is no common order but time.
        pool.sort_by_key(|s| s.record.started);
    }
    if chooses {
        refuse_broken(vault, &hosts)?;
        for bad in &vault.bad {
            session.note(&format!("{} cannot be used and is passed over: {}", bad.key, bad.why));
        }
    }
    let numbers = if chooses { numbered(session, names) } else { Vec::new() };
    resolve(&selector, &pool, &numbers, names)?.map_err(|error| {
        let damaged = damaged_of_that_name(vault, text);
        let damaged = damaged.or_else(|| (chooses && pool.is_empty()).then(|| none_left(vault)).flatten());
        damaged.unwrap_or_else(|| selector_error(error))
    })
}

/// The one of `pool` that is meant, among those that hold all components with these `numbers`. Where none does it is the one that would be meant
/// without them: whoever reads it says what it holds.
fn resolve<'v>(
    selector: &Selector,
    pool: &[&'v KnownSnapshot],
    numbers: &[(String, u64)],
    names: &[String],
) -> Result<std::result::Result<&'v KnownSnapshot, SelectorError>> {
    let among = |some: &[&'v KnownSnapshot]| {
        let summaries: Vec<Summary> = some.iter().map(|s| Summary::from(*s)).collect();
        selector.resolve(&summaries).map(|place| some[place])
    };
    if numbers.is_empty() {
        return Ok(among(pool));
    }
    let all = |s: &&&KnownSnapshot| numbers.iter().all(|(_, number)| holds(s, *number));
    let narrowed: Vec<&KnownSnapshot> = pool.iter().filter(all).copied().collect();
    let each = || numbers.iter().all(|(_, number)| pool.iter().any(|s| holds(s, *number)));
    if narrowed.is_empty() && each() {
        let what = format!("no snapshot holds all of {}", names.join(", "));
        return Err(OpError::new(Class::NotFound, what)
            .hint("name them one by one: of each the newest snapshot that holds it is taken"));
    }
    Ok(match among(&narrowed) {
        Err(_) if narrowed.is_empty() || selector.is_definite() => among(pool),
        Err(SelectorError::NotFound { text, there }) => {
            let there = format!("{there}, of those that hold {}", names.join(", "));
            Err(SelectorError::NotFound { text, there })
        }
        found => found,
    })
}

/// A word that is no id may well be a tag.
fn tag_of_that_name(vault: &Vault, text: &str) -> Option<OpError> {
    vault.snapshots().find(|s| s.tags.contains(text))?;
    let what = format!("{text:?} names no snapshot");
    Some(OpError::new(Class::Usage, what).hint(format!("it is a tag: name it as tag:{text}")))
}

/// When the record that was named is there but damaged, that is the answer, not "not found".
fn damaged_of_that_name(vault: &Vault, text: &str) -> Option<OpError> {
    let prefix = format!("snapshots/{text}");
    let bad = vault.bad.iter().find(|b| text.len() >= 4 && b.key.starts_with(&prefix))?;
    let error = OpError::new(Class::Damage, format!("{} cannot be used", bad.key)).because(bad.why.clone());
    Some(if bad.too_new { error.hint("a newer backstay wrote it; upgrade this one") } else { error })
}

fn refuse_broken(vault: &Vault, hosts: &[HostId]) -> Result<()> {
    let mut why = breaks_of(vault, hosts);
    let newer = vault.bad.iter().any(|bad| bad.too_new);
    if why.is_empty() && !newer {
        return Ok(());
    }
    let what = if why.is_empty() {
        "there are newer documents in this store than this backstay understands, so it cannot say which snapshot is the latest"
    } else {
        "the history in this store is not whole, so nobody can say which snapshot is the latest"
    };
    // Very often the two have one cause, and this is the one that can be looked at.
    why.extend(vault.bad.iter().map(|bad| format!("{} cannot be used: {}", bad.key, bad.why)));
    let hint = if newer {
        "a newer backstay wrote some of it: upgrade this one; or name a snapshot by its id"
    } else {
        "`backstay list` shows what is there; name a snapshot by its id to use it all the same. What is lost for good, or forked, is accepted with `backstay settle`"
    };
    Err(OpError::new(Class::Damage, what).because(why.join("; ")).hint(hint))
}

/// When there is no snapshot to choose from, but there are documents that cannot be used, these are the answer.
fn none_left(vault: &Vault) -> Option<OpError> {
    let bad: Vec<String> = vault.bad.iter().map(|bad| format!("{}: {}", bad.key, bad.why)).collect();
    let what = "no snapshot in this store can be used";
    (!bad.is_empty()).then(|| OpError::new(Class::Damage, what).because(bad.join("; ")))
}

fn refuse_unfit(found: &KnownSnapshot, accept_untrusted: bool) -> Result<()> {
    let id = &found.record.snapshot;
    if let Some(reason) = &found.void {
        return Err(OpError::new(Class::Damage, format!("snapshot {id} is void: {reason}")));
    }
    match &found.trusted {
        Trust::Trusted => Ok(()),
        Trust::Untrusted(_) if accept_untrusted => Ok(()),
        Trust::Untrusted(why) => {
            Err(OpError::new(Class::Damage, format!("snapshot {id} is not trusted: {why}")).hint(
                "whoever made it could have put anything in it; --accept-untrusted uses it all the same",
            ))
        }
    }
}

fn selector_error(error: SelectorError) -> OpError {
    let class = match error {
        SelectorError::NotFound { .. } => Class::NotFound,
        _ => Class::Usage,
    };
    let hint = match error {
        SelectorError::Ambiguous { .. } => "give more characters of the id",
        _ => "`backstay list` shows the snapshots, `backstay --help` how they can be named",
    };
    OpError::new(class, error.to_string()).hint(hint)
}

/// Names that were given, each once: who names one twice means it once.
pub(crate) fn each_once(names: &[String]) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for name in names {
        if !once.contains(name) {
            once.push(name.clone());
        }
    }
    once
}

/// The component called `name`.
pub fn component<'i>(index: &'i Index, name: &str) -> Result<&'i IndexComponent> {
    index.component(name).ok_or_else(|| {
        let names: Vec<&str> = index.components.iter().map(|c| c.name.as_str()).collect();
        OpError::new(
            Class::NotFound,
            format!("there is no component {name:?} in snapshot {}", index.header.snapshot),
        )
        .hint(format!("there are: {}; a path of this machine begins with ./ or /", names.join(", ")))
    })
}

/// Turns PATH arguments into selections, one for each component; all components when there are none.
pub fn paths(session: &Session, index: &Index, args: &[String]) -> Result<Vec<Selection>> {
    if args.is_empty() {
        let all =
            index.components.iter().map(|c| Selection { component: c.name.to_string(), paths: Vec::new() });
        return Ok(all.collect());
    }
    let mut selections: Vec<Selection> = Vec::new();
    for arg in args {
        let (name, path) = path(session, index, arg)?;
        match selections.iter_mut().find(|s| s.component == name) {
            None => selections.push(Selection { component: name, paths: path.into_iter().collect() }),
            Some(selection) => match path {
                Some(path) if !selection.paths.is_empty() => selection.paths.push(path),
                _ => selection.paths.clear(),
            },
        }
    }
    Ok(selections)
}

/// One PATH argument: `component`, `component/path`, or a path of this machine beginning with `./`, `../` or `/`.
pub fn path(session: &Session, index: &Index, arg: &str) -> Result<(String, Option<RelPath>)> {
    if is_live(arg) {
        return live_path(session, index, Path::new(arg));
    }
    let (name, rest) = arg.split_once('/').unwrap_or((arg, ""));
    let name = component(index, name)?.name.to_string();
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() {
        return Ok((name, None));
    }
    let path = RelPath::new(rest.as_bytes()).map_err(|e| OpError::new(Class::Usage, e.to_string()))?;
    Ok((name, Some(path).filter(|p| !p.is_root())))
}

/// Whether a PATH argument is a path of this machine.
pub fn is_live(arg: &str) -> bool {
    arg.starts_with('/') || arg.starts_with("./") || arg.starts_with("../") || arg == "." || arg == ".."
}

fn live_path(session: &Session, index: &Index, arg: &Path) -> Result<(String, Option<RelPath>)> {
    let absolute = crate::platform::place::tidy(arg)
        .doing(Class::Usage, || format!("{} is not a usable path", arg.display()))?;
    let mut best: Option<(usize, String, Option<RelPath>)> = None;
    for component in &index.components {
        let base = live_base(session, component);
        // The current directory comes without symbolic links, the configuration's perhaps with them.
        let real = base.canonicalize().unwrap_or_else(|_| base.clone());
        let Ok(rest) = absolute.strip_prefix(&base).or_else(|_| absolute.strip_prefix(&real)) else {
            continue;
        };
        let rest = RelPath::new(rest.as_os_str().as_bytes()).ok();
        let fits =
            !component.single || component.segments.first().is_some_and(|s| rest.as_ref() == Some(&s.first));
        let depth = base.components().count() + usize::from(component.single) * 1000;
        if fits && best.as_ref().is_none_or(|b| b.0 < depth) {
            best = Some((depth, component.name.to_string(), rest));
        }
    }
    match best {
        Some((_, name, path)) => Ok((name, path)),
        None => Err(OpError::new(
            Class::NotFound,
            format!("{} lies in no component of this snapshot", absolute.display()),
        )
        .hint("name it as COMPONENT/PATH; `backstay show ID` lists the components")),
    }
}

/// Where a component lies on this machine: where the configuration says, else where it was captured.
pub fn live_base(session: &Session, component: &IndexComponent) -> PathBuf {
    let config = session.config.as_deref();
    let configured = config.and_then(|c| c.components.iter().find(|x| x.name == component.name));
    match configured {
        Some(configured) => crate::ops::layout::base_of(configured, config).0,
        None => PathBuf::from(&component.base),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_selection_wants_what_is_below_and_the_way_there() {
        let selection = Selection { component: "c".into(), paths: vec![p("a/b")] };
        for yes in [".", "a", "a/b", "a/b/c"] {
            assert!(selection.wants(&p(yes)), "{yes}");
        }
        for no in ["b", "a/bc", "a/a"] {
            assert!(!selection.wants(&p(no)), "{no}");
        }
    }

    #[test]
    fn segments_without_anything_wanted_are_not_read() {
        let selection = Selection { component: "c".into(), paths: vec![p("m/n")] };
        assert!(selection.touches(&p("."), &p("a")), "the root is on the way");
        assert!(!selection.touches(&p("a"), &p("l/z")));
        assert!(selection.touches(&p("b"), &p("m")), "the parent is on the way");
        assert!(selection.touches(&p("m/a"), &p("m/z")));
        assert!(selection.touches(&p("m/n/1"), &p("m/n/2")));
        assert!(!selection.touches(&p("m/o"), &p("z")));
    }
}
