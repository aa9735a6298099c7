//! What is usual for a host: an opinion beside the forest and the rules that needs no labels.
//!
//! For each host and role (beginning flows, being asked) the features of that role are observed and
//! their range and deviation kept in decaying histograms. Data in: rows of evaluation points with
//! their time. Data out: the usual range of a feature, and how far a row lies outside of it.
//!
//! - One observation a second and host in a role, whatever its flows do: of the points of a second one
//!   is drawn, each alike, so that neither a busy flow nor the begin of a burst weighs more.
//! - Nothing is said before the [`WarmUp`] is over: "not known yet" is no score.
//! - Nothing is learned from a host in a minute in which one of its flows was SUSPICIOUS, or an attack
//!   would become usual ([`PAUSE_NS`]).
//! - A host is remembered from its first established flow on, so that invented addresses take no
//!   room; hosts that are known and those that are not yet have bounds of their own, so that the
//!   latter never take the place of the former.
//!
//! Beside the range stand two readable facts: a known host answers on a port on which it was not seen
//! answering before, or calls on a host for the first time ([`Met`]).
//!
//! Neither addresses nor absolute time matter, and the draw repeats itself in a replay.

pub mod histogram;

use self::histogram::{Histogram, Scale, WEIGHT_MAX};
use crate::engine::FlowEnds;
use crate::flow::decay::mix;
use crate::flow::key::{fold, is_multicast};
use crate::flow::lru::{LruMap, Place};
use crate::flow::schema::FEATURE_SPECS;
use crate::flow::{FEATURES, Family};

/// Watching before anything is said of a host in a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// Seconds observed.
    pub observations: u32,
    /// Time since the first of them.
    pub time_ns: u64,
}

impl Default for WarmUp {
    /// Two minutes of activity within ten or more: the slowest features look back as far as that.
    fn default() -> Self {
        Self {
            observations: 120,
            time_ns: 600 * SECOND_NS,
        }
    }
}

/// How long nothing is learned from a host after a point of a SUSPICIOUS flow of it.
pub const PAUSE_NS: u64 = 60 * SECOND_NS;

/// Who was seen within this time does not make room for another while it is being learned.
const SEEN_LATELY_NS: u64 = 60 * SECOND_NS;

/// From this score on a flow is called unusual for its hosts: above what a single feature can reach,
/// and 0.2 % of the flows of known hosts in the benign captures.
pub const UNUSUAL: f32 = 4.0;

/// Deviations that make a score: the mean of the farthest so many.
const FARTHEST: usize = 3;

/// A deviation counts as this at most: beyond it a single feature would decide.
const DEVIATION_MAX: f32 = 10.0;

/// Observations between two looks at the histograms of a host that is known.
const REFRESH_EVERY: u32 = 30;

/// Of normally distributed values the deviation as a multiple of the median one.
const DEVIATIONS_PER_MEDIAN: f32 = 1.4826;

const SECOND_NS: u64 = 1_000_000_000;

/// Ports on which a host answered, or hosts it called on: a bit of 512 each. Something new is taken
/// for met with a chance of the share of bits set: 4 % after 20, 18 % after 100. A host that met more
/// than some 350 meets nothing new any more: of such nobody wants to be told.
#[derive(Clone, Debug, Default)]
struct Met([u64; 8]);

impl Met {
    const BITS: u32 = 512;

    /// True where it was met, or nothing is told any more.
    fn has(&self, value: u64) -> bool {
        let (word, bit) = Self::place(value);
        let full = || self.0.iter().map(|word| word.count_ones()).sum::<u32>() > Self::BITS / 2;
        self.0[word] & bit != 0 || full()
    }

    fn insert(&mut self, value: u64) {
        let (word, bit) = Self::place(value);
        self.0[word] |= bit;
    }

    fn place(value: u64) -> (usize, u64) {
        let bit = mix(value) >> (u64::BITS - Self::BITS.ilog2());
        ((bit / 64) as usize, 1 << (bit % 64))
    }
}

