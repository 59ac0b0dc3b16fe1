//! `tag`, `note`, `milestone`, `delete`: what is said about a snapshot later. Each is a signed mark in every store; nothing is deleted here.

use crate::archive::payload::seal_all;
use crate::keys::RecipientSet;
use crate::model::chain::KnownSnapshot;
use crate::model::mark::{Role, Statement, Target};
use crate::model::retention::{Held, Scene, decide};
use crate::model::{HostId, Problem, SnapshotId, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::marks::Marks;
use crate::ops::prune::announced_in;
use crate::ops::select;
use crate::ops::session::Session;
use crate::ops::space;
use crate::ops::union::{self, store_problem};
use crate::ops::vault::{Vault, is_trusted};
use data_encoding::BASE64;
use serde::Serialize;

/// A tag is public; longer ones are sentences.
pub const TAG_BYTES_MAX: usize = 128;
/// A note is for people.
const NOTE_BYTES_MAX: usize = 64 << 10;

/// What is to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saying {
    /// These tags come, or go.
    Tag {
        /// Which.
        tags: Vec<String>,
        /// They go.
        remove: bool,
    },
    /// This takes the place of the note; an empty one takes it away.
    Note(String),
    /// A milestone, or no longer one.
    Milestone(bool),
    /// A milestone, if the snapshot stands alone; else it is refused.
    MilestoneAlone,
}

/// A snapshot that something was said about.
#[derive(Debug, Clone, Serialize)]
pub struct MarkedSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its host.
    pub host: HostId,
    /// When it was made.
    pub started: Timestamp,
    /// Its tags now.
    pub tags: Vec<String>,
    /// Whether it is a milestone now.
    pub milestone: bool,
    /// Why it cannot go, where it was asked to.
    pub stays_because: Option<String>,
}

/// What was said.
#[derive(Debug, Clone, Serialize)]
pub struct MarkReport {
    /// About these.
    pub snapshots: Vec<MarkedSnapshot>,
    /// Trouble with stores.
    pub problems: Vec<Problem>,
}

/// Fails when `tag` cannot be one.
pub fn check_tag(tag: &str) -> Result<()> {
    if tag.is_empty() || tag.len() > TAG_BYTES_MAX || tag.chars().any(char::is_control) {
        return Err(OpError::new(Class::Usage, format!("{tag:?} cannot be a tag"))
            .hint("a tag has 1 to 128 bytes and no control characters; tags are public"));
    }
    Ok(())
}

/// Says `saying` about the snapshot that `text` means, in every store.
pub fn say(session: &Session, text: &str, saying: &Saying) -> Result<MarkReport> {
    let command = match saying {
        Saying::Tag { tags, .. } => {
            tags.iter().try_for_each(|tag| check_tag(tag))?;
            "tag"
        }
        Saying::Note(_) => "note",
        Saying::Milestone(_) | Saying::MilestoneAlone => "milestone",
    };
    let mut marks = Marks::open(session, command)?;
    let known = select::snapshot(session, marks.vault(), text, false)?.clone();
    let host = known.record.host;
    match saying {
        // Only `prune` ends a milestone: it is what keeps a host from letting its own past go.
        Saying::Milestone(false) => marks.need_role(Role::Prune)?,
        _ => marks.need(&host, Role::Prune)?,
    }
    match saying {
        Saying::Tag { tags, remove: true } => has_one(session, &known, tags)?,
        Saying::MilestoneAlone => stands_alone(marks.vault(), &known)?,
        _ => {}
    }
    let prunes = marks.need_role(Role::Prune).is_ok();
    let target = Target { snapshot: known.record.snapshot.clone(), record: known.hash };
    let statement = statement(session, saying, target)?;
    marks.put(vec![statement])?;
    let mut row = row(&known);
    match saying {
        Saying::Tag { tags, remove: false } => row.tags.extend(tags.iter().cloned()),
        Saying::Tag { tags, remove: true } => {
            row.tags.retain(|tag| !tags.contains(tag));
            if !prunes {
                session.note("tags that a pruner added stay: only a key with the role prune takes them away");
            }
        }
        Saying::Milestone(on) => row.milestone = *on,
        Saying::MilestoneAlone => row.milestone = true,
        Saying::Note(_) => {}
    }
    row.tags.sort();
    row.tags.dedup();
    too_late(&marks, &known)?;
    Ok(MarkReport { snapshots: vec![row], problems: marks.session().troubles() })
}

