//! The engine itself.

use std::collections::VecDeque;
use std::sync::Arc;

use netml_common::{Direction, DnsRecord, Extras, Network, PacketRecord};

use super::judging::apply;
use super::path::Conversation;
use super::{
    Books, EndReason, EvaluationRow, FlowReport, FlowState, FlowTotals, HalfTotals, JudgedPacket,
    Settings, Sink,
};
use crate::baseline::{Baselines, Point};
use crate::flow::FEATURES;
use crate::flow::beside::IcmpError;
use crate::flow::features::Moment;
use crate::flow::host::{HostWindow, PairWindow};
use crate::flow::key::{FlowKey, fold, is_multicast};
use crate::flow::lru::{LruMap, Place};
use crate::flow::state::{Flow, PROTO_TCP, tcp_flag};
use crate::flow::wheel::Wheel;
use crate::model::{Judgement, Leaves, Model};
use crate::rules::{self, Finding};
use crate::verdict::Verdict;

/// Rows judged at once.
const ROWS_MAX: usize = 64;

/// Packets and rows that wait for a flush at most; one more flushes.
const PENDING_MAX: usize = 1024;

/// A flow that got packets after its last evaluation is judged when it was quiet for this long.
const QUIET_NS: u64 = 1_000_000_000;

/// Flows that wait to be told as established, or as ended after that, at most. One more established
/// flow is told with a later packet; one more ended flow is not told.
const TOLD_FLOWS_MAX: usize = 16_384;

const SRC: usize = 0;
const DST: usize = 1;
const PAIR: usize = 2;

type Address = [u8; 16];

/// What waits for the next flush, in the order it happened.
struct Pending {
    place: Place,
    /// Index into `rows`.
    row: Option<usize>,
    /// The packet, and whether the initiator sent it.
    packet: Option<(PacketRecord, bool)>,
}

/// A flow that is to begin, should there be none.
struct Begin {
    key: FlowKey,
    initiator_is_low: bool,
    low_direction: Direction,
    /// It opens a connection: a closed flow of the same key is over.
    opens: bool,
}

/// What a record, or the kernel's totals, add to the windows of hosts.
struct Added {
    fwd_packets: f32,
    rev_packets: f32,
    fwd_bytes: f32,
    rev_bytes: f32,
}

/// The engine. See the module.
///
/// Memory is bounded by [`Settings`]: about 640 bytes a flow, 450 a host and 350 a pair, and 1,400
/// for a host in one role whose usual behaviour is learned. Nothing is allocated per packet once the
/// tables have grown.
pub struct Engine {
    pub(super) settings: Settings,
    model: Option<Arc<Model>>,
    pub(super) flows: LruMap<FlowKey, Flow>,
    /// Slots that flows were ever seen on, a bit each.
    pub(super) slots_seen: u64,
    /// Flows of each conversation (a key of slot 0 in no network); filled once there are two slots.
    pub(super) conversations: LruMap<FlowKey, Conversation>,
    wheel: Wheel,
    hosts: LruMap<Address, HostWindow>,
    pairs: LruMap<(Address, Address), PairWindow>,
    baselines: Baselines,
    /// Latest time seen; never goes back.
    pub(super) now_ns: u64,
    next_flow_id: u64,
    lost: u64,
    books: Books,
    pending: Vec<Pending>,
    rows: Vec<[f32; FEATURES]>,
    /// When each of `rows` was taken, and whether both ends of its flow had been heard by then.
    taken: Vec<(u64, bool)>,
    /// What the rules say of each of `rows`.
    findings: Vec<Option<Finding>>,
    judgements: Vec<Judgement>,
    leaves: Leaves,
    woken: Vec<Place>,
    ending: Vec<(Place, EndReason)>,
    reporting: Vec<Place>,
    /// Flows in the order in which they began, with their numbers; some have ended or gone on. As
    /// many as twice the bound of flows.
    begun: VecDeque<(Place, u64)>,
    tells_established: bool,
    established: Vec<Place>,
    established_ended: Vec<FlowKey>,
}

