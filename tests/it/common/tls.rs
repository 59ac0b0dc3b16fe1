//! TLS before a plain server, with certificates of a made-up authority: good ones, ended ones, and ones for another name.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority that nobody trusts who was not told to.
pub(crate) struct Authority {
    dir: tempfile::TempDir,
}

fn openssl(dir: &Path, args: &[&str]) {
    let output = Command::new("openssl").current_dir(dir).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const EC: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

impl Authority {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = ["-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=nobody's authority"];
        openssl(dir.path(), &[&["req", "-x509"], &EC[..], &own].concat());
        Self { dir }
    }

    /// The certificate to be trusted.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate of this kind and its key, as files for another program.
    pub(crate) fn files(&self, certificate: Certificate) -> [PathBuf; 2] {
        let (name, days) = certificate.facts();
        self.make(name, days);
        ["cert.pem", "key.pem"].map(|name| self.dir.path().join(name))
    }

    /// Makes a certificate for `name`, good for so many days from now.
    fn make(&self, name: &str, days: &str) {
        let dir = self.dir.path();
        std::fs::write(dir.join("ext"), format!("subjectAltName={name}\n")).unwrap();
        openssl(dir, &[&["req"], &EC[..], &["-keyout", "key.pem", "-out", "csr", "-subj", "/CN=x"]].concat());
        let from = ["x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        openssl(dir, &[&from[..], &["-days", days, "-extfile", "ext", "-out", "cert.pem"]].concat());
    }

    fn certificate(&self, (name, days): (&str, &str)) -> Arc<ServerConfig> {
        self.make(name, days);
        let dir = self.dir.path();
        let chain =
            CertificateDer::pem_file_iter(dir.join("cert.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
    }
}

/// What the certificate of a front is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certificate {
    Good,
    Ended,
    ForAnotherName,
}

impl Certificate {
    /// For which name, for how many days.
    fn facts(self) -> (&'static str, &'static str) {
        match self {
            Self::Good => ("IP:127.0.0.1,DNS:localhost", "2"),
            Self::Ended => ("IP:127.0.0.1,DNS:localhost", "-1"),
            Self::ForAnotherName => ("DNS:elsewhere.example", "2"),
        }
    }

    fn of(self, authority: &Authority) -> Arc<ServerConfig> {
        authority.certificate(self.facts())
    }
}

/// TLS in front of a plain server; it ends with its value.
pub(crate) struct Front {
    pub(crate) endpoint: String,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    /// Ends connections when it changes.
    turn: tokio::sync::watch::Sender<u32>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Front {
    /// Before the server at `plain` (`http://…`).
    pub(crate) fn before(plain: &str, authority: &Authority, certificate: Certificate) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let config = Arc::new(Mutex::new(certificate.of(authority)));
        let (turn, turned) = tokio::sync::watch::channel(0);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (own, inner) = (Arc::clone(&config), plain.strip_prefix("http://").unwrap().to_owned());
        let thread = std::thread::spawn(move || serve(listener, inner, &own, &turned, stopped));
        Self { endpoint, config, turn, stop: Some(stop), thread: Some(thread) }
    }

    /// From now on it has this certificate; connections that there are end.
    pub(crate) fn exchange(&self, authority: &Authority, certificate: Certificate) {
        *self.config.lock().unwrap() = certificate.of(authority);
        self.turn.send_modify(|turn| *turn += 1);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    listener: std::net::TcpListener,
    inner: String,
    config: &Mutex<Arc<ServerConfig>>,
    turned: &tokio::sync::watch::Receiver<u32>,
    stopped: tokio::sync::oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let accept = async {
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                let acceptor = TlsAcceptor::from(Arc::clone(&config.lock().unwrap()));
                let (inner, mut turned) = (inner.clone(), turned.clone());
                turned.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut outside) = acceptor.accept(socket).await else { return };
                    let Ok(mut inside) = tokio::net::TcpStream::connect(inner).await else { return };
                    let copy = tokio::io::copy_bidirectional(&mut outside, &mut inside);
                    let ended = turned.changed();
                    let _ = futures::future::select(Box::pin(copy), Box::pin(ended)).await;
                });
            }
        };
        let _: futures::future::Either<((), _), _> =
            futures::future::select(Box::pin(accept), Box::pin(stopped)).await;
    });
    runtime.shutdown_background();
}
