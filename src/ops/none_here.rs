//! The error of a command for which no store is here: every store with its reason, because the one that is left may be the last named.

use crate::ops::error::{Class, OpError};
use crate::ops::stores::Away;

/// Why none of the stores can be used, each by its name.
pub(super) fn none_here(aways: &[(&str, Away)]) -> OpError {
    let Some(((_, first), rest)) = aways.split_first() else {
        return OpError::new(Class::Config, "there is no store");
    };
    if rest.is_empty() {
        return first.error();
    }
    let any = |class: Class| aways.iter().any(|(_, away)| away.class == class);
    // Whom a signal ended found out nothing of the stores. Damage is told before absence: an alarm must not wait for a disk to be plugged in.
    let class =
        [Class::Interrupted, Class::Damage].into_iter().find(|class| any(*class)).unwrap_or(first.class);
    let error = OpError::new(class, format!("none of {} stores can be used", aways.len()));
    let error = match chain(class, aways) {
        Some(reasons) => error.because(reasons),
        None => error,
    };
    match hints(aways) {
        hint if hint.is_empty() => error,
        hint => error.hint(hint),
    }
}

/// The reasons one below the other: what shows causes shows each in a line.
fn chain(class: Class, aways: &[(&str, Away)]) -> Option<OpError> {
    let below = |below: Option<OpError>, (_, away): &(&str, Away)| {
        let reason = OpError::new(class, away.line());
        Some(match below {
            Some(below) => reason.because(below),
            None => reason,
        })
    };
    aways.iter().rev().fold(None, below)
}

/// What to do, once where it is the same. Keys that were forgotten come first: they are sooner found than a disk.
fn hints(aways: &[(&str, Away)]) -> String {
    let (keys, others): (Vec<_>, Vec<_>) = aways.iter().partition(|(_, away)| away.wants_keys);
    let mut hints: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, away) in keys.into_iter().chain(others) {
        let (name, Some(hint)) = (*name, away.hint()) else { continue };
        match hints.iter_mut().find(|(known, _)| *known == hint) {
            Some((_, names)) => names.push(name),
            None => hints.push((hint, vec![name])),
        }
    }
    match &hints[..] {
        [(hint, names)] if names.len() == aways.len() => (*hint).to_owned(),
        hints => {
            let said = hints.iter().map(|(hint, names)| format!("{}: {hint}", names.join(", ")));
            said.collect::<Vec<_>>().join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::s3::credentials::CredentialsError;
    use std::error::Error as _;

    fn away(class: Class, what: &str, hint: &str) -> Away {
        Away::from(&OpError::new(class, what).because("why").hint(hint))
    }

    fn causes(error: &OpError) -> Vec<String> {
        let mut all = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            all.push(cause.to_string());
            next = cause.source();
        }
        all
    }

    #[test]
    fn every_store_is_named_with_its_reason_and_keys_are_asked_for_first() {
        let keys = CredentialsError::NoneFound { looked: vec!["everywhere".into()] };
        let bucket = OpError::new(Class::Store, "bucket").because(keys).hint("give keys");
        let aways = [
            ("local", away(Class::Store, "folder", "plug it in")),
            ("usb", away(Class::Store, "stick", "plug it in")),
            ("offsite", Away::from(&bucket)),
        ];
        let error = none_here(&aways);
        assert_eq!(error.to_string(), "none of 3 stores can be used");
        let said = causes(&error);
        assert_eq!(said[..2], ["folder: why", "stick: why"]);
        assert!(said[2].starts_with("bucket: no credentials were found"), "{said:?}");
        assert_eq!(error.hint.as_deref(), Some("offsite: give keys; local, usb: plug it in"));
        assert_eq!(error.class, Class::Store);
    }

    #[test]
    fn one_store_speaks_for_itself_and_damage_is_worse_than_absence() {
        let gone = || away(Class::Store, "folder", "plug it in");
        assert_eq!(none_here(&[("local", gone())]).to_string(), "folder");
        assert_eq!(none_here(&[("a", gone()), ("b", gone())]).hint.as_deref(), Some("plug it in"));
        let worse = none_here(&[("a", gone()), ("b", away(Class::Damage, "another", "look"))]);
        assert_eq!(worse.class, Class::Damage);
        assert_eq!(none_here(&[]).class, Class::Config);
        let ended = away(Class::Interrupted, "third", "run it again");
        let ended = none_here(&[("a", away(Class::Damage, "another", "look")), ("b", gone()), ("c", ended)]);
        assert_eq!(ended.class, Class::Interrupted);
    }

    #[test]
    fn damage_of_a_store_is_no_damage_of_a_listing() {
        let listing = OpError::new(Class::Damage, "a listing").of_a_listing();
        assert!(listing.is_damaged_listing());
        let stores = [("a", Away::from(&listing)), ("b", away(Class::Store, "folder", "plug it in"))];
        let error = none_here(&stores);
        assert!(error.class == Class::Damage && !error.is_damaged_listing(), "{error:?}");
    }
}
