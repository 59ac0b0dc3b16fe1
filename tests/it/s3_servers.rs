//! The store in a bucket on real servers, where they are found: SeaweedFS (`weed`) and `rclone serve s3`.

use crate::common::project::{noise, not_run};
use backstay::bridge::RealTimer;
use backstay::model::{ObjectId, Timestamp};
use backstay::store::s3::{Capabilities, Compared, S3Spec, S3Store, testing};
use backstay::store::testing::contract;
use backstay::store::{Key, Put, Store, StoreErrorKind};
use std::cell::Cell;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// A program named by `variable`, or found in the path.
fn found(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

struct Running {
    child: Child,
    dir: TempDir,
    endpoint: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(mut command: Command, dir: TempDir, port: u16) -> Self {
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let running =
            Self { child: command.spawn().unwrap(), dir, endpoint: format!("http://127.0.0.1:{port}") };
        // Every try waits for some seconds.
        let made = (0..30).any(|_| S3Store::create(running.spec("first"), true).is_ok());
        let log = || std::fs::read_to_string(running.dir.path().join("log")).unwrap();
        assert!(made, "{}", log());
        running
    }

    fn state(&self) -> &Path {
        self.dir.path()
    }

    fn spec(&self, prefix: &str) -> S3Spec {
        let mut spec = S3Spec::new("offsite", "some-bucket", self.state().join("state"), testing::keys());
        (spec.endpoint, spec.path_style) = (Some(self.endpoint.clone()), true);
        spec.whole_max = 16 << 20; // so that parts can be tried with little
        (spec.prefix, spec.timer) = (prefix.to_owned(), Arc::new(RealTimer::default()));
        spec
    }

    fn store(&self, prefix: &str) -> S3Store {
        S3Store::create(self.spec(prefix), false).unwrap()
    }
}

fn weed() -> Option<Running> {
    let program = found("BACKSTAY_WEED", "weed")?;
    let dir = tempfile::tempdir().unwrap();
    let identities = r#"{"identities":[{"name":"t","credentials":[{"accessKey":"test-key-id","secretKey":"test-secret-key"}],"actions":["Admin","Read","Write","List","Tagging"]}]}"#;
    std::fs::write(dir.path().join("s3.json"), identities).unwrap();
    let ports: [u16; 8] = free_ports();
    let names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port"];
    let names = names.into_iter().chain(["filer.port.grpc", "s3.port", "s3.port.grpc"]);
    let mut command = Command::new(program);
    command.arg("server").arg(format!("-dir={}", dir.path().display()));
    command.arg(format!("-s3.config={}", dir.path().join("s3.json").display()));
    command.args(names.zip(ports).map(|(name, port)| format!("-{name}={port}")));
    command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-master.telemetry=false"]);
    command.args([
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-volume.max=20",
        "-master.volumeSizeLimitMB=64",
    ]);
    Some(Running::start(command, dir, ports[6]))
}

fn rclone() -> Option<Running> {
    let program = found("BACKSTAY_RCLONE", "rclone")?;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("buckets")).unwrap();
    let [port] = free_ports();
    let mut command = Command::new(program);
    command.args(["serve", "s3", "--auth-key", "test-key-id,test-secret-key"]);
    command.args(["--config", "", "--addr", &format!("127.0.0.1:{port}")]).arg(dir.path().join("buckets"));
    Some(Running::start(command, dir, port))
}

fn same_suite(server: &Running) -> Capabilities {
    let number = Cell::new(0);
    contract(&|| {
        number.set(number.get() + 1);
        Box::new(server.store(&format!("v{}", number.get())))
    });
    let store = server.store("large");
    let size = (16 << 20) * 2 + 77;
    let bytes = noise(3, size);
    let (id, path) = (ObjectId::of(&bytes), server.state().join("spooled"));
    std::fs::write(&path, &bytes).unwrap();
    let put = store.put_file(&Key::Archive(id), &path, size as u64, &id).unwrap();
    let known = store.known().unwrap();
    assert_eq!(put == Put::Proved, known.proves_parts(), "{put:?} {known:?}");
    assert_eq!(store.read_back(&Key::Archive(id), &mut |_| {}).unwrap(), (size as u64, id));
    let range = store.get_range(&Key::Archive(id), (16 << 20) - 5, 10).unwrap();
    assert_eq!(range, bytes[(16 << 20) - 5..(16 << 20) + 5]);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(store.put_file(&Key::Archive(id), &path, size as u64, &id).unwrap(), Put::AlreadyThere);
    let mut wrong = server.spec("large");
    wrong.credentials = Arc::new(testing::StaticKeys::new("test-key-id", "another-secret-key"));
    assert_eq!(S3Store::open(wrong).unwrap_err().kind, StoreErrorKind::Denied);
    known
}

#[test]
fn seaweedfs_keeps_the_contract_and_proves_what_is_put() {
    let Some(server) = weed() else { return not_run("no `weed` here: SeaweedFS was not tried") };
    let known = same_suite(&server);
    println!("{known:?}");
    assert!(known.create_only && known.ranges && known.delete_allowed && known.multipart, "{known:?}");
    assert_eq!((known.checksum_put, known.checksum_part), (Compared::Enforced, Compared::Enforced));
    assert_eq!(known.versioning, Some(false), "{known:?}");
    let store = server.store("large");
    assert_eq!(store.list_uploads().unwrap(), []);
    assert_eq!(store.abort_uploads(Timestamp::MAX).unwrap(), 0);
}

#[test]
fn rclone_keeps_the_contract_though_it_overwrites_and_compares_nothing() {
    let Some(server) = rclone() else { return not_run("no `rclone` here: `rclone serve s3` was not tried") };
    let known = same_suite(&server);
    println!("{known:?}");
    assert!(!known.create_only && known.ranges && known.multipart, "{known:?}");
    assert_eq!((known.checksum_put, known.checksum_part), (Compared::Ignored, Compared::Ignored));
}
