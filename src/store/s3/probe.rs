//! Finds out what a server can do, by doing it to throw-away objects with random names below `.backstay-probe/`.
//!
//! This module must never touch a key of the format, and never take a refusal for a "no" when it is one of access.

use crate::durable::random_bytes;
use crate::model::{ObjectId, Timestamp};
use crate::store::StoreErrorKind;
use crate::store::s3::S3Store;
use crate::store::s3::capabilities::{self, Capabilities, Compared};
use crate::store::s3::client::{CHECKSUM, Call, Patience, Reply};
use crate::store::s3::failure::{Again, Failure};
use crate::store::s3::list::PROBES;
use crate::store::s3::spec::Checksum;
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use http::Method;

const FIRST: &[u8] = b"backstay looks what this server can do: 1\n";
const SECOND: &[u8] = b"backstay looks what this server can do: 2\n";

/// What the failure of a lie says about the server.
enum Said {
    /// It compared, and refused.
    Caught,
    /// The same in the words of want of rights; it can also be that.
    Forbidden,
    /// It broke on it, by the lie or by chance.
    Fault,
    /// It did something else than compare.
    Other,
    /// Nothing: it was busy, the keys were old, the line broke.
    Nothing,
}

fn said_by(failure: &Failure) -> Said {
    let code = failure.code.as_str();
    let busy = matches!(code, "SlowDown" | "ServiceUnavailable" | "Throttling" | "RequestTimeout");
    let for_good = failure.again == Again::Never || failure.says_spoilt();
    match failure.status {
        // Some servers see a wrong signature here; they refused all the same.
        403 if matches!(code, "SignatureDoesNotMatch" | "XAmzContentSHA256Mismatch" | "AccessDenied") => {
            Said::Forbidden
        }
        _ if failure.kind == StoreErrorKind::Denied => Said::Nothing,
        400 | 422 if for_good => Said::Caught,
        500 if !busy => Said::Fault,
        _ if failure.again == Again::Never => Said::Other,
        _ => Said::Nothing,
    }
}

/// The same request, with a signature that covers the SHA-256 of other bytes.
fn signed_for_other(truth: &Call) -> Call {
    Call { sha256: ObjectId::of(SECOND), ..truth.clone() }
}

fn checksum_of(bytes: &[u8]) -> String {
    BASE64.encode(ObjectId::of(bytes).as_bytes())
}

impl S3Store {
    /// A probe before a first write. Keys that may write nothing but the objects of the format get by without one.
    pub(super) async fn probe_for_writing(&self) -> Result<Capabilities, Failure> {
        match self.probe_now().await {
            Err(e) if e.kind == StoreErrorKind::Denied => Ok(Capabilities::least()),
            other => other,
        }
    }

    pub(super) async fn probe_now(&self) -> Result<Capabilities, Failure> {
        let random = random_bytes::<12>()
            .map_err(|e| Failure::new(StoreErrorKind::Other, "no randomness").because(e))?;
        let place = self.path(&format!("{PROBES}{}", HEXLOWER.encode(&random)));
        let mut found = Capabilities::least();
        let mut litter = vec![format!("{place}-1"), format!("{place}-2"), format!("{place}-3")];
        let tried = self.try_all(&litter, &mut found).await;
        found.delete_allowed = true;
        for key in litter.drain(..) {
            match self.client.run(&Call::new(Method::DELETE, &key)).await {
                Ok(_) => {}
                Err(e) if e.is_absent() => {}
                Err(e) if e.kind == StoreErrorKind::Unreachable => return Err(e),
                Err(_) => found.delete_allowed = false,
            }
        }
        tried?;
        found.versioning = self.says("versioning", "VersioningConfiguration", "Status").await;
        found.object_lock = self.says("object-lock", "ObjectLockConfiguration", "ObjectLockEnabled").await;
        found.probed_at =
            Some(Timestamp::from_second(self.client.transport().timer().unix()).unwrap_or_default());
        capabilities::save(&self.spec, &found)?;
        Ok(found)
    }

    async fn try_all(&self, keys: &[String], found: &mut Capabilities) -> Result<(), Failure> {
        self.try_first_put(&keys[0], found).await?;
        self.try_again_over(&keys[0], found).await?;
        self.try_lies(&keys[1], &keys[2], found).await?;
        self.try_parts(&keys[2], found).await?;
        self.try_range(&keys[0], found).await
    }

    fn plain_put(&self, key: &str, body: &'static [u8]) -> Call {
        self.putting(Call::new(Method::PUT, key)).body(Bytes::from_static(body), ObjectId::of(body))
    }

