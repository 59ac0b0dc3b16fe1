//! Taking connections and answering them, each in a thread of its own: so many at once and no more, each for so long and no longer.
//!
//! Nothing here can keep the agent from its work: it has its own threads, and whoever is slow or many only gets no answer.

use crate::agent::page::http::{Answer, Asked, Refused, parse};
use crate::agent::page::listen::{Listener, Place, Stream};
use crate::model::Timestamp;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// What answers.
pub(super) trait Site: Send + Sync {
    /// The answer.
    fn answer(&self, asked: &Asked) -> Answer;
    /// The time.
    fn now(&self) -> Timestamp;
}

/// What whoever asks is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once.
    pub(super) connections: usize,
    /// Until the whole question is here.
    pub(super) question: Duration,
    /// Until the whole answer is gone.
    pub(super) answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 32, question: Duration::from_secs(5), answer: Duration::from_secs(15) }
    }
}

/// A question is not longer.
const HEAD_MAX: usize = 8 << 10;
/// What comes after the question is read so far, so that the answer is not lost with the connection.
const REST_MAX: usize = 64 << 10;
const REST: Duration = Duration::from_millis(500);
const STACK: usize = 1 << 20;
/// After a connection that could not be taken: the next cannot be taken either, for a while.
const PAUSE: Duration = Duration::from_millis(200);

/// A server that runs.
pub(super) struct Server {
    place: Place,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers what comes to `listener`.
    pub(super) fn start(
        listener: Listener,
        place: Place,
        site: Arc<dyn Site>,
        limits: Limits,
    ) -> std::io::Result<Self> {
        let end = Arc::new(AtomicBool::new(false));
        let crowd = Arc::new(Crowd { open: Mutex::default(), threads: AtomicUsize::new(0), limits });
        let ended = Arc::clone(&end);
        let thread = Builder::new().name("page".into()).stack_size(STACK).spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                crowd.wait(&ended);
                match listener.accept() {
                    Ok(stream) => take(&crowd, stream, &site),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(_) => std::thread::park_timeout(PAUSE),
                }
            }
        })?;
        Ok(Self { place, end, thread: Some(thread) })
    }

    /// Where it is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }
}

/// Listens no more when this is over; answers that are on their way come to their end.
impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        self.place.knock();
        // Should nothing have woken it, it ends with the process.
        if let Some(thread) = self.thread.take().filter(JoinHandle::is_finished_soon) {
            drop(thread.join());
        }
        if let Place::Unix(path) = &self.place {
            // One that stays is replaced by the next agent.
            let _stays = std::fs::remove_file(path);
        }
    }
}

/// Waiting for a thread, and not for ever.
trait Soon {
    fn is_finished_soon(&self) -> bool;
}

impl Soon for JoinHandle<()> {
    fn is_finished_soon(&self) -> bool {
        let begun = Instant::now();
        while !self.is_finished() && begun.elapsed() < Duration::from_secs(2) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.is_finished()
    }
}

/// The connections that are open.
struct Crowd {
    open: Mutex<Open>,
    /// Threads that answer, also those whose place was taken and that have not noticed yet.
    threads: AtomicUsize,
    limits: Limits,
}

#[derive(Default)]
struct Open {
    next: u64,
    by_number: BTreeMap<u64, Guest>,
}

struct Guest {
    stream: Stream,
    /// It has asked, and is being answered.
    asked: bool,
}

/// A place in the crowd, which is free again when this is dropped.
struct Seat {
    crowd: Arc<Crowd>,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.lock().by_number.remove(&self.number);
        self.crowd.threads.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Crowd {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for `stream`. When all are taken, whoever has waited longest without asking goes; nobody who is being answered does.
    fn seat(self: &Arc<Self>, stream: &Stream) -> Option<Seat> {
        let stream = stream.try_clone().ok()?;
        let mut open = self.lock();
        if open.by_number.len() >= self.limits.connections {
            let slowest = open.by_number.iter().find(|(_, guest)| !guest.asked).map(|(number, _)| *number)?;
            if let Some(guest) = open.by_number.remove(&slowest) {
                guest.stream.end(Shutdown::Both);
            }
        }
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, Guest { stream, asked: false });
        self.threads.fetch_add(1, Ordering::SeqCst);
        Some(Seat { crowd: Arc::clone(self), number })
    }

