//! A store in a bucket of a server with a script, and its operations with all that must hold after each.

use crate::common::fault_server::{Fault, FaultServer, Manner, Nth, Op};
use crate::common::tls::{Authority, Certificate, Front};
use backstay::bridge::{TestTimer, Timer};
use backstay::model::ObjectId;
use backstay::store::s3::{Checksum, Credentials, S3Spec, S3Store, testing};
use backstay::store::{Key, Prefix, Put, Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Guards end after this part of their time: far beyond what a request on this machine takes.
pub(crate) const CALM: u32 = 20;
/// The same for tests in which a guard is to end.
pub(crate) const HASTE: u32 = 400;

pub(crate) struct Bed {
    pub server: FaultServer,
    pub state: tempfile::TempDir,
    pub timer: Arc<TestTimer>,
    pub interrupted: Arc<AtomicBool>,
    /// What `store` was made from: for another one in its place.
    pub spec: S3Spec,
    pub store: S3Store,
}

/// An operation of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Do {
    PutBytes,
    PutFile,
    /// A file of three parts.
    PutParts,
    Get,
    GetRange,
    ReadBack,
    Head,
    List,
    Delete,
}

const SMALL: usize = 100_000;
const LARGE: usize = (33 << 20) + 5;

/// Bytes that differ everywhere, of this length and kind.
pub(crate) fn bytes(length: usize, kind: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut number = u64::from(kind) << 56;
    while bytes.len() < length {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(Manner::default(), CALM, testing::keys())
    }

    pub(crate) fn with(manner: Manner, faster: u32, keys: Arc<dyn Credentials>) -> Self {
        let timer = Arc::new(TestTimer::new(faster));
        Self { timer: Arc::clone(&timer), ..Self::by(manner, keys, timer) }
    }

    /// A store behind TLS with a good certificate of `authority`.
    pub(crate) fn behind(authority: &Authority) -> (Self, Front) {
        let server = FaultServer::start();
        let front = Front::before(&server.endpoint(), authority, Certificate::Good);
        let timer = Arc::new(TestTimer::new(CALM));
        let change = |spec: &mut S3Spec| {
            spec.endpoint = Some(front.endpoint.clone());
            spec.ca_file = Some(authority.file());
        };
        let bed = Self::made(server, testing::keys(), Arc::clone(&timer) as _, change);
        (Self { timer, ..bed }, front)
    }

    /// A store whose keys may write nothing but objects of the format: what its server can do cannot be tried.
    pub(crate) fn unprobed(manner: Manner, checksum: Checksum) -> Self {
        let server = FaultServer::with(manner);
        server.fault_on(Op::Put, ".backstay-probe/", Nth::All, Fault::Refuse(403, "AccessDenied", None));
        let timer = Arc::new(TestTimer::new(CALM));
        let change = |spec: &mut S3Spec| spec.checksum = checksum;
        let bed = Self::made(server, testing::keys(), Arc::clone(&timer) as _, change);
        Self { timer, ..bed }
    }

    /// A store with this setting.
    pub(crate) fn checking(checksum: Checksum) -> Self {
        let timer = Arc::new(TestTimer::new(CALM));
        let change = |spec: &mut S3Spec| spec.checksum = checksum;
        let bed = Self::made(FaultServer::start(), testing::keys(), Arc::clone(&timer) as _, change);
        Self { timer, ..bed }
    }

    /// A store that may send so many bytes a second.
    pub(crate) fn limited(rate: u64) -> Self {
        let timer = Arc::new(TestTimer::new(CALM));
        let change = |spec: &mut S3Spec| spec.limit_upload = Some(rate);
        let bed = Self::made(FaultServer::start(), testing::keys(), Arc::clone(&timer) as _, change);
        Self { timer, ..bed }
    }

    /// The same with another time; `timer` means nothing then.
    pub(crate) fn by(manner: Manner, keys: Arc<dyn Credentials>, time: Arc<dyn Timer>) -> Self {
        Self::made(FaultServer::with(manner), keys, time, |_| {})
    }

    fn made(
        server: FaultServer,
        keys: Arc<dyn Credentials>,
        time: Arc<dyn Timer>,
        change: impl FnOnce(&mut S3Spec),
    ) -> Self {
        let state = tempfile::tempdir().unwrap();
        let timer = Arc::new(TestTimer::new(CALM));
        let interrupted = Arc::new(AtomicBool::new(false));
        let mut spec = S3Spec::new("offsite", "bucket", state.path(), keys);
        spec.prefix = "p/x".into();
        spec.whole_max = 16 << 20; // so that parts can be tried with little
        spec.endpoint = Some(server.endpoint());
        spec.path_style = true;
        spec.timer = time;
        let asked = Arc::clone(&interrupted);
        spec.interrupted = Arc::new(move || asked.load(Ordering::SeqCst));
        change(&mut spec);
        let store = S3Store::create(spec.clone(), false).unwrap();
        store.put_bytes(&Key::Store, b"{}").unwrap();
        server.forget_calls();
        Self { server, state, timer, interrupted, spec, store }
    }

    /// The key in the bucket.
    pub(crate) fn at(key: &Key) -> String {
        format!("p/x/{key}")
    }

    /// Does it, and checks that what is said to be done is done, exactly.
    pub(crate) fn perform(&self, what: Do) -> Result<(), StoreError> {
        let small = bytes(SMALL, 1);
        let there = Key::Archive(ObjectId::of(&small));
        match what {
            Do::PutBytes | Do::PutFile | Do::PutParts => return self.put(what),
            _ if self.server.object(&Self::at(&there)).is_none() => {
                self.server.insert(&Self::at(&there), &small);
                self.server.insert("elsewhere", &bytes(SMALL, 9));
            }
            _ => {}
        }
        match what {
            Do::Get => assert_eq!(self.store.get(&there, SMALL as u64)?, small),
            Do::GetRange => assert_eq!(self.store.get_range(&there, 10, 50_000)?, small[10..50_010]),
            Do::ReadBack => {
                let found = self.store.read_back(&there, &mut |_| {})?;
                assert_eq!(found, (SMALL as u64, ObjectId::of(&small)));
            }
            Do::Head => assert_eq!(self.store.head(&there)?, Some(SMALL as u64)),
            Do::List => {
                let keys: Vec<Key> = self.store.list(Prefix::Archives)?.into_iter().map(|l| l.key).collect();
                assert_eq!(keys, [there]);
            }
            _ => {
                self.store.delete(&there)?;
                assert_eq!(self.server.object(&Self::at(&there)), None);
            }
        }
        Ok(())
    }

    fn put(&self, what: Do) -> Result<(), StoreError> {
        let content = bytes(if what == Do::PutParts { LARGE } else { SMALL }, 2);
        let id = ObjectId::of(&content);
        let key = Key::Archive(id);
        let put = if what == Do::PutBytes {
            self.store.put_bytes(&key, &content)
        } else {
            let path = self.state.path().join("spooled");
            std::fs::write(&path, &content).unwrap();
            let put = self.store.put_file(&key, &path, content.len() as u64, &id);
            assert_eq!(path.exists(), put.is_err(), "a file is taken away when it was put, and only then");
            put
        };
        let now = self.server.object(&Self::at(&key));
        match &put {
            Ok(Put::Created | Put::Proved | Put::AlreadyThere) => {
                assert!(now.as_ref() == Some(&content), "said to be there, and it is not: {put:?}");
            }
            Err(_) => assert!(now.is_none_or(|now| now == content), "other bytes lie under the name"),
        }
        let others: Vec<String> = self
            .server
            .keys()
            .into_iter()
            .filter(|k| *k != Self::at(&key) && !k.ends_with("backstay.json"))
            .collect();
        assert!(others.is_empty(), "objects that nobody asked for: {others:?}");
        put.map(drop)
    }

    /// How long all pauses would have taken.
    pub(crate) fn paused(&self) -> Duration {
        self.timer.paused()
    }

    /// Bytes of bodies that came with requests of this kind.
    pub(crate) fn sent(&self, op: Op) -> usize {
        self.server.calls().iter().filter(|call| call.op == op).map(|call| call.bytes).sum()
    }
}

/// An error as people see it, with all its causes; also as `Debug` shows it.
pub(crate) fn told(error: &StoreError) -> String {
    let mut text = format!("{error}");
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(&format!("\n  because {cause}"));
        next = cause.source();
    }
    let everything = format!("{text}\n{error:?}");
    for secret in ["test-secret-key", "canary", "Signature", "X-Amz-", "x-amz-signature", "AWS4-HMAC"] {
        assert!(!everything.contains(secret), "{secret}: {everything}");
    }
    assert!(text.contains("store \"offsite\""), "{text}");
    text
}
