//! The server itself: it behaves as S3 does where the script says nothing, and misbehaves as the script says.

use crate::common::fault_server::{Fault, FaultServer, Nth, Op, raw};

fn put(server: &FaultServer, key: &str, body: &[u8]) -> Option<String> {
    raw(server, &format!("PUT /b/{key} HTTP/1.1\r\nIf-None-Match: *"), body)
}

fn get(server: &FaultServer, rest: &str) -> String {
    raw(server, &format!("GET /b/{rest} HTTP/1.1"), b"").unwrap_or_default()
}

#[test]
fn without_a_script_it_is_a_bucket() {
    let server = FaultServer::start();
    assert!(put(&server, "a/1", b"one").unwrap().starts_with("HTTP/1.1 200"));
    assert!(put(&server, "a/1", b"two").unwrap().starts_with("HTTP/1.1 412"));
    assert_eq!(server.object("a/1").unwrap(), b"one");
    assert!(get(&server, "a/1").ends_with("\r\n\r\none"));
    assert!(raw(&server, "GET /b/a/1 HTTP/1.1\r\nRange: bytes=1-1", b"").unwrap().ends_with("\r\n\r\nn"));
    assert!(get(&server, "a/none").starts_with("HTTP/1.1 404"));
    put(&server, "a/2", b"").unwrap();
    server.manner(|manner| manner.page = 1);
    let page = get(&server, "?list-type=2&prefix=a/");
    assert!(page.contains("<Key>a/1</Key>") && !page.contains("<Key>a/2</Key>"), "{page}");
    let token = page.split("Token>").nth(1).unwrap().trim_end_matches("</NextContinuation");
    let page = get(&server, &format!("?list-type=2&prefix=a/&continuation-token={token}"));
    assert!(page.contains("<Key>a/2</Key>") && page.contains("<IsTruncated>false"), "{page}");
    let begun = raw(&server, "POST /b/a/3?uploads HTTP/1.1", b"").unwrap();
    let id = begun.split("<UploadId>").nth(1).unwrap().split('<').next().unwrap();
    for (number, part) in [(2, "lo"), (1, "hel")] {
        let head = format!("PUT /b/a/3?partNumber={number}&uploadId={id} HTTP/1.1");
        assert!(raw(&server, &head, part.as_bytes()).unwrap().starts_with("HTTP/1.1 200"));
    }
    let list = b"<X><Part><PartNumber>1</PartNumber></Part><Part><PartNumber>2</PartNumber></Part></X>";
    raw(&server, &format!("POST /b/a/3?uploadId={id} HTTP/1.1"), list).unwrap();
    assert_eq!(server.object("a/3").unwrap(), b"hello");
    assert_eq!(server.uploads(), 0);
    assert!(raw(&server, "DELETE /b/a/3 HTTP/1.1", b"").unwrap().starts_with("HTTP/1.1 204"));
    assert_eq!(server.keys(), ["a/1", "a/2"]);
}

#[test]
fn wrong_hashes_are_refused_as_s3_refuses_them() {
    let server = FaultServer::start();
    let said = raw(&server, "PUT /b/x HTTP/1.1\r\nx-amz-checksum-sha256: AAAA", b"one").unwrap();
    assert!(said.contains("BadDigest"), "{said}");
    let wrong = "0".repeat(64);
    let said = raw(&server, &format!("PUT /b/x HTTP/1.1\r\nx-amz-content-sha256: {wrong}"), b"one").unwrap();
    assert!(said.contains("XAmzContentSHA256Mismatch"), "{said}");
    assert!(server.keys().is_empty());
}

#[test]
fn the_script_decides_what_goes_wrong_and_with_which_request() {
    let server = FaultServer::start();
    server.fault(Op::Put, Nth::Only(2), Fault::Refuse(503, "SlowDown", Some(7)));
    assert!(put(&server, "1", b"1").unwrap().contains(" 200 "));
    let said = put(&server, "2", b"2").unwrap();
    assert!(
        said.contains(" 503 ") && said.contains("Retry-After: 7") && server.object("2").is_none(),
        "{said}"
    );
    assert!(put(&server, "2", b"2").unwrap().contains(" 200 "));
    server.calm();
    server.fault_on(Op::Put, "gone", Nth::All, Fault::DoneThenGone);
    assert!(put(&server, "gone", b"x").is_none());
    assert!(server.object("gone").is_some(), "it landed, and nobody said so");
    server.fault_on(Op::Put, "cut", Nth::All, Fault::CutUp(1));
    assert!(put(&server, "cut", &[7; 300_000]).is_none());
    assert!(server.object("cut").is_none());
    server.fault(Op::Get, Nth::Only(1), Fault::WrongBytes);
    server.fault(Op::Get, Nth::Only(1), Fault::CutDown(0));
    server.insert("whole", b"abc");
    assert!(!get(&server, "whole").ends_with("abc"));
    assert!(get(&server, "whole").ends_with("\r\n\r\n"), "announced and not sent");
    assert!(get(&server, "whole").ends_with("abc"));
    server.calm();
    assert_eq!(server.count(Op::Put), 5);
}

#[test]
#[should_panic(expected = "no request was like")]
fn a_fault_that_never_happened_fails_its_test() {
    let server = FaultServer::start();
    server.fault(Op::List, Nth::All, Fault::ListLoop);
    server.calm();
}
