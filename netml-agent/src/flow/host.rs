//! What hosts and pairs of hosts did lately.
//!
//! A host has one window for both of its roles: as initiator ("source") and as responder
//! ("destination"). Counts decay with [`super::decay::HALF_LIFE_NS`]; all of it is O(1) per
//! packet.

use super::decay::{Recent, Sketch, SlowSketch, decay_factor, decay_factor_over};

/// Flows begun and how they went, counted over minutes: what is done slowly. Changes with flows, not
/// with packets, and so decays apart from the rest.
#[derive(Clone, Debug, Default)]
pub struct Tries {
    updated_ns: u64,
    /// Flows begun, with a half-life of [`SLOW_HALF_LIFE_NS`].
    pub flows: f32,
    /// Of these: got an answer.
    pub answered: f32,
    /// Of these: refused before any payload came back.
    pub refused: f32,
}

impl Tries {
    /// Brings the counts to `now_ns`.
    pub fn decay(&mut self, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.updated_ns);
        let f = decay_factor_over(elapsed_ns, SLOW_HALF_LIFE_NS);
        self.updated_ns = self.updated_ns.max(now_ns);
        self.flows *= f;
        self.answered *= f;
        self.refused *= f;
    }

    /// Takes what became of one flow.
    pub fn add(&mut self, now_ns: u64, begun: bool, answered: bool, refused: bool) {
        if begun || answered || refused {
            self.decay(now_ns);
            self.flows += f32::from(u8::from(begun));
            self.answered += f32::from(u8::from(answered));
            self.refused += f32::from(u8::from(refused));
        }
    }

    /// Flows that were refused or got no answer (yet).
    #[must_use]
    pub fn failed(&self) -> f32 {
        (self.flows - self.answered).max(0.0) + self.refused
    }
}

/// Decayed counts of one host.
///
/// What every packet changes stands first and together, the sketches, which only the begin of a flow
/// changes, behind it: a packet waits for two cache lines instead of up to five.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct HostWindow {
    updated_ns: u64,
    /// Packets sent as initiator.
    pub sent_packets: f32,
    /// Flows begun.
    pub flows: f32,
    /// Of these: got an answer from the responder.
    pub answered: f32,
    /// Of these: refused by RST before any payload came back.
    pub refused: f32,
    /// Of these: brought payload back.
    pub fed: f32,
    /// Packets received as responder.
    pub received_packets: f32,
    /// Packets sent as responder.
    pub replied_packets: f32,
    /// Flows others began with it.
    pub asked_flows: f32,
    /// Of these: answered.
    pub asked_answered: f32,
    /// Of these: refused by its RST.
    pub asked_refused: f32,
    /// Of these: it sent payload.
    pub asked_fed: f32,
    /// Responders of the flows it began.
    pub destinations: Sketch,
    /// Ports of the responders it tried.
    pub ports: Sketch,
    /// Initiators that came to it.
    pub sources: Sketch,
    /// Connections to it that are open now and that it has sent nothing on.
    pub waiting: u32,
    /// The TCP connections it began, over minutes. Only these: a device that asks for names and the time
    /// all day would hide what it tries in vain.
    pub tries: Tries,
    /// Their responders.
    pub slow_destinations: SlowSketch,
    /// The ports of these.
    pub slow_ports: SlowSketch,
}

impl HostWindow {
    /// Brings all counts to `now_ns`.
    pub fn decay(&mut self, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.updated_ns);
        if elapsed_ns == 0 {
            return;
        }
        let f = decay_factor(elapsed_ns);
        self.updated_ns = now_ns;
        for count in [
            &mut self.sent_packets,
            &mut self.flows,
            &mut self.answered,
            &mut self.refused,
            &mut self.fed,
            &mut self.received_packets,
            &mut self.replied_packets,
            &mut self.asked_flows,
            &mut self.asked_answered,
            &mut self.asked_refused,
            &mut self.asked_fed,
        ] {
            *count *= f;
        }
    }
}

/// Half-life of what is counted over minutes: what is tried slowly.
pub const SLOW_HALF_LIFE_NS: u64 = 300_000_000_000;

/// Decayed counts and recent statistics of an initiator with one responder. In the
/// order of [`HostWindow`].
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct PairWindow {
    updated_ns: u64,
    /// Packets both ways.
    pub packets: f32,
    /// Flows begun.
    pub flows: f32,
    /// Of these: answered.
    pub answered: f32,
    /// Of these: refused.
    pub refused: f32,
    /// Of these: brought payload back.
    pub fed: f32,
    /// Wire bytes from the initiator.
    pub sent_bytes: f32,
    /// Wire bytes to the initiator.
    pub received_bytes: f32,
    /// Flows begun that brought payload back, with a half-life of [`SLOW_HALF_LIFE_NS`].
    pub logins: f32,
    /// Responder ports tried.
    pub ports: Sketch,
    /// Gaps between the starts of flows, in seconds.
    pub start_gaps_s: Recent,
    /// Start of the latest flow.
    pub last_start_ns: u64,
    /// Payload bytes, both ways, of flows that ended.
    pub ended_bytes: Recent,
    /// Duration in seconds of flows that ended.
    pub ended_s: Recent,
    /// DNS questions but for reverse look-ups, with the same half-life.
    pub dns_questions: f32,
    /// Length of the names of these.
    pub dns_name_bytes: Recent,
    /// 1 for each whose type carries data and is hardly asked for otherwise, else 0.
    pub dns_rare_types: Recent,
    /// Connections that are open now and on which nothing has come back.
    pub waiting: u32,
    /// The flows begun, over minutes.
    pub tries: Tries,
    /// Responder ports of these.
    pub slow_ports: SlowSketch,
}

impl PairWindow {
    /// Brings all counts to `now_ns`.
    pub fn decay(&mut self, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.updated_ns);
        if elapsed_ns == 0 {
            return;
        }
        let f = decay_factor(elapsed_ns);
        self.updated_ns = now_ns;
        let slow = decay_factor_over(elapsed_ns, SLOW_HALF_LIFE_NS);
        self.logins *= slow;
        self.dns_questions *= slow;
        for count in [
            &mut self.packets,
            &mut self.flows,
            &mut self.answered,
            &mut self.refused,
            &mut self.fed,
            &mut self.sent_bytes,
            &mut self.received_bytes,
        ] {
            *count *= f;
        }
    }

    /// Notes a DNS question by its numbers. Reverse look-ups (PTR) are left out: the name of an IPv6
    /// address has 72 bytes (RFC 3596 §2.5) and carries nothing.
    pub fn ask(&mut self, query_type: u16, name_bytes: u8) {
        const NULL: u16 = 10;
        const PTR: u16 = 12;
        const KEY: u16 = 25;
        /// First type of private use (RFC 6895 §3.1).
        const PRIVATE: u16 = 65_280;
        if query_type == PTR {
            return;
        }
        let rare = matches!(query_type, NULL | KEY) || query_type >= PRIVATE;
        self.dns_questions += 1.0;
        self.dns_name_bytes.add(f32::from(name_bytes));
        self.dns_rare_types.add(f32::from(u8::from(rare)));
    }

    /// Notes the start of a flow.
    pub fn start(&mut self, now_ns: u64) {
        if self.last_start_ns != 0 {
            self.start_gaps_s
                .add(now_ns.saturating_sub(self.last_start_ns) as f32 / 1e9);
        }
        self.last_start_ns = now_ns;
        self.flows += 1.0;
    }
}

/// The memory documented per host and pair ([`crate::engine::Engine`]) rests on these.
const _: () = assert!(size_of::<HostWindow>() <= 400 && size_of::<PairWindow>() <= 300);
