//! The first member of every archive, which says what the archive is.

use crate::model::document::{self, DocumentError};
use crate::model::manifest::FORMAT;
use crate::model::{ComponentName, HostId, VaultId};
use serde::{Deserialize, Serialize};

/// Path of the member that says what an archive is.
pub const ABOUT_PATH: &[u8] = b".backstay/archive.json";
/// That member is at most this long.
pub(crate) const ABOUT_BYTES_MAX: u64 = 64 << 10;

const DELTA_TEXT: &str = "New and changed files, and parts of files, of one component, packed by backstay; the rest lies in older archives. \
    age -d, zstd -d and tar -x open it, recover.py puts all together. RECOVER.md in the store says the rest.";
const TEXT: &str = "Files of one component, packed by backstay: age -d, zstd -d and tar -x give them back. \
    RECOVER.md in the store says the rest.";

/// Whose archive it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The vault it was made for.
    pub vault: VaultId,
    /// The host that made it.
    pub host: HostId,
    /// The component whose files are in it.
    pub component: ComponentName,
    /// Whether it holds only what was new.
    pub delta: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    format: u32,
    needs: Vec<String>,
    #[serde(rename = "type")]
    kind: String,
    vault: VaultId,
    host: HostId,
    component: ComponentName,
    about: String,
}

impl About {
    /// The member's content: one line of JSON.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        document::line_of(&Line {
            format: FORMAT,
            needs: Vec::new(),
            kind: "archive".into(),
            vault: self.vault.clone(),
            host: self.host,
            component: self.component.clone(),
            about: if self.delta { DELTA_TEXT } else { TEXT }.into(),
        })
    }

    /// Reads the member's content.
    pub(crate) fn decode(content: &[u8]) -> Result<Self, DocumentError> {
        let cut = || DocumentError::Malformed("its line is cut off or not alone".into());
        let (last, line) = content.split_last().ok_or_else(cut)?;
        if *last != b'\n' || line.contains(&b'\n') {
            return Err(cut());
        }
        let line: Line = document::parse(line, "archive")?;
        let delta = line.about == DELTA_TEXT;
        Ok(Self { vault: line.vault, host: line.host, component: line.component, delta })
    }
}
