//! Buckets as stores: from what the configuration, a kit or the command line say to a store that can be used.

use crate::config::{Checksum, Cloud, Sse, UrlPlace};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::stores::Means;
#[cfg(any(feature = "gcs", feature = "azure"))]
use crate::store::cloud::{CloudSpec, CloudStore, Service};
use crate::store::s3::credentials::{AwsChain, CredentialsError, CredentialsSpec};
use crate::store::s3::{self, Capabilities, S3Spec, S3Store};
use crate::store::{Store, StoreError, StoreErrorKind};
use std::path::Path;
use std::sync::Arc;

/// Signed for where nothing names a region: servers that have none take any.
const REGION: &str = "us-east-1";

/// What a bucket is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    /// The store that is in it, as it stood at that time where one is given.
    Use { as_of: Option<jiff::Timestamp> },
    /// A store that is to be made.
    Making { bucket_too: bool },
}

fn spec(name: &str, place: &UrlPlace, state_dir: &Path, interrupt: &Interrupt) -> S3Spec {
    let credentials = Arc::new(AwsChain::new(CredentialsSpec {
        profile: place.profile.clone(),
        credentials_file: place.credentials_file.clone(),
        region: place.region.clone(),
    }));
    let region = place.region.clone().or_else(|| credentials.region());
    let interrupt = interrupt.clone();
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
        ..S3Spec::new(name, &place.bucket, state_dir, credentials)
    }
}

fn reach_s3(spec: S3Spec, wanted: For) -> std::result::Result<Arc<dyn Store>, StoreError> {
    Ok(match wanted {
        For::Use { as_of } => Arc::new(S3Store::open(S3Spec { as_of, ..spec })?),
        For::Making { bucket_too } => Arc::new(S3Store::create(spec, bucket_too)?),
    })
}

fn reach(
    name: &str,
    place: &UrlPlace,
    state_dir: &Path,
    interrupt: &Interrupt,
    wanted: For,
) -> std::result::Result<Arc<dyn Store>, StoreError> {
    match place.cloud {
        Cloud::S3 => reach_s3(spec(name, place, state_dir, interrupt), wanted),
        #[cfg(feature = "gcs")]
        Cloud::Gcs => reach_cloud(Service::Gcs, name, place, interrupt, wanted),
        #[cfg(feature = "azure")]
        Cloud::Azure => reach_cloud(Service::Azure, name, place, interrupt, wanted),
        #[cfg(not(all(feature = "gcs", feature = "azure")))]
        cloud => Err(StoreError {
            kind: StoreErrorKind::Other,
            store: name.to_owned(),
            verb: "open",
            subject: place.shown.clone(),
            source: format!("this build knows nothing of `{}://`", cloud.scheme()).into(),
        }),
    }
}

#[cfg(any(feature = "gcs", feature = "azure"))]
fn reach_cloud(
    service: Service,
    name: &str,
    place: &UrlPlace,
    interrupt: &Interrupt,
    wanted: For,
) -> std::result::Result<Arc<dyn Store>, StoreError> {
    let interrupt = interrupt.clone();
    let spec = CloudSpec {
        prefix: place.prefix.clone(),
        endpoint: place.endpoint.clone(),
        credentials_file: place.credentials_file.clone(),
        ca_file: place.ca_file.clone(),
        limit_upload: place.limit_upload,
        limit_download: place.limit_download,
        interrupted: Arc::new(move || interrupt.signal().is_some()),
        ..CloudSpec::new(name, service, &place.bucket)
    };
    Ok(match wanted {
        For::Use { as_of: None } => Arc::new(CloudStore::open(spec)?),
        For::Use { as_of: Some(_) } => {
            return Err(StoreError {
                kind: StoreErrorKind::Other,
                store: name.to_owned(),
                verb: "open",
                subject: place.shown.clone(),
                source: "older versions (--as-of) are read from buckets at `s3://` alone".into(),
            });
        }
        For::Making { .. } => Arc::new(CloudStore::create(spec)?),
    })
}

/// Opens the store in a bucket.
pub fn open_bucket(name: &str, place: &UrlPlace, means: &Means) -> Result<Arc<dyn Store>> {
    let wanted = For::Use { as_of: means.as_of };
    reach(name, place, &means.state_dir, &means.interrupt, wanted)
        .map_err(|e| cannot("opened", name, place, e))
}

/// The same, or `None` when it is certain that there is no store.
pub fn bucket_if_there(
    name: &str,
    place: &UrlPlace,
    state_dir: &Path,
    interrupt: &Interrupt,
) -> Result<Option<Arc<dyn Store>>> {
    match reach(name, place, state_dir, interrupt, For::Use { as_of: None }) {
        Ok(store) => Ok(Some(store)),
        Err(e) if e.kind == StoreErrorKind::Missing => Ok(None),
        Err(e) => Err(cannot("opened", name, place, e)),
    }
}

