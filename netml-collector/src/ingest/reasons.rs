//! Why messages were refused as a whole: a closed list of names, and a counter for each.

use std::sync::atomic::{AtomicU64, Ordering};

use super::check::Refusal;

/// The names, in the order of their counters.
pub const NAMES: [&str; 13] = [
    "hello-first",
    "hello-again",
    "empty-message",
    "protocol-version",
    "sensor-name",
    "hello-field",
    "batch-bytes",
    "batch-records",
    "checksum",
    "payload",
    "count",
    "sequence",
    FOREIGN_STREAM,
];

/// A batch of a stream that belongs to another sensor.
pub const FOREIGN_STREAM: &str = "foreign-stream";

/// Name of a refusal.
#[must_use]
pub fn name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::HelloFirst => "hello-first",
        Refusal::HelloAgain => "hello-again",
        Refusal::EmptyMessage => "empty-message",
        Refusal::ProtocolVersion { .. } => "protocol-version",
        Refusal::SensorName => "sensor-name",
        Refusal::HelloField(_) => "hello-field",
        Refusal::BatchBytes(_) => "batch-bytes",
        Refusal::BatchRecords(_) => "batch-records",
        Refusal::Checksum => "checksum",
        Refusal::Payload => "payload",
        Refusal::Count { .. } => "count",
        Refusal::Sequence(_) => "sequence",
    }
}

/// A counter for each name.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; NAMES.len()]);

impl Counts {
    /// Counts one of this name.
    pub fn add(&self, name: &str) {
        debug_assert!(NAMES.contains(&name), "{name} is not listed");
        if let Some(at) = NAMES.iter().position(|known| *known == name) {
            self.0[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Names with their counts.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        NAMES.into_iter().zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_counter_of_its_own() {
        let counts = Counts::default();
        for refusal in [
            Refusal::HelloFirst,
            Refusal::HelloAgain,
            Refusal::EmptyMessage,
            Refusal::ProtocolVersion {
                oldest: 9,
                newest: 9,
            },
            Refusal::SensorName,
            Refusal::HelloField("version"),
            Refusal::BatchBytes(1),
            Refusal::BatchRecords(0),
            Refusal::Checksum,
            Refusal::Payload,
            Refusal::Count { stated: 1, held: 2 },
            Refusal::Sequence(0),
        ] {
            counts.add(name(&refusal));
        }
        counts.add(FOREIGN_STREAM);
        assert!(counts.all().all(|(_, count)| count == 1), "{counts:?}");
    }
}