/// A tag that is mistyped takes nothing away, and nobody should think that it did.
fn has_one(session: &Session, known: &KnownSnapshot, tags: &[String]) -> Result<()> {
    let unknown: Vec<String> =
        tags.iter().filter(|tag| !known.tags.contains(*tag)).map(|tag| format!("{tag:?}")).collect();
    let what = format!("snapshot {} has no tag {}", known.record.snapshot, unknown.join(", "));
    if unknown.len() < tags.len() {
        if !unknown.is_empty() {
            session.note(&what);
        }
        return Ok(());
    }
    let tags: Vec<&str> = known.tags.iter().map(String::as_str).collect();
    let mut hint =
        if tags.is_empty() { "it has none".to_owned() } else { format!("its tags: {}", tags.join(", ")) };
    // It may be gone, and a store that was away not know yet: to remove it once more is not what helps there.
    if session.config()?.stores.len() > 1 {
        hint += "; a store that is behind learns of earlier marks by `backstay sync`";
    }
    Err(OpError::new(Class::NotFound, what).hint(hint))
}

/// Fails unless all that the snapshot holds was packed for it. Its record says so, under a signature, so no identity is needed.
fn stands_alone(vault: &Vault, known: &KnownSnapshot) -> Result<()> {
    if known.record.alone {
        return Ok(());
    }
    let id = &known.record.snapshot;
    let needed: Vec<u64> =
        space::dependencies(vault, &known.record).iter().map(|on| on.archives).filter(|n| *n > 0).collect();
    let how = match needed.iter().sum::<u64>() {
        // Records that were deleted tell nothing, and none says what an archive holds beyond its listing.
        0 => "it was packed with snapshots that are gone, or something could not be read to its end while it was packed".to_owned(),
        1 => "what it holds was packed with earlier snapshots, and it needs an archive of one of them".to_owned(),
        archives => format!(
            "what it holds was packed with earlier snapshots, and it needs {archives} archives of {} of them",
            needed.len()
        ),
    };
    let what = format!("snapshot {id} does not stand alone, and cannot be made to");
    Err(OpError::new(Class::Usage, what)
        .because(format!("{how}; one that stands alone is packed from the live files, which may be others by now"))
        .hint(format!(
            "`backstay milestone --standalone` makes one now; `backstay milestone {id}` keeps this one with all that it needs; nothing was marked"
        )))
}

fn statement(session: &Session, saying: &Saying, target: Target) -> Result<Statement> {
    Ok(match saying {
        Saying::Tag { tags, remove: false } => {
            Statement::Tag { target, add: select::each_once(tags), remove: Vec::new() }
        }
        Saying::Tag { tags, remove: true } => {
            Statement::Tag { target, add: Vec::new(), remove: select::each_once(tags) }
        }
        Saying::Milestone(on) => Statement::Milestone { target, on: *on },
        Saying::MilestoneAlone => Statement::Milestone { target, on: true },
        Saying::Note(note) => Statement::Note { target, sealed: sealed(session, note)? },
    })
}

/// A note is never public: it is sealed to the recipients of the configuration.
fn sealed(session: &Session, note: &str) -> Result<String> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(OpError::new(Class::Usage, "the note is longer than 64 KiB")
            .hint("a note is a few lines for people; put a document into a component"));
    }
    let recipients = &session.config()?.encryption.recipients;
    if recipients.is_empty() {
        return Err(OpError::new(
            Class::Config,
            "a note is sealed, and this configuration names no recipient",
        )
        .hint("add [encryption] recipients, or write the note on a host that makes snapshots"));
    }
    let recipients = RecipientSet::parse(recipients)
        .doing(Class::Config, || "a recipient in the configuration cannot be used".into())?;
    let sealed =
        seal_all(note.as_bytes(), &recipients).doing(Class::Failed, || "cannot seal the note".into())?;
    Ok(BASE64.encode(&sealed))
}

/// A mark that came when a prune had announced the snapshot may have come too late: nobody can know from here.
fn too_late(marks: &Marks, known: &KnownSnapshot) -> Result<()> {
    for view in &marks.vault().views {
        if announced_in(view)?.contains(&known.hash) {
            let what = format!(
                "a prune had announced that snapshot {} goes from there, and may be deleting it just now",
                known.record.snapshot
            );
            let hint = "look again with `backstay list` when that prune is over: if the snapshot is still there, it stays";
            marks.session().trouble(store_problem(view.store.name(), what, hint));
        }
    }
    Ok(())
}

