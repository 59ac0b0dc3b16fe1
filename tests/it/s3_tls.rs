//! Buckets behind TLS: an authority of one's own, certificates that do not hold, machines without any certificate, proxies.

use crate::buckets::shop::{PREFIX, Shop, give_keys};
use crate::common::fault_server::{FaultServer, Op};
use crate::common::person::Said;
use crate::common::project::{have, noise};
use crate::common::s3::{BUCKET, Oddities, Server};
use crate::common::tls::{Authority, Certificate, Front};
use crate::s3_faults::bed::{Bed, told};
use crate::s3_faults::matrix::ALL;
use backstay::store::StoreErrorKind as Kind;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[test]
fn a_certificate_that_does_not_hold_ends_every_operation_at_once() {
    if !have(&["openssl"]) {
        return;
    }
    let authority = Authority::new();
    for certificate in [Certificate::Ended, Certificate::ForAnotherName] {
        for (what, _) in ALL {
            let (bed, front) = Bed::behind(&authority);
            bed.perform(*what).unwrap();
            front.exchange(&authority, certificate);
            let before = bed.paused();
            let error = bed.perform(*what).unwrap_err();
            let text = told(&error);
            assert_eq!(error.kind, Kind::Unreachable, "{text}");
            assert!(text.contains("certificate") && text.contains("ca_file"), "{certificate:?}: {text}");
            // One more try where an old connection broke; none because of the certificate.
            assert!((bed.paused() - before).as_secs() < 2, "{certificate:?}: {:?}", bed.paused());
            front.exchange(&authority, Certificate::Good);
            bed.perform(*what).unwrap_or_else(|e| panic!("{what:?}: {}", told(&e)));
        }
    }
}

/// Somebody whose store is behind TLS with an authority of its own.
fn behind_tls(front: &Front, more: &str) -> Shop {
    let shop = Shop {
        person: crate::common::person::Person::set_up(),
        endpoint: front.endpoint.clone(),
        bucket: BUCKET.into(),
    };
    give_keys(&shop.person.home);
    shop.person.configure(&format!("{}\n{more}", Shop::lines(&front.endpoint, BUCKET)));
    shop
}

#[test]
fn a_store_with_an_authority_of_its_own_is_used_when_ca_file_names_it_and_only_then() {
    if !have(&["openssl"]) {
        return;
    }
    let (authority, server) = (Authority::new(), Server::start(Oddities::default()));
    let front = Front::before(&server.endpoint, &authority, Certificate::Good);
    let shop = behind_tls(&front, "");
    shop.person.fails(10, ["init"]).says(&["certificate", "ca_file"]);
    let ca_file = authority.file().display().to_string();
    let config = fs::read_to_string(shop.person.config_path()).unwrap();
    fs::write(shop.person.config_path(), format!("{config}\nca_file = {ca_file:?}\n")).unwrap();
    shop.person.ok(["init"]);
    let report = shop.person.json(0, ["backup"]);
    assert_eq!(report["stores"][1]["has_snapshot"], true, "{report:#}");
    shop.person.ok(["restore", "latest", "--to", "../back", "--store", "offsite"]);
    for wrong in ["/not/there.pem", shop.person.config_path().to_str().unwrap()] {
        let text = fs::read_to_string(shop.person.config_path()).unwrap().replace(&ca_file, wrong);
        fs::write(shop.person.app.join("other.toml"), text).unwrap();
        let said = shop.person.fails(10, ["-c", "other.toml", "list", "--store", "offsite"]);
        said.says(&["ca_file", wrong]);
    }
}

