//! Real servers, where they are found: each on free ports, with a bucket, ended with its value.

use super::project::cannot_run;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The bucket that each of them has.
pub(crate) const BUCKET: &str = "some-bucket";

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

/// A server that runs until its value goes.
pub(crate) struct Running {
    child: Child,
    dir: TempDir,
    pub(crate) endpoint: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts `command`, and waits until `ready` says that it can be used. Fails with what it wrote when that takes longer than 90 s.
    fn start(mut command: Command, dir: TempDir, port: u16, ready: impl Fn(&str) -> bool) -> Self {
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        let running = Self { child, dir, endpoint: format!("http://127.0.0.1:{port}") };
        let begun = Instant::now();
        while !ready(&running.endpoint) {
            let log = || std::fs::read_to_string(running.dir.path().join("log")).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(90), "it does not come up: {}", log());
            // Until something listens there is nothing else to wait for.
            std::thread::park_timeout(Duration::from_millis(50));
        }
        running
    }

    /// A folder that goes with it.
    pub(crate) fn state(&self) -> &Path {
        self.dir.path()
    }
}

/// Sends a request by hand; gives the answer's head and body, or nothing when nobody listens.
pub(crate) fn http(endpoint: &str, head: &str, body: &[u8]) -> Option<String> {
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let length = body.len();
    let head = format!("{head}\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// SeaweedFS; its bucket is still to be made, with [`crate::common::s3`]'s keys.
pub(crate) fn weed() -> Option<Running> {
    let Some(program) = found("BACKSTAY_WEED", "weed") else {
        cannot_run("no `weed` here: SeaweedFS was not tried");
        return None;
    };
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
    let ready = |endpoint: &str| {
        http(endpoint, "GET /status HTTP/1.1", b"").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    };
    Some(Running::start(command, dir, ports[6], ready))
}

/// Where `rclone` is.
pub(crate) fn rclone_program() -> Option<PathBuf> {
    found("BACKSTAY_RCLONE", "rclone")
}

/// `rclone serve s3` on a folder, which has the bucket.
pub(crate) fn rclone() -> Option<Running> {
    let Some(program) = rclone_program() else {
        cannot_run("no `rclone` here: `rclone serve s3` was not tried");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("buckets").join(BUCKET)).unwrap();
    let [port] = free_ports();
    let mut command = Command::new(program);
    command.args(["serve", "s3", "--config", "", "--addr", &format!("127.0.0.1:{port}")]);
    command.env("RCLONE_AUTH_KEY", "\"test-key-id,test-secret-key\"").arg(dir.path().join("buckets"));
    let ready = |endpoint: &str| http(endpoint, "GET / HTTP/1.1", b"").is_some();
    Some(Running::start(command, dir, port, ready))
}

/// fake-gcs-server, which has the bucket and asks for no credentials. Only where it speaks the XML protocol of Google's, in which objects are put.
#[cfg(feature = "gcs")]
pub(crate) fn fake_gcs() -> Option<Running> {
    let Some(program) = found("BACKSTAY_FAKE_GCS", "fake-gcs-server") else {
        cannot_run("no `fake-gcs-server` here: stores at gs:// were not tried");
        return None;
    };
    let [port] = free_ports();
    let here = format!("127.0.0.1:{port}");
    let mut command = Command::new(program);
    command.args(["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-log-level", "error"]);
    command.args(["-port", &port.to_string(), "-public-host", &here, "-external-url"]);
    command.arg(format!("http://{here}"));
    let made = |endpoint: &str| {
        let body = format!("{{\"name\":\"{BUCKET}\"}}");
        let head = "POST /storage/v1/b?project=test HTTP/1.1\r\nContent-Type: application/json";
        http(endpoint, head, body.as_bytes()).is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    };
    let running = Running::start(command, tempfile::tempdir().unwrap(), port, made);
    let put = http(&running.endpoint, &format!("PUT /{BUCKET}/there HTTP/1.1"), b"x").unwrap_or_default();
    if !put.starts_with("HTTP/1.1 200") {
        cannot_run(
            "this fake-gcs-server does not speak Google's XML protocol: stores at gs:// were not tried on it",
        );
        return None;
    }
    Some(running)
}

/// The account of Azurite, and its key, which everybody knows.
#[cfg(feature = "azure")]
pub(crate) const AZURITE: (&str, &str) = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
);

/// Azurite, which has the container.
#[cfg(feature = "azure")]
pub(crate) fn azurite() -> Option<Running> {
    let Some(program) = found("BACKSTAY_AZURITE", "azurite-blob") else {
        cannot_run("no `azurite-blob` here: stores at az:// were not tried");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    let [port] = free_ports();
    let mut command = Command::new(program);
    command.args(["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]);
    command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
    command.current_dir(dir.path());
    Some(Running::start(command, dir, port, make_container))
}

#[cfg(feature = "azure")]
fn make_container(endpoint: &str) -> bool {
    let (account, key) = AZURITE;
    let date = jiff::fmt::rfc2822::DateTimePrinter::new();
    let date = date.timestamp_to_rfc9110_string(&jiff::Timestamp::now()).unwrap();
    let headers = format!("x-ms-date:{date}\nx-ms-version:2021-08-06");
    let signed =
        format!("PUT\n\n\n\n\n\n\n\n\n\n\n\n{headers}\n/{account}/{account}/{BUCKET}\nrestype:container");
    let key = data_encoding::BASE64.decode(key.as_bytes()).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    let signature = data_encoding::BASE64.encode(ring::hmac::sign(&key, signed.as_bytes()).as_ref());
    let head = format!(
        "PUT /{account}/{BUCKET}?restype=container HTTP/1.1\r\nx-ms-date: {date}\r\nx-ms-version: 2021-08-06\r\nAuthorization: SharedKey {account}:{signature}"
    );
    http(endpoint, &head, b"").is_some_and(|answer| answer.starts_with("HTTP/1.1 201"))
}
