//! Row 1: keys: who can open (recipients and identities) and who has said (signers).
//!
//! This module must never print, log or put into an error any part of a private key, and never write one to a file that others may read.

mod error;
mod file;
pub mod identity;
pub mod kit;
mod kit_block;
mod kit_copies;
mod kit_fields;
mod kit_text;
pub mod naming;
pub mod passphrase;
pub mod signed;
pub mod signer;
pub mod trust;

pub use error::KeyError;
pub(crate) use error::shown;
pub use file::read_secret_line;
pub(crate) use file::{read_secret, write_secret};
pub use identity::{Identities, RecipientSet, SecretIdentity};
pub use kit::{Kit, KitError};
pub use naming::NamingKey;
pub use passphrase::{Ask, Passphrase};
pub use signed::{OpenError, Signed, open_document, seal_document};
pub use signer::{SignatureError, Signer, VerifyingKey, verify};
pub use trust::{TrustList, TrustedKey};
