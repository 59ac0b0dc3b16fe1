//! What every store carries so that its data can be had without backstay.

/// `RECOVER.md`.
pub const RECOVER_MD: &[u8] = include_bytes!("../recover/RECOVER.md");
/// `recover.py`.
pub const RECOVER_PY: &[u8] = include_bytes!("../recover/recover.py");
