//! To whom this process may give files.

use rustix::process::{getegid, geteuid, getgroups};

/// `CAP_CHOWN`, as a bit of the sets in `/proc`.
const CHOWN: u64 = 1;

/// To whom a process may give files.
#[derive(Debug, Clone)]
pub struct Giver {
    uid: u32,
    groups: Vec<u32>,
    to_anybody: bool,
}

impl Giver {
    /// This process. Root is one that may, unless that was taken from it, as from a container.
    pub fn this() -> Self {
        let groups = getgroups().unwrap_or_default().into_iter().chain([getegid()]);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            uid: geteuid().as_raw(),
            groups: groups.map(rustix::process::Gid::as_raw).collect(),
            to_anybody: capabilities(&status).map_or_else(|| geteuid().is_root(), |set| set & CHOWN != 0),
        }
    }

    /// True when a file that this process makes can become `uid`'s and `gid`'s.
    pub fn may_give(&self, uid: u32, gid: u32) -> bool {
        self.to_anybody || (uid == self.uid && self.groups.contains(&gid))
    }
}

/// What is in force of a process with this `/proc/PID/status`; none where the system does not tell.
fn capabilities(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_give_to_anybody_is_told_by_its_capabilities() {
        assert_eq!(capabilities("Name:\tx\nCapEff:\t00000000a80425fb\n"), Some(0xa804_25fb));
        assert_eq!(capabilities("Name:\tx\n"), None);
        let own = Giver { uid: 1000, groups: vec![1000, 33], to_anybody: false };
        for (uid, gid, may) in [(1000, 1000, true), (1000, 33, true), (1000, 0, false), (0, 1000, false)] {
            assert_eq!(own.may_give(uid, gid), may, "{uid} {gid}");
        }
        assert!(Giver { to_anybody: true, ..own }.may_give(0, 0));
        let this = Giver::this();
        assert!(this.may_give(geteuid().as_raw(), getegid().as_raw()));
    }
}