impl Engine {
    /// An engine without flows. Without a model every verdict is [`Verdict::NoVerdict`].
    #[must_use]
    pub fn new(settings: Settings, model: Option<Arc<Model>>) -> Self {
        let flows_max = settings.flows_max;
        Self {
            flows: LruMap::new(settings.flows_max),
            slots_seen: 0,
            conversations: LruMap::new(settings.flows_max),
            wheel: Wheel::default(),
            hosts: LruMap::new(settings.hosts_max),
            pairs: LruMap::new(settings.hosts_max),
            baselines: Baselines::new(settings.baselines_max, settings.warm_up),
            settings,
            model,
            now_ns: 0,
            next_flow_id: 1,
            lost: 0,
            books: Books::default(),
            pending: Vec::with_capacity(PENDING_MAX),
            rows: Vec::with_capacity(ROWS_MAX),
            taken: Vec::with_capacity(ROWS_MAX),
            findings: Vec::with_capacity(ROWS_MAX),
            judgements: Vec::with_capacity(ROWS_MAX),
            leaves: Leaves::default(),
            woken: Vec::new(),
            ending: Vec::new(),
            reporting: Vec::new(),
            begun: VecDeque::with_capacity(2 * flows_max),
            tells_established: false,
            established: Vec::new(),
            established_ended: Vec::new(),
        }
    }

    /// Takes one packet that has nothing beside its record; see [`Self::packet_with`].
    pub fn packet<S: Sink>(&mut self, record: &PacketRecord, sink: &mut S) {
        self.packet_with(record, &Extras::NONE, sink);
    }

    /// Takes one packet. Its verdict may be pending until [`Self::flush`].
    pub fn packet_with<S: Sink>(&mut self, record: &PacketRecord, extras: &Extras, sink: &mut S) {
        if record.mono_ns < self.now_ns {
            self.books.out_of_order += 1;
        }
        let now_ns = self.now_ns.max(record.mono_ns);
        if self.wheel.is_due(now_ns) {
            self.advance(now_ns, sink);
        }
        self.now_ns = now_ns;
        self.books.packets_in += 1;
        self.books.packets_live += 1;

        let keyed = FlowKey::of_packet(record, Network::of_extras(extras));
        let begin = Begin {
            key: keyed.key,
            initiator_is_low: keyed.from_low != keyed.answers,
            low_direction: if keyed.from_low {
                record.direction()
            } else {
                record.direction().opposite()
            },
            opens: record.ip_protocol == PROTO_TCP
                && record.tcp_flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN,
        };
        let place = self.place_of(&begin, now_ns, sink);
        let feeds = self.feeds(place, keyed.from_low);
        let flow = self.flows.at_mut(place);
        let forward = keyed.from_low == flow.initiator_is_low;
        let before = Progress::of(flow);
        flow.add(record, forward, now_ns);
        if !extras.is_empty() {
            self.add_extras(place, record, extras, forward);
        }
        let flow = self.flows.at_mut(place);
        let after = Progress::of(flow);
        let (packets, bytes) = (f32::from(record.segments), record.wire_bytes as f32);
        let added = if forward {
            Added {
                fwd_packets: packets,
                rev_packets: 0.0,
                fwd_bytes: bytes,
                rev_bytes: 0.0,
            }
        } else {
            Added {
                fwd_packets: 0.0,
                rev_packets: packets,
                fwd_bytes: 0.0,
                rev_bytes: bytes,
            }
        };
        if feeds {
            self.update_windows(place, &added, before, after);
            if let Some(dns) = &extras.dns
                && dns.flags & (DnsRecord::RESPONSE | DnsRecord::NAMED) == DnsRecord::NAMED
            {
                let pair = self.flows.at(place).places[PAIR];
                self.pairs.at_mut(pair).ask(dns.query_type, dns.name_bytes);
            }
        }
        self.tell_established(place);

        let flow = self.flows.at_mut(place);
        let at_point = flow.packets >= flow.next_point;
        // A record of many segments may pass several points: it is judged once, at its end.
        while flow.packets >= flow.next_point {
            (flow.last_point, flow.next_point) =
                (flow.next_point, flow.next_point + flow.last_point);
            flow.quiet_judged = false;
        }
        let row = (at_point || before.closed != after.closed).then(|| self.push_row(place, sink));
        self.push_pending(Pending {
            place,
            row,
            packet: Some((*record, forward)),
        });
        let deadline_ns = self.deadline_ns(place);
        self.wheel.set_earlier(place, deadline_ns);
        if self.rows.len() >= ROWS_MAX || self.pending.len() >= PENDING_MAX {
            self.flush(sink);
        }
    }