/// Reaches the place for a store in a bucket, which has no `backstay.json` yet; makes the bucket if that is wanted.
pub fn create_in_bucket(
    name: &str,
    place: &UrlPlace,
    state_dir: &Path,
    interrupt: &Interrupt,
    make_bucket: bool,
) -> Result<Arc<dyn Store>> {
    if make_bucket && place.cloud != Cloud::S3 {
        let what = format!("store {name:?} ({}): backstay makes buckets at `s3://` alone", place.shown);
        return Err(OpError::new(Class::Usage, what).hint(
            "make it with the tools of its provider, then run `backstay init` without --create-bucket",
        ));
    }
    let made = reach(name, place, state_dir, interrupt, For::Making { bucket_too: make_bucket });
    made.map_err(|e| cannot("made", name, place, e))
}

/// The bucket of an S3 server itself, for what only an examination asks; `None` for other clouds.
pub fn open_s3(
    name: &str,
    place: &UrlPlace,
    state_dir: &Path,
    interrupt: &Interrupt,
) -> Result<Option<S3Store>> {
    if place.cloud != Cloud::S3 {
        return Ok(None);
    }
    let store = S3Store::open(spec(name, place, state_dir, interrupt));
    store.map(Some).map_err(|e| cannot("opened", name, place, e))
}

/// What the last probe of this very bucket found: it was made before the first write. `None` for clouds that need none.
pub fn remembered(
    name: &str,
    place: &UrlPlace,
    state_dir: &Path,
    interrupt: &Interrupt,
) -> Option<Capabilities> {
    let at_s3 = place.cloud == Cloud::S3;
    at_s3.then(|| s3::remembered(&spec(name, place, state_dir, interrupt))).flatten()
}

/// Tries with throw-away objects what the server can do, and remembers it. `None` for clouds that need no probe.
///
/// # Errors
/// The store cannot be opened, or its keys may not even put.
pub fn probe(
    name: &str,
    place: &UrlPlace,
    state_dir: &Path,
    interrupt: &Interrupt,
) -> Result<Option<Capabilities>> {
    if place.cloud != Cloud::S3 {
        return Ok(None);
    }
    let store = S3Store::open(spec(name, place, state_dir, interrupt));
    let found = store.and_then(|store| store.probe());
    found.map(Some).map_err(|e| cannot("probed", name, place, e))
}

fn cannot(done: &str, name: &str, place: &UrlPlace, error: StoreError) -> OpError {
    let hint = match error.kind {
        StoreErrorKind::Missing => {
            "is the bucket's name right? where there never was a store, `backstay init` makes one (with --create-bucket its bucket, too)"
        }
        StoreErrorKind::Denied => CredentialsError::within(&*error.source).map_or(
            "check the keys, and what they are allowed to do with this bucket and prefix",
            CredentialsError::hint,
        ),
        StoreErrorKind::Unreachable => "is the network up, and `endpoint` right? try again later",
        _ => "look at `endpoint`, `region` and `path_style` of the store",
    };
    // What the store's own error says beside its cause is said here.
    OpError::new(Class::Store, format!("store {name:?} ({}) cannot be {done}", place.shown))
        .because(error.source)
        .hint(hint)
}

/// The place that `--store URL` names: reached as the store at that very place is, else as those in that bucket, else as all stores of that cloud (a bucket
/// that was moved or renamed); where no such store is configured, as the environment says. Stores that are not reached alike leave open how: an error,
/// because a guess could read another account's bucket of that name.
pub fn named_bucket(url: &str, configured: &[&UrlPlace]) -> Result<UrlPlace> {
    let wrong = |e: crate::config::BadUrl| {
        OpError::new(Class::Usage, "--store cannot be used")
            .because(e)
            .hint("give the path of a folder, the name of a store, or a bucket as s3://BUCKET/PREFIX")
    };
    let named = UrlPlace::parse(url).map_err(wrong)?;
    let alike: Vec<&&UrlPlace> = configured.iter().filter(|place| place.cloud == named.cloud).collect();
    let alike = nearest(alike, &named);
    let Some((first, others)) = alike.split_first() else {
        let Some(settings) = endpoint_of_environment(named.cloud) else { return Ok(named) };
        return UrlPlace::from_kit(url, &settings.into_iter().collect()).map_err(wrong);
    };
    let differs = others.iter().find_map(|other| reached_otherwise(first, other));
    if let Some(setting) = differs {
        let what = format!(
            "--store cannot be used: the stores that are named differ in `{setting}`, and {} does not say which is meant",
            named.shown
        );
        return Err(OpError::new(Class::Usage, what).hint(
            "give the name of a store; or name the bucket in a configuration of its own, and give that with -c FILE",
        ));
    }
    Ok(UrlPlace { shown: named.shown, bucket: named.bucket, prefix: named.prefix, ..(**first).clone() })
}