/// What a host does in a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It begins it.
    Initiator,
    /// It is asked.
    Responder,
}

impl Role {
    const fn has(self, family: Family) -> bool {
        matches!(
            (self, family),
            (Self::Initiator, Family::SourceHost) | (Self::Responder, Family::DestinationHost)
        )
    }

    /// Number of features of this role.
    const fn count(self) -> usize {
        let (mut at, mut count) = (0, 0);
        while at < FEATURES {
            count += self.has(FEATURE_SPECS[at].family) as usize;
            at += 1;
        }
        count
    }

    /// What a host in this role meets in a flow: a responder a port of its own, an initiator a host.
    fn counterpart(self, ends: &FlowEnds) -> u64 {
        match self {
            Self::Responder => (u64::from(ends.ip_protocol) << 16) | u64::from(ends.dst_port),
            Self::Initiator => fold(&ends.dst),
        }
    }

    fn features(self) -> &'static [u8] {
        static INITIATOR: [u8; Role::Initiator.count()] = features(Role::Initiator);
        static RESPONDER: [u8; Role::Responder.count()] = features(Role::Responder);
        match self {
            Self::Initiator => &INITIATOR,
            Self::Responder => &RESPONDER,
        }
    }
}

/// Most features of a role.
const ROLE_FEATURES: usize = {
    let (initiator, responder) = (Role::Initiator.count(), Role::Responder.count());
    if initiator > responder {
        initiator
    } else {
        responder
    }
};

/// Features of a role, as indices into a row.
const fn features<const COUNT: usize>(role: Role) -> [u8; COUNT] {
    let mut found = [0; COUNT];
    let (mut at, mut count) = (0, 0);
    while at < FEATURES {
        if role.has(FEATURE_SPECS[at].family) {
            found[count] = at as u8;
            count += 1;
        }
        at += 1;
    }
    found
}

/// Scales of all features; those of no host have one too, which nobody asks.
static SCALES: [Scale; FEATURES] = {
    let mut scales = [Scale::Share; FEATURES];
    let mut at = 0;
    while at < FEATURES {
        if is_logarithm(FEATURE_SPECS[at].name.as_bytes()) {
            scales[at] = Scale::Log2;
        }
        at += 1;
    }
    scales
};

const fn is_logarithm(name: &[u8]) -> bool {
    matches!(name, [.., b'_', b'l', b'o', b'g', b'2'])
}

/// Nine in ten observations of a host lay within; in the unit of the feature.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UsualRange {
    /// Least.
    pub low: f32,
    /// Greatest.
    pub high: f32,
}

/// A feature that lies outside of its usual range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deviation {
    /// Its name.
    pub feature: &'static str,
    /// Its value.
    pub value: f32,
    /// What is usual.
    pub usual: UsualRange,
}

/// What the hosts' own past says of a flow. Each flow holds one: it is kept small.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Opinion {
    /// What is usual for the initiator is known.
    pub initiator_known: bool,
    /// What is usual for the responder is known.
    pub responder_known: bool,
    /// The responder is known and answered on a port on which it was not seen answering before.
    pub new_port: bool,
    /// The initiator is known and was not seen in touch with this responder before.
    pub first_contact: bool,
    /// Index of the farthest feature; of no meaning where `score` is 0.
    feature: u8,
    /// How far outside of the usual, highest so far: the mean of the three farthest features, each
    /// by its distance from the range in deviations, at most 10. 0 where nothing is known.
    pub score: f32,
    value: f32,
    usual: UsualRange,
}

impl Opinion {
    /// True where anything is known to compare with.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.initiator_known || self.responder_known
    }

    /// True where the flow is called unusual.
    #[must_use]
    pub fn is_unusual(&self) -> bool {
        self.score >= UNUSUAL
    }

    /// The feature farthest outside at that score; `None`: all lay within.
    #[must_use]
    pub fn farthest(&self) -> Option<Deviation> {
        (self.score > 0.0).then(|| Deviation {
            feature: FEATURE_SPECS[usize::from(self.feature)].name,
            value: self.value,
            usual: self.usual,
        })
    }

    /// Takes the opinion of a later point in: the highest score stands.
    #[must_use]
    pub fn with(self, later: Self) -> Self {
        let highest = if later.score > self.score {
            later
        } else {
            self
        };
        Self {
            initiator_known: self.initiator_known || later.initiator_known,
            responder_known: self.responder_known || later.responder_known,
            new_port: self.new_port || later.new_port,
            first_contact: self.first_contact || later.first_contact,
            ..highest
        }
    }
}

