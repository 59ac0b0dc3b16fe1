//! A second host that writes into the store of a prune, step by step.

use super::*;

/// A second host that writes into the same store, step by step, as the format says.
pub(super) struct Writer {
    pub(super) signer: Signer,
    pub(super) record: Record,
    pub(super) document: Vec<u8>,
    hash: ObjectId,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Begun,
    Refused,
    Put,
    Committed,
    Void,
}

impl Writer {
    /// Wants to commit a snapshot that needs the object `x` and nothing else.
    pub(super) fn new(bench: &Bench, signer: Signer, x: &[u8]) -> Self {
        let info: serde_json::Value =
            serde_json::from_slice(&bench.memory.get(&Key::Store, 1 << 20).unwrap()).unwrap();
        let (now, id) = (bench.now(), ObjectId::of(x));
        let line = ComponentLine {
            number: 9,
            size: 1,
            entries: 1,
            complete: true,
            check: CheckResult::None,
            setup: String::new(),
        };
        let record = Record {
            format: 1,
            needs: Vec::new(),
            doc: "record".into(),
            vault: info["vault"].as_str().unwrap().parse().unwrap(),
            snapshot: SnapshotId::new(now, [9; 5]),
            kind: SnapshotKind::Normal,
            host: HostId::from(signer.id()),
            signer: signer.id(),
            number: 1,
            previous: None,
            started: now,
            finished: now,
            complete: true,
            alone: true,
            components: vec![line],
            recipients: vec![Vec::new()],
            objects: vec![ObjectRef { kind: ObjectKind::Manifest, size: x.len() as u64, id, recipients: 0 }],
            index: Some(id),
            run: None,
            tags: Vec::new(),
            milestone: false,
            agent: "test".into(),
        };
        let (document, hash) = seal_document(&record, &signer, namespace::RECORD).unwrap();
        Self { signer, record, document, hash }
    }

    /// The next step: w1 looks, w2 puts the record, w3 and w4 look again and void.
    pub(super) fn step(&self, store: &MemoryStore, outcome: Outcome) -> Outcome {
        let instance: serde_json::Value =
            serde_json::from_slice(&store.get(&Key::Store, 1 << 20).unwrap()).unwrap();
        let instance = instance["instance"].as_str().unwrap().parse().unwrap();
        let looked = || prove_in(store, &instance, &self.record.objects).unwrap();
        match outcome {
            Outcome::Begun if looked().is_ok() => Outcome::Put,
            Outcome::Begun => Outcome::Refused,
            Outcome::Put => {
                store.put_bytes(&Key::Record(self.record.snapshot.clone()), &self.document).unwrap();
                Outcome::Committed
            }
            Outcome::Committed => match looked() {
                Ok(()) => Outcome::Committed,
                Err(why) => {
                    self.void(store, &why);
                    Outcome::Void
                }
            },
            ended => ended,
        }
    }

    fn void(&self, store: &MemoryStore, why: &str) {
        let target = Target { snapshot: self.record.snapshot.clone(), record: self.hash };
        let mark = Mark {
            format: 1,
            needs: Vec::new(),
            doc: "mark".into(),
            vault: self.record.vault.clone(),
            host: self.record.host,
            signer: self.record.signer,
            number: 2,
            previous: Some(self.hash),
            time: self.record.finished,
            agent: "test".into(),
            statement: Statement::Void { target, instance: None, reason: why.to_owned() },
        };
        let (bytes, _) = seal_document(&mark, &self.signer, namespace::MARK).unwrap();
        store.put_bytes(&Key::Mark(self.record.signer, 2), &bytes).unwrap();
    }
}
