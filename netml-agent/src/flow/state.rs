//! One flow: totals, flags and the statistics its features come from.

use netml_common::{Direction, Marks, PacketRecord};

use super::beside::Beside;
use super::decay::Running;
use super::key::{self, FlowKey};
use super::lru::Place;
use crate::engine::{EndReason, FlowEnds, FlowTotals, HalfTotals, Path};
use crate::verdict::FlowVerdict;

/// TCP flag bits (RFC 9293 §3.1).
pub mod tcp_flag {
    /// Last of the sender's data.
    pub const FIN: u8 = 1;
    /// Opens.
    pub const SYN: u8 = 2;
    /// Refuses or aborts.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// Acknowledges.
    pub const ACK: u8 = 16;
}

/// IP protocol number of TCP.
pub const PROTO_TCP: u8 = 6;

/// Totals and statistics of one direction.
#[derive(Clone, Debug, Default)]
pub struct Half {
    /// Wire packets.
    pub packets: u64,
    /// Wire bytes.
    pub bytes: u64,
    /// Payload bytes.
    pub payload_bytes: u64,
    /// Payload bytes of the first packet that had any.
    pub first_payload_bytes: u32,
    /// Payload bytes per packet.
    pub payload: Running,
    /// A FIN was seen.
    pub fin: bool,
}

/// How far a TCP connection came, in the order of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Handshake {
    /// Not TCP, or its beginning was not seen.
    #[default]
    Unknown,
    /// SYN only.
    Opened,
    /// SYN-ACK seen.
    Answered,
    /// The initiator acknowledged.
    Established,
}

/// A live flow.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Unique within one engine.
    pub id: u64,
    /// Its key, for both directions.
    pub key: FlowKey,
    /// Which end of the key began it.
    pub initiator_is_low: bool,
    /// Direction at the interface of the initiator's packets.
    pub initiator_direction: Direction,
    /// First packet.
    pub first_ns: u64,
    /// Last packet.
    pub last_ns: u64,
    /// Records, both ways: what the books count. A record may be of several wire packets.
    pub frames: u64,
    /// Wire packets of these, both ways: the unit of the evaluation points and of all statistics, so
    /// that a flow looks the same whether offloads were on or off.
    pub packets: u64,
    /// Frames without a record, counted by the kernel: in the sums of both ways, in no statistic.
    pub unrecorded_frames: u64,
    /// Their wire packets.
    pub unrecorded_packets: u64,
    /// Packets that carried payload.
    pub payload_packets: u64,
    /// From the initiator.
    pub fwd: Half,
    /// To the initiator.
    pub rev: Half,
    /// OR of all TCP flags.
    pub tcp_flags: u8,
    /// SYN without ACK seen.
    pub syns: u32,
    /// RST seen.
    pub rsts: u32,
    /// Packets with ACK.
    pub acks: u32,
    /// Packets with PSH.
    pub pushes: u32,
    /// How far the connection came.
    pub handshake: Handshake,
    /// Changes of direction between frames that follow each other.
    pub turns: u32,
    /// Gaps between frames, in milliseconds.
    pub gaps_ms: Running,
    /// Longest gap.
    pub gap_max_ms: f32,
    /// Latest gap.
    pub gap_last_ms: f32,
    /// Direction of the latest frame.
    pub last_forward: bool,
    /// Payload bytes of the latest packet.
    pub last_payload_bytes: u32,
    /// TCP flags of the latest frame.
    pub last_tcp_flags: u8,
    /// Frames that were fragments.
    pub fragments: u32,
    /// Set once the flow can only end.
    pub closed: Option<EndReason>,
    /// Refused: a RST of the responder before any payload of it.
    pub refused: bool,
    /// Frames at the latest evaluation.
    pub judged_frames: u64,
    /// Packets at the evaluation point that comes next, and at the one before it (Fibonacci).
    pub next_point: u64,
    /// See `next_point`.
    pub last_point: u64,
    /// The quiet-second evaluation between these two points has been made.
    pub quiet_judged: bool,
    /// The first report was made.
    pub started: bool,
    /// Time of the latest report the clock asked for; at first that of the first packet. Reports
    /// for other reasons do not move it, so that batches of packets do not change the wheel.
    pub reported_ns: u64,
    /// Frames, without a record or with one, at that report.
    pub reported_frames: u64,
    /// Counted by its hosts among the connections that are open and brought nothing back.
    pub waits: bool,
    /// It goes on where one of its key ended by the active time-out: nothing that its hosts begin anew.
    pub goes_on: bool,
    /// Told as established, see [`crate::engine::Engine::take_established`].
    pub is_known: bool,
    /// Packets and rows of this flow that wait for the next flush.
    pub pending: u32,
    /// Places of initiator, responder and pair in their tables, to be checked before use.
    pub places: [Place; 3],
    /// Other interfaces of the conversation.
    pub path: Path,
    /// Packets the sensor had lost when the flow began.
    pub lost_before: u64,
    /// Most probable attack class at the highest score.
    pub class: u8,
    /// Its verdict so far.
    pub verdict: FlowVerdict,
    /// What it has beside its totals, if anything: see [`Self::beside`].
    beside: Option<Box<Beside>>,
}

