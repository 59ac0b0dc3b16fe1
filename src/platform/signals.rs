//! What became of signals before this program began.

/// True when this process ignores `signal`, as what `nohup` starts does with SIGHUP; `None` where the system does not tell.
pub fn is_ignored(signal: i32) -> Option<bool> {
    ignored_in(&std::fs::read_to_string("/proc/self/status").ok()?, signal)
}

fn ignored_in(status: &str, signal: i32) -> Option<bool> {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let set = u64::from_str_radix(set.trim(), 16).ok()?;
    let bit = u32::try_from(signal).ok()?.checked_sub(1)?;
    Some(set.checked_shr(bit)? & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_ignored_is_told_by_its_bit() {
        let status = "Name:\tbackstay\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t00\n";
        assert_eq!([1, 2, 3, 13].map(|s| ignored_in(status, s)), [true, false, false, true].map(Some));
        for (status, signal) in [("", 1), ("SigIgn:\tx\n", 1), (status, 0), (status, -1), (status, 65)] {
            assert_eq!(ignored_in(status, signal), None, "{status:?} {signal}");
        }
    }
}
