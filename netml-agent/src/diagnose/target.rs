//! What may be probed: an address or a host name, nothing a tool could take for an option.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc;

use super::RESOLVE_TIMEOUT;

/// Longest host name (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Why something cannot be probed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Neither an address nor a host name.
    #[error("the target is no host name or address: give one like 8.8.8.8 or example.org")]
    NotAHost,
    /// The name is not known.
    #[error("the host name cannot be resolved: {0}")]
    Unresolved(String),
    /// The resolver did not answer in time.
    #[error("the host name was not resolved within {} s", RESOLVE_TIMEOUT.as_secs())]
    TimedOut,
}

/// A checked target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(IpAddr),
    /// A host name, not resolved yet.
    Name(String),
}

impl Target {
    /// Checks a target without asking anybody.
    ///
    /// # Errors
    /// [`TargetError::NotAHost`] for anything else than an address or a host name (RFC 1123).
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let fine = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && name.split('.').all(is_label)
            // A last label of digits only is a mistyped address, not a name.
            && !name
                .rsplit('.')
                .next()
                .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if fine {
            Ok(Self::Name(name.to_owned()))
        } else {
            Err(TargetError::NotAHost)
        }
    }

    /// The address to probe. Asks the system's resolver, on a thread that is left behind where it
    /// does not answer in time.
    ///
    /// # Errors
    /// [`TargetError`] where the name has no address.
    pub fn resolve(&self) -> Result<IpAddr, TargetError> {
        let name = match self {
            Self::Address(address) => return Ok(*address),
            Self::Name(name) => name.clone(),
        };
        let (sender, answer) = mpsc::sync_channel(1);
        let unresolved = |error: std::io::Error| TargetError::Unresolved(error.to_string());
        std::thread::Builder::new()
            .name("resolve".into())
            .spawn(move || {
                let found = (name.as_str(), 0)
                    .to_socket_addrs()
                    .map(|mut all| all.next().map(|first| first.ip()));
                if sender.send(found).is_err() {
                    tracing::debug!("a name was resolved too late");
                }
            })
            .map_err(unresolved)?;
        match answer.recv_timeout(RESOLVE_TIMEOUT) {
            Ok(Ok(Some(address))) => Ok(address),
            Ok(Ok(None)) => Err(TargetError::Unresolved("it has no address".into())),
            Ok(Err(error)) => Err(unresolved(error)),
            Err(_) => Err(TargetError::TimedOut),
        }
    }
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_host_names_are_targets() {
        for text in ["8.8.8.8", "::1", "2001:db8::1"] {
            assert!(
                matches!(Target::parse(text), Ok(Target::Address(_))),
                "{text}"
            );
        }
        for text in ["localhost", "example.org", "example.org.", "a-b.c_d.x1"] {
            assert!(matches!(Target::parse(text), Ok(Target::Name(_))), "{text}");
        }
    }

    #[test]
    fn options_commands_and_mistyped_addresses_are_none() {
        let long = format!("{}.org", "a".repeat(64));
        for text in [
            "",
            "-f",
            "--help",
            "-1.2.3.4",
            "a b",
            "a;b",
            "$(x)",
            "1.2.3",
            "300.1.1.1",
            "a..b",
            ".",
            "x-.org",
            "http://x",
            "a/b",
            "a\nb",
            "ü.org",
            &long,
        ] {
            assert_eq!(Target::parse(text), Err(TargetError::NotAHost), "{text:?}");
        }
    }

    #[test]
    fn localhost_resolves_without_asking_the_network() {
        let address = Target::parse("localhost").unwrap().resolve().unwrap();
        assert!(address.is_loopback());
    }
}
