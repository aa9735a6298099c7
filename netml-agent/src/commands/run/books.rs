//! The books of a live run, from the kernel programs to the collector.

use crate::engine::{Books, FlowReport, JudgedPacket};
use crate::export::Delivered;
use crate::verdict::Verdict;

/// What the kernel programs counted, over all interfaces and directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KernelBooks {
    pub(super) frames: u64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) recorded: u64,
    pub(super) mapped: u64,
    pub(super) lost: [u64; netml_common::KERNEL_LOSS_REASONS],
}

/// Counts of a run, over all stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LiveBooks {
    pub(super) kernel: KernelBooks,
    /// Records read from the ring, refused ones included.
    pub(super) ring_out: u64,
    /// Records the decoder refused.
    pub(super) refused: u64,
    /// Frames read from the flow maps.
    pub(super) map_out: u64,
    pub(super) engine: Books,
    /// Packets that were given a verdict (or NO_VERDICT).
    pub(super) packets_judged: u64,
    /// Their wire packets: a super-packet is one record and several of these.
    pub(super) segments_judged: u64,
    /// Flows reported as ended, and their wire packets.
    pub(super) flows_out: u64,
    pub(super) flow_packets_out: u64,
    /// Of these the ones the kernel only counted.
    pub(super) flow_unrecorded_out: u64,
    /// Flows by verdict: NO_VERDICT, NORMAL, UNSURE, SUSPICIOUS.
    pub(super) verdicts: [u64; 4],
}

impl LiveBooks {
    pub(super) fn flow_ended(&mut self, report: &FlowReport) {
        let verdict: Verdict = report.verdict.verdict;
        self.flows_out += 1;
        self.flow_packets_out += report.fwd_packets + report.rev_packets;
        self.flow_unrecorded_out += report.unrecorded_packets;
        self.verdicts[verdict as usize] += 1;
    }

    pub(super) fn packet_judged(&mut self, packet: &JudgedPacket) {
        self.packets_judged += 1;
        self.segments_judged += u64::from(packet.record.segments);
    }

    /// `in == out + Σ lost` at every stage, after the ring was drained and the engine finished.
    pub(super) fn balanced(&self) -> bool {
        let lost: u64 = self.kernel.lost.iter().sum();
        self.kernel.frames == self.kernel.recorded + self.kernel.mapped + lost
            && self.kernel.recorded == self.ring_out
            && self.kernel.mapped == self.map_out
            && self.map_out == self.engine.unrecorded_in
            && self.engine.unrecorded_in == self.engine.unrecorded_ended
            && self.ring_out == self.engine.packets_in + self.refused
            && self.engine.packets_in == self.engine.packets_ended
            && self.engine.packets_live == 0
            && self.packets_judged == self.engine.packets_in
            && self.segments_judged + self.flow_unrecorded_out == self.flow_packets_out
            && self.engine.flows_started == self.flows_out
    }

    /// The books for people, one stage a line.
    pub(super) fn summary(&self, delivered: Option<&Delivered>) -> String {
        let Self { kernel, engine, .. } = self;
        let lost: String = netml_common::LossReason::ALL
            .iter()
            .filter_map(|reason| Some((reason, kernel.lost.get(reason.index())?)))
            .filter(|(_, count)| **count > 0)
            .map(|(reason, count)| format!(" + {count} {}", reason.name()))
            .collect();
        let [none, normal, unsure, suspicious] = self.verdicts;
        let mut lines = vec![
            format!(
                "kernel:  {} frames = {} records + {} counted by flow{lost}; {} packets, {} bytes",
                kernel.frames, kernel.recorded, kernel.mapped, kernel.packets, kernel.bytes
            ),
            format!(
                "ring:    {} records = {} decoded + {} refused",
                self.ring_out, engine.packets_in, self.refused
            ),
            format!(
                "map:     {} frames read = {} in ended flows",
                self.map_out, engine.unrecorded_ended
            ),
            format!(
                "engine:  {} records in = {} in ended flows + {} live; {} judged",
                engine.packets_in, engine.packets_ended, engine.packets_live, self.packets_judged
            ),
            format!(
                "flows:   {} started = {} ended ({} evicted) with {} packets, {} of them only counted",
                engine.flows_started,
                self.flows_out,
                engine.flows_evicted,
                self.flow_packets_out,
                self.flow_unrecorded_out
            ),
            format!(
                "verdict: {normal} NORMAL, {unsure} UNSURE, {suspicious} SUSPICIOUS, {none} NO_VERDICT"
            ),
        ];
        if let Some(delivered) = delivered {
            let books = delivered.books;
            lines.push(format!(
                "export:  {} records = {} acknowledged + {} backlog-full{} + {} undelivered{}",
                books.records_in,
                books.acked,
                books.lost,
                delivered
                    .kept
                    .map_or_else(String::new, |kept| format!(" + {kept} kept in the spool")),
                delivered.undelivered,
                delivered
                    .last_error
                    .as_ref()
                    .map_or_else(String::new, |error| format!(" ({error})"))
            ));
        }
        lines.push(if self.balanced() {
            "books balance".into()
        } else {
            "books DO NOT balance".into()
        });
        lines.iter().map(|line| format!("  {line}\n")).collect()
    }
}