/// Those at the very place that is named, else those in its bucket, else all.
fn nearest<'a>(alike: Vec<&'a &'a UrlPlace>, named: &UrlPlace) -> Vec<&'a &'a UrlPlace> {
    let bucket = |place: &&&UrlPlace| place.bucket == named.bucket;
    let very = |place: &&&UrlPlace| bucket(place) && place.prefix == named.prefix;
    let those = |which: &dyn Fn(&&&UrlPlace) -> bool| {
        let found: Vec<_> = alike.iter().copied().filter(which).collect();
        (!found.is_empty()).then_some(found)
    };
    those(&very).or_else(|| those(&bucket)).unwrap_or(alike)
}

/// A setting that says how a bucket is reached, in which two differ.
fn reached_otherwise(one: &UrlPlace, other: &UrlPlace) -> Option<&'static str> {
    let same = [
        ("endpoint", one.endpoint == other.endpoint),
        ("region", one.region == other.region),
        ("profile", one.profile == other.profile),
        ("credentials_file", one.credentials_file == other.credentials_file),
        ("path_style", one.path_style == other.path_style),
        ("ca_file", one.ca_file == other.ca_file),
    ];
    same.into_iter().find(|(_, same)| !same).map(|(setting, _)| setting)
}

/// Where the environment says that a cloud's server is, as settings of a store.
pub fn endpoint_of_environment(cloud: Cloud) -> Option<Vec<(String, String)>> {
    let of =
        |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let endpoint = match cloud {
        Cloud::S3 => of(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])?,
        Cloud::Gcs => return None,
        Cloud::Azure => format!("https://{}.blob.core.windows.net", of(&["AZURE_STORAGE_ACCOUNT_NAME"])?),
    };
    let mut settings = vec![("endpoint".to_owned(), endpoint)];
    if cloud == Cloud::S3 {
        settings.push(("path_style".to_owned(), "true".to_owned()));
    }
    Some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str, settings: &[(&str, &str)]) -> UrlPlace {
        let owned = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        UrlPlace::from_kit(url, &owned.collect()).unwrap()
    }

    fn named(url: &str, configured: &[UrlPlace]) -> std::result::Result<UrlPlace, String> {
        named_bucket(url, &configured.iter().collect::<Vec<_>>()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_url_is_reached_as_the_one_server_of_the_configuration_is() {
        let own = place("s3://aaa/p", &[("endpoint", "https://one.example"), ("region", "eu-1")]);
        let other = place("s3://bbb/p", &[("endpoint", "https://one.example"), ("region", "eu-1")]);
        let found = named("s3://moved/q", &[own.clone(), other]).unwrap();
        assert_eq!((found.endpoint, found.region), (own.endpoint, own.region));
        assert_eq!((found.bucket.as_str(), found.prefix.as_str()), ("moved", "q"));
    }

    #[test]
    fn a_url_of_stores_that_are_not_reached_alike_is_not_guessed_at() {
        let differing = [
            ("endpoint", "https://one.example", "https://two.example"),
            ("region", "eu-1", "us-1"),
            ("profile", "mine", "theirs"),
            ("ca_file", "/a.pem", "/b.pem"),
        ];
        for (setting, one, two) in differing {
            let stores = [place("s3://aaa/p", &[(setting, one)]), place("s3://bbb/p", &[(setting, two)])];
            let why = named("s3://moved/p", &stores).unwrap_err();
            assert!(why.contains(&format!("`{setting}`")) && why.contains("s3://moved/p"), "{why}");
            // One bucket is named: it is reached as the store in it.
            let found = named("s3://bbb/q", &stores).unwrap();
            assert!(reached_otherwise(&found, &stores[1]).is_none(), "{setting}");
            let within = [place("s3://aaa/p", &[(setting, one)]), place("s3://aaa/q", &[(setting, two)])];
            assert!(named("s3://aaa/r", &within).is_err(), "{setting}");
            assert!(reached_otherwise(&named("s3://aaa/q", &within).unwrap(), &within[1]).is_none());
        }
        let mut files = [place("s3://aaa/p", &[]), place("s3://bbb/p", &[])];
        files[1].credentials_file = Some("/other.credentials".into());
        assert!(named("s3://moved/p", &files).unwrap_err().contains("`credentials_file`"));
    }
}
