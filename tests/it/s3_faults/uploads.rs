//! Uploads in parts that nobody goes on with.

use super::bed::{Bed, Do, bytes, told};
use crate::common::fault_server::{Fault, Nth, Op, raw};
use backstay::model::{ObjectId, Timestamp};
use backstay::store::s3::S3Store;
use backstay::store::{Key, Put, Store};

#[test]
fn an_upload_that_nobody_goes_on_with_is_ended_whatever_is_put_next() {
    let bed = Bed::new();
    bed.server.fault(Op::Complete, Nth::All, Fault::Refuse(503, "SlowDown", None));
    bed.perform(Do::PutParts).unwrap_err();
    bed.server.calm();
    let folder = bed.state.path().join("uploads/offsite");
    let remembered = || std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let [file] = &remembered()[..] else { panic!("{:?}", remembered()) };
    let mut upload: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    upload["begun"] = (upload["begun"].as_i64().unwrap() - 7 * 24 * 3600).into();
    std::fs::write(file, upload.to_string()).unwrap();
    assert_eq!(bed.server.uploads(), 1);
    // Small enough for one request: there may never be another one in parts.
    let store = S3Store::create(bed.spec.clone(), false).unwrap();
    let content = bytes(1000, 6);
    let (id, path) = (ObjectId::of(&content), bed.state.path().join("spooled"));
    std::fs::write(&path, &content).unwrap();
    assert_eq!(store.put_file(&Key::Archive(id), &path, 1000, &id).unwrap(), Put::Proved);
    assert_eq!((bed.server.uploads(), bed.server.count(Op::Abort)), (0, 1));
    assert!(remembered().is_empty());
}

#[test]
fn an_upload_of_a_throw_away_object_is_listed_and_ended_and_no_stranger() {
    let bed = Bed::new();
    bed.server.fault(Op::Abort, Nth::All, Fault::Refuse(403, "AccessDenied", None));
    bed.store.probe().map_err(|e| told(&e)).unwrap();
    bed.server.calm();
    for other in ["elsewhere/x", "p/xy/backstay.json", "p/x/notes.txt"] {
        raw(&bed.server, &format!("POST /bucket/{other}?uploads HTTP/1.1"), b"").unwrap();
    }
    let found = bed.store.list_uploads().unwrap();
    assert!(found.len() == 1 && found[0].name.starts_with(".backstay-probe/"), "{found:?}");
    assert_eq!(bed.store.open_uploads().unwrap().len(), 1);
    assert_eq!(bed.store.abort_uploads(Timestamp::UNIX_EPOCH).unwrap(), 0, "it is not that old");
    assert_eq!(bed.store.abort_uploads(Timestamp::MAX).unwrap(), 1);
    assert_eq!((bed.store.list_uploads().unwrap(), bed.server.uploads()), (vec![], 3));
}
