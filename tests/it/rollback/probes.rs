//! Health checks over the network and of databases: what passes, and answers that are none.

use super::{App, SERVICE, health};
use crate::common::project::have;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

/// The service with another health check.
fn with_health(health: &str) -> String {
    let end = SERVICE.find("[service.health]").unwrap();
    format!("{}[service.health]\nwithin = \"3s\"\ninterval = \"1s\"\npasses = 2\n{health}\n", &SERVICE[..end])
}

/// A page of the service, at the address that is given: 502 while it is down, `well` while it is up, and `lie` on a version that is broken.
fn page(dir: PathBuf, well: &'static str, lie: fn(&mut TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let dir = dir.clone();
            std::thread::spawn(move || {
                let _request = stream.read(&mut [0; 4096]);
                let read = |path: &str| fs::read_to_string(dir.join(path)).unwrap_or_default();
                let stat = fs::read_to_string(format!("/proc/{}/stat", read("web.pid").trim()));
                match (stat.is_ok_and(|s| s.contains("(sleep) S")), read("app/version").contains("broken")) {
                    (false, _) => {
                        drop(write!(stream, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"));
                    }
                    (true, false) => drop(stream.write_all(well.as_bytes())),
                    (true, true) => lie(&mut stream),
                }
            });
        }
    });
    format!("http://{address}/health")
}

const WELL: &str = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{\"db\": \"well\"}\n";
const OTHER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{\"db\": \"away\"}\n";

/// An application that is in its second version, whose page answers `well`, and the snapshot of a version that is well and one that `lie`s.
#[track_caller]
fn judged(health: &str, well: &'static str, lie: fn(&mut TcpStream), words: &str) {
    let app = App::new("");
    let url = page(app.project.dir.clone(), well, lie);
    health::judged(&app, &with_health(&format!("url = \"{url}\"\n{health}")), words);
}

#[test]
fn a_page_with_another_status_than_the_one_that_is_well_is_a_failure() {
    judged("status = 204", WELL, |page| drop(page.write_all(OK.as_bytes())), "answers with status 200");
}

#[test]
fn a_page_that_does_not_hold_what_it_must_is_a_failure() {
    let contains = "contains = '\"db\": \"well\"'";
    judged(contains, OK, |page| drop(page.write_all(OTHER.as_bytes())), "does not contain");
}

#[test]
fn a_server_that_takes_the_question_and_never_answers_is_a_failure() {
    // It keeps the connection until the other side goes away.
    judged("timeout = \"1s\"", OK, |page| drop(page.read(&mut [0])), "does not answer");
}

#[test]
fn a_server_whose_answer_never_ends_is_a_failure() {
    fn drips(page: &mut TcpStream) {
        drop(write!(page, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
        page.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        // A byte now and then, until nobody listens any more.
        while page.write_all(b"1\r\nx\r\n").is_ok() {
            let _nothing_comes = page.read(&mut [0]);
        }
    }
    judged("timeout = \"1s\"", OK, drips, "breaks off its answer");
}

#[test]
fn a_server_that_dies_in_the_middle_of_its_answer_is_a_failure() {
    let dies = |page: &mut TcpStream| {
        drop(write!(page, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nwell so far"));
    };
    judged("", OK, dies, "breaks off its answer");
}

#[test]
fn a_redirect_is_no_answer() {
    let leads = |page: &mut TcpStream| {
        drop(write!(page, "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"));
    };
    judged("", OK, leads, "answers with status 302");
}

#[test]
fn a_port_that_takes_connections_again_is_well() {
    if !have(&["python3"]) {
        return;
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let service = with_health(&format!("tcp = \"127.0.0.1:{free}\""))
        .replace("sleep 1000", "python3 listens.py")
        .replace("within = \"3s\"", "within = \"20s\"");
    let app = App::new(&service);
    let listens =
        format!("import socket, time\ns = socket.create_server((\"127.0.0.1\", {free}))\ntime.sleep(1000)\n");
    app.write("listens.py", &listens);
    let id = app.project.backup();
    app.upgrade("2");
    let mut server = std::process::Command::new("python3");
    let mut server = server.arg("listens.py").current_dir(&app.project.dir).spawn().unwrap();
    app.write("web.pid", &server.id().to_string());
    crate::common::project::until("the port is open", || TcpStream::connect(("127.0.0.1", free)).is_ok());
    // It is collected when it ends: until then it would be there.
    let collected = std::thread::spawn(move || server.wait());
    let output = app.project.ok(["rollback", &id]);
    collected.join().unwrap().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("web is healthy"), "{output:?}");
    assert_eq!(app.read("app/version"), "1");
    assert!(TcpStream::connect(("127.0.0.1", free)).is_ok());
}

#[test]
fn a_database_that_opens_with_its_tables_is_well() {
    let app = App::new(&with_health("sqlite = \"app/data/app.db\""));
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    let output = app.project.ok(["rollback", &id]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("web is healthy"), "{output:?}");
    assert_eq!((app.rows(), app.runs()), (1, true));
}
