//! Versions of paths over all snapshots. Segments that several snapshots share are read once: an object's name says what is in it.

mod pattern;

use crate::keys::Identities;
use crate::model::chain::KnownSnapshot;
use crate::model::index::{IndexComponent, SegmentRef};
use crate::model::record::SnapshotKind;
use crate::model::{
    ContentHash, HostId, Kind, ObjectId, Problem, ProblemKind, RelPath, SnapshotId, Timestamp,
};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::objects::SnapshotReader;
use crate::ops::restore::known_sources;
use crate::ops::restore::read::chain_text;
use crate::ops::select;
use crate::ops::session::Session;
use crate::ops::sources::Sources;
use crate::ops::vault::{Vault, is_trusted};
use pattern::Pattern;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What to look for.
#[derive(Debug, Clone)]
pub struct FindOptions {
    /// A pattern as in `exclude`, matched against `component/path`; or a path of this machine, beginning with `./` or `/`.
    pub pattern: String,
    /// Only in these components; in all when empty.
    pub only: Vec<String>,
}

/// One content of a path.
#[derive(Debug, Clone, Serialize)]
pub struct Version {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Length in bytes.
    pub size: u64,
    /// Hash of the bytes that are no holes.
    pub hash: Option<ContentHash>,
    /// Where a link points.
    pub target: Option<String>,
    /// Modification time in the newest of its snapshots: seconds since 1970, nanoseconds.
    pub mtime: (i64, u32),
    /// When the newest of its snapshots was made.
    pub newest: Timestamp,
    /// When the oldest was.
    pub oldest: Timestamp,
    /// The snapshots that hold it, newest first.
    pub snapshots: Vec<SnapshotId>,
}

/// A path and its versions.
#[derive(Debug, Clone, Serialize)]
pub struct FoundPath {
    /// Id of the host.
    pub host: HostId,
    /// The host's name.
    pub hostname: String,
    /// Its component.
    pub component: String,
    /// `component/path`, control characters escaped.
    pub path: String,
    /// The newest snapshot that holds the component does not hold it.
    pub gone: bool,
    /// Newest first; each content once.
    pub versions: Vec<Version>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct FindReport {
    /// What was looked for.
    pub pattern: String,
    /// How many snapshots were looked through.
    pub snapshots: u64,
    /// How many listings were read for it.
    pub listings: u64,
    /// Paths, in order.
    pub paths: Vec<FoundPath>,
    /// Breaks in the history of these hosts.
    pub history: Vec<String>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// So many indexes are read at once: a store with latency answers them together.
const INDEXES: usize = 16;
/// So many are kept before what matters of them is taken out: those of a large tree name thousands of listings each.
const AT_ONCE: usize = 4 * INDEXES;
/// So many listings: each may take tens of megabytes while it is looked through.
const LISTINGS: usize = 4;

/// What is read of one snapshot, apart from its listings.
struct Looked<'v> {
    known: &'v KnownSnapshot,
    hostname: String,
    /// Components that it holds, with the listings that may hold something: places among all listings.
    components: Vec<(String, Vec<usize>)>,
}

/// A listing that some snapshots share.
struct Listing<'v> {
    of: &'v KnownSnapshot,
    component: Arc<IndexComponent>,
    reference: SegmentRef,
}

/// One path in a listing.
struct Hit {
    path: RelPath,
    kind: Kind,
    size: u64,
    hash: Option<ContentHash>,
    target: Option<Vec<u8>>,
    mtime: (i64, u32),
}

/// Finds versions.
pub fn find(session: &Session, options: &FindOptions) -> Result<FindReport> {
    let vault = session.read_vault()?;
    let identities = session.identities_needed()?;
    let hosts = select::hosts(session, &vault)?;
    let mut known: Vec<&KnownSnapshot> = vault
        .snapshots()
        .filter(|s| is_trusted(s) && s.is_usable() && hosts.contains(&s.record.host))
        .filter(|s| s.record.kind != SnapshotKind::Partial)
        .collect();
    known.sort_by(|a, b| b.record.started.cmp(&a.record.started).then(b.record.number.cmp(&a.record.number)));
    let search = Search { session, vault: &vault, identities: &identities, options };
    let mut problems = Vec::new();
    let pattern = search.pattern(&known)?;
    let (looked, listings) = search.indexes(&known, &pattern, &mut problems)?;
    let hits = search.hits(&listings, &pattern, &mut problems)?;
    let paths = assemble(&looked, &hits);
    if paths.is_empty() && problems.is_empty() {
        let what = format!("nothing in {} snapshots matches {:?}", looked.len(), options.pattern);
        return Err(OpError::new(Class::NotFound, what)
            .hint("a pattern is matched against COMPONENT/PATH, as in `exclude`: '*.env' matches names in every folder"));
    }
    problems.extend(session.troubles());
    Ok(FindReport {
        pattern: options.pattern.clone(),
        snapshots: looked.len() as u64,
        listings: listings.len() as u64,
        paths,
        history: select::breaks_of(&vault, &hosts),
        problems,
    })
}