    /// Takes what the kernel counted of a flow without recording it. A flow not known begins with
    /// it. No row is computed: no packet was seen, and one that is judged later says how many of
    /// its packets were only counted.
    pub fn totals<S: Sink>(&mut self, totals: &FlowTotals, sink: &mut S) {
        let now_ns = self.now_ns.max(totals.last_mono_ns);
        if self.wheel.is_due(now_ns) {
            self.advance(now_ns, sink);
        }
        self.now_ns = now_ns;
        self.books.unrecorded_in += totals.frames();
        let begin = Begin {
            key: totals.key,
            initiator_is_low: totals.initiator_is_low,
            low_direction: if totals.low_is_egress {
                Direction::Egress
            } else {
                Direction::Ingress
            },
            opens: false,
        };
        let began_ns = match totals.first_mono_ns {
            0 => totals.last_mono_ns,
            first_ns => first_ns,
        };
        let place = self.place_of(&begin, began_ns.min(now_ns), sink);
        let feeds_low = totals.low.frames > 0 && self.feeds(place, true);
        let feeds_high = totals.high.frames > 0 && self.feeds(place, false);
        let flow = self.flows.at_mut(place);
        let before = Progress::of(flow);
        flow.add_totals(totals, totals.last_mono_ns);
        let after = Progress::of(flow);
        let low = if feeds_low {
            totals.low
        } else {
            HalfTotals::default()
        };
        let high = if feeds_high {
            totals.high
        } else {
            HalfTotals::default()
        };
        let (fwd, rev) = if flow.initiator_is_low {
            (low, high)
        } else {
            (high, low)
        };
        let added = Added {
            fwd_packets: fwd.packets as f32,
            rev_packets: rev.packets as f32,
            fwd_bytes: fwd.bytes as f32,
            rev_bytes: rev.bytes as f32,
        };
        if feeds_low || feeds_high {
            self.update_windows(place, &added, before, after);
        }
        self.tell_established(place);
        let flow = self.flows.at_mut(place);
        if !flow.started && flow.pending == 0 {
            flow.started = true;
            self.report(place, FlowState::Start, sink);
        }
        let deadline_ns = self.deadline_ns(place);
        self.wheel.set_earlier(place, deadline_ns);
    }

    /// From now on keeps, for [`Self::take_established`], which flows become established and which
    /// of these end.
    pub fn tell_established_flows(&mut self) {
        self.tells_established = true;
    }

    /// Gives every live flow that became established since the last call to `established`, and the
    /// keys of such flows that have ended since, and have not begun anew, to `ended`.
    pub fn take_established(
        &mut self,
        mut established: impl FnMut(&Flow),
        mut ended: impl FnMut(FlowKey),
    ) {
        for place in self.established.drain(..) {
            if self.flows.is_live(place) && self.flows.at(place).is_known {
                established(self.flows.at(place));
            }
        }
        for key in self.established_ended.drain(..) {
            if self.flows.find(&key).is_none() {
                ended(key);
            }
        }
    }

    /// True while a flow of this key lives.
    #[must_use]
    pub fn knows(&self, key: &FlowKey) -> bool {
        self.flows.find(key).is_some()
    }

