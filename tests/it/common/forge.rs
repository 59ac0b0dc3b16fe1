//! Makes records and listings that no honest program would, sealed and signed as if one had.

use crate::lab::{Lab, put};
use backstay::archive::payload::seal_all;
use backstay::archive::{open_manifest, seal_manifest};
use backstay::keys::{Signer, seal_document};
use backstay::model::document::{self, namespace};
use backstay::model::index::Index;
use backstay::model::mark::Mark;
use backstay::model::{ObjectId, ObjectKind, ObjectRef, Record, RelPath, SnapshotId};
use backstay::store::Key;
use serde_json::Value;
use std::fs;

/// A lab with a small vault of two snapshots.
pub(crate) struct Forge {
    pub(crate) lab: Lab,
    pub(crate) ids: [String; 2],
}

impl Forge {
    pub(crate) fn new() -> Self {
        let project = |dir: &std::path::Path| {
            put(&dir.join("app/a"), b"first");
            put(&dir.join("app/b/c"), b"second");
            put(&dir.join("conf/x"), b"third");
        };
        let components =
            "component = [{ name = \"app\", path = \"app\" }, { name = \"conf\", path = \"conf\" }]";
        let lab = Lab::new(project, components);
        put(&lab.path("canary/file"), b"canary");
        put(&lab.path("canary/sub/file"), b"canary, too");
        let first = lab.backup();
        put(&lab.path("project/app/a"), b"changed");
        // It stands alone: what is forged in it is in no other, and its verdict is the only entry after it.
        let second = lab.backup_settled(&["--full"])["snapshot"].as_str().unwrap().to_owned();
        Self { lab, ids: [first, second] }
    }

    /// The highest entry of `signer` in the store.
    pub(crate) fn head(&self, signer: &Signer) -> Option<(u64, ObjectId)> {
        let entry = |key: &Key| {
            let bytes = fs::read(self.lab.object(key)).ok()?;
            let (line, _) = document::split(&bytes)?;
            let value: Value = serde_json::from_slice(line).ok()?;
            let own = value["signer"] == signer.id().to_string();
            own.then(|| Some((value["number"].as_u64()?, ObjectId::of(line)))).flatten()
        };
        let documents = |key: &Key| matches!(key, Key::Record(_) | Key::Mark(..));
        self.lab.keys().iter().filter(|key| documents(key)).filter_map(entry).max()
    }

    /// A copy of the newest record as what `signer` says next: its id is new, its objects are those of the old one.
    pub(crate) fn next(&self, signer: &Signer, seed: u8) -> Record {
        let mut record = self.lab.record(&self.ids[1]);
        let head = self.head(signer);
        record.signer = signer.id();
        record.number = head.map_or(1, |(number, _)| number + 1);
        record.previous = head.map(|(_, hash)| hash);
        record.snapshot = SnapshotId::new(record.started, [seed; 5]);
        record
    }

    /// Puts a manifest object of `content`, and lists it in `record` instead of `old`.
    pub(crate) fn put_manifest(&self, record: &mut Record, old: &ObjectId, content: &[u8]) -> ObjectRef {
        let (_, bytes) = seal_manifest(content, &self.lab.recipients()).unwrap();
        self.put_object(record, old, &bytes)
    }

    /// The same with frames that are given: zstd as no packer makes it.
    pub(crate) fn put_frames(&self, record: &mut Record, old: &ObjectId, frames: &[u8]) -> ObjectRef {
        let bytes = seal_all(frames, &self.lab.recipients()).unwrap();
        self.put_object(record, old, &bytes)
    }

    /// Puts an object, and lists it in `record` instead of `old`.
    pub(crate) fn put_object(&self, record: &mut Record, old: &ObjectId, bytes: &[u8]) -> ObjectRef {
        let place = record.objects.iter().position(|o| o.id == *old).unwrap();
        let (id, size) = (ObjectId::of(bytes), bytes.len() as u64);
        let object = ObjectRef { id, size, ..record.objects[place] };
        put(&self.lab.object(&Key::data(object.kind, id)), bytes);
        record.objects[place] = object;
        object
    }

