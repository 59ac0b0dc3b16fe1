//! A vault of very many snapshots, signed one after the other as if a host had made them hour by hour, without ten thousand backups.

use backstay::archive::{open_manifest, seal_manifest};
use backstay::keys::{Signer, seal_document};
use backstay::model::document::{self, namespace};
use backstay::model::index::Index;
use backstay::model::mark::{Level, Mark, Statement, Target, Verdict};
use backstay::model::{ObjectId, ObjectKind, ObjectRef, Record, SnapshotId, VaultId};
use backstay::ops::session::Session;
use backstay::store::{Key, Prefix, Store};
use jiff::SignedDuration;

/// Each snapshot refers to so many archives of the ones before, as one does whose archives are packed again now and then.
const OLDER: usize = 24;

/// What a host goes on with.
struct Host<'a> {
    store: &'a dyn Store,
    signer: Signer,
    number: u64,
    previous: ObjectId,
}

impl Host<'_> {
    fn put(&mut self, key: &Key, (bytes, hash): (Vec<u8>, ObjectId)) {
        self.store.put_bytes(key, &bytes).unwrap();
        (self.number, self.previous) = (self.number + 1, hash);
    }

    fn object(&self, kind: ObjectKind, bytes: &[u8]) -> ObjectRef {
        let (id, size) = (ObjectId::of(bytes), bytes.len() as u64);
        self.store.put_bytes(&Key::data(kind, id), bytes).unwrap();
        ObjectRef { kind, size, id, recipients: 0 }
    }
}

fn line_of(document: &[u8]) -> &[u8] {
    document::split(document).unwrap().0
}

/// What the first snapshot needs stays needed.
///
/// After the one snapshot that `session` made: `count` more before now, an hour apart, each with an archive, a listing and an index of its own
/// and a verdict. `store` is the one they are put into.
pub(crate) fn fill(session: &Session, store: &dyn Store, count: usize) {
    let get = |key: &Key| store.get(key, 1 << 24).unwrap();
    let record_key = store.list(Prefix::Records).unwrap().remove(0).key;
    let first = get(&record_key);
    let model: Record = document::parse(line_of(&first), "record").unwrap();
    let last = store.list(Prefix::Marks).unwrap().into_iter().map(|l| l.key);
    let last = last.max_by_key(|key| if let Key::Mark(_, number) = key { *number } else { 0 }).unwrap();
    let last_bytes = get(&last);
    let head: Mark = document::parse(line_of(&last_bytes), "mark").unwrap();
    let info: serde_json::Value = serde_json::from_slice(&get(&Key::Store)).unwrap();
    let instance: VaultId = info["instance"].as_str().unwrap().parse().unwrap();
    let writer = session.writer().unwrap();
    let identities = session.identities().unwrap();
    let index = open_manifest(&get(&Key::Manifest(model.index.unwrap())), &identities).unwrap();
    let index = Index::decode(&index).unwrap();
    let mut host = Host {
        store,
        signer: writer.signer,
        number: head.number + 1,
        previous: ObjectId::of(line_of(&last_bytes)),
    };
    let mut archives: Vec<ObjectRef> = Vec::new();
    for n in 0..count {
        let started = model.finished + SignedDuration::from_hours(n as i64 + 1);
        let mut record = Record { started, finished: started, ..model.clone() };
        record.snapshot = SnapshotId::new(started, (n as u64).to_be_bytes()[3..].try_into().unwrap());
        (record.number, record.previous) = (host.number, Some(host.previous));
        archives.push(host.object(ObjectKind::Archive, format!("archive {n}").as_bytes()));
        let older = archives.len().saturating_sub(OLDER);
        let listing = host.object(ObjectKind::Manifest, format!("listing {n}").as_bytes());
        let mut own = index.clone();
        own.header.snapshot = record.snapshot.clone();
        own.header.note = Some(format!("note {n}"));
        let (_, sealed) = seal_manifest(&own.encode().unwrap(), &writer.recipients).unwrap();
        let sealed = host.object(ObjectKind::Manifest, &sealed);
        record.index = Some(sealed.id);
        let kept = model.objects.iter().copied().filter(|o| Some(o.id) != model.index);
        record.objects = kept.chain(archives[older..].iter().copied()).chain([listing, sealed]).collect();
        let target_key = Key::Record(record.snapshot.clone());
        let document = seal_document(&record, &host.signer, namespace::RECORD).unwrap();
        let target = Target { snapshot: record.snapshot.clone(), record: document.1 };
        host.put(&target_key, document);
        let verdict = Verdict {
            target,
            instance: instance.clone(),
            level: Level::Read,
            began: started,
            good: true,
            covered: vec![(0, record.objects.len() as u64)],
            bad: Vec::new(),
            checks: Vec::new(),
        };
        let mark = Mark {
            number: host.number,
            previous: Some(host.previous),
            time: started,
            statement: Statement::Verdict(verdict),
            ..head.clone()
        };
        let document = seal_document(&mark, &host.signer, namespace::MARK).unwrap();
        host.put(&Key::Mark(mark.signer, mark.number), document);
    }
}
