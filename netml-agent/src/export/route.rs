//! Which collector is spoken to, and what it is sent.
//!
//! Core: no socket, no clock. [`Route`] says when to connect and where to; [`Dispatch`] ties it to the
//! batches that wait. The shell is [`super::client`]; a simulation of sensor, network and collectors
//! drives the same two (`netml-collector/tests/simulation`).
//!
//! Of several collectors the first is preferred. Where the one in use takes nothing for
//! [`Pace::fail_over_ms`] the next one is tried, and so on around; from another one the sensor returns to the
//! preferred one when that has answered for [`Pace::return_ms`], which doubles with each return that did not
//! last. Before it leaves in good order it waits for what it sent to be acknowledged.
//!
//! Invariants:
//! - What one collector acknowledged is sent to no other. What was sent and not acknowledged when the
//!   collector changes is sent to the next one too: then both may hold it, each once.
//! - A collector is told in each hello how far the others have each stream, so that it counts as a gap only
//!   what none of them was sent: [`Dispatch::stored_elsewhere`]. An acknowledgement that comes after
//!   that hello, from the one that is being left, is therefore not taken.

use std::collections::{BTreeMap, VecDeque};

use netml_proto::{STREAMS_MAX, v1};

/// Times of a route, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// First pause before connecting again; it doubles with each failure up to `backoff_max_ms`, each
    /// time shortened at random to not less than half, so that sensors do not return all at once.
    pub backoff_first_ms: u64,
    /// See `backoff_first_ms`.
    pub backoff_max_ms: u64,
    /// A collector that took nothing for so long is left for the next one, where there is one; an attempt
    /// that has begun is waited for.
    pub fail_over_ms: u64,
    /// A stream on which nothing sent was acknowledged for so long counts as lost, where there is
    /// another collector.
    pub ack_max_ms: u64,
    /// Time between two looks at the preferred collector while another one is in use, shortened at random
    /// like a pause; it doubles while none succeeds up to `probe_max_ms`.
    pub probe_ms: u64,
    /// See `probe_ms`.
    pub probe_max_ms: u64,
    /// The preferred collector has to answer for so long before the sensor returns.
    pub return_ms: u64,
    /// What `return_ms` doubles up to, where a return did not last for as long as this.
    pub return_max_ms: u64,
    /// Longest wait for acknowledgements before a return.
    pub drain_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            backoff_first_ms: 250,
            backoff_max_ms: 10_000,
            fail_over_ms: 10_000,
            ack_max_ms: 30_000,
            probe_ms: 5_000,
            probe_max_ms: 60_000,
            return_ms: 30_000,
            return_max_ms: 600_000,
            drain_ms: 2_000,
        }
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// See whether the preferred collector answers, and tell [`Dispatch::probed`].
    Probe,
    /// Open a stream to the preferred collector beside the one there is, and tell [`Dispatch::opened`] or
    /// [`Dispatch::not_returned`].
    Return,
    /// The stream is as good as lost: nothing is acknowledged. Tell [`Dispatch::lost`].
    GiveUp,
}

/// What a new stream changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is to the same collector as the last one.
    None,
    /// To another one, since that before took nothing; its number.
    FailedOver(usize),
    /// Back to the preferred one; the number of that before.
    Returned(usize),
}

/// Times and places of connections. See the module.
#[derive(Debug)]
pub struct Route {
    pace: Pace,
    collectors: usize,
    random: u64,
    /// The one spoken to, or the one that is tried.
    at: usize,
    /// The one of the last stream.
    spoken: usize,
    opened_ms: Option<u64>,
    /// Attempts and streams in a row of which nothing came.
    failures: u32,
    /// Since when nothing comes of `at`; none: it is well.
    trouble_since_ms: Option<u64>,
    /// Since when something sent is not acknowledged, or the last acknowledgement while there was more.
    unacked_since_ms: Option<u64>,
    probe: Probe,
    /// How long the preferred one has to answer now.
    return_after_ms: u64,
    returned_ms: Option<u64>,
    leaving: Leaving,
    fail_overs: u64,
    returns: u64,
}

/// Looks at the preferred collector.
#[derive(Debug, Default)]
struct Probe {
    is_under_way: bool,
    next_ms: u64,
    failures: u32,
    answers_since_ms: Option<u64>,
}