    /// Judges what is pending; to be called at the end of every batch of packets.
    pub fn flush<S: Sink>(&mut self, sink: &mut S) {
        self.judgements.clear();
        self.judgements
            .resize(self.rows.len(), Judgement::default());
        let model = self.model.clone();
        if let Some(model) = &model {
            model.judge_in(&self.rows, &mut self.judgements, &mut self.leaves);
        }
        let mut pending = std::mem::take(&mut self.pending);
        for item in pending.drain(..) {
            let flow = self.flows.at_mut(item.place);
            flow.pending -= 1;
            let verdict_before = flow.verdict.verdict;
            if let Some(row) = item.row {
                let (features, ends) = (&self.rows[row], flow.ends());
                let usual = self.baselines.of(&ends);
                let (mono_ns, is_established) = self.taken[row];
                let opinion = usual.opinion(features, is_established);
                flow.verdict.baseline = flow.verdict.baseline.with(opinion);
                if let Some(model) = &model {
                    let finding = self.findings[row];
                    apply(
                        flow,
                        model,
                        &self.judgements[row],
                        finding,
                        features,
                        &usual,
                    );
                }
                let found = usual.found();
                let point = Point {
                    ends,
                    mono_ns,
                    is_established,
                    is_suspicious: flow.verdict.verdict == Verdict::Suspicious,
                    row: features,
                };
                self.baselines.learn(found, &point);
            }
            if let Some((record, forward)) = item.packet {
                sink.packet(&JudgedPacket {
                    record,
                    flow_id: flow.id,
                    forward,
                    verdict: flow.verdict.verdict,
                    class: flow.class,
                    probability: flow.verdict.probability,
                    score: flow.verdict.score,
                    tunnel: flow.beside().tunnel,
                });
            }
            let changed =
                flow.verdict.verdict != verdict_before && verdict_before != Verdict::NoVerdict;
            if !flow.started {
                flow.started = true;
                self.report(item.place, FlowState::Start, sink);
            } else if changed {
                self.report(item.place, FlowState::Update, sink);
            }
        }
        self.books.baselines_evicted = self.baselines.evicted();
        self.pending = pending;
        self.rows.clear();
        self.taken.clear();
        self.findings.clear();
    }

    /// Moves the clock: ends flows whose time is up, judges flows that fell quiet, reports flows
    /// that changed.
    pub fn advance<S: Sink>(&mut self, now_mono_ns: u64, sink: &mut S) {
        self.now_ns = self.now_ns.max(now_mono_ns);
        if !self.wheel.is_due(self.now_ns) {
            return;
        }
        let mut woken = std::mem::take(&mut self.woken);
        self.wheel.fire(self.now_ns, &mut woken);
        for &place in &woken {
            self.look_at(place, sink);
            if self.rows.len() >= ROWS_MAX {
                self.flush(sink);
            }
        }
        self.flush(sink);
        let mut reporting = std::mem::take(&mut self.reporting);
        for place in reporting.drain(..) {
            let flow = self.flows.at_mut(place);
            (flow.reported_ns, flow.reported_frames) = (self.now_ns, flow.frames_seen());
            self.report(place, FlowState::Update, sink);
        }
        self.reporting = reporting;
        let mut ending = std::mem::take(&mut self.ending);
        for (place, reason) in ending.drain(..) {
            self.remove(place, reason, sink);
        }
        self.ending = ending;
        for place in woken.drain(..) {
            if self.flows.is_live(place) {
                let deadline_ns = self.deadline_ns(place);
                self.wheel.set_earlier(place, deadline_ns);
            }
        }
        self.woken = woken;
    }

    /// Ends every flow, the longest untouched last.
    pub fn finish<S: Sink>(&mut self, sink: &mut S) {
        let places: Vec<Place> = self.flows.places().collect();
        for &place in &places {
            let flow = self.flows.at(place);
            if flow.frames > flow.judged_frames {
                self.push_lone_row(place, sink);
            }
            if self.rows.len() >= ROWS_MAX {
                self.flush(sink);
            }
        }
        self.flush(sink);
        for place in places {
            self.remove(place, EndReason::Shutdown, sink);
        }
    }

    /// Tells of packets lost before they reached the engine, so that verdicts can say so.
    pub fn lost(&mut self, packets: u64) {
        self.lost = self.lost.saturating_add(packets);
    }

    /// Replaces the model. A flow keeps its verdict and the name of the model that gave it until its
    /// next evaluation point, where the new one judges it anew. To be called after a flush.
    pub fn set_model(&mut self, model: Option<Arc<Model>>) {
        // The class of a flow is a place in the model's list of names.
        let places: Vec<Place> = self.flows.places().collect();
        for place in places {
            let flow = self.flows.at_mut(place);
            let kind = flow.verdict.kind.as_deref();
            flow.class = kind
                .and_then(|kind| model.as_ref()?.class_of(kind))
                .unwrap_or(0);
        }
        self.model = model;
    }

    /// Books so far.
    #[must_use]
    pub fn books(&self) -> Books {
        self.books
    }

    /// Live flows now.
    #[must_use]
    pub fn flows_live(&self) -> usize {
        self.flows.len()
    }

