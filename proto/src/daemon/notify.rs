//! Word to the service manager: `sd_notify(3)`, without its library.
//!
//! Shell. One datagram a message, to the socket that `NOTIFY_SOCKET` names: a path, or an abstract
//! address where it begins with `@`. Without the variable nothing happens. Nothing here waits: where
//! the socket takes no more, the message is an error for the caller to count or log.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Longest status that is sent, in bytes; of a longer one the rest is left out.
pub const STATUS_BYTES_MAX: usize = 512;

/// The service manager, where there is one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// That of this process's environment.
    ///
    /// # Errors
    /// Where `NOTIFY_SOCKET` names a socket that cannot be reached.
    pub fn of_environment() -> io::Result<Self> {
        let text = |name| env::var(name).ok();
        Self::new(
            text("NOTIFY_SOCKET").as_deref(),
            text("WATCHDOG_USEC").as_deref(),
            text("WATCHDOG_PID").as_deref(),
        )
    }

    /// One by the texts of the three variables.
    ///
    /// # Errors
    /// Where the first names a socket that cannot be reached.
    pub fn new(
        socket: Option<&str>,
        watchdog_us: Option<&str>,
        watchdog_pid: Option<&str>,
    ) -> io::Result<Self> {
        let Some(name) = socket.filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
            None => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("NOTIFY_SOCKET {name:?} is neither a path nor an abstract address"),
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address)?;
        // The watchdog of another process is not ours to feed.
        let is_ours = watchdog_pid.is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = watchdog_us
            .filter(|_| is_ours)
            .and_then(|us| us.parse().ok())
            .filter(|us| *us > 0)
            .map(Duration::from_micros);
        Ok(Self {
            socket: Some(socket),
            watchdog,
        })
    }

    /// Time without word after which the service is ended as dead; None: nobody waits for word.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The service does what it is for.
    ///
    /// # Errors
    /// Where the message was not taken.
    pub fn ready(&self, status: &str) -> io::Result<()> {
        self.send(&format!("READY=1\n{}", status_line(status)))
    }

    /// How the service fares, in one line for people.
    ///
    /// # Errors
    /// Where the message was not taken.
    pub fn status(&self, status: &str) -> io::Result<()> {
        self.send(&status_line(status))
    }

    /// The service has begun to end.
    ///
    /// # Errors
    /// Where the message was not taken.
    pub fn stopping(&self) -> io::Result<()> {
        self.send("STOPPING=1\n")
    }

    /// The service makes progress.
    ///
    /// # Errors
    /// Where the message was not taken.
    pub fn feed_watchdog(&self) -> io::Result<()> {
        self.send("WATCHDOG=1\n")
    }

    fn send(&self, message: &str) -> io::Result<()> {
        match &self.socket {
            Some(socket) => socket.send(message.as_bytes()).map(|_| ()),
            None => Ok(()),
        }
    }
}

/// One line, whatever the text holds: a line break would begin another message.
fn status_line(status: &str) -> String {
    let mut line = String::from("STATUS=");
    for c in status.chars() {
        if line.len() + c.len_utf8() > STATUS_BYTES_MAX {
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1_024];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn an_abstract_socket_gets_each_message() {
        let name = format!("netml-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let text = format!("@{name}");
        let manager = ServiceManager::new(Some(&text), Some("3000000"), None).unwrap();
        assert_eq!(manager.watchdog(), Some(Duration::from_secs(3)));
        manager.ready("watches\neth0").unwrap();
        assert_eq!(received(&socket), "READY=1\nSTATUS=watches eth0\n");
        manager.feed_watchdog().unwrap();
        assert_eq!(received(&socket), "WATCHDOG=1\n");
        manager.status(&"é".repeat(1_000)).unwrap();
        let long = received(&socket);
        assert!(long.len() <= STATUS_BYTES_MAX + 1 && long.ends_with("é\n"));
        manager.stopping().unwrap();
        assert_eq!(received(&socket), "STOPPING=1\n");
        drop(socket);
        assert!(manager.feed_watchdog().is_err());
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_fed() {
        let name = format!("netml-notify-pid-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _socket = UnixDatagram::bind_addr(&address).unwrap();
        let text = format!("@{name}");
        let of = |us, pid| {
            let manager = ServiceManager::new(Some(&text), us, pid).unwrap();
            manager.watchdog()
        };
        let own = std::process::id().to_string();
        assert!(of(Some("1000"), Some(&own)).is_some());
        assert!(of(Some("1000"), Some("1")).is_none());
        for us in [None, Some("0"), Some("-1"), Some("soon")] {
            assert!(of(us, None).is_none(), "{us:?}");
        }
    }

    #[test]
    fn without_a_socket_nothing_happens_and_a_wrong_one_is_told() {
        for name in [None, Some("")] {
            let manager = ServiceManager::new(name, Some("1000"), None).unwrap();
            assert!(manager.watchdog().is_none());
            manager.ready("").unwrap();
        }
        for name in ["vsock:2:1", "relative", "/nowhere/at/all"] {
            assert!(ServiceManager::new(Some(name), None, None).is_err());
        }
    }
}
