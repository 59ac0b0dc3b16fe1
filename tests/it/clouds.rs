//! Stores at `gs://` and `az://`: on a server in this process that speaks Google's XML protocol, and on emulators where they are found
//! (fake-gcs-server, Azurite). Only in builds with the features.

#[cfg(feature = "gcs")]
use crate::common::fault_server::{Fault, FaultServer, Nth, Op};
use crate::common::person::Person;
use crate::common::project::noise;
use crate::common::servers::BUCKET;
use backstay::bridge::TestTimer;
use backstay::model::ObjectId;
use backstay::store::cloud::{CloudSpec, CloudStore, Service};
use backstay::store::testing::contract;
use backstay::store::{Key, Prefix, Put, Store, StoreErrorKind};
use std::cell::Cell;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that only its owner can read.
fn private(path: PathBuf, text: &str) -> PathBuf {
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[cfg(feature = "gcs")]
fn gcs_keys(dir: &Path) -> PathBuf {
    // What the emulator's documentation gives: credentials that ask nobody for a token.
    let text = r#"{"disable_oauth":true,"client_email":"canary@x","private_key":"canary","private_key_id":"canary"}"#;
    private(dir.join("gcs.json"), text)
}

#[cfg(feature = "azure")]
fn azure_keys(dir: &Path) -> PathBuf {
    let (account, key) = crate::common::servers::AZURITE;
    private(
        dir.join("azure.txt"),
        &format!("DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};\n"),
    )
}

fn spec(endpoint: &str, service: Service, keys: &Path, prefix: &str) -> CloudSpec {
    let mut spec = CloudSpec::new("offsite", service, BUCKET);
    spec.prefix = prefix.to_owned();
    (spec.endpoint, spec.credentials_file) = (Some(endpoint.to_owned()), Some(keys.to_owned()));
    spec.timer = Arc::new(TestTimer::new(1));
    spec
}

/// The contract of all stores, and what goes in parts.
fn same_suite(endpoint: &str, service: Service, keys: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let number = Cell::new(0);
    contract(&|| {
        number.set(number.get() + 1);
        Box::new(CloudStore::create(spec(endpoint, service, keys, &format!("v{}", number.get()))).unwrap())
    });
    let store = CloudStore::create(spec(endpoint, service, keys, "large")).unwrap();
    let size = (16 << 20) * 2 + 77;
    let bytes = noise(3, size);
    let (id, path) = (ObjectId::of(&bytes), dir.path().join("spooled"));
    let put = |as_id: &ObjectId| {
        std::fs::write(&path, &bytes).unwrap();
        store.put_file(&Key::Archive(*as_id), &path, size as u64, as_id).map_err(|e| e.kind)
    };
    assert_eq!(put(&id), Ok(Put::Created), "neither service proves a SHA-256");
    assert!(!path.exists());
    assert_eq!(store.read_back(&Key::Archive(id), &mut |_| {}).unwrap(), (size as u64, id));
    let range = store.get_range(&Key::Archive(id), (16 << 20) - 5, 10).unwrap();
    assert_eq!(range, bytes[(16 << 20) - 5..(16 << 20) + 5]);
    assert_eq!(put(&id), Ok(Put::AlreadyThere));
    let wrong = ObjectId::of(b"other");
    assert_eq!(put(&wrong), Err(StoreErrorKind::Corrupt));
    assert_eq!(
        store.head(&Key::Archive(wrong)).unwrap(),
        None,
        "an upload under a wrong name is not completed"
    );
    assert_eq!(store.list(Prefix::Archives).unwrap().len(), 1);
    let open = |change: &dyn Fn(&mut CloudSpec)| {
        let mut spec = spec(endpoint, service, keys, "nothing-here");
        change(&mut spec);
        CloudStore::open(spec).unwrap_err()
    };
    let error = open(&|_| {});
    assert!(
        error.kind == StoreErrorKind::Missing && error.source.to_string().contains("backstay.json"),
        "{error:?}"
    );
    let error = open(&|spec| spec.bucket = "no-such-bucket".into());
    assert_eq!(error.kind, StoreErrorKind::Missing, "{error:?}");
    let error = open(&|spec| spec.credentials_file = Some("/not/there".into()));
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error:?}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = open(&|spec| spec.endpoint = Some(format!("http://{nobody}")));
    assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error:?}");
}

