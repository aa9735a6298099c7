//! Who this sensor is: its name, kernel, version, and the hello made of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use netml_proto::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, v1};

use super::Misuse;
use crate::export::Transport;
use crate::export::credentials::{Credentials, CredentialsError};
use crate::flow::schema;
use crate::model::Model;

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit of this build, where the builder said it.
pub const COMMIT: &str = match option_env!("NETML_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Longest sensor name.
const NAME_CHARS_MAX: usize = 64;

/// Where a sensor's packets come from; said in the hello. For the project's own tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SourceArg {
    /// The host's own interfaces.
    Live,
    /// A capture file.
    Replay,
    /// The capture kept in the repository.
    Bundled,
    /// The project's own namespaces.
    Lab,
}

impl From<SourceArg> for v1::Source {
    fn from(source: SourceArg) -> Self {
        match source {
            SourceArg::Live => Self::Live,
            SourceArg::Replay => Self::Replay,
            SourceArg::Bundled => Self::Bundled,
            SourceArg::Lab => Self::Lab,
        }
    }
}

/// The sensor's name: the one given, or the host's.
///
/// # Errors
/// [`Misuse`] for a name the collector would refuse.
pub fn sensor_name(given: Option<&str>) -> Result<String, Misuse> {
    let Some(name) = given else {
        let host: String = first_line("/proc/sys/kernel/hostname")
            .chars()
            .map(|c| if is_name_char(c) { c } else { '-' })
            .take(NAME_CHARS_MAX)
            .collect();
        return Ok(if host.is_empty() {
            "sensor".into()
        } else {
            host
        });
    };
    let fits = (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_name_char);
    if fits {
        Ok(name.to_owned())
    } else {
        Err(Misuse(format!(
            "--sensor takes 1 to {NAME_CHARS_MAX} of letters, digits, `.`, `_` and `-`"
        )))
    }
}

const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Most collectors of a sensor.
const COLLECTORS_MAX: usize = 8;

/// The ways to the collectors, the first of which is preferred: all by one identity file, or each by its
/// own.
///
/// # Errors
/// [`Misuse`] for what [`transport`] refuses, too many collectors, one named twice, identity files that are
/// neither one nor one for each, or name different sensors.
pub fn transports(urls: &[String], identities: &[PathBuf]) -> anyhow::Result<Vec<Transport>> {
    let misuse = |text: String| anyhow!(Misuse(text));
    if urls.len() > COLLECTORS_MAX {
        return Err(misuse(format!(
            "{} collectors are named; {COLLECTORS_MAX} is the most",
            urls.len()
        )));
    }
    if let Some(url) = (1..urls.len()).find_map(|n| urls[..n].iter().find(|url| **url == urls[n])) {
        return Err(misuse(format!("the collector {url} is named twice")));
    }
    let mut ways: Vec<Transport> = Vec::with_capacity(urls.len());
    match identities {
        [] | [_] => {
            for url in urls {
                ways.push(match ways.first() {
                    None => transport(url, identities.first().map(PathBuf::as_path))?,
                    Some(first) => first.to(url).map_err(|error| misuse(error.to_string()))?,
                });
            }
        }
        _ if identities.len() == urls.len() => {
            for (url, identity) in urls.iter().zip(identities) {
                ways.push(transport(url, Some(identity))?);
            }
        }
        _ => {
            return Err(misuse(format!(
                "{} identity files for {} collectors: give one for all, or one for each in their order",
                identities.len(),
                urls.len()
            )));
        }
    }
    if let [first, rest @ ..] = &ways[..]
        && let Some(other) = rest.iter().find(|way| way.sensor() != first.sensor())
    {
        return Err(misuse(format!(
            "the identity files name different sensors, {} and {}: enrol under one name",
            first.sensor().unwrap_or_default(),
            other.sensor().unwrap_or_default()
        )));
    }
    Ok(ways)
}

/// The way to the collector: plain for `http://`, by TLS with the identity file for `https://`.
///
/// # Errors
/// [`Misuse`] for a URL that is none, or an identity that does not fit to it; where the file cannot
/// be read.
pub fn transport(url: &str, identity: Option<&Path>) -> anyhow::Result<Transport> {
    let credentials = identity
        .map(|path| Ok::<_, CredentialsError>((path, Credentials::read(path)?)))
        .transpose()?;
    Transport::new(url, credentials).map_err(|error| anyhow!(Misuse(error.to_string())))
}

/// The sensor's name: that of its certificate, else as [`sensor_name`] has it.
///
/// # Errors
/// [`Misuse`] for a name the collector would refuse.
pub fn known_as(transport: &Transport, given: Option<&str>) -> Result<String, Misuse> {
    match (transport.sensor(), given) {
        (Some(sensor), Some(given)) if sensor != given => Err(Misuse(format!(
            "--sensor {given:?} is not the name in the certificate, {sensor}; leave it out or enrol under it"
        ))),
        (Some(sensor), _) => Ok(sensor),
        (None, given) => sensor_name(given),
    }
}

/// Release of the running kernel.
#[must_use]
pub fn kernel() -> String {
    first_line("/proc/sys/kernel/osrelease")
}

/// The hello of this start, with a random stream id.
///
/// # Errors
/// Where the system gives no random numbers.
pub fn hello(
    sensor: String,
    source: v1::Source,
    interfaces: Vec<v1::Interface>,
    model: Option<&Model>,
    accepted_commands: Vec<String>,
) -> anyhow::Result<v1::Hello> {
    Ok(v1::Hello {
        protocol_version: PROTOCOL_VERSION,
        protocol_version_min: PROTOCOL_VERSION_MIN,
        sensor,
        version: VERSION.into(),
        kernel: kernel(),
        boot_id: first_line("/proc/sys/kernel/random/boot_id"),
        source: source.into(),
        stream_id: random()?,
        interfaces,
        model_id: model.map_or_else(String::new, |model| model.id().into()),
        schema_digest: schema::digest(),
        accepted_commands,
        stored_elsewhere: Vec::new(),
    })
}

/// A random number that is not zero.
///
/// # Errors
/// Where the system gives none.
pub fn random() -> anyhow::Result<u64> {
    getrandom::u64()
        .map(|number| number | 1)
        .map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))
}

/// Upper half of the flow numbers of one engine.
///
/// # Errors
/// Where the system gives no random numbers.
pub fn flow_id_base() -> anyhow::Result<u64> {
    Ok(random()? & 0xffff_ffff_0000_0000)
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensor_name_is_given_or_that_of_the_host() {
        assert_eq!(sensor_name(Some("lab-1.x_y")).unwrap(), "lab-1.x_y");
        let host = sensor_name(None).unwrap();
        assert_eq!(sensor_name(Some(&host)).unwrap(), host);
        for bad in ["", "a b", "ü", &"x".repeat(65)] {
            assert!(sensor_name(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