    /// A put in the form that the server took: where every put needs a checksum, one without is refused, and that says nothing of what was tried.
    pub(super) fn probe_put(&self, key: &str, body: &'static [u8], found: &Capabilities) -> Call {
        let plain = self.plain_put(key, body);
        if found.checksum_put.taken() { plain.checksummed() } else { plain }
    }

    /// A put as plain as the server wants it: what it refuses is left off.
    async fn try_first_put(&self, key: &str, found: &mut Capabilities) -> Result<(), Failure> {
        let plain = self.plain_put(key, FIRST);
        let create = plain.clone().header("if-none-match", "*");
        if self.spec.checksum != Checksum::None {
            match self.client.run(&create.clone().checksummed()).await {
                Ok(_) => {
                    (found.create_only, found.checksum_put) = (true, Compared::Ignored);
                    return Ok(());
                }
                Err(e) if !e.refuses() => return Err(e),
                Err(_) => {}
            }
            match self.client.run(&plain.clone().checksummed()).await {
                Ok(_) => {
                    found.checksum_put = Compared::Ignored;
                    return Ok(());
                }
                Err(e) if self.spec.checksum == Checksum::Sha256 || !e.refuses() => return Err(e),
                Err(_) => found.checksum_put = Compared::Refused,
            }
        }
        match self.client.run(&create).await {
            Ok(_) => {
                found.create_only = true;
                Ok(())
            }
            Err(e) if !e.refuses() => Err(e),
            Err(_) => self.client.run(&plain).await.map(drop),
        }
    }

    /// A second put of other bytes: with the condition it must be refused and change nothing.
    async fn try_again_over(&self, key: &str, found: &mut Capabilities) -> Result<(), Failure> {
        if found.create_only {
            let again = self.probe_put(key, SECOND, found).header("if-none-match", "*");
            let again = self.client.run(&again).await;
            let kept = self.probe_bytes(key).await? == FIRST;
            found.create_only = kept && again.is_err_and(|e| e.is_in_the_way());
        }
        let over = self.client.run(&self.probe_put(key, SECOND, found)).await;
        found.overwrite_possible = match over {
            Ok(_) => self.probe_bytes(key).await? == SECOND,
            Err(e) if e.kind == StoreErrorKind::Unreachable => return Err(e),
            Err(_) => false,
        };
        Ok(())
    }

    /// Puts whose SHA-256 is another's: once in the checksum, once in the signature.
    async fn try_lies(&self, key: &str, other: &str, found: &mut Capabilities) -> Result<(), Failure> {
        if found.checksum_put == Compared::Ignored {
            let truth = self.probe_put(key, FIRST, found);
            let lie = truth.clone().header(CHECKSUM, &checksum_of(SECOND));
            if self.catches(&lie, &truth).await? {
                found.checksum_put = Compared::Enforced;
            }
        }
        let truth = self.probe_put(other, FIRST, found);
        found.payload_put = self.catches(&signed_for_other(&truth), &truth).await?;
        Ok(())
    }

    /// True when the server refuses `lie`, and because it is one: what is found is relied on for good, so an answer that any request could have got at
    /// that moment is none. Servers that answer it with a fault of their own must take the truth between two such answers: then it was no hour of bad luck.
    async fn catches(&self, lie: &Call, truth: &Call) -> Result<bool, Failure> {
        let mut faults = 0;
        let mut patience = Patience::new(&self.client);
        loop {
            let failure = match self.client.attempt(lie).await {
                Ok(_) => return Ok(false),
                Err(failure) => failure,
            };
            match said_by(&failure) {
                Said::Caught => return Ok(true),
                Said::Forbidden => return self.takes(truth).await,
                Said::Other => return Ok(false),
                Said::Fault if faults == 1 => return Ok(true),
                Said::Fault => {
                    faults += 1;
                    self.client.run(truth).await?;
                }
                Said::Nothing => match patience.again(failure).await {
                    Ok(()) => {}
                    // A server that hangs up on each lie, and on nothing else, proves nothing and can be worked with; so can one behind a gateway, which
                    // says 502 for it. One that is busy with everything is busy with the truth, too.
                    Err(e) if e.kind == StoreErrorKind::Unreachable => {
                        return self.client.run(truth).await.map(|_| false);
                    }
                    Err(e) => return Err(e),
                },
            }
        }
    }

