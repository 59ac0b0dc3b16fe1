//! An S3 server that misbehaves on purpose: a bucket in memory, and a script of what goes wrong with which request.
//!
//! Requests are read and answered by hand, so that an answer can be cut, held back or spoilt at any byte. Signatures are not checked, only which
//! key they name.

mod http;
mod model;
mod script;

pub(crate) use script::{Fault, Manner, Nth, Op};

use http::{Answer, Head, read_body, read_head};
pub(crate) use model::Bucket;
use model::{only_new, op_of};
use script::Rule;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::time::Duration;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub op: Op,
    pub key: String,
    /// Of its body.
    pub bytes: usize,
    /// The key that it is signed with; empty when it is not signed.
    pub signer: String,
    /// It is to be refused when something is there.
    pub create_only: bool,
    /// It carries the SHA-256 of its body for the server to compare.
    pub checksum: bool,
    /// All that came with it, by names in lower case.
    pub headers: std::collections::BTreeMap<String, String>,
}

struct Shared {
    bucket: Mutex<Bucket>,
    script: Mutex<Vec<Arc<Rule>>>,
    manner: Mutex<Manner>,
    calls: Mutex<Vec<Call>>,
    stop: AtomicBool,
    /// Ended with the server.
    connections: Mutex<std::collections::BTreeMap<u16, TcpStream>>,
    /// Wakes those that hold a connection and say nothing.
    ended: (Mutex<bool>, Condvar),
    halt: Mutex<Halt>,
    /// Connections of an earlier number count for nothing any more. Whoever changes the bucket holds it.
    time: RwLock<u64>,
}

/// A request from which on nothing is answered.
#[derive(Debug, Default)]
struct Halt {
    /// The requests that are still answered.
    left: Option<usize>,
    /// The one that is not answered is done all the same.
    done: bool,
}

/// The server; it ends with its value.
pub(crate) struct FaultServer {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl FaultServer {
    pub(crate) fn start() -> Self {
        Self::with(Manner::default())
    }

    pub(crate) fn with(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            bucket: Mutex::default(),
            script: Mutex::default(),
            manner: Mutex::new(manner),
            calls: Mutex::default(),
            stop: AtomicBool::new(false),
            connections: Mutex::default(),
            ended: (Mutex::new(false), Condvar::new()),
            halt: Mutex::default(),
            time: RwLock::new(0),
        });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if own.stop.load(Ordering::SeqCst) {
                    return;
                }
                let own = Arc::clone(&own);
                let Ok(port) = stream.peer_addr().map(|a| a.port()) else { continue };
                if let Ok(clone) = stream.try_clone() {
                    own.connections.lock().unwrap().insert(port, clone);
                }
                let time = *own.time.read().unwrap();
                std::thread::spawn(move || {
                    // A client that goes away is no failure of the server.
                    drop(own.serve(stream, time));
                    // Only with the last handle is the connection closed.
                    own.connections.lock().unwrap().remove(&port);
                });
            }
        });
        Self { shared, address }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a line to the script. The first line that fits a request decides.
    pub(crate) fn fault(&self, op: Op, nth: Nth, fault: Fault) {
        self.fault_on(op, "", nth, fault);
    }

    /// The same for keys that contain `key`.
    pub(crate) fn fault_on(&self, op: Op, key: &str, nth: Nth, fault: Fault) {
        self.shared.script.lock().unwrap().push(Arc::new(Rule::new(op, key, nth, fault)));
    }

    /// Ends the script. Fails when a line of it never fitted: its fault was not tested.
    #[track_caller]
    pub(crate) fn calm(&self) {
        let script = std::mem::take(&mut *self.shared.script.lock().unwrap());
        for rule in script {
            assert!(rule.happened(), "no request was like {rule:?}");
        }
    }

    /// From the `nth` request on (from 1) nothing is answered: that one is `done`, or not, and none after it is.
    pub(crate) fn halt_at(&self, nth: usize, done: bool) {
        *self.shared.halt.lock().unwrap() = Halt { left: Some(nth), done };
    }

    /// True when that request came.
    pub(crate) fn is_halted(&self) -> bool {
        self.shared.halt.lock().unwrap().left == Some(0)
    }

    /// Answers again, and does nothing of what was asked before.
    pub(crate) fn go_on(&self) {
        *self.shared.time.write().unwrap() += 1;
        *self.shared.halt.lock().unwrap() = Halt::default();
    }

    /// All that is in the bucket.
    pub(crate) fn save(&self) -> Bucket {
        self.shared.bucket.lock().unwrap().clone()
    }

    /// Puts the bucket back to what it was.
    pub(crate) fn restore(&self, saved: &Bucket) {
        *self.shared.bucket.lock().unwrap() = saved.clone();
    }

    pub(crate) fn manner(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.shared.manner.lock().unwrap());
    }

    /// The bytes under a key.
    pub(crate) fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.shared.bucket.lock().unwrap().objects.get(key).map(|(bytes, _)| bytes.clone())
    }

    /// Takes an object away, as a request to delete it does.
    pub(crate) fn remove(&self, key: &str) {
        self.shared.bucket.lock().unwrap().forget(key);
    }

    pub(crate) fn insert(&self, key: &str, bytes: &[u8]) {
        self.shared.bucket.lock().unwrap().insert(key, bytes);
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.shared.bucket.lock().unwrap().objects.keys().cloned().collect()
    }

    /// Uploads in parts that were neither completed nor aborted.
    pub(crate) fn uploads(&self) -> usize {
        self.shared.bucket.lock().unwrap().uploads.len()
    }

    /// The requests so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    pub(crate) fn forget_calls(&self) {
        self.shared.calls.lock().unwrap().clear();
    }

    pub(crate) fn count(&self, op: Op) -> usize {
        self.calls().iter().filter(|call| call.op == op).count()
    }
}