/// A person's way: two snapshots, a look, a file out of one, all of it back, and what is said holds no key.
fn way_back(endpoint: &str, url: &str, keys: &Path) {
    let person = Person::set_up();
    let store = format!(
        "[[store]]\nname = \"offsite\"\nurl = \"{url}\"\nendpoint = \"{}\"\ncredentials_file = \"{}\"\nlimit_upload = \"100MiB/s\"",
        endpoint,
        keys.display()
    );
    person.configure(&store);
    person.ok(["init"]).says(&["made store"]);
    let first = person.backup();
    std::fs::write(person.app.join("backend/app/main.py"), "changed\n").unwrap();
    let second = person.backup();
    std::fs::remove_dir_all(person.store()).unwrap();
    let report = person.json(0, ["list", "--store", "offsite"]);
    let ids: Vec<&str> =
        report["snapshots"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [first.as_str(), second.as_str()]);
    let cat = |id: &str| person.ok(["cat", id, "backend/app/main.py", "--store", "offsite"]).out;
    assert_eq!((cat(&first).as_str(), cat(&second).as_str()), ("from fastapi import FastAPI\n", "changed\n"));
    let to = person.top.join("back");
    person.ok(["restore", &first, "--to", to.to_str().unwrap(), "--store", "offsite"]);
    assert!(to.join("db/agent.db").exists());
    // The kit of another machine knows the way, too; credentials are its own affair.
    let kit = std::fs::read_to_string(person.kit()).unwrap();
    assert!(!kit.contains("Eby8vdM02") && !kit.contains("canary"), "{kit}");
    let said = person.run(["list", "--store", "offsite", "-v"]);
    assert!(!said.err.contains("Eby8vdM02") && !said.err.contains("canary"), "{said}");
}

#[cfg(feature = "gcs")]
#[test]
fn a_bucket_of_googles_keeps_the_contract() {
    // Google's XML protocol is that of S3 with other words for a condition and for whose keys they are; this server knows both.
    let (server, dir) = (FaultServer::start(), tempfile::tempdir().unwrap());
    same_suite(&server.endpoint(), Service::Gcs, &gcs_keys(dir.path()));
    assert!(server.calls().iter().any(|call| call.create_only), "puts are create-only");
}

#[cfg(feature = "gcs")]
#[test]
fn a_slow_line_to_a_bucket_of_googles_is_no_reason_to_give_up() {
    let (server, dir) = (FaultServer::start(), tempfile::tempdir().unwrap());
    let mut spec = spec(&server.endpoint(), Service::Gcs, &gcs_keys(dir.path()), "v");
    spec.limit_upload = Some(500);
    let store = CloudStore::create(spec).unwrap();
    let bytes = noise(5, 300_000);
    server.fault_on(Op::Put, "archives/", Nth::First(1), Fault::Refuse(503, "SlowDown", None));
    assert_eq!(store.put_bytes(&Key::Archive(ObjectId::of(&bytes)), &bytes).unwrap(), Put::Created);
    server.calm();
}

#[cfg(feature = "gcs")]
#[test]
fn the_way_back_through_a_bucket_of_googles() {
    let (server, dir) = (FaultServer::start(), tempfile::tempdir().unwrap());
    way_back(&server.endpoint(), &format!("gs://{BUCKET}/{{host}}/tsushin"), &gcs_keys(dir.path()));
}

#[cfg(feature = "gcs")]
#[test]
fn an_emulator_of_googles_keeps_the_contract() {
    let Some(server) = crate::common::servers::fake_gcs() else { return };
    same_suite(&server.endpoint, Service::Gcs, &gcs_keys(server.state()));
}

/// What fails for a moment is asked for again, with the pauses that the server wants; what is in doubt is looked at.
#[cfg(feature = "gcs")]
#[test]
fn a_cloud_that_misbehaves_for_a_moment_loses_nothing() {
    let refuse = Fault::Refuse;
    for fault in [
        refuse(503, "SlowDown", Some(7)),
        refuse(429, "TooMany", None),
        Fault::CutUp(0),
        Fault::DoneThenGone,
        Fault::DoneThen(500, "InternalError"),
        Fault::Twice,
    ] {
        for op in [Op::Put, Op::Range, Op::Head, Op::List, Op::Delete, Op::Begin, Op::Part, Op::Complete] {
            let (server, dir) = (FaultServer::start(), tempfile::tempdir().unwrap());
            let spec = spec(&server.endpoint(), Service::Gcs, &gcs_keys(dir.path()), "x");
            let store = CloudStore::create(spec).unwrap();
            server.fault(op, Nth::First(1), fault.clone());
            let bytes = noise(1, (16 << 20) + 5);
            let (id, path) = (ObjectId::of(&bytes), dir.path().join("spooled"));
            std::fs::write(&path, &bytes).unwrap();
            store.put_file(&Key::Archive(id), &path, bytes.len() as u64, &id).unwrap();
            let small = Key::Archive(ObjectId::of(b"small"));
            store.put_bytes(&small, b"small").unwrap();
            assert_eq!(store.read_back(&Key::Archive(id), &mut |_| {}).unwrap(), (bytes.len() as u64, id));
            assert_eq!(store.list(Prefix::Archives).unwrap().len(), 2, "{fault:?} on {op:?}");
            store.delete(&small).unwrap();
            assert_eq!(store.head(&small).unwrap(), None);
            server.calm();
        }
    }
}

#[cfg(feature = "azure")]
#[test]
fn a_container_of_azures_keeps_the_contract() {
    let Some(server) = crate::common::servers::azurite() else { return };
    same_suite(&server.endpoint, Service::Azure, &azure_keys(server.state()));
}

#[cfg(feature = "azure")]
#[test]
fn the_way_back_through_a_container_of_azures() {
    let Some(server) = crate::common::servers::azurite() else { return };
    way_back(&server.endpoint, &format!("az://{BUCKET}/{{host}}/tsushin"), &azure_keys(server.state()));
}