    /// Place of the flow, begun at `began_ns` if there is none.
    fn place_of<S: Sink>(&mut self, begin: &Begin, began_ns: u64, sink: &mut S) -> Place {
        let mut initiator_is_low = begin.initiator_is_low;
        let mut goes_on = false;
        if let Some(place) = self.flows.find(&begin.key) {
            let flow = self.flows.at(place);
            let reason = match flow.closed {
                Some(reason) if begin.opens => Some(reason),
                _ if self.now_ns - flow.first_ns >= self.settings.active_timeout_ns => {
                    // The same conversation goes on: its initiator stays.
                    initiator_is_low = flow.initiator_is_low;
                    goes_on = true;
                    Some(EndReason::ActiveTimeout)
                }
                _ => None,
            };
            match reason {
                Some(reason) => self.end(place, reason, sink),
                None => {
                    self.flows.touch(place);
                    return place;
                }
            }
        }
        if self.flows.is_full() {
            self.evict(sink);
        }
        initiator_is_low = self
            .initiator_elsewhere(&begin.key)
            .unwrap_or(initiator_is_low);
        self.books.flows_started += 1;
        let id = self.next_flow_id;
        self.next_flow_id += 1;
        let mut flow = Flow::new(
            id,
            begin.key,
            initiator_is_low,
            begin.low_direction,
            began_ns,
        );
        flow.lost_before = self.lost;
        flow.goes_on = goes_on;
        let place = self.flows.insert(begin.key, flow);
        if self.begun.len() >= 2 * self.settings.flows_max {
            let flows = &self.flows;
            self.begun
                .retain(|(place, id)| is_seen_once(flows, *place, *id));
        }
        self.begun.push_back((place, id));
        self.meet(place);
        place
    }

    /// Makes room: a flow that is half-open or of a single packet goes before any that has gone
    /// on, so that a flood of invented sources takes the place of its own; without one, the flow
    /// longest untouched goes.
    fn evict<S: Sink>(&mut self, sink: &mut S) {
        while let Some((place, id)) = self.begun.pop_front() {
            if is_seen_once(&self.flows, place, id) {
                self.end(place, EndReason::Evicted, sink);
                return;
            }
        }
        if let Some(oldest) = self.flows.oldest() {
            self.end(oldest, EndReason::Evicted, sink);
        }
    }

    fn tell_established(&mut self, place: Place) {
        if !self.tells_established || self.established.len() >= TOLD_FLOWS_MAX {
            return;
        }
        let flow = self.flows.at_mut(place);
        if !flow.is_known && flow.is_established() {
            flow.is_known = true;
            self.established.push(place);
        }
    }

    /// Adds what a packet has beside its record: to its own flow, and of an ICMP error the error to
    /// the flow it is about, if that lives.
    fn add_extras(&mut self, place: Place, record: &PacketRecord, extras: &Extras, forward: bool) {
        if extras.tunnel.is_some() || extras.dns.is_some() {
            let flow = self.flows.at_mut(place);
            flow.beside_mut().add(extras, forward);
        }
        if let Some(quoted) = &extras.quoted
            && let Some(about) = self.flows.find(&FlowKey::of_quoted(
                quoted,
                record.slot,
                Network::of_extras(extras),
            ))
        {
            let beside = self.flows.at_mut(about).beside_mut();
            beside.icmp_errors = beside.icmp_errors.saturating_add(1);
            beside.icmp_last = Some(IcmpError {
                icmp_type: record.src_port as u8,
                code: record.dst_port as u8,
            });
            self.books.icmp_errors += 1;
        }
    }

