//! What an error of `object_store` means, without what must not be shown of it.

use crate::store::StoreErrorKind;
use crate::store::s3::failure::{Failure, clean};
use object_store::Error;
use std::error::Error as _;

/// The failure that the link met, where there is one among the causes; else what the library says.
pub(super) fn failure(error: Error) -> Failure {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = next {
        if let Some(met) = cause.downcast_ref::<Failure>() {
            return met.copy();
        }
        next = cause.source();
    }
    let kind = match &error {
        Error::NotFound { .. } => StoreErrorKind::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => StoreErrorKind::Exists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreErrorKind::Denied,
        _ => StoreErrorKind::Other,
    };
    let mut text = without_queries(&error.to_string());
    if let Some(cause) = error.source().and_then(std::error::Error::source) {
        text = format!("{text}: {}", without_queries(&cause.to_string()));
    }
    Failure::new(kind, clean(&text))
}

/// What stands behind a `?` in an address may be a signature.
fn without_queries(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '?' => inside = true,
            ' ' | '\n' | '"' | '\'' | ')' => inside = false,
            _ => {}
        }
        if !inside {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_in_an_address_is_not_shown() {
        let source = "cannot GET https://a.blob.example/c/k?sig=canary&se=1 now".into();
        let failure = failure(Error::Generic { store: "x", source });
        let text = format!("{failure} {failure:?}");
        assert!(text.contains("blob.example/c/k now") && !text.contains("canary"), "{text}");
    }
}
