//! One `[[store]]`: a directory or a bucket, and only the keys that mean something for it.

use crate::config::block::{At, Block};
use crate::config::keys::STORE;
use crate::config::places::Role;
use crate::config::render::Found;
use crate::config::resolve::{Work, check_keys, name};
use crate::config::retention::retention;
use crate::config::settings::{Checksum, Cloud, Place, Sse, StoreConfig, UrlPlace};
use crate::config::url::{Address, Endpoint, address, endpoint};

const KINDS: [&str; 2] = ["path", "url"];
/// Classes whose objects must be brought back for hours before they can be read.
const FROZEN: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// The stores of the file, the primary first.
pub(super) fn stores(work: &mut Work<'_>, file: &mut Block) -> Vec<StoreConfig> {
    let named = file.named.get("store").cloned();
    let blocks = file.blocks("store");
    if let (true, Some(span)) = (blocks.is_empty(), named) {
        work.mistake(
            Found::at(&span, "there is no store in it").hint("add [[store]] with a name and a path or url"),
        );
    }
    let mut stores: Vec<StoreConfig> = Vec::new();
    for mut block in blocks {
        let at = block.text("name");
        let span = at.as_ref().map(|at| at.span.clone());
        let name = name(work, at);
        let place = place(work, name.as_deref(), &mut block, &stores);
        let own = block.block("retention").and_then(|b| retention(work, b));
        let prune_here = block.text("prune").is_none_or(|at| at.value == "here");
        let (Some(name), Some(span)) = (name, span) else {
            continue;
        };
        if stores.iter().any(|s| s.name == name) {
            work.mistake(
                Found::at(&span, format!("there are two stores {name:?}")).hint("give each its own name"),
            );
        }
        // One without a usable place has been complained of; it is kept so that a second one of its name is noticed.
        let place = place.unwrap_or_else(|| Place::Path(std::path::PathBuf::new()));
        stores.push(StoreConfig { name, place, retention: own, prune_here });
    }
    stores
}

fn place(
    work: &mut Work<'_>,
    name: Option<&str>,
    block: &mut Block,
    earlier: &[StoreConfig],
) -> Option<Place> {
    let label = name.map_or_else(|| "a store".to_owned(), |name| format!("store {name:?}"));
    let mut named: Vec<&'static str> = KINDS.into_iter().filter(|kind| block.has(kind)).collect();
    named.sort_by_key(|kind| block.named[kind].start);
    match named[..] {
        [] => {
            let found = Found::at(&block.span, format!("{label} does not say where it is"));
            work.mistake(
                found.hint("add `path = \"…\"` for a directory, or `url = \"s3://…\"` for a bucket"),
            );
            None
        }
        [kind] => {
            check_keys(work, block, &STORE, kind, "a store");
            if kind == "url" {
                let span = block.named[kind].clone();
                let place = url_place(work, &label, block)?;
                same_place(work, &label, &place, &span, earlier);
                Some(Place::Url(Box::new(place)))
            } else {
                work.site(Role::Store, &label, block.text("path")).map(Place::Path)
            }
        }
        [_, second, ..] => {
            let what = "`path` and `url` cannot stand in one store";
            work.mistake(Found::at(&block.named[second], what).hint("make two stores of them"));
            None
        }
    }
}