#[test]
fn a_machine_without_certificates_reaches_plain_servers_and_those_of_ca_file() {
    if !have(&["openssl"]) {
        return;
    }
    let (authority, server) = (Authority::new(), Server::start(Oddities::default()));
    let front = Front::before(&server.endpoint, &authority, Certificate::Good);
    let run = |shop: &Shop, args: &[&str]| -> Said {
        let mut command = shop.command(args);
        let none = shop.person.top.join("no-certificates");
        fs::create_dir_all(&none).unwrap();
        fs::write(none.join("empty.pem"), "").unwrap();
        command.env("SSL_CERT_FILE", none.join("empty.pem")).env("SSL_CERT_DIR", &none);
        command.output().unwrap().into()
    };
    let plain = Shop {
        person: crate::common::person::Person::set_up(),
        endpoint: server.endpoint.clone(),
        bucket: BUCKET.into(),
    };
    give_keys(&plain.person.home);
    plain.person.configure(&Shop::lines(&server.endpoint, BUCKET));
    run(&plain, &["init"]).code(0);
    run(&plain, &["backup"]).code(0);
    fs::remove_dir_all(server.bucket().join(PREFIX)).unwrap();
    let own = behind_tls(&front, &format!("ca_file = {:?}", authority.file().display().to_string()));
    run(&own, &["init"]).code(0);
    run(&own, &["backup"]).code(0);
    let none = behind_tls(&front, "");
    run(&none, &["init"]).code(10).says(&["this machine trusts no certificates at all", "ca-certificates"]);
}

/// A proxy, which notes what it was asked for, and passes it on to the server that is named, or to `to`; ends with the test.
fn proxy(to: Option<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://canary-user:canary-password@{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let own = Arc::clone(&asked);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (own, to) = (Arc::clone(&own), to.clone());
            std::thread::spawn(move || pass_on(client, &own, to));
        }
    });
    (address, asked)
}

/// Passes one request on to the server that it names (or `to`) and the answer back; or all that is said between two who want a tunnel.
fn pass_on(mut client: TcpStream, asked: &Mutex<Vec<String>>, to: Option<String>) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    asked.lock().unwrap().push(head.clone());
    if let Some(host) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) {
        return tunnel(client, host);
    }
    let host = head.split("http://").nth(1)?.split('/').next()?.to_owned();
    let length =
        head.to_lowercase().split("content-length: ").nth(1).and_then(|l| l.split('\r').next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    client.read_exact(&mut body).ok()?;
    let head = head.replacen(&format!("http://{host}"), "", 1).replacen(
        "\r\n\r\n",
        "\r\nConnection: close\r\n\r\n",
        1,
    );
    let scripted = to.is_some();
    let mut server = TcpStream::connect(to.unwrap_or(host)).ok()?;
    server.write_all(head.as_bytes()).ok()?;
    server.write_all(&body).ok()?;
    if scripted {
        // It ends a connection when there are no more requests on it, whatever they say.
        server.shutdown(std::net::Shutdown::Write).ok()?;
    }
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    if scripted {
        // Nor does it say so: a client that keeps this connection for its next request finds it closed.
        let first = answer.windows(2).position(|two| two == b"\r\n")?;
        answer.splice(first..first, *b"\r\nConnection: close");
    }
    client.write_all(&answer).ok()
}

/// Both directions, until either end has had enough.
fn tunnel(mut client: TcpStream, host: &str) -> Option<()> {
    let mut server = TcpStream::connect(host).ok()?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(std::net::Shutdown::Both));
    });
    drop(std::io::copy(&mut server, &mut client));
    client.shutdown(std::net::Shutdown::Both).ok()
}

#[test]
fn a_store_behind_tls_is_reached_through_a_tunnel_of_the_proxy_which_sees_nothing_of_it() {
    if !have(&["openssl"]) {
        return;
    }
    let (authority, server) = (Authority::new(), Server::start(Oddities::default()));
    let front = Front::before(&server.endpoint, &authority, Certificate::Good);
    let shop = behind_tls(&front, &format!("ca_file = {:?}", authority.file().display().to_string()));
    let (address, asked) = proxy(None);
    for args in [["init"], ["backup"], ["list"]] {
        let mut command = shop.command(args);
        let said: Said = command.env("https_proxy", &address).env("no_proxy", "").output().unwrap().into();
        let said = said.code(0);
        assert!(!said.err.contains("canary"), "{said}");
    }
    let host = front.endpoint.strip_prefix("https://").unwrap();
    let asked = asked.lock().unwrap();
    assert!(!asked.is_empty());
    for head in asked.iter() {
        assert!(head.starts_with(&format!("CONNECT {host} ")), "{head}");
        assert!(head.to_lowercase().contains("proxy-authorization: basic "), "{head}");
        assert!(!head.contains(PREFIX) && !head.contains("AWS4"), "{head}");
    }
}

