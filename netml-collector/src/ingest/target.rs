//! Targets of traceroute and probe: host names by RFC 1123 or IP addresses, nothing else. Pure.
//!
//! The sensor checks again; here it saves the way there and gives a clear answer.

use std::net::IpAddr;

/// Longest host name in bytes (RFC 1123 §2.1).
pub const HOST_BYTES_MAX: usize = 253;

/// Longest label of a host name in bytes (RFC 1123 §2.1).
pub const LABEL_BYTES_MAX: usize = 63;

/// Why a text is no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the target is neither an IP address nor a host name (letters, digits, inner hyphens and dots)"
)]
pub struct NoTarget;

/// Checks a target. A trailing dot is allowed, as in a fully qualified name.
///
/// # Errors
/// When it is neither an address nor a host name; a leading `-` is never one.
pub fn check(target: &str) -> Result<(), NoTarget> {
    if target.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let name = target.strip_suffix('.').unwrap_or(target);
    let label_fits = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name whose last label is all digits would be taken for an address by resolvers.
    let numeric_end = name
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    let fits = name.len() <= HOST_BYTES_MAX && name.split('.').all(label_fits) && !numeric_end;
    fits.then_some(()).ok_or(NoTarget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_host_names_are_targets() {
        for target in [
            "8.8.8.8",
            "::1",
            "example.com",
            "a",
            "1.example",
            "x-y.z.",
            "3com.com",
        ] {
            assert_eq!(check(target), Ok(()), "{target}");
        }
    }

    #[test]
    fn options_shells_and_malformed_names_are_not() {
        let long_label = "a".repeat(64);
        let long_name = ["a".repeat(60).as_str(); 5].join(".");
        for target in [
            "",
            ".",
            "-h",
            "--help",
            "-8.8.8.8",
            "a b",
            "a;b",
            "a..b",
            "-a.b",
            "a-.b",
            "300.1.1.1",
            "1.2.3",
            "12345",
            "a_b",
            "fe80::1%eth0",
            "ä.de",
            "a\0b",
            "a\n",
            "[::1]",
            &long_label,
            &long_name,
        ] {
            assert_eq!(check(target), Err(NoTarget), "{target:?}");
        }
    }
}