    /// Brings the windows of the flow's hosts and pair up to what was added to it.
    fn update_windows(&mut self, place: Place, added: &Added, before: Progress, after: Progress) {
        let now_ns = self.now_ns;
        let flow = self.flows.at(place);
        let ends = flow.ends();
        let cached = flow.places;
        let starts = !before.begun && flow.path.is_first;
        let ended_bytes = (flow.fwd.payload_bytes + flow.rev.payload_bytes) as f32;
        let ended_s = now_ns.saturating_sub(flow.first_ns) as f32 / 1e9;
        let counts_flows = !flow.goes_on && !is_multicast(&ends.dst);
        let gets_answer = counts_flows && !before.answered && after.answered;
        let gets_refused = counts_flows && !before.refused && after.refused;
        let gets_fed = counts_flows && !before.fed && after.fed;
        let closes = before.closed.is_none() && after.closed.is_some();
        let is_tcp = ends.ip_protocol == PROTO_TCP;
        let waits = flow.is_waiting() && flow.path.is_first && counts_flows;
        let waits_no_more = flow.waits && !waits;
        let waits_now = waits && !flow.waits;

        let src_place =
            self.hosts
                .touch_or_insert(cached[SRC], ends.src, &mut self.books.hosts_evicted);
        let src = self.hosts.at_mut(src_place);
        src.decay(now_ns);
        src.sent_packets += added.fwd_packets;
        if starts && counts_flows {
            src.flows += 1.0;
            src.destinations.insert(fold(&ends.dst), now_ns);
            src.ports.insert(u64::from(ends.dst_port), now_ns);
            if is_tcp {
                src.slow_destinations.insert(fold(&ends.dst), now_ns);
                src.slow_ports.insert(u64::from(ends.dst_port), now_ns);
            }
        }
        if is_tcp {
            src.tries
                .add(now_ns, starts && counts_flows, gets_answer, gets_refused);
        }
        src.answered += f32::from(u8::from(gets_answer));
        src.refused += f32::from(u8::from(gets_refused));
        src.fed += f32::from(u8::from(gets_fed));

        let dst_place =
            self.hosts
                .touch_or_insert(cached[DST], ends.dst, &mut self.books.hosts_evicted);
        let dst = self.hosts.at_mut(dst_place);
        dst.decay(now_ns);
        dst.received_packets += added.fwd_packets;
        dst.replied_packets += added.rev_packets;
        if starts && counts_flows {
            dst.asked_flows += 1.0;
            dst.sources.insert(fold(&ends.src), now_ns);
        }
        dst.asked_answered += f32::from(u8::from(gets_answer));
        dst.asked_refused += f32::from(u8::from(gets_refused));
        dst.asked_fed += f32::from(u8::from(gets_fed));
        if waits_now || waits_no_more {
            dst.waiting = count_waiting(dst.waiting, waits_now, waits_no_more);
        }

        let pair_place = self.pairs.touch_or_insert(
            cached[PAIR],
            (ends.src, ends.dst),
            &mut self.books.hosts_evicted,
        );
        let pair = self.pairs.at_mut(pair_place);
        pair.decay(now_ns);
        pair.packets += added.fwd_packets + added.rev_packets;
        pair.sent_bytes += added.fwd_bytes;
        pair.received_bytes += added.rev_bytes;
        if starts && counts_flows {
            pair.start(now_ns);
            pair.ports.insert(u64::from(ends.dst_port), now_ns);
            pair.slow_ports.insert(u64::from(ends.dst_port), now_ns);
        }
        pair.tries
            .add(now_ns, starts && counts_flows, gets_answer, gets_refused);
        if waits_now || waits_no_more {
            pair.waiting = count_waiting(pair.waiting, waits_now, waits_no_more);
        }
        pair.answered += f32::from(u8::from(gets_answer));
        pair.refused += f32::from(u8::from(gets_refused));
        pair.fed += f32::from(u8::from(gets_fed));
        pair.logins += f32::from(u8::from(gets_fed));
        if closes {
            pair.ended_bytes.add(ended_bytes);
            pair.ended_s.add(ended_s);
        }
        let flow = self.flows.at_mut(place);
        flow.places = [src_place, dst_place, pair_place];
        flow.waits = waits;
    }

    /// Sees what the clock asks of a flow: its end, a judgement, a report.
    fn look_at<S: Sink>(&mut self, place: Place, sink: &mut S) {
        let (expiry_ns, reason) = self.expiry(place);
        let flow = self.flows.at_mut(place);
        if expiry_ns <= self.now_ns {
            self.ending.push((place, reason));
            if flow.frames > flow.judged_frames {
                self.push_lone_row(place, sink);
            }
            return;
        }
        if quiet_due_ns(flow).is_some_and(|due_ns| due_ns <= self.now_ns) {
            flow.quiet_judged = true;
            self.push_lone_row(place, sink);
        }
        if report_due_ns(self.flows.at(place), &self.settings)
            .is_some_and(|due_ns| due_ns <= self.now_ns)
        {
            self.reporting.push(place);
        }
    }