/// A store with `url`. Everything that is wrong is told before anything is given up.
fn url_place(work: &mut Work<'_>, label: &str, block: &mut Block) -> Option<UrlPlace> {
    let read = block.text("url").map(|At { value, span }| match address(&value, work.around) {
        Ok(address) => Some(address),
        Err(all) => {
            all.into_iter().for_each(|(what, hint)| work.mistake(Found::at(&span, what).hint(hint)));
            None
        }
    });
    let endpoint_named = block.has("endpoint");
    let allowed = block.flag("allow_http");
    let server = server(work, block, allowed);
    let path_style = block.flag_if_any("path_style").unwrap_or(endpoint_named);
    let region = word(work, block, "region", |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let profile = block.text("profile").map(|at| at.value);
    let file = block.text("credentials_file");
    let credentials_file = work.site(Role::Key, &format!("the credentials file of {label}"), file);
    let ca = block.text("ca_file");
    let ca_file = work.site(Role::Other, "the file of certificates", ca);
    let storage_class = storage_class(work, block);
    let sse = sse(work, block);
    let checksum = match block.text("checksum").map(|at| at.value).as_deref() {
        Some("sha256") => Checksum::Sha256,
        Some("none") => Checksum::Off,
        _ => Checksum::Auto,
    };
    let Address { cloud, bucket, prefix, shown } = read??;
    only_of_s3(work, block, cloud)?;
    if cloud == Cloud::Azure && server.is_none() && !endpoint_named {
        let what = format!("{label} does not say in which account of Azure's its container is");
        let hint = "add endpoint = \"https://ACCOUNT.blob.core.windows.net\"";
        work.mistake(Found::at(&block.span, what).hint(hint));
        return None;
    }
    Some(UrlPlace {
        cloud,
        shown,
        bucket,
        prefix,
        allow_http: allowed || server.as_ref().is_some_and(|server| server.loopback),
        endpoint: server.map(|server| server.url),
        region,
        path_style,
        profile,
        credentials_file,
        ca_file,
        storage_class,
        sse,
        checksum,
        limit_upload: block.number("limit_upload"),
        limit_download: block.number("limit_download"),
    })
}

/// Keys that other clouds have no meaning for are mistakes: silence would let somebody believe that they work.
fn only_of_s3(work: &mut Work<'_>, block: &Block, cloud: Cloud) -> Option<()> {
    const KEYS: [&str; 6] = ["region", "path_style", "profile", "storage_class", "sse", "checksum"];
    let named = |key: &&str| cloud != Cloud::S3 && block.named.contains_key(*key);
    let wrong: Vec<&str> = KEYS.into_iter().filter(named).collect();
    for key in &wrong {
        let what = format!("`{key}` means nothing in a store at `{}://`", cloud.scheme());
        work.mistake(Found::at(&block.named[*key], what).hint("remove it; only stores at `s3://` have it"));
    }
    wrong.is_empty().then_some(())
}

fn server(work: &mut Work<'_>, block: &mut Block, allowed: bool) -> Option<Endpoint> {
    let At { value, span } = block.text("endpoint")?;
    match endpoint(&value) {
        Ok(server) if server.plain && !server.loopback && !allowed => {
            let what = "`http://` sends what is stored, and when, past everybody on the way";
            let hint = "write https://, or allow_http = true if the network between is your own";
            work.mistake(Found::at(&span, what).hint(hint));
            None
        }
        Ok(server) => Some(server),
        Err((what, hint)) => {
            work.mistake(Found::at(&span, what).hint(hint));
            None
        }
    }
}

/// A text of which every byte passes `fits`.
fn word(work: &mut Work<'_>, block: &mut Block, key: &str, fits: impl Fn(u8) -> bool) -> Option<String> {
    let At { value, span } = block.text(key)?;
    if value.bytes().all(fits) {
        return Some(value);
    }
    let hint = match key {
        "region" => "for example: region = \"eu-central-1\"",
        _ => "for example: storage_class = \"STANDARD_IA\"",
    };
    work.mistake(Found::at(&span, format!("this is no `{key}`")).hint(hint));
    None
}

fn storage_class(work: &mut Work<'_>, block: &mut Block) -> Option<String> {
    let span = block.fields.get("storage_class").map(|at| at.span.clone())?;
    let upper = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    let class = word(work, block, "storage_class", upper)?;
    if FROZEN.contains(&class.as_str()) {
        let what = format!("objects of class {class} cannot be read when they are needed, nor be verified");
        let hint =
            "GLACIER_IR and STANDARD_IA can be read at once; a rule of the bucket may move old versions";
        work.mistake(Found::at(&span, what).hint(hint));
    }
    Some(class)
}

fn sse(work: &mut Work<'_>, block: &mut Block) -> Option<Sse> {
    let At { value, span } = block.text("sse")?;
    let printable = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    match (value.as_str(), value.strip_prefix("aws:kms:")) {
        ("AES256", _) => Some(Sse::Aes256),
        ("aws:kms", _) => Some(Sse::Kms(None)),
        (_, Some(key)) if printable(key) => Some(Sse::Kms(Some(key.to_owned()))),
        _ => {
            let hint = "\"AES256\", \"aws:kms\", or \"aws:kms:\" and the key's id; objects are sealed before they are sent in any case";
            work.mistake(Found::at(&span, "this is no `sse`").hint(hint));
            None
        }
    }
}

/// Two stores in one place would take each other's objects for their own.
fn same_place(
    work: &mut Work<'_>,
    label: &str,
    place: &UrlPlace,
    span: &std::ops::Range<usize>,
    earlier: &[StoreConfig],
) {
    let inside = |inner: &UrlPlace, outer: &UrlPlace| {
        let rest = inner.prefix.strip_prefix(&outer.prefix);
        rest.is_some_and(|rest| outer.prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
    };
    for other in earlier {
        let Place::Url(there) = &other.place else {
            continue;
        };
        let together =
            (there.cloud, &there.endpoint, &there.bucket) == (place.cloud, &place.endpoint, &place.bucket);
        if together && (inside(place, there) || inside(there, place)) {
            let same = place.prefix == there.prefix;
            let how = if same { "is in the same place as" } else { "and" };
            let tail = if same { "" } else { " lie inside each other" };
            let what = format!("{label} {how} store {:?}{tail}", other.name);
            work.mistake(Found::at(span, what).hint("each needs a prefix of its own"));
        }
    }
}