#[test]
fn a_bucket_in_the_host_name_is_asked_for_there() {
    let server = FaultServer::start();
    // Nobody but the proxy knows where that host is.
    let (address, asked) = proxy(server.endpoint().strip_prefix("http://").map(str::to_owned));
    let person = crate::common::person::Person::set_up();
    give_keys(&person.home);
    let settings = "path_style = false\nallow_http = true";
    person.configure(&format!("{}\n{settings}", Shop::lines("http://store.invalid", "bucket")));
    for args in [["init"], ["backup"], ["list"]] {
        let mut command = person.command(args);
        let said: Said = command.env("http_proxy", &address).env("no_proxy", "").output().unwrap().into();
        said.code(0);
    }
    for head in asked.lock().unwrap().iter() {
        assert!(head.contains(" http://bucket.store.invalid/"), "{head}");
        assert!(head.to_lowercase().contains("\r\nhost: bucket.store.invalid\r\n"), "{head}");
    }
    assert!(server.object(&format!("{PREFIX}/backstay.json")).is_some(), "{:?}", server.keys());
    assert!(server.keys().iter().any(|key| key.starts_with(&format!("{PREFIX}/snapshots/"))));
}

#[test]
fn a_proxy_of_the_environment_is_used_and_its_password_not_shown() {
    let server = Server::start(Oddities::default());
    let (address, asked) = proxy(None);
    let shop = Shop::open(&server.endpoint, BUCKET, &[]);
    let run = |args: &[&str], no_proxy: &str| -> Said {
        let mut command = shop.command(args);
        command.env("http_proxy", &address).env("no_proxy", no_proxy).output().unwrap().into()
    };
    let said = run(&["backup", "-v"], "").code(0);
    assert!(!said.err.contains("canary"), "{said}");
    let through = asked.lock().unwrap().len();
    assert!(through > 5, "{through}");
    assert!(
        asked.lock().unwrap().iter().all(|head| head.contains("roxy-") && !head.contains("canary-password"))
    );
    run(&["list"], "127.0.0.1").code(0);
    assert_eq!(asked.lock().unwrap().len(), through, "no_proxy leaves servers out");
    // A proxy that is not there is named without its password.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = shop.command(["list"]);
    let gone = format!("http://canary-user:canary-password@{nobody}");
    let said: Said = command.env("http_proxy", gone).env("no_proxy", "").output().unwrap().into();
    assert!(said.code == 10 && !said.err.contains("canary"), "{said}");
}

#[test]
fn what_goes_with_every_object_is_what_the_configuration_says() {
    let server = FaultServer::start();
    // It proves nothing, so what is larger than a part goes in parts.
    server.manner(|manner| manner.ignores_signed = true);
    let person = crate::common::person::Person::set_up();
    give_keys(&person.home);
    fs::write(person.app.join("backend/app/noise.bin"), noise(1, 17 << 20)).unwrap();
    let settings = "storage_class = \"STANDARD_IA\"\nsse = \"aws:kms:key-1\"\nregion = \"eu-north-1\"\nchecksum = \"none\"";
    person.configure(&format!("{}\n{settings}", Shop::lines(&server.endpoint(), "bucket")));
    person.ok(["init"]);
    person.backup();
    let (puts, begun) = (server.count(Op::Put), server.count(Op::Begin));
    assert!(puts > 5 && begun > 1, "{puts} whole, {begun} in parts: one of those was a probe");
    for put in server.calls().into_iter().filter(|c| matches!(c.op, Op::Put | Op::Begin)) {
        let header = |name: &str| put.headers.get(name).map(String::as_str);
        assert_eq!(header("x-amz-storage-class"), Some("STANDARD_IA"), "{put:?}");
        assert_eq!(header("x-amz-server-side-encryption"), Some("aws:kms"), "{put:?}");
        assert_eq!(header("x-amz-server-side-encryption-aws-kms-key-id"), Some("key-1"), "{put:?}");
        assert!(!put.checksum && header("x-amz-checksum-algorithm").is_none(), "{put:?}");
        assert!(header("authorization").unwrap().contains("/eu-north-1/s3/"), "{put:?}");
    }
}