    /// Computes the row of a flow as it stands now; returns its index.
    fn push_row<S: Sink>(&mut self, place: Place, sink: &mut S) -> usize {
        let now_ns = self.now_ns;
        let flow = self.flows.at(place);
        let (ends, cached) = (flow.ends(), flow.places);
        let src = self.hosts.find_at(cached[SRC], &ends.src);
        let dst = self.hosts.find_at(cached[DST], &ends.dst);
        let pair = self.pairs.find_at(cached[PAIR], &(ends.src, ends.dst));
        for host in [src, dst].into_iter().flatten() {
            let host = self.hosts.at_mut(host);
            host.decay(now_ns);
            host.tries.decay(now_ns);
        }
        if let Some(pair) = pair {
            let pair = self.pairs.at_mut(pair);
            pair.decay(now_ns);
            pair.tries.decay(now_ns);
        }
        let unknown_host = HostWindow::default();
        let unknown_pair = PairWindow::default();
        let host = |place: Option<Place>| place.map_or(&unknown_host, |place| self.hosts.at(place));
        let pair = pair.map_or(&unknown_pair, |place| self.pairs.at(place));
        let moment = Moment::new(now_ns, flow, host(src), host(dst), pair);
        let row = moment.row();
        let finding = rules::find(&moment);
        sink.row(&EvaluationRow {
            flow_id: flow.id,
            ends,
            packets: flow.packets,
            mono_ns: now_ns,
            tunnel: flow.beside().tunnel,
            features: &row,
            finding,
        });
        self.flows.at_mut(place).judged_frames = self.flows.at(place).frames;
        self.books.rows += 1;
        self.taken
            .push((now_ns, self.flows.at(place).is_established()));
        self.rows.push(row);
        self.findings.push(finding);
        self.rows.len() - 1
    }

    /// A row that no packet caused.
    fn push_lone_row<S: Sink>(&mut self, place: Place, sink: &mut S) {
        let row = Some(self.push_row(place, sink));
        self.push_pending(Pending {
            place,
            row,
            packet: None,
        });
    }

    fn push_pending(&mut self, item: Pending) {
        self.flows.at_mut(item.place).pending += 1;
        self.pending.push(item);
    }

    /// Judges a flow for the last time and removes it.
    fn end<S: Sink>(&mut self, place: Place, reason: EndReason, sink: &mut S) {
        let flow = self.flows.at(place);
        if flow.frames > flow.judged_frames {
            self.push_lone_row(place, sink);
        }
        if self.flows.at(place).pending > 0 {
            self.flush(sink);
        }
        self.remove(place, reason, sink);
    }

    fn remove<S: Sink>(&mut self, place: Place, reason: EndReason, sink: &mut S) {
        self.report(place, FlowState::End(reason), sink);
        self.hand_over(place);
        let flow = self.flows.at(place);
        if flow.closed.is_none()
            && flow.path.is_first
            && let Some(pair) = self.pairs.find(&(flow.ends().src, flow.ends().dst))
        {
            let pair = self.pairs.at_mut(pair);
            pair.ended_bytes
                .add((flow.fwd.payload_bytes + flow.rev.payload_bytes) as f32);
            pair.ended_s
                .add(flow.last_ns.saturating_sub(flow.first_ns) as f32 / 1e9);
        }
        if flow.waits {
            self.waits_no_more(place);
        }
        let flow = self.flows.at(place);
        let (key, is_known) = (flow.key, flow.is_known);
        self.books.packets_live -= flow.frames;
        self.books.packets_ended += flow.frames;
        self.books.unrecorded_ended += flow.unrecorded_frames;
        self.books.flows_ended += 1;
        self.books.flows_evicted += u64::from(reason == EndReason::Evicted);
        self.wheel.clear(place);
        self.flows.remove(place);
        // Of an evicted flow more packets may come: the kernel goes on counting them.
        if is_known && reason != EndReason::Evicted && self.established_ended.len() < TOLD_FLOWS_MAX
        {
            self.established_ended.push(key);
        }
    }