/// A return to the preferred collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Nothing more is sent; acknowledgements are waited for since then.
    Draining(u64),
    /// The other stream is being opened.
    Opening,
}

impl Route {
    fn new(collectors: usize, seed: u64, pace: Pace, now_ms: u64) -> Self {
        Self {
            pace,
            collectors,
            random: seed | 1,
            at: 0,
            spoken: 0,
            opened_ms: None,
            failures: 0,
            trouble_since_ms: Some(now_ms),
            unacked_since_ms: None,
            probe: Probe::default(),
            return_after_ms: pace.return_ms,
            returned_ms: None,
            leaving: Leaving::No,
            fail_overs: 0,
            returns: 0,
        }
    }

    fn opened(&mut self, at: usize, now_ms: u64) -> Change {
        let change = if at == self.spoken {
            Change::None
        } else if self.leaving == Leaving::Opening && at == 0 {
            self.returns += 1;
            self.returned_ms = Some(now_ms);
            Change::Returned(self.spoken)
        } else {
            self.fail_overs += 1;
            Change::FailedOver(self.spoken)
        };
        self.at = at;
        self.spoken = at;
        self.opened_ms = Some(now_ms);
        self.unacked_since_ms = None;
        if change != Change::None {
            self.leaving = Leaving::No;
            self.failures = 0;
            // Whatever comes of it: the new one has its own time.
            self.trouble_since_ms = Some(now_ms);
            self.probe = Probe::default();
            self.probe.next_ms = now_ms + self.shortened(self.pace.probe_ms);
        }
        change
    }

    fn acked(&mut self, is_more_under_way: bool, now_ms: u64) {
        self.failures = 0;
        self.trouble_since_ms = None;
        self.unacked_since_ms = is_more_under_way.then_some(now_ms);
    }

    /// The pause before the next attempt, which is to [`Self::at`].
    fn lost(&mut self, now_ms: u64) -> u64 {
        self.opened_ms = None;
        self.unacked_since_ms = None;
        self.leaving = Leaving::No;
        let since_ms = *self.trouble_since_ms.get_or_insert(now_ms);
        let mut pause_ms = self.backoff(self.pace.backoff_first_ms, self.failures);
        self.failures = self.failures.saturating_add(1);
        if self.collectors > 1 {
            let left_ms = (since_ms + self.pace.fail_over_ms).saturating_sub(now_ms);
            if left_ms == 0 {
                self.go_on(now_ms);
                pause_ms = self.shortened(self.pace.backoff_first_ms);
            } else {
                pause_ms = pause_ms.min(left_ms);
            }
        }
        pause_ms
    }

    /// To the next collector.
    fn go_on(&mut self, now_ms: u64) {
        if let Some(returned_ms) = self.returned_ms.take().filter(|_| self.at == 0) {
            let lasted = now_ms.saturating_sub(returned_ms) >= self.pace.return_max_ms;
            self.return_after_ms = if lasted {
                self.pace.return_ms
            } else {
                (self.return_after_ms * 2).min(self.pace.return_max_ms)
            };
        }
        self.at = (self.at + 1) % self.collectors;
        self.trouble_since_ms = Some(now_ms);
        self.failures = 0;
    }

    fn tick(&mut self, is_under_way: bool, now_ms: u64) -> Option<Act> {
        let opened_ms = self.opened_ms?;
        let passed = |since_ms: u64| now_ms.saturating_sub(since_ms);
        if self.collectors == 1 {
            return None;
        }
        match self.unacked_since_ms {
            Some(since_ms) if passed(since_ms) >= self.pace.ack_max_ms => return Some(Act::GiveUp),
            None if passed(opened_ms) >= self.pace.fail_over_ms => {
                // Open for long and owing nothing: it is well.
                self.trouble_since_ms = None;
                self.failures = 0;
            }
            _ => {}
        }
        if self.at == 0 {
            return None;
        }
        match self.leaving {
            Leaving::No => {
                let is_steady = self
                    .probe
                    .answers_since_ms
                    .is_some_and(|since_ms| passed(since_ms) >= self.return_after_ms);
                if is_steady {
                    self.leaving = Leaving::Draining(now_ms);
                } else if !self.probe.is_under_way && now_ms >= self.probe.next_ms {
                    self.probe.is_under_way = true;
                    return Some(Act::Probe);
                }
                None
            }
            Leaving::Draining(since_ms) => {
                let is_drained = !is_under_way || passed(since_ms) >= self.pace.drain_ms;
                is_drained.then(|| {
                    self.leaving = Leaving::Opening;
                    Act::Return
                })
            }
            Leaving::Opening => None,
        }
    }

