//! The demo's service: a page that tells its version and how many rows it has written, and a database that it writes to all the time.
//!
//! It reads `backend/main.py` once, when it starts, as an application does; a version that says `broken` does not start.

use crate::cli::demo::writer;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::service::life_of;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

/// How the demo starts, asks and stops it.
pub(super) struct Service {
    app: PathBuf,
    port: u16,
    start: String,
    stop: String,
}

impl Service {
    pub(super) fn new(exe: &Path, app: &Path) -> Result<Self> {
        let cannot = || "cannot find a free port for the demo's service".to_owned();
        let free = TcpListener::bind("127.0.0.1:0").doing(Class::Failed, cannot)?;
        let port = free.local_addr().doing(Class::Failed, cannot)?.port();
        let words = [
            exe.display().to_string(),
            "__demo-service".into(),
            app.display().to_string(),
            port.to_string(),
            std::process::id().to_string(),
        ];
        let quoted: Vec<String> =
            words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
        let start = format!("{} & echo $! > run.pid", quoted.join(" "));
        Ok(Self { app: app.to_owned(), port, start, stop: "kill $(cat run.pid)".into() })
    }

    /// What the configuration says of it.
    pub(super) fn table(&self) -> Result<String> {
        let mut health = toml::Table::new();
        health.insert("url".into(), format!("http://127.0.0.1:{}/health", self.port).into());
        health.insert("within".into(), "3s".into());
        health.insert("passes".into(), 2.into());
        let mut service = toml::Table::new();
        for (key, value) in [
            ("name", "backend"),
            ("pid_file", "run.pid"),
            ("start_within", "5s"),
            ("stop", &self.stop),
            ("start", &self.start),
        ] {
            service.insert(key.into(), value.into());
        }
        service.insert("health".into(), health.into());
        let mut file = toml::Table::new();
        file.insert("service".into(), toml::Value::Array(vec![service.into()]));
        toml::to_string(&file).doing(Class::Failed, || "cannot write the demo's configuration".into())
    }

    /// Starts it, as a person would.
    pub(super) fn start(&self) -> Result<()> {
        self.run(&self.start)
    }

    fn run(&self, line: &str) -> Result<()> {
        let status = Command::new("sh")
            .args(["-c", line])
            .current_dir(&self.app)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .doing(Class::Failed, || format!("cannot run {line}"))?;
        if status.success() { Ok(()) } else { Err(OpError::new(Class::Failed, format!("`{line}` failed"))) }
    }

    /// What it says: the version it was started as, and how many rows it has written.
    pub(super) fn ask(&self) -> Option<(String, i64)> {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], self.port));
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1)?).ok()?;
        Some((body["version"].as_str()?.to_owned(), body["rows"].as_i64()?))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It ends by itself, too, once the demo is gone.
        let _down_already = self.run(&self.stop);
    }
}

/// Runs the service until it is ended, or the demo (process `demo`) is gone.
pub(crate) fn serve(app: &Path, port: u16, demo: u32) -> Result<u8> {
    let main = app.join("backend/main.py");
    let code =
        std::fs::read_to_string(&main).doing(Class::Failed, || format!("cannot read {}", main.display()))?;
    let version = code.lines().find_map(|line| line.strip_prefix("VERSION = ")).map(str::to_owned);
    let Some(version) = version.filter(|_| !code.contains("broken")) else {
        return Err(OpError::new(Class::Failed, "this version of the demo's service is broken"));
    };
    let listener = TcpListener::bind(("127.0.0.1", port))
        .doing(Class::Failed, || format!("cannot listen on port {port}"))?;
    let rows = Arc::new(AtomicI64::new(0));
    let told = Arc::clone(&rows);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever asked and went away gets no answer.
            let _gone = answer(stream, &version, told.load(Ordering::Relaxed));
        }
    });
    let life = life_of(demo);
    writer::write(&super::app::database(app), &rows, &|| life.is_some() && life_of(demo) == life)
}

fn answer(mut stream: TcpStream, version: &str, rows: i64) -> std::io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < 16 << 10 {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => request.extend_from_slice(&buffer[..length]),
        }
    }
    let body = serde_json::json!({ "version": version, "rows": rows }).to_string();
    // Until it has written something it is not well.
    let status = if rows > 0 { "200 OK" } else { "503 Service Unavailable" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}