    /// Whether these keys may send `truth`.
    async fn takes(&self, truth: &Call) -> Result<bool, Failure> {
        match self.client.run(truth).await {
            Err(e) if e.kind == StoreErrorKind::Denied => Ok(false),
            other => other.map(|_| true),
        }
    }

    async fn try_parts(&self, key: &str, found: &mut Capabilities) -> Result<(), Failure> {
        let wanted = self.spec.checksum != Checksum::None && found.checksum_put != Compared::Refused;
        let Some((id, refused)) = self.begin_probe(key, wanted).await? else {
            found.multipart = false;
            return Ok(());
        };
        let part = Call::new(Method::PUT, key).query("partNumber", "1").query("uploadId", id.as_str());
        let part = part.body(Bytes::from_static(FIRST), ObjectId::of(FIRST));
        let tried = match refused {
            Some(refused) if self.spec.checksum == Checksum::Sha256 => Err(refused),
            Some(_) => {
                found.checksum_part = Compared::Refused;
                self.try_part(part, false, found).await
            }
            None => self.try_part(part, wanted, found).await,
        };
        found.abort_allowed = match self.abort(key, &id).await {
            Ok(()) => Some(true),
            // What was begun stays there, once: it is remembered, and not tried again by each run.
            Err(e) if e.status == 403 => Some(false),
            Err(e) => return Err(e),
        };
        tried
    }

    /// Begins an upload in parts, with checksums if they are wanted: its id, and why it was refused with them where it was. `None` when the server takes
    /// no such uploads.
    async fn begin_probe(
        &self,
        key: &str,
        with_checksum: bool,
    ) -> Result<Option<(String, Option<Failure>)>, Failure> {
        let plain = self.putting(Call::new(Method::POST, key)).query("uploads", "");
        let plain = plain.expects("InitiateMultipartUploadResult");
        let id = |reply: &Reply| reply.xml.text_of("UploadId").unwrap_or_default().to_owned();
        let mut refused = None;
        if with_checksum {
            match self.client.run(&plain.clone().header("x-amz-checksum-algorithm", "SHA256")).await {
                Ok(reply) => return Ok(Some((id(&reply), None))),
                Err(e) if e.refuses() => refused = Some(e),
                Err(e) => return Err(e),
            }
        }
        match self.client.run(&plain).await {
            Ok(reply) => Ok(Some((id(&reply), refused))),
            Err(e) if e.refuses() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn try_part(
        &self,
        part: Call,
        with_checksum: bool,
        found: &mut Capabilities,
    ) -> Result<(), Failure> {
        let checked = part.clone().checksummed();
        if with_checksum {
            let lie = part.clone().header(CHECKSUM, &checksum_of(SECOND));
            found.checksum_part = match self.client.run(&checked).await {
                Ok(_) if self.catches(&lie, &checked).await? => Compared::Enforced,
                Ok(_) => Compared::Ignored,
                Err(e) if self.spec.checksum != Checksum::Sha256 && e.refuses() => Compared::Refused,
                Err(e) => return Err(e),
            };
        }
        let truth = if found.checksum_part.taken() { checked } else { part };
        if !found.checksum_part.taken() {
            // What is refused as it is says nothing of a lie in it.
            match self.client.run(&truth).await {
                Ok(_) => {}
                Err(e) if e.refuses() => {
                    found.multipart = false;
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
        found.payload_part = self.catches(&signed_for_other(&truth), &truth).await?;
        Ok(())
    }

    async fn try_range(&self, key: &str, found: &mut Capabilities) -> Result<(), Failure> {
        let call = Call::new(Method::GET, key).header("range", "bytes=9-13");
        let mut answer = self.client.attempt(&call).await?;
        found.ranges = answer.all(1 << 10).await? == FIRST[9..=13];
        Ok(())
    }

    async fn probe_bytes(&self, key: &str) -> Result<Vec<u8>, Failure> {
        let mut answer = self.client.attempt(&Call::new(Method::GET, key)).await?;
        answer.all(1 << 10).await
    }

    /// Whether a setting of the bucket says `Enabled`; `None` when it may not be asked or the server knows no such thing.
    async fn says(&self, query: &'static str, root: &'static str, field: &str) -> Option<bool> {
        let call = Call::new(Method::GET, "").query(query, "").expects(root);
        // Once: what is not answered is not known, and a server that sends something else here sends it always.
        match self.client.whole(&call).await {
            Ok(reply) => Some(reply.xml.text_of(field) == Some("Enabled")),
            Err(e) if e.code == "ObjectLockConfigurationNotFoundError" => Some(false),
            Err(_) => None,
        }
    }
}
