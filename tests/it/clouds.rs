//! Stores at `gs://` and `az://`, on emulators, where they are found: fake-gcs-server and Azurite. Only in builds with the features.

use crate::common::person::Person;
use crate::common::project::noise;
use crate::common::servers::{BUCKET, Running, http};
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

fn spec(server: &Running, service: Service, keys: &Path, prefix: &str) -> CloudSpec {
    let mut spec = CloudSpec::new("offsite", service, BUCKET);
    spec.prefix = prefix.to_owned();
    (spec.endpoint, spec.credentials_file) = (Some(server.endpoint.clone()), Some(keys.to_owned()));
    spec.timer = Arc::new(TestTimer::new(1));
    spec
}

/// The contract of all stores, and what goes in parts.
fn same_suite(server: &Running, service: Service, keys: &Path) {
    let number = Cell::new(0);
    contract(&|| {
        number.set(number.get() + 1);
        Box::new(CloudStore::create(spec(server, service, keys, &format!("v{}", number.get()))).unwrap())
    });
    let store = CloudStore::create(spec(server, service, keys, "large")).unwrap();
    let size = (16 << 20) * 2 + 77;
    let bytes = noise(3, size);
    let (id, path) = (ObjectId::of(&bytes), server.state().join("spooled"));
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
        let mut spec = spec(server, service, keys, "nothing-here");
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
fn way_back(server: &Running, url: &str, keys: &Path) {
    let person = Person::set_up();
    let store = format!(
        "[[store]]\nname = \"offsite\"\nurl = \"{url}\"\nendpoint = \"{}\"\ncredentials_file = \"{}\"\nlimit_upload = \"100MiB/s\"",
        server.endpoint,
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
    let endpoint = server.endpoint.clone();
    assert!(http(&endpoint, "GET / HTTP/1.1", b"").is_some(), "the server is still there");
}

#[cfg(feature = "gcs")]
#[test]
fn a_bucket_of_googles_keeps_the_contract() {
    let Some(server) = crate::common::servers::fake_gcs() else { return };
    same_suite(&server, Service::Gcs, &gcs_keys(server.state()));
}

#[cfg(feature = "gcs")]
#[test]
fn the_way_back_through_a_bucket_of_googles() {
    let Some(server) = crate::common::servers::fake_gcs() else { return };
    way_back(&server, &format!("gs://{BUCKET}/{{host}}/tsushin"), &gcs_keys(server.state()));
}

#[cfg(feature = "azure")]
#[test]
fn a_container_of_azures_keeps_the_contract() {
    let Some(server) = crate::common::servers::azurite() else { return };
    same_suite(&server, Service::Azure, &azure_keys(server.state()));
}

#[cfg(feature = "azure")]
#[test]
fn the_way_back_through_a_container_of_azures() {
    let Some(server) = crate::common::servers::azurite() else { return };
    way_back(&server, &format!("az://{BUCKET}/{{host}}/tsushin"), &azure_keys(server.state()));
}
