//! As much of HTTP/1.1 as a client of S3 speaks, by hand: only so can an answer be cut, held back or spoilt at a given byte.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// The head of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub method: String,
    /// Decoded, with `/` at its beginning.
    pub path: String,
    /// Decoded.
    pub query: BTreeMap<String, String>,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Head {
    pub(crate) fn length(&self) -> usize {
        self.headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Reads a head; `None` when the client has no more requests.
pub(crate) fn read_head(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Head>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut head = Head { method: method.to_owned(), path: decode(path), ..Head::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        head.query.insert(decode(name), decode(value));
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(Some(head));
        };
        head.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

pub(crate) fn read_body(reader: &mut BufReader<TcpStream>, length: usize) -> io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let hex =
            bytes.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        match (bytes[i], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 2;
            }
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// What `Content-Length` says where it is not the body's: the answer to HEAD.
    pub says_length: Option<u64>,
}

impl Answer {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn xml(status: u16, body: impl Into<String>) -> Self {
        let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", body.into()).into_bytes();
        Self { body, ..Self::new(status) }.with("Content-Type", "application/xml")
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        let text = format!("<Error><Code>{code}</Code><Message>as the script says</Message></Error>");
        Self::xml(status, text)
    }

    /// The head, with the length or in chunks.
    pub(crate) fn head(&self, date: &str, chunked: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} As-Scripted\r\nDate: {date}\r\nServer: faulty\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = self.says_length.unwrap_or(self.body.len() as u64);
        match (chunked, self.status) {
            (true, _) => head.push_str("Transfer-Encoding: chunked\r\n"),
            (false, 204 | 304) => {}
            (false, _) => head.push_str(&format!("Content-Length: {length}\r\n")),
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// All of it, as it should be.
    pub(crate) fn write(&self, stream: &mut TcpStream, date: &str, only_head: bool) -> io::Result<()> {
        stream.write_all(&self.head(date, false))?;
        if !only_head {
            stream.write_all(&self.body)?;
        }
        stream.flush()
    }
}