    /// Waits while there are twice as many threads as places: those whose place was taken end at once, as soon as they get to run.
    fn wait(&self, ended: &AtomicBool) {
        while self.threads.load(Ordering::SeqCst) >= 2 * self.limits.connections
            && !ended.load(Ordering::SeqCst)
        {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn asked(&self, number: u64) {
        if let Some(guest) = self.lock().by_number.get_mut(&number) {
            guest.asked = true;
        }
    }
}

fn take(crowd: &Arc<Crowd>, stream: Stream, site: &Arc<dyn Site>) {
    let Some(seat) = crowd.seat(&stream) else { return };
    let site = Arc::clone(site);
    // Without a thread it is not answered: the seat is free again, the connection closed.
    let _started = Builder::new().name("page-answer".into()).stack_size(STACK).spawn(move || {
        let limits = seat.crowd.limits;
        talk(stream, &*site, limits, &|| seat.crowd.asked(seat.number));
    });
}

fn talk(mut stream: Stream, site: &dyn Site, limits: Limits, has_asked: &dyn Fn()) {
    let question = read_head(&mut stream, limits.question);
    has_asked();
    let (head, answer) = match question {
        Err(None) => return,
        Err(Some(refused)) => (false, Answer::of(refused)),
        Ok(bytes) => match parse(&bytes) {
            Err(refused) => (bytes.starts_with(b"HEAD "), Answer::of(refused)),
            Ok(asked) => (asked.head, site.answer(&asked)),
        },
    };
    if write_all(&mut stream, &answer.bytes(head, site.now()), limits.answer) {
        stream.end(Shutdown::Write);
        drain(&mut stream);
    }
}

/// Reads up to the empty line. Without a refusal there is nobody to answer.
fn read_head(stream: &mut Stream, within: Duration) -> Result<Vec<u8>, Option<Refused>> {
    let begun = Instant::now();
    let mut bytes = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let left = within.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(Some(Refused(408)));
        }
        stream.within(left).map_err(|_| None)?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err(None),
            Ok(length) => bytes.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => return Err(None),
        }
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            bytes.truncate(end + 4);
        }
        if bytes.len() > HEAD_MAX {
            return Err(Some(Refused(431)));
        }
        if bytes.ends_with(b"\r\n\r\n") {
            return Ok(bytes);
        }
    }
}

/// True when all of it went.
fn write_all(stream: &mut Stream, mut bytes: &[u8], within: Duration) -> bool {
    let begun = Instant::now();
    while !bytes.is_empty() {
        let left = within.saturating_sub(begun.elapsed());
        if left.is_zero() || stream.within(left).is_err() {
            return false;
        }
        match stream.write(bytes) {
            Ok(0) => return false,
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => return false,
        }
    }
    true
}

/// A connection that is closed while something unread lies there is reset, and the answer with it.
fn drain(stream: &mut Stream) {
    let begun = Instant::now();
    let mut buffer = [0; 4096];
    let mut read = 0;
    while read < REST_MAX {
        let left = REST.saturating_sub(begun.elapsed());
        if left.is_zero() || stream.within(left).is_err() {
            return;
        }
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => read += length,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::page::http::TEXT;
    use crate::config::PageAt;
    use std::net::TcpStream;

    struct Hello;

    impl Site for Hello {
        fn answer(&self, asked: &Asked) -> Answer {
            if asked.path == "/panic" {
                std::panic::resume_unwind(Box::new("a mistake of ours"));
            }
            Answer::well(TEXT, "hello".to_owned())
        }

        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    fn start(limits: Limits) -> Server {
        let (listener, place) = Listener::bind(&PageAt::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        Server::start(listener, place, Arc::new(Hello), limits).unwrap()
    }

    fn connect(server: &Server) -> TcpStream {
        let stream = TcpStream::connect(server.place().address().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        // A reset is an end, too.
        let _ = stream.read_to_string(&mut text);
        text
    }

    fn ask(server: &Server, question: &str) -> String {
        let mut stream = connect(server);
        stream.write_all(question.as_bytes()).unwrap();
        rest(stream)
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    #[test]
    fn one_question_gets_one_answer_also_in_pieces_and_after_a_mistake() {
        let server = start(Limits::default());
        assert!(ask(&server, GET).ends_with("\r\n\r\nhello"));
        assert!(ask(&server, &GET.replace("GET", "HEAD")).ends_with("\r\n\r\n"));
        assert!(ask(&server, &format!("{GET}{GET}")).matches("HTTP/1.1 200").count() == 1);
        let mut stream = connect(&server);
        for byte in GET.as_bytes() {
            stream.write_all(&[*byte]).unwrap();
        }
        assert!(rest(stream).ends_with("hello"));
        assert_eq!(ask(&server, "GET /panic HTTP/1.1\r\n\r\n"), "");
        assert!(ask(&server, GET).ends_with("hello"), "it goes on after a panic");
        let body = format!("POST / HTTP/1.1\r\nContent-Length: 50000\r\n\r\n{}", "x".repeat(50_000));
        assert!(ask(&server, &body).starts_with("HTTP/1.1 405 "));
    }

    #[test]
    fn a_question_that_is_long_or_does_not_end_is_refused() {
        let limits = Limits { question: Duration::from_millis(300), ..Limits::default() };
        let server = start(limits);
        assert!(
            ask(&server, &format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_MAX))).starts_with("HTTP/1.1 431 ")
        );
        let whole = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(HEAD_MAX));
        assert!(ask(&server, &whole).starts_with("HTTP/1.1 431 "), "also one that comes whole");
        let begun = Instant::now();
        assert!(ask(&server, "GET / HTTP/1.1\r\nHost: x\r\n").starts_with("HTTP/1.1 408 "));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn when_all_places_are_taken_whoever_has_not_asked_goes() {
        let limits = Limits { connections: 4, question: Duration::from_secs(3600), ..Limits::default() };
        let server = start(limits);
        let silent: Vec<TcpStream> = (0..40).map(|_| connect(&server)).collect();
        assert!(ask(&server, GET).ends_with("hello"));
        let mut ended = 0;
        for stream in silent.into_iter().take(30) {
            assert_eq!(rest(stream), "");
            ended += 1;
        }
        assert_eq!(ended, 30);
        let place = server.place().clone();
        drop(server);
        assert!(TcpStream::connect(place.address().unwrap()).is_err(), "nobody listens any more");
    }
}
