//! Forged vaults.