struct Search<'a> {
    session: &'a Session,
    vault: &'a Vault,
    identities: &'a Identities,
    options: &'a FindOptions,
}

impl<'a> Search<'a> {
    fn sources(&self, known: &KnownSnapshot) -> Sources {
        known_sources(self.session, self.vault, known)
    }

    /// A path of this machine is looked up in the newest snapshot that can be read; it may have moved between components before.
    fn pattern(&self, known: &[&KnownSnapshot]) -> Result<Pattern> {
        let text = &self.options.pattern;
        if !pattern::is_live(text) {
            return Pattern::parse(text);
        }
        let mut last = None;
        for known in known {
            let sources = self.sources(known);
            let reader =
                SnapshotReader { store: &sources, record: &known.record, identities: self.identities };
            match reader.index().and_then(|index| select::path(self.session, &index, text)) {
                Ok((component, path)) => return Ok(Pattern::exact(component, path)),
                Err(e) => last = last.or(Some(e)),
            }
        }
        Err(last.unwrap_or_else(|| OpError::new(Class::NotFound, "there is no snapshot to look in")))
    }

    fn wants(&self, component: &str) -> bool {
        self.options.only.is_empty() || self.options.only.iter().any(|name| name == component)
    }

    /// Reads every index, and tells the listings apart.
    fn indexes(
        &self,
        known: &[&'a KnownSnapshot],
        pattern: &Pattern,
        problems: &mut Vec<Problem>,
    ) -> Result<(Vec<Looked<'a>>, Vec<Listing<'a>>)> {
        let (mut looked, mut listings) = (Vec::new(), Vec::new());
        let mut places: HashMap<(String, ObjectId), usize> = HashMap::new();
        for known in known.chunks(AT_ONCE) {
            let read = at_once(INDEXES, known, |known| {
                self.session.around.interrupt.check()?;
                let sources = self.sources(known);
                SnapshotReader { store: &sources, record: &known.record, identities: self.identities }.index()
            });
            for (known, index) in known.iter().zip(read) {
                let Some(index) = pass_over(index, &known.record.snapshot, problems)? else { continue };
                let hostname = index.header.hostname.clone();
                let wanted = index.components.into_iter().filter(|component| {
                    let name = component.name.as_str();
                    self.wants(name) && pattern.may_be_in(name)
                });
                let components =
                    wanted.map(|c| held_by(known, c, pattern, &mut places, &mut listings)).collect();
                looked.push(Looked { known, hostname, components });
            }
        }
        Ok((looked, listings))
    }

    /// Reads each listing once and keeps what matches.
    fn hits(
        &self,
        listings: &[Listing<'_>],
        pattern: &Pattern,
        problems: &mut Vec<Problem>,
    ) -> Result<Vec<Vec<Hit>>> {
        let read = at_once(LISTINGS, listings, |listing| {
            self.session.around.interrupt.check()?;
            let sources = self.sources(listing.of);
            let record = &listing.of.record;
            let reader = SnapshotReader { store: &sources, record, identities: self.identities };
            let segment = reader.segment(&listing.component, &listing.reference)?;
            let name = listing.component.name.as_str();
            let wanted = |e: &crate::model::Entry| e.kind != Kind::Left && pattern.matches(name, e);
            let hit = |e: crate::model::Entry| Hit {
                path: e.path,
                kind: e.kind,
                size: e.size,
                hash: e.hash,
                target: e.target.map(Vec::from),
                mtime: e.mtime,
            };
            Ok(segment.entries.into_iter().filter(wanted).map(hit).collect::<Vec<Hit>>())
        });
        let mut hits = Vec::with_capacity(listings.len());
        for (listing, read) in listings.iter().zip(read) {
            hits.push(pass_over(read, &listing.of.record.snapshot, problems)?.unwrap_or_default());
        }
        Ok(hits)
    }
}

/// The listings of a component that may hold something: their places among all, to which new ones are added.
fn held_by<'a>(
    of: &'a KnownSnapshot,
    mut component: IndexComponent,
    pattern: &Pattern,
    places: &mut HashMap<(String, ObjectId), usize>,
    listings: &mut Vec<Listing<'a>>,
) -> (String, Vec<usize>) {
    let name = component.name.to_string();
    let segments = std::mem::take(&mut component.segments);
    let component = Arc::new(component);
    let mut held = Vec::new();
    for reference in segments.into_iter().filter(|s| pattern.touches(s)) {
        let place = *places.entry((name.clone(), reference.object)).or_insert_with(|| {
            listings.push(Listing { of, component: Arc::clone(&component), reference });
            listings.len() - 1
        });
        held.push(place);
    }
    (name, held)
}

/// What is damaged is said and passed over; whatever else fails ends the search.
fn pass_over<T>(read: Result<T>, snapshot: &SnapshotId, problems: &mut Vec<Problem>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(e) if e.class == Class::Damage => {
            let (subject, what) = (format!("snapshot {snapshot}"), chain_text(&e));
            let hint = Some("what only this snapshot holds may be missing in the list".to_owned());
            problems.push(Problem { kind: ProblemKind::Damaged, component: None, subject, what, hint });
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Does `each` for all of `things` in so many threads; what it gives is in their order.
fn at_once<I: Sync, T: Send>(
    threads: usize,
    things: &[I],
    each: impl Fn(&I) -> Result<T> + Sync,
) -> Vec<Result<T>> {
    let share = things.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let each = &each;
        let threads: Vec<_> = things
            .chunks(share)
            .map(|things| scope.spawn(move || things.iter().map(each).collect::<Vec<_>>()))
            .collect();
        let gone =
            || OpError::new(Class::Failed, "internal: a reading thread ended before its work was done");
        threads
            .into_iter()
            .zip(things.chunks(share))
            .flat_map(|(thread, things)| {
                thread.join().unwrap_or_else(|_| things.iter().map(|_| Err(gone())).collect())
            })
            .collect()
    })
}

/// Content by which versions are told apart.
type Content<'h> = (Kind, u64, Option<ContentHash>, Option<&'h [u8]>);

