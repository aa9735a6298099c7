//! The books of one replayed file: what came in at each stage and what became of it.

use std::fmt::Write as _;

use netml_common::LossReason;

use crate::capture_file::CaptureBooks;
use crate::engine::Books;
use crate::verdict::Verdict;

/// Counts of one file, over all stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileBooks {
    /// File to records.
    pub capture: CaptureBooks,
    /// Records to flows.
    pub engine: Books,
    /// Flows that were reported as ended.
    pub flows_out: u64,
    /// Wire packets of those flows.
    pub flow_packets_out: u64,
    /// Packets that were given a verdict.
    pub packets_judged: u64,
    /// Flows by verdict: NO_VERDICT, NORMAL, UNSURE, SUSPICIOUS.
    pub verdicts: [u64; 4],
}

impl FileBooks {
    /// Counts an ended flow.
    pub fn flow_ended(&mut self, packets: u64, verdict: Verdict) {
        self.flows_out += 1;
        self.flow_packets_out += packets;
        self.verdicts[verdict as usize] += 1;
    }

    /// `in == out + Σ lost` at every stage, once the engine was finished.
    #[must_use]
    pub fn balanced(&self) -> bool {
        let records = self.capture.records;
        self.capture.balanced()
            && self.engine.packets_in == records
            && self.engine.packets_ended == records
            && self.engine.packets_live == 0
            && self.packets_judged == records
            && self.flow_packets_out == records + self.capture.further_segments
            && self.engine.flows_started == self.engine.flows_ended
            && self.engine.flows_ended == self.flows_out
    }

    /// The books for people, one stage a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let capture = &self.capture;
        let engine = &self.engine;
        let mut text = String::new();
        let mut line = |text_line: std::fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let written = text.write_fmt(format_args!("  {text_line}\n"));
            debug_assert!(written.is_ok(), "a string takes everything");
        };
        line(format_args!(
            "capture: {} packets = {} records{}{}",
            capture.packets,
            capture.records,
            losses(&capture.lost),
            wild(capture.wild_timestamps)
        ));
        line(format_args!(
            "engine:  {} records in = {} in ended flows + {} live; {} judged, {} out of order",
            engine.packets_in,
            engine.packets_ended,
            engine.packets_live,
            self.packets_judged,
            engine.out_of_order
        ));
        line(format_args!(
            "flows:   {} started = {} ended ({} evicted) with {} packets{}",
            engine.flows_started,
            engine.flows_ended,
            engine.flows_evicted,
            self.flow_packets_out,
            segments(capture.further_segments)
        ));
        let [none, normal, unsure, suspicious] = self.verdicts;
        line(format_args!(
            "verdict: {normal} NORMAL, {unsure} UNSURE, {suspicious} SUSPICIOUS, {none} NO_VERDICT"
        ));
        line(format_args!(
            "{}",
            if self.balanced() {
                "books balance"
            } else {
                "books DO NOT balance"
            }
        ));
        text
    }
}

/// What the flows have beyond the records: see [`crate::capture_file::offload`].
fn segments(further: u64) -> String {
    match further {
        0 => String::new(),
        _ => format!(" ({further} of them further segments of a record)"),
    }
}

/// `; 3 wild time stamps`, or nothing.
fn wild(packets: u64) -> String {
    match packets {
        0 => String::new(),
        packets => format!("; {packets} wild time stamps"),
    }
}

/// ` + 3 arp + 1 bad-ipv4-header`, or nothing.
fn losses(lost: &[u64]) -> String {
    LossReason::ALL
        .iter()
        .map(|reason| (reason.name(), lost[reason.index()]))
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!(" + {count} {name}"))
        .collect()
}