/// What `delete` would do: each snapshot with why it cannot go, where it cannot.
pub fn plan_delete(session: &Session, texts: &[String]) -> Result<MarkReport> {
    let all = session.with_all_stores()?;
    let union = union::read(&all)?;
    let rows = deletions(session, &union.vault, texts)?;
    Ok(MarkReport { snapshots: rows.into_iter().map(|(row, _)| row).collect(), problems: all.troubles() })
}

/// Asks for snapshots to go; the next prune announces them, and one when the grace is over deletes them. All of them, or none.
pub fn delete(session: &Session, texts: &[String]) -> Result<MarkReport> {
    let mut marks = Marks::open(session, "delete")?;
    marks.need_role(Role::Prune)?;
    let rows = deletions(session, marks.vault(), texts)?;
    if let Some((row, why)) = rows.iter().find_map(|(row, _)| Some((row, row.stays_because.as_ref()?))) {
        let what = format!("snapshot {} cannot be deleted: {why}", row.id);
        let hint = match row.milestone {
            true => "`backstay milestone ID --remove` ends a milestone; nothing was marked",
            false => "`backstay prune --dry-run` shows what each snapshot is kept for; nothing was marked",
        };
        return Err(OpError::new(Class::Failed, what).hint(hint));
    }
    marks.put(rows.iter().map(|(_, target)| Statement::Delete(target.clone())).collect())?;
    let snapshots = rows.into_iter().map(|(row, _)| row).collect();
    Ok(MarkReport { snapshots, problems: marks.session().troubles() })
}

fn row(known: &KnownSnapshot) -> MarkedSnapshot {
    MarkedSnapshot {
        id: known.record.snapshot.clone(),
        host: known.record.host,
        started: known.record.started,
        tags: known.tags.iter().cloned().collect(),
        milestone: known.milestone,
        stays_because: None,
    }
}

fn deletions(session: &Session, vault: &Vault, texts: &[String]) -> Result<Vec<(MarkedSnapshot, Target)>> {
    let mut meant: Vec<&KnownSnapshot> = Vec::new();
    for text in texts {
        let known = select::named(session, vault, text)?;
        if !is_trusted(known) {
            let what = format!(
                "snapshot {} is not trusted, and only what is trusted is ever deleted",
                known.record.snapshot
            );
            return Err(OpError::new(Class::Damage, what).hint("remove its file from the store by hand"));
        }
        if !meant.iter().any(|m| m.hash == known.hash) {
            meant.push(known);
        }
    }
    let target = |s: &KnownSnapshot| Target { snapshot: s.record.snapshot.clone(), record: s.hash };
    let mut rows = Vec::new();
    for known in &meant {
        let stays_because = refusal(session, vault, known, &meant)?;
        rows.push((MarkedSnapshot { stays_because, ..row(known) }, target(known)));
    }
    Ok(rows)
}

/// Why `known` would stay in some store if all of `meant` were asked to go.
fn refusal(
    session: &Session,
    vault: &Vault,
    known: &KnownSnapshot,
    meant: &[&KnownSnapshot],
) -> Result<Option<String>> {
    let config = session.config()?;
    let own = session.signer()?.id();
    let host = known.record.host;
    for view in &vault.views {
        let Some(store) = config.store(view.store.name()) else { continue };
        let mut snapshots: Vec<KnownSnapshot> =
            vault.history.snapshots(&host).iter().filter(|s| view.has(s)).cloned().collect();
        for snapshot in &mut snapshots {
            snapshot.delete_asked |= meant.iter().any(|m| m.hash == snapshot.hash);
        }
        let held: Vec<Held<'_>> = snapshots.iter().map(|known| Held { known, stored: None }).collect();
        let (policy, now) = (config.policy_in(store), session.around.clock.now());
        let others = vault.host_of(&own) != host;
        let decided = decide(&held, &Scene { policy: &policy, instance: &view.info.instance, now, others });
        let stays = decided.decisions.iter().find(|d| d.record == known.hash && d.keep);
        if let Some(decision) = stays {
            let words = decision.because.iter().map(|b| b.reason.to_string()).collect::<Vec<_>>().join("; ");
            return Ok(Some(match vault.views.len() {
                1 => words,
                _ => format!("in store {}: {words}", store.name),
            }));
        }
    }
    Ok(None)
}