/// Range of a feature as it was when it was looked at last.
#[derive(Clone, Copy, Debug, Default)]
struct Usual {
    range: UsualRange,
    /// Deviation of what lies within, at least [`Scale::spread_min`].
    spread: f32,
}

impl Usual {
    /// Distance from the range in deviations.
    fn deviation(&self, value: f32) -> f32 {
        let outside = (self.range.low - value).max(value - self.range.high);
        (outside.max(0.0) / self.spread).min(DEVIATION_MAX)
    }
}

/// What is usual for one host in one role.
///
/// What every point changes stands first, what a second changes last: most points need little of it.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct HostBaseline {
    /// First observation.
    first_ns: u64,
    /// First point of the second that is being observed.
    second_ns: u64,
    /// Nothing is learned before.
    paused_until_ns: u64,
    /// Points of that second so far.
    points: u32,
    /// Seconds observed.
    observed: u32,
    /// Of these, what the histograms still hold.
    weight: u32,
    is_known: bool,
    /// Bins of the point drawn out of that second.
    drawn: [u8; ROLE_FEATURES],
    /// Ports on which it answered or hosts it called on, by role.
    met: Met,
    usual: [Usual; ROLE_FEATURES],
    histograms: [Histogram; ROLE_FEATURES],
}

/// The memory documented per host and role ([`crate::engine::Engine`]) rests on this.
const _: () = assert!(size_of::<HostBaseline>() <= 1_344);

impl HostBaseline {
    /// Observes a point.
    fn observe(&mut self, role: Role, point: &Point<'_>, warm_up: &WarmUp) {
        let (row, now_ns) = (point.row, point.mono_ns);
        if now_ns < self.paused_until_ns {
            return;
        }
        if point.is_established {
            self.met.insert(role.counterpart(&point.ends));
        }
        if self.points > 0 && now_ns.saturating_sub(self.second_ns) >= SECOND_NS {
            self.end_second(role, warm_up);
        }
        if self.points == 0 {
            self.second_ns = now_ns;
            if self.observed == 0 {
                self.first_ns = now_ns;
            }
        }
        self.points = self.points.saturating_add(1);
        // Each of k points is the one that stays with a chance of 1/k (Vitter, 1985).
        let draw = mix((u64::from(self.observed) << 32) | u64::from(self.points));
        if draw.is_multiple_of(u64::from(self.points)) {
            for (bin, &feature) in self.drawn.iter_mut().zip(role.features()) {
                let feature = usize::from(feature);
                *bin = SCALES[feature].bin(row[feature]);
            }
        }
    }

    /// Counts the point drawn out of a second that is over.
    fn end_second(&mut self, role: Role, warm_up: &WarmUp) {
        self.points = 0;
        self.observed = self.observed.saturating_add(1);
        self.weight += 1;
        let count = role.features().len();
        for (histogram, &bin) in self.histograms.iter_mut().zip(&self.drawn).take(count) {
            histogram.add(bin);
        }
        if self.weight >= WEIGHT_MAX {
            self.weight /= 2;
            self.histograms.iter_mut().for_each(Histogram::halve);
        }
        let was_known = self.is_known;
        self.is_known |= self.observed >= warm_up.observations
            && self.second_ns.saturating_sub(self.first_ns) >= warm_up.time_ns;
        if self.is_known && (!was_known || self.observed.is_multiple_of(REFRESH_EVERY)) {
            self.refresh(role);
        }
    }