/// A version under way: what it is, and the listings that hold it.
struct Draft<'h> {
    content: Content<'h>,
    /// The newest snapshot that holds it, by place, and its time there.
    newest: usize,
    mtime: (i64, u32),
    listings: Vec<usize>,
}

/// Puts versions together: listings are gone through once, however many snapshots share them.
fn assemble(looked: &[Looked<'_>], hits: &[Vec<Hit>]) -> Vec<FoundPath> {
    // By host and component: the snapshots that hold each listing, newest first.
    let mut holders: BTreeMap<(HostId, &str), BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
    let mut newest: HashMap<(HostId, &str), usize> = HashMap::new();
    for (place, snapshot) in looked.iter().enumerate() {
        for (component, listings) in &snapshot.components {
            let key = (snapshot.known.record.host, component.as_str());
            newest.entry(key).or_insert(place);
            let held = holders.entry(key).or_default();
            listings.iter().for_each(|listing| held.entry(*listing).or_default().push(place));
        }
    }
    let mut found = Vec::new();
    for ((host, component), held) in &holders {
        let newest = newest.get(&(*host, *component)).copied().unwrap_or(0);
        for (path, mut drafts) in drafts(held, hits) {
            drafts.sort_by_key(|draft| draft.newest);
            let gone = drafts.first().is_none_or(|draft| draft.newest != newest);
            let full = if path.is_root() { format!("{component}/") } else { format!("{component}/{path}") };
            found.push(FoundPath {
                host: *host,
                hostname: looked[newest].hostname.clone(),
                component: (*component).to_owned(),
                path: full,
                gone,
                versions: drafts.iter().filter_map(|draft| version(draft, held, looked)).collect(),
            });
        }
    }
    found
}

fn drafts<'h>(
    held: &BTreeMap<usize, Vec<usize>>,
    hits: &'h [Vec<Hit>],
) -> BTreeMap<&'h RelPath, Vec<Draft<'h>>> {
    let mut paths: BTreeMap<&RelPath, Vec<Draft<'_>>> = BTreeMap::new();
    for (listing, snapshots) in held {
        let Some(&newest) = snapshots.first() else { continue };
        for hit in hits.get(*listing).map_or(&[][..], Vec::as_slice) {
            let content = (hit.kind, hit.size, hit.hash, hit.target.as_deref());
            let drafts = paths.entry(&hit.path).or_default();
            match drafts.iter_mut().find(|draft| draft.content == content) {
                Some(draft) => {
                    draft.listings.push(*listing);
                    if newest < draft.newest {
                        (draft.newest, draft.mtime) = (newest, hit.mtime);
                    }
                }
                None => {
                    drafts.push(Draft { content, newest, mtime: hit.mtime, listings: vec![*listing] });
                }
            }
        }
    }
    paths
}

fn version(draft: &Draft<'_>, held: &BTreeMap<usize, Vec<usize>>, looked: &[Looked<'_>]) -> Option<Version> {
    let mut places: Vec<usize> =
        draft.listings.iter().filter_map(|listing| held.get(listing)).flatten().copied().collect();
    places.sort_unstable();
    places.dedup();
    let record = |place: &usize| &looked[*place].known.record;
    let (kind, size, hash, target) = draft.content;
    Some(Version {
        kind,
        size,
        hash,
        target: target.map(crate::model::path::escape),
        mtime: draft.mtime,
        newest: record(places.first()?).started,
        oldest: record(places.last()?).started,
        snapshots: places.iter().map(|place| record(place).snapshot.clone()).collect(),
    })
}
