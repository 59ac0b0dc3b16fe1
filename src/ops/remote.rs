//! Buckets as stores: from what the configuration, a kit or the command line say to a store that can be used.

use crate::config::{Checksum, Sse, UrlPlace};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::stores::Means;
use crate::store::s3::credentials::{AwsChain, CredentialsSpec};
use crate::store::s3::{self, S3Spec, S3Store};
use crate::store::{StoreError, StoreErrorKind};
use std::sync::Arc;

/// Signed for where nothing names a region: servers that have none take any.
const REGION: &str = "us-east-1";

fn spec(name: &str, place: &UrlPlace, means: &Means) -> S3Spec {
    let credentials = Arc::new(AwsChain::new(CredentialsSpec {
        profile: place.profile.clone(),
        credentials_file: place.credentials_file.clone(),
        region: place.region.clone(),
    }));
    let region = place.region.clone().or_else(|| credentials.region());
    let interrupt = means.interrupt.clone();
    S3Spec {
        prefix: place.prefix.clone(),
        endpoint: place.endpoint.clone(),
        region: region.unwrap_or_else(|| REGION.to_owned()),
        path_style: place.path_style,
        ca_file: place.ca_file.clone(),
        storage_class: place.storage_class.clone(),
        sse: place.sse.as_ref().map(|sse| match sse {
            Sse::Aes256 => s3::Sse::Aes256,
            Sse::Kms(key) => s3::Sse::Kms(key.clone()),
        }),
        checksum: match place.checksum {
            Checksum::Auto => s3::Checksum::Auto,
            Checksum::Sha256 => s3::Checksum::Sha256,
            Checksum::Off => s3::Checksum::None,
        },
        limit_upload: place.limit_upload,
        limit_download: place.limit_download,
        allow_http: place.allow_http,
        interrupted: Arc::new(move || interrupt.signal().is_some()),
        as_of: means.as_of,
        ..S3Spec::new(name, &place.bucket, &means.state_dir, credentials)
    }
}

/// Opens the store in a bucket.
pub fn open_bucket(name: &str, place: &UrlPlace, means: &Means) -> Result<S3Store> {
    S3Store::open(spec(name, place, means)).map_err(|e| cannot("opened", name, place, e))
}

/// The same, or `None` when it is certain that there is no store.
pub fn bucket_if_there(name: &str, place: &UrlPlace, means: &Means) -> Result<Option<S3Store>> {
    match S3Store::open(spec(name, place, means)) {
        Ok(store) => Ok(Some(store)),
        Err(e) if e.kind == StoreErrorKind::Missing => Ok(None),
        Err(e) => Err(cannot("opened", name, place, e)),
    }
}

/// Reaches the place for a store in a bucket, which has no `backstay.json` yet; makes the bucket if that is wanted.
pub fn create_in_bucket(name: &str, place: &UrlPlace, means: &Means, make_bucket: bool) -> Result<S3Store> {
    let made = S3Store::create(spec(name, place, means), make_bucket);
    made.map_err(|e| cannot("made", name, place, e))
}

fn cannot(done: &str, name: &str, place: &UrlPlace, error: StoreError) -> OpError {
    let hint = match error.kind {
        StoreErrorKind::Missing => {
            "is the bucket's name right? where there never was a store, `backstay init` makes one (with --create-bucket its bucket, too)"
        }
        StoreErrorKind::Denied => {
            "check the keys, and what they are allowed to do with this bucket and prefix"
        }
        StoreErrorKind::Unreachable => "is the network up, and `endpoint` right? try again later",
        _ => "look at `endpoint`, `region` and `path_style` of the store",
    };
    // What the store's own error says beside its cause is said here.
    OpError::new(Class::Store, format!("store {name:?} ({}) cannot be {done}", place.shown))
        .because(error.source)
        .hint(hint)
}

/// The place that `--store URL` names: reached as the bucket of the configuration is, when there is just one such server (a bucket that was
/// moved or renamed), else as the environment says.
pub fn named_bucket(url: &str, configured: &[&UrlPlace]) -> Result<UrlPlace> {
    let wrong = |e: crate::config::BadUrl| OpError::new(Class::Usage, "--store cannot be used").because(e);
    let named = UrlPlace::parse(url).map_err(wrong)?;
    let Some((first, others)) = configured.split_first() else {
        let endpoint =
            ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| std::env::var(name).ok());
        let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) else { return Ok(named) };
        let settings = [("endpoint", endpoint), ("path_style", "true".to_owned())];
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        return UrlPlace::from_kit(url, &settings).map_err(wrong);
    };
    if others.iter().any(|other| other.endpoint != first.endpoint) {
        return Err(OpError::new(
            Class::Usage,
            "the configuration names buckets of several servers, and a URL does not say which is meant",
        )
        .hint("name the bucket in a configuration of its own, and give that with -c FILE"));
    }
    Ok(UrlPlace { shown: named.shown, bucket: named.bucket, prefix: named.prefix, ..(*first).clone() })
}
