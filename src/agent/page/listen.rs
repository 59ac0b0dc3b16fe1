//! Where questions come from: an address of this machine, or a socket in the file system.

use crate::config::PageAt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Takes connections.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Where a listener really listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Listens at `at`.
    pub(super) fn bind(at: &PageAt) -> io::Result<(Self, Place)> {
        match at {
            PageAt::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                let place = Place::Tcp(listener.local_addr()?);
                Ok((Self::Tcp(listener), place))
            }
            PageAt::Unix(path) => Ok((Self::Unix(bind_unix(path)?), Place::Unix(path.clone()))),
        }
    }

    /// Waits for a connection.
    pub(super) fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(listener) => Stream::Tcp(listener.accept()?.0),
            Self::Unix(listener) => Stream::Unix(listener.accept()?.0),
        })
    }
}

/// Binds a socket that its owner and group may open. It is made in a folder of its own and then moved to its place, so that nobody else can open it
/// before it has its mode, and one that an agent left which was killed is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let other = |what: &str| io::Error::new(io::ErrorKind::AddrInUse, what.to_owned());
    match path.symlink_metadata() {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(other("something else than a socket is there"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(other("another process listens there")),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let mut own = path.to_owned().into_os_string();
    own.push(format!(".{}", std::process::id()));
    let own = PathBuf::from(own);
    std::fs::DirBuilder::new().mode(0o700).create(&own)?;
    let made = (|| {
        let first = own.join("s");
        let listener = UnixListener::bind(&first)?;
        std::fs::set_permissions(&first, std::fs::Permissions::from_mode(0o660))?;
        std::fs::rename(&first, path)?;
        Ok(listener)
    })();
    // What could not be moved is of no use to anybody.
    let _gone = std::fs::remove_file(own.join("s"));
    let _gone = std::fs::remove_dir(&own);
    made
}

impl Place {
    /// As people open it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}/"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Its address, where it has one.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Connects and says nothing, so that whoever waits for a connection there wakes up.
    pub(super) fn knock(&self) {
        const SOON: Duration = Duration::from_secs(1);
        match self {
            Self::Tcp(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
                    ip => ip,
                };
                drop(TcpStream::connect_timeout(&SocketAddr::new(ip, address.port()), SOON));
            }
            Self::Unix(path) => drop(UnixStream::connect(path)),
        }
    }
}

impl Stream {
    /// How long one read and one write may take from now on.
    pub(super) fn within(&self, time: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(Some(time))?;
                stream.set_write_timeout(Some(time))
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(time))?;
                stream.set_write_timeout(Some(time))
            }
        }
    }

    /// Ends it, also for whoever reads from it in another thread.
    pub(super) fn end(&self, how: Shutdown) {
        // One that the other side has ended is ended.
        let _gone = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_for_its_owner_and_group_and_replaces_only_one_that_nobody_listens_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page.sock");
        let bind = || Listener::bind(&PageAt::Unix(path.clone())).map(|(listener, _)| listener);
        let first = bind().unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
        assert!(bind().err().unwrap().to_string().contains("another process listens"));
        drop(first);
        let again = bind().unwrap();
        Place::Unix(path.clone()).knock();
        again.accept().unwrap();
        drop(again);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a file").unwrap();
        assert!(bind().err().unwrap().to_string().contains("something else than a socket"));
        assert_eq!(std::fs::read(&path).unwrap(), b"a file");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left");
    }
}