    /// Takes a flow that goes from what its hosts count as waiting.
    fn waits_no_more(&mut self, place: Place) {
        let flow = self.flows.at(place);
        let (ends, cached) = (flow.ends(), flow.places);
        if let Some(dst) = self.hosts.find_at(cached[DST], &ends.dst) {
            let dst = self.hosts.at_mut(dst);
            dst.waiting = count_waiting(dst.waiting, false, true);
        }
        if let Some(pair) = self.pairs.find_at(cached[PAIR], &(ends.src, ends.dst)) {
            let pair = self.pairs.at_mut(pair);
            pair.waiting = count_waiting(pair.waiting, false, true);
        }
    }

    fn report<S: Sink>(&mut self, place: Place, state: FlowState, sink: &mut S) {
        let lost = self.lost;
        let flow = self.flows.at_mut(place);
        flow.verdict.lost_meanwhile = lost - flow.lost_before;
        sink.flow(&FlowReport {
            flow_id: flow.id,
            state,
            ends: flow.ends(),
            initiator_direction: flow.initiator_direction,
            first_mono_ns: flow.first_ns,
            last_mono_ns: flow.last_ns,
            fwd_packets: flow.fwd.packets,
            rev_packets: flow.rev.packets,
            fwd_bytes: flow.fwd.bytes,
            rev_bytes: flow.rev.bytes,
            unrecorded_packets: flow.unrecorded_packets,
            also_seen_on: flow.path.also_on,
            tcp_flags: flow.tcp_flags,
            verdict: flow.verdict.clone(),
            beside: flow.beside(),
        });
    }

    /// When the flow ends if nothing more comes, and why.
    fn expiry(&self, place: Place) -> (u64, EndReason) {
        let (flow, settings) = (self.flows.at(place), &self.settings);
        let (timeout_ns, reason) = if let Some(reason) = flow.closed {
            (settings.closed_timeout_ns, reason)
        } else if flow.is_half_open() {
            (settings.half_open_timeout_ns, EndReason::HalfOpen)
        } else if flow.ends().ip_protocol == PROTO_TCP {
            (settings.idle_timeout_ns, EndReason::Idle)
        } else {
            (settings.datagram_idle_timeout_ns, EndReason::Idle)
        };
        // The active time-out is for flows that go on: it is taken with the next packet, which knows
        // who began the conversation. Ended by the clock, it would begin anew as that of whoever sent
        // the next packet.
        (flow.last_ns.saturating_add(timeout_ns), reason)
    }

    /// When the flow must be looked at next.
    fn deadline_ns(&self, place: Place) -> u64 {
        let flow = self.flows.at(place);
        [quiet_due_ns(flow), report_due_ns(flow, &self.settings)]
            .into_iter()
            .flatten()
            .fold(self.expiry(place).0, u64::min)
    }
}

/// True where the flow still lives and nothing but its beginning was seen.
fn is_seen_once(flows: &LruMap<FlowKey, Flow>, place: Place, id: u64) -> bool {
    flows.is_live(place) && {
        let flow = flows.at(place);
        flow.id == id && (flow.frames_seen() <= 1 || flow.is_half_open())
    }
}

/// What the windows must be told of when it changes.
#[derive(Clone, Copy)]
struct Progress {
    begun: bool,
    answered: bool,
    refused: bool,
    fed: bool,
    closed: Option<EndReason>,
}

impl Progress {
    fn of(flow: &Flow) -> Self {
        Self {
            begun: flow.frames_seen() > 0,
            answered: flow.rev.packets > 0,
            refused: flow.refused,
            fed: flow.rev.payload_bytes > 0,
            closed: flow.closed,
        }
    }
}

/// When the flow is judged for having fallen quiet.
fn quiet_due_ns(flow: &Flow) -> Option<u64> {
    (flow.frames > flow.judged_frames && !flow.quiet_judged)
        .then(|| flow.last_ns.saturating_add(QUIET_NS))
}

/// When the flow is reported for having changed.
fn report_due_ns(flow: &Flow, settings: &Settings) -> Option<u64> {
    (flow.frames_seen() > flow.reported_frames)
        .then(|| flow.reported_ns.saturating_add(settings.report_interval_ns))
}

/// Connections that wait, after one began or ceased to. A window that was evicted and made anew has
/// forgotten some: it stops at none.
fn count_waiting(waiting: u32, begins: bool, ceases: bool) -> u32 {
    (waiting + u32::from(begins)).saturating_sub(u32::from(ceases))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