    /// What a manifest object holds.
    pub(crate) fn content(&self, id: &ObjectId) -> Vec<u8> {
        let bytes = fs::read(self.lab.object(&Key::Manifest(*id))).unwrap();
        open_manifest(&bytes, &self.lab.identities()).unwrap()
    }

    pub(crate) fn index(&self, record: &Record) -> Index {
        Index::decode(&self.content(&record.index.unwrap())).unwrap()
    }

    /// Gives `record` an index of its own, changed by `edit`; the record's lines follow.
    pub(crate) fn reindex(&self, record: &mut Record, edit: impl FnOnce(&mut Index)) {
        let mut index = self.index(record);
        (index.header.snapshot, index.header.host) = (record.snapshot.clone(), record.host);
        edit(&mut index);
        for (line, component) in record.components.iter_mut().zip(&index.components) {
            (line.size, line.entries) = (component.size, component.entries);
        }
        let old = record.index.unwrap();
        record.index = Some(self.put_manifest(record, &old, &index.encode().unwrap()).id);
    }

    /// Gives `record` another listing of `app`, whose lines (header and entries) `edit` changed, and an index that leads there.
    pub(crate) fn relist(&self, record: &mut Record, edit: impl FnOnce(&mut Vec<Value>)) {
        let segment = self.index(record).components[0].segments[0].clone();
        let text = String::from_utf8(self.content(&segment.object)).unwrap();
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        edit(&mut lines);
        let object = self.put_manifest(record, &segment.object, &joined(&lines));
        let path = |line: Option<&Value>| RelPath::new(line?["path"].as_str()?.as_bytes()).ok();
        self.reindex(record, |index| {
            let component = &mut index.components[0];
            let reference = &mut component.segments[0];
            (reference.object, reference.size) = (object.id, object.size);
            reference.entries = lines.len() as u64 - 1;
            reference.first = path(lines.get(1)).unwrap_or_else(RelPath::root);
            let last = path(lines.last()).filter(|last| *last >= reference.first);
            reference.last = last.unwrap_or_else(|| reference.first.clone());
            component.entries = component.segments.iter().map(|s| s.entries).sum();
        });
    }

    /// Signs `record` and puts it under its own name.
    pub(crate) fn put_record(&self, record: &Record, signer: &Signer) -> ObjectId {
        let (bytes, hash) = seal_document(record, signer, namespace::RECORD).unwrap();
        put(&self.lab.object(&Key::Record(record.snapshot.clone())), &bytes);
        hash
    }

    /// Signs a line as if it were a record, whatever it says, and puts it under the name of `id`; gives its key.
    pub(crate) fn put_line(&self, id: &SnapshotId, value: &Value, signer: &Signer, namespace: &str) -> Key {
        let line = document::line_of(value).unwrap();
        let signature = signer.sign(namespace, &line).unwrap();
        let key = Key::Record(id.clone());
        put(&self.lab.object(&key), &document::join(&line, &signature));
        key
    }

    pub(crate) fn put_mark(&self, mark: &Mark, signer: &Signer) -> Key {
        let (bytes, _) = seal_document(mark, signer, namespace::MARK).unwrap();
        let key = Key::Mark(mark.signer, mark.number);
        put(&self.lab.object(&key), &bytes);
        key
    }

    /// The first archive that `record` lists.
    pub(crate) fn archive(record: &Record) -> ObjectRef {
        *record.objects.iter().find(|o| o.kind == ObjectKind::Archive).unwrap()
    }
}

/// JSON lines.
pub(crate) fn joined(lines: &[Value]) -> Vec<u8> {
    lines.iter().flat_map(written).collect()
}

/// As the program writes it: the path of an entry comes first, and who looks for another passes it over.
fn written(line: &Value) -> Vec<u8> {
    let mut rest = line.clone();
    match rest.as_object_mut().and_then(|entry| entry.remove("path")) {
        Some(path) => format!("{{\"path\":{path},{}\n", &rest.to_string()[1..]).into_bytes(),
        None => document::line_of(line).unwrap(),
    }
}
