//! Memory of the sensor and the collector under load.

use std::time::Duration;

use anyhow::ensure;

use super::system::{System, resident_bytes};
use crate::lab::{self, Offloads};

const MEBIBYTE: u64 = 1024 * 1024;
/// Live flows the sensor must hold.
const FLOWS: u64 = 50_000;
/// Resident memory of the sensor with [`FLOWS`].
const AGENT_BYTES_MAX: u64 = 128 * MEBIBYTE;
/// Resident memory of the collector after an hour.
const COLLECTOR_BYTES_MAX: u64 = 256 * MEBIBYTE;
/// An hour at 1,000 records a second.
const RECORDS_PER_HOUR: u64 = 3_600_000;
/// Packets a second while the collector is watched; each begins a flow and so gives a record or
/// two.
const PACKETS_PER_SECOND: u64 = 3_000;

/// The sensor holds 50,000 live flows in 128 MiB.
pub(super) fn agent_memory_at_fifty_thousand_flows() -> anyhow::Result<String> {
    let mut system = System::start(Offloads::Off)?;
    // UDP flows live 30 s after their last packet, so all of them have to come within that time.
    let lab = &system.lab;
    lab::many_flows(lab, FLOWS + FLOWS / 10, 6_000)?;
    let flows = system.eventually(Duration::from_secs(15), |system| {
        let flows = system.sensor()?["health"]["flows_live"]
            .as_u64()
            .unwrap_or_default();
        Ok(if flows >= FLOWS {
            Ok(flows)
        } else {
            Err(format!("only {flows} flows are live"))
        })
    })?;
    let resident = resident_bytes(system.agent.id())?;
    ensure!(
        resident <= AGENT_BYTES_MAX,
        "{} MiB with {flows} live flows",
        resident / MEBIBYTE
    );
    Ok(format!(
        "{} MiB with {flows} live flows",
        resident / MEBIBYTE
    ))
}

/// The collector's memory, carried on by its growth per record in the second half of the run, is
/// under 256 MiB after an hour at 1,000 records/s. The records come faster than that, so that a
/// short run holds more of the hour.
pub(super) fn collector_memory(run: Duration) -> anyhow::Result<String> {
    let mut system = System::start(Offloads::Off)?;
    let packets = PACKETS_PER_SECOND * run.as_secs() / 3;
    // The first third fills caches whose size is bounded.
    lab::many_flows(&system.lab, packets, PACKETS_PER_SECOND)?;
    let begin = Sample::take(&mut system)?;
    lab::many_flows(&system.lab, packets, PACKETS_PER_SECOND)?;
    lab::many_flows(&system.lab, packets, PACKETS_PER_SECOND)?;
    let end = Sample::take(&mut system)?;
    let records = end.records - begin.records;
    ensure!(
        records >= packets,
        "too few records to prove anything: {records} of {packets} packets"
    );
    let grown = end.resident_bytes.saturating_sub(begin.resident_bytes);
    let to_come = RECORDS_PER_HOUR.saturating_sub(end.records);
    let in_an_hour = end.resident_bytes + grown * to_come / records;
    ensure!(
        in_an_hour <= COLLECTOR_BYTES_MAX,
        "{} MiB after {} records, growing to {} MiB in an hour",
        end.resident_bytes / MEBIBYTE,
        end.records,
        in_an_hour / MEBIBYTE
    );
    Ok(format!(
        "{} MiB after {} records, growing to {} MiB in an hour",
        end.resident_bytes / MEBIBYTE,
        end.records,
        in_an_hour / MEBIBYTE
    ))
}

/// The collector at one moment.
struct Sample {
    records: u64,
    resident_bytes: u64,
}

impl Sample {
    /// Waits until what was sent is stored.
    fn take(system: &mut System) -> anyhow::Result<Self> {
        let mut last = 0;
        let records = system.eventually(Duration::from_secs(60), |system| {
            let status = system.api.json("/api/status")?;
            let now = status["books"]["records_stored"]
                .as_u64()
                .unwrap_or_default();
            // Health and totals come each second even when nothing else does.
            let settled = now > 0 && now - last < 200;
            last = now;
            if !settled {
                std::thread::sleep(Duration::from_secs(1));
            }
            Ok(settled
                .then_some(now)
                .ok_or_else(|| format!("{now} records and ever more")))
        })?;
        Ok(Self {
            records,
            resident_bytes: resident_bytes(system.collector.id())?,
        })
    }
}