    fn refresh(&mut self, role: Role) {
        for ((usual, histogram), &feature) in self
            .usual
            .iter_mut()
            .zip(&self.histograms)
            .zip(role.features())
        {
            let scale = SCALES[usize::from(feature)];
            let summary = histogram.summary(scale);
            *usual = Usual {
                range: UsualRange {
                    low: summary.low,
                    high: summary.high,
                },
                spread: (DEVIATIONS_PER_MEDIAN * summary.deviation).max(scale.spread_min()),
            };
        }
    }

    /// Forgets the second that is being observed and learns nothing for [`PAUSE_NS`].
    fn pause(&mut self, now_ns: u64) {
        self.points = 0;
        self.paused_until_ns = now_ns.saturating_add(PAUSE_NS);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    address: [u8; 16],
    role: Role,
}

impl Key {
    /// Initiator and responder of a flow; a group of hosts is none.
    fn of(ends: &FlowEnds) -> [Option<Self>; 2] {
        let key = |address, role| Self { address, role };
        [
            Some(key(ends.src, Role::Initiator)),
            (!is_multicast(&ends.dst)).then(|| key(ends.dst, Role::Responder)),
        ]
    }
}

/// Where a host in a role stands.
#[derive(Clone, Copy, Debug)]
enum At {
    Known(Place),
    Learning(Place),
    Nowhere,
}

/// The two hosts of a flow, looked up. Good until something else is learned.
#[derive(Clone, Copy, Debug)]
pub struct Found([Option<(Key, At)>; 2]);

/// What is known of the two hosts of a flow.
#[derive(Clone, Copy)]
pub struct OfFlow<'a> {
    found: Found,
    initiator: Option<&'a HostBaseline>,
    responder: Option<&'a HostBaseline>,
    new_port: bool,
    first_contact: bool,
}

impl OfFlow<'_> {
    /// Where they stand, to learn from the flow.
    #[must_use]
    pub fn found(&self) -> Found {
        self.found
    }

    /// Usual range of a feature, by its index; `None`: of no host, or not known.
    #[must_use]
    pub fn range(&self, feature: usize) -> Option<UsualRange> {
        self.roles().find_map(|(role, host)| {
            let at = role
                .features()
                .iter()
                .position(|f| usize::from(*f) == feature)?;
            Some(host.usual[at].range)
        })
    }

    /// How far a row lies outside of the usual, and of a flow whose both ends have been heard what is
    /// new in it.
    #[must_use]
    pub fn opinion(&self, row: &[f32; FEATURES], is_established: bool) -> Opinion {
        let mut farthest = [0.0f32; FARTHEST];
        let mut opinion = Opinion {
            initiator_known: self.initiator.is_some(),
            responder_known: self.responder.is_some(),
            new_port: is_established && self.new_port,
            first_contact: is_established && self.first_contact,
            ..Opinion::default()
        };
        for (role, host) in self.roles() {
            for (usual, &feature) in host.usual.iter().zip(role.features()) {
                let value = row[usize::from(feature)];
                let mut deviation = usual.deviation(value);
                if deviation > farthest[0] {
                    (opinion.feature, opinion.value, opinion.usual) = (feature, value, usual.range);
                }
                for place in &mut farthest {
                    if deviation > *place {
                        std::mem::swap(place, &mut deviation);
                    }
                }
            }
        }
        opinion.score = farthest.iter().sum::<f32>() / FARTHEST as f32;
        opinion
    }

    fn roles(&self) -> impl Iterator<Item = (Role, &HostBaseline)> {
        let initiator = self.initiator.map(|host| (Role::Initiator, host));
        let responder = self.responder.map(|host| (Role::Responder, host));
        initiator.into_iter().chain(responder)
    }
}

/// An evaluation point, for learning.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// Who with whom.
    pub ends: FlowEnds,
    /// Its time.
    pub mono_ns: u64,
    /// Both ends have been heard: neither address is invented.
    pub is_established: bool,
    /// The flow's verdict after it was judged is SUSPICIOUS.
    pub is_suspicious: bool,
    /// Its features.
    pub row: &'a [f32; FEATURES],
}

