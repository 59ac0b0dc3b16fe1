//! The page of an agent: bound, moved, refused, tried again. What it answers is held by the tests of its parts and by `tests/it/page.rs`.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;

/// A clock that a test turns.
struct Turned(Mutex<Timestamp>);

impl Clock for Turned {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

fn clock() -> Arc<Turned> {
    Arc::new(Turned(Mutex::new("2026-11-02T10:00:00Z".parse().unwrap())))
}

fn config(dir: &Path, agent: &str) -> Arc<Config> {
    let text = format!(
        "[project]\nname = \"x\"\n[[store]]\nname = \"local\"\npath = \"store\"\n[signing]\nkey_file = \"/nowhere/key\"\n\
         [state]\ndir = \"{}\"\n[agent]\n{agent}\n",
        dir.display()
    );
    Arc::new(Config::parse(&text, Path::new("/srv/x/backstay.toml")).unwrap_or_else(|e| panic!("{e}")))
}

fn ask(url: &str, path: &str) -> String {
    let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let Ok(mut stream) = TcpStream::connect(address) else { return "nobody".to_owned() };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

fn url(dir: &Path) -> String {
    PageNote::load(dir).url.unwrap()
}

#[test]
fn a_page_that_cannot_be_bound_is_said_once_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, taken) = (clock(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = taken.local_addr().unwrap();
    let mut pages = Pages::new(Arc::clone(&clock) as _);
    let word = pages.begin(&[config(dir.path(), &format!("page = \"{address}\""))]).unwrap();
    assert!(
        word.warning && word.text.contains(&format!("the status page cannot be shown at {address}")),
        "{word:?}"
    );
    assert!(word.text.contains("backups go on"), "{word:?}");
    let note = PageNote::load(dir.path());
    assert!(note.url.is_none() && note.problem.unwrap().contains(&address.to_string()));
    let later = |seconds| {
        let mut now = clock.0.lock().unwrap();
        *now += SignedDuration::from_secs(seconds);
    };
    assert_eq!(pages.beat(), None);
    later(31);
    assert_eq!(pages.beat(), None, "it is not said again");
    drop(taken);
    later(29);
    assert_eq!(pages.beat(), None, "not before its time");
    later(2);
    let word = pages.beat().unwrap();
    assert!(!word.warning && word.text.contains("the status page is at http://"), "{word:?}");
    assert!(ask(&url(dir.path()), "/healthz").ends_with("ok\n"));
    assert_eq!(PageNote::load(dir.path()).problem, None);
    pages.end();
    assert_eq!(PageNote::load(dir.path()), PageNote::default());
    assert_eq!(ask(&format!("http://{address}/"), "/healthz"), "nobody");
}

#[test]
fn a_page_moves_and_a_place_that_cannot_be_had_is_refused_and_the_old_one_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut pages = Pages::new(clock() as _);
    pages.begin(&[config(dir.path(), "page = \"127.0.0.1:0\"")]);
    let first = url(dir.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bad = config(dir.path(), &format!("page = \"{}\"", taken.local_addr().unwrap()));
    let error = pages.change(&[bad]).unwrap_err();
    assert!(error.to_string().contains("the status page cannot be shown"), "{error}");
    assert!(ask(&first, "/healthz").ends_with("ok\n"), "the old one is kept");
    let no_token = config(dir.path(), "page = \"127.0.0.1:0\"\ntoken_file = \"/nowhere/token\"");
    pages.change(&[no_token]).unwrap_err();
    assert!(ask(&first, "/metrics").starts_with("HTTP/1.1 200 "));
    let socket = dir.path().join("page.sock");
    pages.change(&[config(dir.path(), &format!("page = \"unix:{}\"", socket.display()))]).unwrap();
    assert_eq!(url(dir.path()), format!("unix:{}", socket.display()));
    assert_eq!(ask(&first, "/healthz"), "nobody");
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    pages.change(&[config(dir.path(), "")]).unwrap();
    assert!(!socket.exists());
    assert_eq!(PageNote::load(dir.path()), PageNote::default());
}

#[test]
fn a_page_moves_between_addresses_of_one_port() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "0123456789abcdef").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut pages = Pages::new(clock() as _);
    pages.begin(&[config(dir.path(), "page = \"127.0.0.1:0\"")]);
    let first = url(dir.path());
    let port = first.trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    let all = format!("page = \"0.0.0.0:{port}\"\ntoken_file = {:?}", token.display().to_string());
    pages.change(&[config(dir.path(), &all)]).unwrap();
    assert_eq!(url(dir.path()), format!("http://0.0.0.0:{port}/"));
    assert!(ask(&first, "/metrics").starts_with("HTTP/1.1 401 "), "the new one asks for a token");
}

#[test]
fn a_question_that_a_page_with_a_token_was_asked_is_not_let_in_by_the_page_without_one_that_follows() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "0123456789abcdef").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut pages = Pages::new(clock() as _);
    let guarded = format!("page = \"127.0.0.1:0\"\ntoken_file = {:?}", token.display().to_string());
    pages.begin(&[config(dir.path(), &guarded)]);
    let first = url(dir.path());
    let address = first.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
    let mut stranger = TcpStream::connect(&address).unwrap();
    write!(stranger, "GET /status.json HTTP/1.1\r\nHost: {address}\r\n").unwrap();
    // One that comes later is answered: the stranger's was taken.
    assert!(ask(&first, "/healthz").ends_with("ok\n"));
    let socket = dir.path().join("page.sock");
    pages.change(&[config(dir.path(), &format!("page = \"unix:{}\"", socket.display()))]).unwrap();
    let mut text = String::new();
    let _closed = write!(stranger, "\r\n").and_then(|()| stranger.read_to_string(&mut text));
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 401 "), "{text}");
}

#[test]
fn a_page_that_could_not_be_shown_before_keeps_no_other_change_from_being_made() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pages = Pages::new(clock() as _);
    let config = config(dir.path(), &format!("page = \"{}\"", taken.local_addr().unwrap()));
    assert!(pages.begin(&[Arc::clone(&config)]).unwrap().warning);
    assert_eq!(pages.change(&[Arc::clone(&config)]).unwrap(), None);
    assert!(PageNote::load(dir.path()).problem.is_some(), "it is still said");
    drop(taken);
    assert!(pages.change(&[config]).unwrap().unwrap().contains("the status page is at"));
    assert_eq!(PageNote::load(dir.path()).problem, None);
}

#[test]
fn an_agent_has_one_page() {
    let dir = tempfile::tempdir().unwrap();
    let of = |agent: &str| config(dir.path(), agent);
    assert_eq!(wanted(&[of("")]).unwrap(), None);
    let at: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let one = wanted(&[of(""), of("page = \"127.0.0.1:1\""), of("page = \"127.0.0.1:1\"")]).unwrap().unwrap();
    assert_eq!(one.at, PageAt::Tcp(at));
    let error = wanted(&[of("page = \"127.0.0.1:1\""), of("page = \"127.0.0.1:2\"")]).unwrap_err();
    assert!(error.to_string().contains("different status pages"), "{error}");
}
