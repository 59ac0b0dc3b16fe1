//! Telling the service manager how the agent is: the protocol of `sd_notify`, one datagram a message.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where the service manager listens; silent when there is none.
#[derive(Debug, Default)]
pub struct Socket {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that the agent lives.
    watchdog: Option<Duration>,
}

impl Socket {
    /// From what the service manager put into the environment.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let path = std::env::var_os("NOTIFY_SOCKET");
        let own = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let micros = variable("WATCHDOG_USEC").filter(|_| own).and_then(|text| text.parse().ok());
        Self::new(path.as_deref(), micros)
    }

    /// To the socket at `path`; `@` at its beginning means an abstract name.
    pub fn new(path: Option<&OsStr>, watchdog_micros: Option<u64>) -> Self {
        let to = path.filter(|path| !path.is_empty()).and_then(|path| {
            let socket = UnixDatagram::unbound().ok()?;
            // A service manager that does not read must not stop the agent.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address(path)?))
        });
        Self { to, watchdog: watchdog_micros.filter(|micros| *micros > 0).map(Duration::from_micros) }
    }

    /// Half of the time after which the agent is taken for dead.
    pub fn beat(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Sends `lines`. What cannot be sent is no reason to stop.
    pub fn send(&self, lines: &str) {
        if let Some((socket, address)) = &self.to {
            let _unheard = socket.send_to_addr(lines.as_bytes(), address);
        }
    }

    /// What is shown by `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// The configuration is read again.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }
}

fn address(path: &OsStr) -> Option<SocketAddr> {
    match path.as_bytes() {
        [b'@', name @ ..] => abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(path).ok(),
        _ => None,
    }
}

#[cfg(target_os = "linux")]
fn abstract_name(name: &[u8]) -> Option<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name).ok()
}

#[cfg(not(target_os = "linux"))]
fn abstract_name(_: &[u8]) -> Option<SocketAddr> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_hears_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("@{}", path.display());
        for address_text in [path.as_os_str(), OsStr::new(&name)] {
            let here = UnixDatagram::bind_addr(&address(address_text).unwrap()).unwrap();
            let socket = Socket::new(Some(address_text), Some(30_000_000));
            socket.send("READY=1");
            socket.status("next: backup\nat 3");
            let mut buffer = [0; 200];
            let length = here.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
            let length = here.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"STATUS=next: backup at 3");
            assert_eq!(socket.beat(), Some(Duration::from_secs(15)));
        }
    }

    #[test]
    fn nobody_who_listens_is_no_trouble() {
        Socket::default().send("READY=1");
        Socket::new(Some(OsStr::new("/nowhere/at/all")), None).send("READY=1");
        Socket::new(Some(OsStr::new("relative")), None).send("READY=1");
        assert_eq!(Socket::default().beat(), None);
    }
}