/// Baselines of many hosts.
pub struct Baselines {
    learning: LruMap<Key, HostBaseline>,
    known: LruMap<Key, HostBaseline>,
    warm_up: WarmUp,
    evicted: u64,
}

impl Baselines {
    /// None yet. At most `bound` hosts and roles that are known, and as many that are not: one more takes
    /// the place of the longest unseen of its sort, but of none that is being learned and was seen
    /// within a minute. Both are counted.
    #[must_use]
    pub fn new(bound: usize, warm_up: WarmUp) -> Self {
        Self {
            learning: LruMap::new(bound),
            known: LruMap::new(bound),
            warm_up,
            evicted: 0,
        }
    }

    /// Hosts and roles given up for others, known or not, and points of hosts that found no room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What is known of the hosts of a flow.
    #[must_use]
    pub fn of(&self, ends: &FlowEnds) -> OfFlow<'_> {
        let found = Key::of(ends).map(|key| key.map(|key| (key, self.at(&key))));
        let [initiator, responder] = found.map(|found| match found {
            Some((_, At::Known(place))) => Some(self.known.at(place)),
            _ => None,
        });
        let is_new = |role: Role, host: Option<&HostBaseline>| {
            host.is_some_and(|host| !host.met.has(role.counterpart(ends)))
        };
        OfFlow {
            found: Found(found),
            initiator,
            responder,
            new_port: is_new(Role::Responder, responder),
            first_contact: is_new(Role::Initiator, initiator),
        }
    }

    /// True where all who are being learned were seen a short while ago: were the longest unseen of
    /// them to go for each that comes, nobody would ever be known.
    fn is_crowded(&self, now_ns: u64) -> bool {
        let oldest = self.learning.oldest().map(|place| self.learning.at(place));
        self.learning.is_full()
            && oldest.is_some_and(|host| now_ns.saturating_sub(host.second_ns) < SEEN_LATELY_NS)
    }

    fn at(&self, key: &Key) -> At {
        // In its first minutes a sensor knows nobody.
        if !self.known.is_empty()
            && let Some(place) = self.known.find(key)
        {
            return At::Known(place);
        }
        self.learning.find(key).map_or(At::Nowhere, At::Learning)
    }

    /// Learns from a point of the flow whose hosts were found, or pauses where it is SUSPICIOUS.
    pub fn learn(&mut self, found: Found, point: &Point<'_>) {
        for (key, at) in found.0.into_iter().flatten() {
            // The one host of the flow may just have taken the place of the other.
            let place = match at {
                At::Known(place) => {
                    if let Some(place) = self.known.find_at(place, &key) {
                        self.known.touch(place);
                        step(self.known.at_mut(place), key.role, point, &self.warm_up);
                    }
                    continue;
                }
                At::Learning(place) => match self.learning.find_at(place, &key) {
                    Some(place) => place,
                    None => continue,
                },
                At::Nowhere if point.is_established && !point.is_suspicious => {
                    if self.is_crowded(point.mono_ns) {
                        self.evicted += 1;
                        continue;
                    }
                    const NOWHERE: Place = Place::MAX;
                    self.learning
                        .touch_or_insert(NOWHERE, key, &mut self.evicted)
                }
                At::Nowhere => continue,
            };
            self.learning.touch(place);
            step(self.learning.at_mut(place), key.role, point, &self.warm_up);
            if self.learning.at(place).is_known {
                let host = std::mem::take(self.learning.at_mut(place));
                self.learning.remove(place);
                if self.known.is_full()
                    && let Some(oldest) = self.known.oldest()
                {
                    self.known.remove(oldest);
                    self.evicted += 1;
                }
                self.known.insert(key, host);
            }
        }
    }
}

fn step(host: &mut HostBaseline, role: Role, point: &Point<'_>, warm_up: &WarmUp) {
    if point.is_suspicious {
        host.pause(point.mono_ns);
    } else {
        host.observe(role, point, warm_up);
    }
}

#[cfg(test)]
mod tests;