impl FaultServer {
    /// Forgets all objects and uploads.
    pub(crate) fn forget(&self) {
        *self.shared.bucket.lock().unwrap() = Bucket::default();
    }

    /// Ends it: nobody listens any more.
    pub(crate) fn end(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        *self.shared.ended.0.lock().unwrap() = true;
        self.shared.ended.1.notify_all();
        for connection in std::mem::take(&mut *self.shared.connections.lock().unwrap()).into_values() {
            drop(connection.shutdown(std::net::Shutdown::Both));
        }
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(self.address));
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// What follows an answer.
#[derive(PartialEq, Eq)]
enum Then {
    NextRequest,
    Close,
}

impl Shared {
    fn serve(&self, stream: TcpStream, time: u64) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        while let Some(head) = read_head(&mut reader)? {
            if self.answer(&head, &mut reader, &mut stream, time)? == Then::Close {
                return Ok(());
            }
        }
        Ok(())
    }

    fn fault(&self, op: Op, key: &str) -> Option<Fault> {
        let script: Vec<Arc<Rule>> = self.script.lock().unwrap().clone();
        script.iter().find_map(|rule| rule.take(op, key))
    }

    fn answer(
        &self,
        head: &Head,
        reader: &mut BufReader<TcpStream>,
        stream: &mut TcpStream,
        time: u64,
    ) -> io::Result<Then> {
        let (op, key) = op_of(head);
        let signer =
            head.header("authorization").and_then(|a| a.split_once("Credential=")?.1.split('/').next());
        let signer = signer.unwrap_or_default().to_owned();
        self.calls.lock().unwrap().push(Call {
            op,
            key: key.clone(),
            bytes: head.length(),
            signer: signer.clone(),
            create_only: only_new(head),
            checksum: head.headers.contains_key("x-amz-checksum-sha256"),
            headers: head.headers.clone(),
        });
        let fault = self.fault(op, &key);
        match fault {
            Some(Fault::CutUp(bytes)) => {
                // What is not read makes the system answer with a reset.
                read_body(reader, bytes.min(head.length()))?;
                return Ok(Then::Close);
            }
            Some(Fault::StallUp) => return self.hold(),
            Some(Fault::DripUp) => return self.drip_up(reader),
            _ => {}
        }
        let mut body = read_body(reader, head.length())?;
        if fault == Some(Fault::SpoilUp) {
            let middle = body.len() / 2;
            body.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1);
        }
        let manner = self.manner.lock().unwrap().clone();
        let date = date(manner.skew);
        if manner.accepts_key.as_ref().is_some_and(|accepted| *accepted != signer) {
            Answer::error(403, "ExpiredToken").write(stream, &date, op == Op::Head)?;
            return Ok(Then::NextRequest);
        }
        if manner.refuses_conditions && head.headers.contains_key("if-none-match") {
            Answer::error(501, "NotImplemented").write(stream, &date, false)?;
            return Ok(Then::NextRequest);
        }
        let request = Request { op, key, head, body, date };
        let now = self.time.read().unwrap();
        if *now != time {
            return Ok(Then::Close);
        }
        if let Some(done) = self.halted() {
            if done {
                self.perform(&request, &manner);
            }
            drop(now);
            return self.hold();
        }
        match fault {
            None | Some(Fault::SpoilUp) => {
                let answer = self.perform(&request, &manner);
                drop(now);
                answer.write(stream, &request.date, op == Op::Head)?;
                Ok(Then::NextRequest)
            }
            Some(fault) => {
                drop(now);
                self.misbehave(fault, &request, &manner, stream)
            }
        }
    }

    /// Whether this request is not answered, and then whether it is done.
    fn halted(&self) -> Option<bool> {
        let mut halt = self.halt.lock().unwrap();
        let left = halt.left.as_mut()?;
        let is_the_one = *left == 1;
        let after = *left == 0;
        *left = left.saturating_sub(1);
        (is_the_one || after).then_some(is_the_one && halt.done)
    }

    fn perform(&self, request: &Request<'_>, manner: &Manner) -> Answer {
        let Request { op, key, head, body, .. } = request;
        self.bucket.lock().unwrap().perform(*op, key, head, body, manner)
    }

    fn misbehave(
        &self,
        fault: Fault,
        request: &Request<'_>,
        manner: &Manner,
        stream: &mut TcpStream,
    ) -> io::Result<Then> {
        let only_head = request.op == Op::Head;
        let say = |answer: Answer, stream: &mut TcpStream| {
            answer.write(stream, &request.date, only_head).map(|()| Then::NextRequest)
        };
        match fault {
            Fault::Refuse(status, code, wait) => {
                let answer = Answer::error(status, code);
                let answer = wait.into_iter().fold(answer, |a, wait| a.with("Retry-After", wait.to_string()));
                say(answer, stream)
            }
            Fault::DoneThen(status, code) => {
                self.perform(request, manner);
                say(Answer::error(status, code), stream)
            }
            Fault::DoneThenGone => {
                self.perform(request, manner);
                Ok(Then::Close)
            }
            Fault::DoneThenSilent => {
                self.perform(request, manner);
                self.hold()
            }
            Fault::OkError(code) => say(Answer::error(200, code), stream),
            Fault::OkEmpty => say(Answer::new(200), stream),
            Fault::Captive => {
                let page = b"<html><body>Please accept our terms</body></html>".to_vec();
                say(Answer { body: page, ..Answer::new(200) }.with("Content-Type", "text/html"), stream)
            }
            Fault::Hidden => say(Answer::error(404, "NoSuchKey"), stream),
            Fault::Redirect(status, to) => {
                let answer = Answer::error(status, "PermanentRedirect");
                say(answer.with("Location", to).with("x-amz-bucket-region", "eu-central-1"), stream)
            }
            Fault::StaleSize(size) => {
                say(Answer { says_length: Some(size), ..self.perform(request, manner) }, stream)
            }
            Fault::Twice => {
                let first = self.perform(request, manner);
                self.perform(request, manner);
                say(first, stream)
            }
            Fault::ListNewestMissing | Fault::ListLoop | Fault::ListMess => {
                say(self.odd_list(&fault, request, manner), stream)
            }
            Fault::WrongBytes | Fault::OtherObject => say(self.spoilt(&fault, request, manner), stream),
            cut => self.deliver(&cut, &self.perform(request, manner), request, stream),
        }
    }

    /// The answer with other bytes of the same number.
    fn spoilt(&self, fault: &Fault, request: &Request<'_>, manner: &Manner) -> Answer {
        let mut answer = self.perform(request, manner);
        if *fault == Fault::WrongBytes {
            let middle = answer.body.len() / 2;
            answer.body.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1);
            return answer;
        }
        let bucket = self.bucket.lock().unwrap();
        let other = bucket.objects.iter().find(|(key, _)| **key != request.key);
        let other = other.expect("there is another object").1.0.clone();
        answer.body.iter_mut().zip(other.iter().cycle()).for_each(|(byte, wrong)| *byte = *wrong);
        answer
    }

    fn odd_list(&self, fault: &Fault, request: &Request<'_>, manner: &Manner) -> Answer {
        let bucket = self.bucket.lock().unwrap();
        let prefix = request.head.query.get("prefix").cloned().unwrap_or_default();
        let mut keys: Vec<String> =
            bucket.objects.keys().filter(|k| k.starts_with(&prefix)).cloned().collect();
        match fault {
            Fault::ListNewestMissing => {
                let newest = bucket.newest(&prefix);
                keys.retain(|key| Some(key) != newest.as_ref());
                bucket.listing(&prefix, &keys, None)
            }
            Fault::ListLoop => {
                keys.truncate(manner.page.min(2));
                bucket.listing(&prefix, &keys, Some("again"))
            }
            _ => {
                let twice = keys.iter().chain(&keys).rev().cloned().collect::<Vec<_>>();
                bucket.listing(&prefix, &twice, None)
            }
        }
    }

    /// An answer that is right, and its delivery that is not.
    fn deliver(
        &self,
        fault: &Fault,
        answer: &Answer,
        request: &Request<'_>,
        stream: &mut TcpStream,
    ) -> io::Result<Then> {
        let body = |bytes: usize| &answer.body[..bytes.min(answer.body.len())];
        match *fault {
            Fault::CutDown(bytes) => {
                stream.write_all(&answer.head(&request.date, false))?;
                stream.write_all(body(bytes))?;
            }
            Fault::CutChunks(bytes) | Fault::ShortChunks(bytes) => {
                stream.write_all(&answer.head(&request.date, true))?;
                write!(stream, "{:x}\r\n", bytes.min(answer.body.len()))?;
                stream.write_all(body(bytes))?;
                stream.write_all(b"\r\n")?;
                if matches!(fault, Fault::ShortChunks(_)) {
                    stream.write_all(b"0\r\n\r\n")?;
                }
            }
            Fault::StallDown(bytes) => {
                stream.write_all(&answer.head(&request.date, false))?;
                stream.write_all(body(bytes))?;
                return self.hold();
            }
            Fault::Drip => {
                stream.write_all(&answer.head(&request.date, false))?;
                for byte in &answer.body {
                    if self.wait(Duration::from_millis(5)) {
                        break;
                    }
                    stream.write_all(&[*byte])?;
                }
            }
            ref other => panic!("{other:?} is no way to deliver"),
        }
        Ok(Then::Close)
    }

    /// Takes what comes in drops, until the client has enough of it.
    fn drip_up(&self, reader: &mut BufReader<TcpStream>) -> io::Result<Then> {
        let mut piece = [0; 16];
        while reader.read(&mut piece)? > 0 && !self.wait(Duration::from_millis(5)) {}
        Ok(Then::Close)
    }

    /// Keeps the connection and says nothing, as long as the server lives.
    fn hold(&self) -> io::Result<Then> {
        while !self.wait(Duration::from_secs(60)) {}
        Ok(Then::Close)
    }

    /// Waits; true when the server has ended.
    fn wait(&self, time: Duration) -> bool {
        let (ended, bell) = &self.ended;
        let ended = ended.lock().unwrap();
        *bell.wait_timeout_while(ended, time, |ended| !*ended).unwrap().0
    }
}

struct Request<'a> {
    op: Op,
    key: String,
    head: &'a Head,
    body: Vec<u8>,
    date: String,
}

fn date(skew: i64) -> String {
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(skew);
    now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Sends one request by hand and gives the whole answer; `None` when the connection ended without one.
pub(crate) fn raw(server: &FaultServer, head: &str, body: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(server.address).ok()?;
    let request = format!("{head}\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(request.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    (read.is_ok() && !answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
}