    fn probed(&mut self, answers: bool, now_ms: u64) {
        self.probe.is_under_way = false;
        if answers {
            self.probe.failures = 0;
            self.probe.answers_since_ms.get_or_insert(now_ms);
            self.probe.next_ms = now_ms + self.shortened(self.pace.probe_ms);
        } else {
            self.no_answer(now_ms);
        }
    }

    fn no_answer(&mut self, now_ms: u64) {
        self.probe.answers_since_ms = None;
        self.probe.failures = self.probe.failures.saturating_add(1);
        let doubled = self
            .pace
            .probe_ms
            .saturating_mul(1 << self.probe.failures.min(16));
        self.probe.next_ms = now_ms + self.shortened(doubled.min(self.pace.probe_max_ms));
    }

    fn backoff(&mut self, first_ms: u64, failures: u32) -> u64 {
        let doubled = first_ms.saturating_mul(1 << failures.min(16));
        self.shortened(doubled.min(self.pace.backoff_max_ms))
    }

    /// Not less than half.
    fn shortened(&mut self, longest_ms: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = longest_ms / 2;
        longest_ms - (self.random >> 11) % (half + 1)
    }
}

/// Batches that wait for their acknowledgement.
pub trait Queue {
    /// The next batch to send, which is sent with this.
    fn take_unsent(&mut self) -> Option<v1::Batch>;
    /// The stream is a new one: everything not acknowledged is to be sent again.
    fn rewind(&mut self);
    /// The collector ended the stream because of a batch.
    fn refused(&mut self);
    /// Takes an acknowledgement; false where it is known to be of what was never sent.
    fn ack(&mut self, ack: v1::Ack) -> bool;
    /// How far streams of earlier starts were acknowledged, by whichever collector.
    fn acknowledged_before(&self) -> Vec<v1::Ack>;
}

/// A queue and the way of its batches. See the module.
#[derive(Debug)]
pub struct Dispatch<Q> {
    /// The batches.
    pub queue: Q,
    route: Route,
    /// Sent on the present stream and not acknowledged: stream id and last number.
    under_way: VecDeque<(u64, u64)>,
    /// By stream: how far each collector acknowledged, and behind those, earlier starts.
    stored: BTreeMap<u64, Vec<u64>>,
    /// Came from the collector that is being left, after the preferred one was told how far it is.
    late: BTreeMap<u64, u64>,
}

impl<Q: Queue> Dispatch<Q> {
    /// The way to so many collectors, at least one.
    #[must_use]
    pub fn new(queue: Q, collectors: usize, seed: u64, pace: Pace, now_ms: u64) -> Self {
        let collectors = collectors.max(1);
        let before = queue.acknowledged_before();
        let mut dispatch = Self {
            queue,
            route: Route::new(collectors, seed, pace, now_ms),
            under_way: VecDeque::new(),
            stored: BTreeMap::new(),
            late: BTreeMap::new(),
        };
        for ack in before {
            dispatch.note(collectors, ack);
        }
        dispatch
    }

    /// Number of the collector spoken to, or tried.
    #[must_use]
    pub fn at(&self) -> usize {
        self.route.at
    }

    /// Streams opened to another collector because that before took nothing.
    #[must_use]
    pub fn fail_overs(&self) -> u64 {
        self.route.fail_overs
    }

    /// Streams opened to the preferred collector because it answers again.
    #[must_use]
    pub fn returns(&self) -> u64 {
        self.route.returns
    }

