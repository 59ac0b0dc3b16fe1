//! Why there are no credentials. No variant ever holds one.

use crate::model::path::escape;
use std::error::Error;

/// Why there are no credentials.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// There are none anywhere.
    #[error("no credentials were found; looked at {}", looked.join("; "))]
    NoneFound {
        /// Each place, and why it gave none.
        looked: Vec<String>,
    },
    /// They are said to be in this place, and cannot be had.
    #[error("{source_name} cannot be used: {why}")]
    Unusable {
        /// The place, in words.
        source_name: String,
        /// Why; never text of a file or of what a program said.
        why: String,
    },
}

impl CredentialsError {
    /// The error of this kind in the chain of causes of `error`, if that is why a request failed.
    pub fn within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// What to do now.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoneFound { .. } => {
                "name a file with keys or a profile in the [[store]] (`credentials_file`, `profile`), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; cron and systemd start without what your shell has set"
            }
            Self::Unusable { why, .. } if why.contains("open to others") => "chmod 600 that file",
            Self::Unusable { .. } => "look at that place; `aws sts get-caller-identity` tries the same one",
        }
    }
}

/// A longer reason is cut.
const WHY_MAX: usize = 400;

/// `error` and its causes in one line. What a program wrote to its standard error is left out: it may have been a secret.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !texts.iter().any(|said| said.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    let whole = texts.join(": ");
    let whole = match whole.split_once("Stderr:") {
        Some((before, _)) => {
            format!(
                "{} (what it said is not repeated here; run it by hand)",
                before.trim_end_matches(['.', ' '])
            )
        }
        None => whole,
    };
    let mut line = escape(whole.as_bytes());
    if let Some((at, _)) = line.char_indices().nth(WHY_MAX) {
        line.truncate(at);
        line.push('…');
    }
    line
}
