//! `--print`: verdicts on the terminal, on a thread of its own, so that a slow terminal costs lines
//! and never packets.

use std::io::{self, Write};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::commands::output::{protocol_name, tcp_flag_names};
use crate::engine::{FlowReport, FlowState, JudgedPacket};
use crate::export::convert::{Context, address, unix_ns};
use crate::export::{Chunk, Observation};
use crate::verdict::Verdict;

/// Characters of a name from elsewhere that are shown.
const NAME_CHARS_MAX: usize = 64;

/// Starts the printer; `closed` is told when standard output is closed. Ends when every sender of
/// chunks is gone.
pub(super) fn start(
    mut chunks: mpsc::Receiver<Chunk>,
    mut context: Context,
    closed: mpsc::Sender<()>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        while let Some(chunk) = chunks.blocking_recv() {
            if let Some(model) = chunk.model {
                context.model = Some(model);
            }
            let text: String = chunk
                .observations
                .iter()
                .filter_map(|observation| line(observation, &context, chunk.unix_offset_ns))
                .collect();
            let mut out = io::stdout().lock();
            let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            if written.is_err() {
                // Whoever read us has gone; so do we.
                if closed.blocking_send(()).is_err() {
                    tracing::debug!("already stopping");
                }
                return;
            }
        }
    })
}

/// The line of an observation, if it has one.
fn line(observation: &Observation, context: &Context, unix_offset_ns: i64) -> Option<String> {
    match observation {
        Observation::Flow(report) => flow(report, context, unix_offset_ns),
        Observation::Packet(judged) => Some(packet(judged, context, unix_offset_ns)),
        Observation::Record(_) => None,
    }
}

/// Ended flows, and living ones that are not normal.
fn flow(report: &FlowReport, context: &Context, unix_offset_ns: i64) -> Option<String> {
    let verdict = &report.verdict;
    let state = match report.state {
        FlowState::End(reason) => reason.name(),
        FlowState::Start | FlowState::Update => {
            if verdict.verdict < Verdict::Unsure {
                return None;
            }
            "live"
        }
    };
    let ends = &report.ends;
    let reasons: Vec<_> = verdict
        .reasons
        .iter()
        .take(2)
        .map(|reason| format!("{}={:.3}", reason.feature, reason.value))
        .collect();
    Some(format!(
        "{} flow   {:<10} {} {:<6} {} > {}  {}/{} packets {}/{} bytes  {} {} {}{}\n",
        clock(unix_ns(report.last_mono_ns, unix_offset_ns)),
        verdict.verdict.name(),
        probability(verdict.verdict, verdict.probability),
        protocol_name(ends.ip_protocol),
        end(ends.src, ends.src_port),
        end(ends.dst, ends.dst_port),
        report.fwd_packets,
        report.rev_packets,
        report.fwd_bytes,
        report.rev_bytes,
        path(context, report),
        state,
        verdict.kind.as_deref().map_or_else(String::new, shown),
        if reasons.is_empty() {
            String::new()
        } else {
            format!(" ({})", reasons.join(", "))
        },
    ))
}

fn packet(judged: &JudgedPacket, context: &Context, unix_offset_ns: i64) -> String {
    let record = &judged.record;
    format!(
        "{} packet {:<10} {} {:<6} {} > {}  {} bytes  {} {}\n",
        clock(unix_ns(record.mono_ns, unix_offset_ns)),
        judged.verdict.name(),
        probability(judged.verdict, judged.probability),
        protocol_name(record.ip_protocol),
        end(record.src, record.src_port),
        end(record.dst, record.dst_port),
        record.wire_bytes,
        interface(context, record.slot),
        tcp_flag_names(record.tcp_flags),
    )
}

/// The interface, and the others of the conversation.
fn path(context: &Context, report: &FlowReport) -> String {
    let others = context.also_seen_on(report);
    let others = others.iter().map(|name| format!("+{}", shown(name)));
    interface(context, report.ends.slot) + &others.collect::<String>()
}

fn interface(context: &Context, slot: u8) -> String {
    match context.interfaces.name(slot) {
        name if name.is_empty() => "?".into(),
        name => shown(&name),
    }
}

fn probability(verdict: Verdict, probability: f32) -> String {
    if verdict == Verdict::NoVerdict {
        "   -".into()
    } else {
        format!("{probability:.2}")
    }
}

/// Address and port, IPv6 in brackets.
fn end(bytes: [u8; 16], port: u16) -> String {
    std::net::SocketAddr::new(address(bytes), port).to_string()
}

/// Time of day in UTC.
fn clock(unix_ns: u64) -> String {
    let ms = unix_ns / 1_000_000;
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    format!("{:02}:{minutes:02}:{seconds:02}.{ms:03}Z", hours % 24)
}

/// A name from elsewhere for the terminal: bounded, without anything that moves the cursor.
pub(super) fn shown(name: &str) -> String {
    name.chars()
        .take(NAME_CHARS_MAX)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Watched;
    use crate::export::convert::testing::judged;

    #[test]
    fn a_packet_is_one_line_and_a_hostile_interface_name_cannot_move_the_cursor() {
        let context = Context {
            model: None,
            interfaces: Watched::of_names(vec!["e\x1b[2J\n".into()]),
        };
        let line = packet(&judged(0, Verdict::NoVerdict), &context, 3_723_004_000_000);
        assert_eq!(
            line,
            "01:02:03.004Z packet NO_VERDICT    - udp    10.0.0.1:1000 > 10.0.0.2:53  60 bytes  e?[2J? \n"
        );
    }
}
