//! `init` with places in buckets: what is looked at before a bucket is made, and that what was made is said.

use super::shop::{PREFIX, Shop, give_keys};
use crate::common::fault_server::{Fault, FaultServer, Nth, Op};
use crate::common::person::{Person, Said, everything_below};
use crate::common::s3::{Oddities, Server};
use std::fs;

fn init(person: &Person, endpoint: &str, more: &[&str]) -> Said {
    let args: Vec<&str> = ["init", "--yes"].iter().chain(more).copied().collect();
    person.command(args).env("AWS_ENDPOINT_URL", endpoint).output().unwrap().into()
}

#[test]
fn no_bucket_is_made_before_every_other_place_was_looked_at() {
    let (server, person) = (Server::start(Oddities::default()), Person::new());
    give_keys(&person.home);
    fs::write(person.top.join("file"), "").unwrap();
    let fresh = server.bucket().with_file_name("fresh");
    let before = everything_below(&person.top);
    // A folder that cannot be made; a bucket of which nobody says on which account it is.
    for second in ["../file/store", "az://container/app"] {
        let more = ["--store", "s3://fresh/app", "--store", second, "--create-bucket"];
        let said = init(&person, &server.endpoint, &more).code(10).error();
        assert!(!said.err.contains("made bucket"), "{said}");
        assert!(!fresh.exists(), "{second}");
        assert_eq!(everything_below(&person.top), before, "{second}");
    }
    let said = init(&person, &server.endpoint, &["--store", "s3://fresh/app", "--create-bucket"]).code(0);
    said.says(&["made bucket fresh", "made store s3://fresh/app"]);
    assert!(fresh.exists());
}

#[test]
fn init_with_create_bucket_asks_for_no_bucket_where_one_is() {
    let server = FaultServer::start();
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    let person = &shop.person;
    person.backup();
    // Keys that may write to the bucket, and make none.
    server.fault(Op::Bucket, Nth::All, Fault::Refuse(403, "AccessDenied", None));
    for gone in [person.config_path(), person.kit()] {
        fs::remove_file(gone).unwrap();
    }
    let store = format!("s3://bucket/{PREFIX}");
    let said = init(person, &server.endpoint(), &["--store", &store, "--create-bucket"]).code(0);
    assert!(!said.err.contains("made bucket") && !said.err.contains("made store"), "{said}");
    assert_eq!(shop.list(&[]).len(), 1);
    // A bucket without a store in it is one all the same.
    let other = Person::new();
    give_keys(&other.home);
    let more = ["--store", "s3://bucket/other", "--create-bucket"];
    let said = init(&other, &server.endpoint(), &more).code(0).says(&["made store s3://bucket/other"]);
    assert!(!said.err.contains("made bucket"), "{said}");
    server.calm();
}