    /// How far the other collectors have the streams, for the hello to this one.
    #[must_use]
    pub fn stored_elsewhere(&self, at: usize) -> Vec<v1::Ack> {
        if self.route.collectors == 1 {
            return Vec::new();
        }
        let streams = self.stored.iter().filter_map(|(stream_id, by)| {
            let others = by.iter().enumerate().filter(|(by, _)| *by != at);
            let seq = others.map(|(_, seq)| *seq).max().filter(|seq| *seq > 0)?;
            Some(v1::Ack {
                stream_id: *stream_id,
                seq,
            })
        });
        streams.collect()
    }

    /// A stream to a collector is open; it begins with what is not acknowledged.
    pub fn opened(&mut self, at: usize, now_ms: u64) -> Change {
        let change = self.route.opened(at, now_ms);
        if change == Change::None {
            self.take_late();
        }
        self.late.clear();
        self.under_way.clear();
        self.queue.rewind();
        change
    }

    /// False while nothing is to be sent on a stream that is open.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.route.leaving == Leaving::No
    }

    /// The next batch to send, which is sent with this.
    pub fn take_unsent(&mut self, now_ms: u64) -> Option<v1::Batch> {
        if !self.may_send() {
            return None;
        }
        let batch = self.queue.take_unsent()?;
        let last_seq = batch.first_seq.saturating_add(u64::from(batch.count)) - 1;
        self.under_way.push_back((batch.stream_id, last_seq));
        self.route.unacked_since_ms.get_or_insert(now_ms);
        Some(batch)
    }

    /// Takes an acknowledgement of the collector spoken to; false where it is known to be of what was
    /// never sent.
    pub fn ack(&mut self, ack: v1::Ack, now_ms: u64) -> bool {
        if self.route.leaving == Leaving::Opening {
            let late = self.late.entry(ack.stream_id).or_default();
            *late = ack.seq.max(*late);
            return true;
        }
        self.take(ack, now_ms)
    }

    fn take(&mut self, ack: v1::Ack, now_ms: u64) -> bool {
        if !self.queue.ack(ack) {
            return false;
        }
        self.note(self.route.at, ack);
        self.under_way
            .retain(|(stream_id, last)| *stream_id != ack.stream_id || *last > ack.seq);
        self.route.acked(!self.under_way.is_empty(), now_ms);
        true
    }

    /// The preferred collector cannot be returned to; all stays as it was.
    pub fn not_returned(&mut self, now_ms: u64) {
        if self.route.leaving != Leaving::No {
            self.route.leaving = Leaving::No;
            self.route.no_answer(now_ms);
        }
        for (stream_id, seq) in std::mem::take(&mut self.late) {
            self.take(v1::Ack { stream_id, seq }, now_ms);
        }
    }

    /// The stream was lost or could not be opened; `is_refused`: because of a batch. Gives the pause in
    /// milliseconds before the next attempt, which is to [`Self::at`].
    pub fn lost(&mut self, is_refused: bool, now_ms: u64) -> u64 {
        if is_refused {
            self.queue.refused();
        }
        self.take_late();
        self.under_way.clear();
        self.route.lost(now_ms)
    }

    /// Of the stream that is or was open, where nothing more is told to another collector by its hello.
    fn take_late(&mut self) {
        for (stream_id, seq) in std::mem::take(&mut self.late) {
            let ack = v1::Ack { stream_id, seq };
            if self.queue.ack(ack) {
                self.note(self.route.at, ack);
            }
        }
    }

    /// To be called a few times a second.
    pub fn tick(&mut self, now_ms: u64) -> Option<Act> {
        self.route.tick(!self.under_way.is_empty(), now_ms)
    }

    /// Whether the preferred collector answers.
    pub fn probed(&mut self, answers: bool, now_ms: u64) {
        self.route.probed(answers, now_ms);
    }

    /// Of more than [`STREAMS_MAX`] streams the rest is not noted, and another collector counts as a gap what
    /// it has not got of them.
    fn note(&mut self, by: usize, ack: v1::Ack) {
        let columns = self.route.collectors + 1;
        if columns == 2
            || (self.stored.len() >= STREAMS_MAX && !self.stored.contains_key(&ack.stream_id))
        {
            return;
        }
        let stored = self.stored.entry(ack.stream_id).or_default();
        stored.resize(columns, 0);
        stored[by] = stored[by].max(ack.seq);
    }
}
