//! Memory of the sensor and the collector under load.

use std::time::{Duration, Instant};

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
/// Packets a second while the collector is watched; each may become a record.
const RECORDS_PER_SECOND: u64 = 1_000;

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

/// The collector's memory, carried on at the slope of the second half, stays under 256 MiB for an
/// hour.
pub(super) fn collector_memory(run: Duration) -> anyhow::Result<String> {
    let system = System::start(Offloads::Off)?;
    let collector = system.collector.id();
    let half = run / 2;
    let in_half = RECORDS_PER_SECOND * half.as_secs();
    lab::many_flows(&system.lab, in_half, RECORDS_PER_SECOND)?;
    let middle = (Instant::now(), resident_bytes(collector)?);
    lab::many_flows(&system.lab, in_half, RECORDS_PER_SECOND)?;
    let end = resident_bytes(collector)?;
    let seconds = middle.0.elapsed().as_secs().max(1);
    let per_hour = end.saturating_sub(middle.1) * 3_600 / seconds;
    let books = system.api.json("/api/status")?["books"].clone();
    let stored = books["records_stored"].as_u64().unwrap_or_default();
    ensure!(
        stored >= in_half,
        "too few records to prove anything: {books}"
    );
    ensure!(
        end + per_hour <= COLLECTOR_BYTES_MAX,
        "{} MiB now and {} MiB more an hour",
        end / MEBIBYTE,
        per_hour / MEBIBYTE
    );
    Ok(format!(
        "{} MiB after {stored} records, {} MiB more an hour at the last slope",
        end / MEBIBYTE,
        per_hour / MEBIBYTE
    ))
}
