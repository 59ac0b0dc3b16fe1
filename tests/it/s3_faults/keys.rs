//! Keys that are exchanged while a store is used.

use super::bed::{Bed, CALM, Do, told};
use crate::common::fault_server::{Manner, Op};
use backstay::model::{Clock, clock::SystemClock};
use backstay::store::StoreErrorKind as Kind;
use backstay::store::s3::credentials::{AwsChain, CredentialsSpec};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

fn write(path: &Path, id: &str) {
    let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = canary-of-{id}\n");
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&new, path).unwrap();
}

fn chain(file: &Path) -> Arc<AwsChain> {
    let spec = CredentialsSpec { credentials_file: Some(file.to_owned()), ..CredentialsSpec::default() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Arc::new(AwsChain::within(spec, Arc::new(|_| None), clock))
}

#[test]
fn keys_that_were_exchanged_are_picked_up_in_the_middle_of_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s3.ini");
    write(&file, "AKOLD");
    let manner = Manner { accepts_key: Some("AKOLD".into()), ..Manner::default() };
    let bed = Bed::with(manner, CALM, chain(&file));
    bed.perform(Do::PutBytes).unwrap();
    bed.server.manner(|manner| manner.accepts_key = Some("AKNEW".into()));
    let error = bed.perform(Do::Get).unwrap_err();
    let text = told(&error);
    assert_eq!(error.kind, Kind::Denied, "{text}");
    assert!(text.contains("ExpiredToken") && text.contains("s3.ini"), "{text}");
    write(&file, "AKNEW");
    bed.server.forget_calls();
    bed.perform(Do::Get).unwrap();
    assert_eq!(bed.server.count(Op::Get), 1, "the file is looked at before the server has to refuse");
    assert!(bed.server.calls().iter().all(|call| call.signer == "AKNEW"));
}

#[test]
fn keys_that_are_refused_are_fetched_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let (file, program) = (dir.path().join("s3.ini"), dir.path().join("give"));
    let give = |id: &str| {
        let text = format!(
            "#!/bin/sh\necho '{{\"Version\":1,\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"canary\",\"Expiration\":\"2099-01-01T00:00:00Z\"}}'\n"
        );
        let new = dir.path().join("give.new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::rename(&new, &program).unwrap();
    };
    give("AKOLD");
    std::fs::write(&file, format!("[default]\ncredential_process = {}\n", program.display())).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let manner = Manner { accepts_key: Some("AKOLD".into()), ..Manner::default() };
    let bed = Bed::with(manner, CALM, chain(&file));
    give("AKNEW");
    bed.server.manner(|manner| manner.accepts_key = Some("AKNEW".into()));
    bed.perform(Do::PutBytes).unwrap();
    let signers: Vec<String> = bed.server.calls().into_iter().map(|call| call.signer).collect();
    assert_eq!(signers, ["AKOLD", "AKNEW"]);
}

#[test]
fn a_store_without_keys_says_where_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s3.ini");
    write(&file, "AK");
    let bed = Bed::with(Manner::default(), CALM, chain(&file));
    std::fs::remove_file(&file).unwrap();
    let error = bed.perform(Do::Get).unwrap_err();
    let text = told(&error);
    assert!(
        error.kind == Kind::Denied && text.contains("s3.ini") && text.contains("does not exist"),
        "{text}"
    );
}
