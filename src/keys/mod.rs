//! Row 1: keys: who can open (recipients and identities) and who has said (signers).
//!
//! This module must never print, log or put into an error any part of a private key, and never write one to a file that others may read.

pub mod identity;
pub use identity::{Identities, RecipientSet};