impl Flow {
    /// A flow before its first packet. Packets of the key's lower end pass as `low_direction`.
    #[must_use]
    pub fn new(
        id: u64,
        key: FlowKey,
        initiator_is_low: bool,
        low_direction: Direction,
        now_ns: u64,
    ) -> Self {
        Self {
            id,
            key,
            initiator_is_low,
            initiator_direction: if initiator_is_low {
                low_direction
            } else {
                low_direction.opposite()
            },
            first_ns: now_ns,
            last_ns: now_ns,
            frames: 0,
            packets: 0,
            unrecorded_frames: 0,
            unrecorded_packets: 0,
            payload_packets: 0,
            fwd: Half::default(),
            rev: Half::default(),
            tcp_flags: 0,
            syns: 0,
            rsts: 0,
            acks: 0,
            pushes: 0,
            handshake: Handshake::Unknown,
            turns: 0,
            gaps_ms: Running::default(),
            gap_max_ms: 0.0,
            gap_last_ms: 0.0,
            last_forward: true,
            last_payload_bytes: 0,
            last_tcp_flags: 0,
            fragments: 0,
            closed: None,
            refused: false,
            judged_frames: 0,
            next_point: 1,
            last_point: 1,
            quiet_judged: false,
            started: false,
            reported_ns: now_ns,
            reported_frames: 1,
            waits: false,
            goes_on: false,
            is_known: false,
            pending: 0,
            places: [Place::MAX; 3],
            path: Path::default(),
            lost_before: 0,
            class: 0,
            verdict: FlowVerdict::default(),
            beside: None,
        }
    }

    /// Adds a record. `now_ns` is its time, never before an earlier packet's.
    ///
    /// The segments of one record share its payload evenly and follow each other without a gap (on a
    /// wire of 1 Gbit/s they are 12 µs apart); only the last carries PSH, FIN and RST, as a card cuts
    /// them.
    pub fn add(&mut self, record: &PacketRecord, forward: bool, now_ns: u64) {
        if self.frames > 0 {
            self.gap_last_ms = now_ns.saturating_sub(self.last_ns) as f32 / 1e6;
            self.gap_max_ms = self.gap_max_ms.max(self.gap_last_ms);
            self.gaps_ms.add(self.gap_last_ms);
            self.turns += u32::from(forward != self.last_forward);
        }
        let segments = u32::from(record.segments);
        if segments > 1 {
            self.gap_last_ms = 0.0;
            self.gaps_ms.add_equal(0.0, segments - 1);
        }
        let segment_bytes = record.payload_bytes.div_ceil(segments.max(1));
        self.frames += 1;
        self.packets += u64::from(segments);
        self.last_ns = now_ns;
        self.last_forward = forward;
        self.last_payload_bytes = segment_bytes;
        self.last_tcp_flags = record.tcp_flags;
        self.fragments += u32::from(
            record
                .marks
                .has(Marks::FRAGMENT_FIRST | Marks::FRAGMENT_LATER),
        );
        let half = if forward {
            &mut self.fwd
        } else {
            &mut self.rev
        };
        half.packets += u64::from(record.segments);
        half.bytes += u64::from(record.wire_bytes);
        half.payload_bytes += u64::from(record.payload_bytes);
        half.payload
            .add_equal(record.payload_bytes as f32 / segments as f32, segments);
        if record.payload_bytes > 0 {
            self.payload_packets += u64::from(segments);
            if half.first_payload_bytes == 0 {
                half.first_payload_bytes = segment_bytes;
            }
        }
        if record.ip_protocol == PROTO_TCP {
            self.add_tcp(record.tcp_flags, segments, forward);
        }
    }

    fn add_tcp(&mut self, flags: u8, segments: u32, forward: bool) {
        use tcp_flag::{ACK, FIN, PSH, RST, SYN};
        self.tcp_flags |= flags;
        self.acks += u32::from(flags & ACK != 0) * segments;
        self.pushes += u32::from(flags & PSH != 0);
        if flags & (SYN | ACK) == SYN {
            self.syns += 1;
            self.handshake = self.handshake.max(Handshake::Opened);
        } else if flags & (SYN | ACK) == SYN | ACK {
            self.handshake = self.handshake.max(Handshake::Answered);
        } else if flags & ACK != 0 && forward && self.handshake == Handshake::Answered {
            self.handshake = Handshake::Established;
        }
        if flags & FIN != 0 {
            if forward {
                self.fwd.fin = true
            } else {
                self.rev.fin = true
            }
        }
        if flags & RST != 0 {
            self.rsts += 1;
            self.refused |= !forward && self.rev.payload_bytes == 0;
            self.closed.get_or_insert(EndReason::Rst);
        } else if self.fwd.fin && self.rev.fin {
            self.closed.get_or_insert(EndReason::Fin);
        }
    }

    /// Adds what the kernel counted instead of recording it: to the sums, the flags and the time of
    /// the latest packet. Statistics of single packets (gaps, sizes, shares) take records only.
    pub fn add_totals(&mut self, totals: &FlowTotals, now_ns: u64) {
        let (fwd, rev) = if self.initiator_is_low {
            (&totals.low, &totals.high)
        } else {
            (&totals.high, &totals.low)
        };
        self.unrecorded_frames += totals.frames();
        self.unrecorded_packets += totals.packets();
        self.last_ns = self.last_ns.max(now_ns);
        for (half, added) in [(&mut self.fwd, fwd), (&mut self.rev, rev)] {
            half.packets += added.packets;
            half.bytes += added.bytes;
            half.payload_bytes += added.payload_bytes;
        }
        if totals.key.ip_protocol == PROTO_TCP {
            self.add_tcp_totals(fwd, rev);
        }
    }

    /// The flags say what was among the packets, not in which order.
    fn add_tcp_totals(&mut self, fwd: &HalfTotals, rev: &HalfTotals) {
        use tcp_flag::{ACK, FIN, RST, SYN};
        self.tcp_flags |= fwd.tcp_flags | rev.tcp_flags;
        if fwd.tcp_flags & SYN != 0 {
            self.handshake = self.handshake.max(Handshake::Opened);
        }
        if rev.tcp_flags & (SYN | ACK) == SYN | ACK {
            self.handshake = self.handshake.max(Handshake::Answered);
        }
        if fwd.tcp_flags & ACK != 0 && self.handshake == Handshake::Answered {
            self.handshake = Handshake::Established;
        }
        self.fwd.fin |= fwd.tcp_flags & FIN != 0;
        self.rev.fin |= rev.tcp_flags & FIN != 0;
        if (fwd.tcp_flags | rev.tcp_flags) & RST != 0 {
            self.refused |= rev.tcp_flags & RST != 0 && self.rev.payload_bytes == 0;
            self.closed.get_or_insert(EndReason::Rst);
        } else if self.fwd.fin && self.rev.fin {
            self.closed.get_or_insert(EndReason::Fin);
        }
    }

    /// Frames with a record and without one.
    #[must_use]
    pub const fn frames_seen(&self) -> u64 {
        self.frames + self.unrecorded_frames
    }

    /// True once both ends took part: payload both ways, or a handshake seen to its end.
    #[must_use]
    pub fn is_established(&self) -> bool {
        let fed = self.fwd.payload_bytes > 0 && self.rev.payload_bytes > 0;
        fed || self.handshake == Handshake::Established
    }

    /// True of an open connection on which the responder has sent nothing.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.handshake == Handshake::Established
            && self.rev.payload_bytes == 0
            && self.closed.is_none()
    }

    /// Direction at the interface of packets of the key's lower end.
    #[must_use]
    pub fn low_direction(&self) -> Direction {
        if self.initiator_is_low {
            self.initiator_direction
        } else {
            self.initiator_direction.opposite()
        }
    }

    /// Who with whom.
    #[must_use]
    pub fn ends(&self) -> FlowEnds {
        key::ends(&self.key, self.initiator_is_low)
    }

    /// What it has beside its totals.
    #[must_use]
    pub fn beside(&self) -> Beside {
        self.beside.as_deref().copied().unwrap_or_default()
    }

    /// The same, to be changed: takes memory.
    pub fn beside_mut(&mut self) -> &mut Beside {
        self.beside.get_or_insert_default()
    }

    /// True for TCP that got no answer to its SYN.
    #[must_use]
    pub fn is_half_open(&self) -> bool {
        self.handshake == Handshake::Opened && self.rev.packets == 0
    }
}

/// The documented memory per flow rests on this.
const _: () = assert!(size_of::<Flow>() <= 496);
