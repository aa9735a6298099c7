//! What was received, durably, and the questions that can be asked of it.
//!
//! [`Store`] is the seam: [`sqlite`] is the embedded default, [`memory`] the model that tests
//! hold it against in one conformance suite. A store deduplicates by itself, because
//! watermarks must commit together with the rows they stand for.

use std::net::IpAddr;
use std::path::PathBuf;

use futures_util::future::BoxFuture;

use crate::ingest::check::COUNT_MAX;
use crate::record::{
    CounterTotals, Direction, Event, Flow, Health, Hello, Packet, SensorBatch, SensorName, Verdict,
};

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
mod damage_tests;
pub mod ledger;
#[cfg(test)]
mod maintenance_tests;
pub mod memory;
pub mod sqlite;
pub mod talkers;

/// Most rows of one page.
pub const PAGE_ROWS_MAX: usize = 1_000;

/// Most sensors known; one more is refused at its hello.
pub const SENSORS_MAX: usize = 1_000;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory cannot be made or written.
    #[error("the data directory {path} cannot be written: {source}; choose another with --data")]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that some other program made.
    #[error("{path} is not a SQLite database; move it away or choose another --data")]
    NotSqlite {
        /// Where.
        path: PathBuf,
    },
    /// Written by a newer netml.
    #[error("{path} was written by a newer netml; update netml or choose another --data")]
    NewerSchema {
        /// Where.
        path: PathBuf,
    },
    /// Another process writes the same directory.
    #[error("{path} is in use by another collector; stop it or choose another --data")]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// A file cannot be opened or brought up to date.
    #[error("{path} cannot be opened: {reason}")]
    Open {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A read took too long.
    #[error("the query took too long; narrow the time range or the filter")]
    Timeout,
    /// More sensors than [`SENSORS_MAX`].
    #[error("{SENSORS_MAX} sensors are known already; one more is refused")]
    TooManySensors,
    /// A stored value that cannot have been written by this program.
    #[error("the stored {0} is damaged")]
    Damaged(&'static str),
    /// A value that has no stored form.
    #[error("the {0} cannot be stored")]
    Unstorable(&'static str),
    /// A database that is none of netml's.
    #[error("{path} is no database of netml: {reason}; move it away or choose another --data")]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// A directory that is no data directory.
    #[error(
        "{path} holds no meta.db: it is no data directory of a collector; choose another with --data"
    )]
    NoStore {
        /// Where.
        path: PathBuf,
    },
    /// A place that has to be free.
    #[error(
        "{path} is not empty and nothing is overwritten; name a directory that is not there yet"
    )]
    NotEmpty {
        /// Where.
        path: PathBuf,
    },
    /// A copy cannot be written; what was begun is removed.
    #[error("{path} cannot be written: {source}")]
    Unwritable {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A backup with a fault.
    #[error(
        "{path} is not whole: {fault}; netml-collector check tells all, and without that file the rest can be restored"
    )]
    NotWhole {
        /// Which file.
        path: PathBuf,
        /// The first fault.
        fault: String,
    },
    /// A store that was opened to be read.
    #[error("the store was opened to be read only")]
    ReadOnly,
    /// A day's file cannot be read. Within a store that serves, such a file is set aside.
    #[error("the file of day {day} is damaged: {reason}")]
    DayDamaged {
        /// Which day.
        day: u32,
        /// What was found.
        reason: String,
    },
    /// The database refused.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// How much of the past is kept.
///
/// Days are counted, not dated: days on which something was received. So a clock that jumps ahead by
/// a year begins one day and ends one, and none when nothing is received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Most days, the present one included, at least 1; `None`: all.
    pub days_max: Option<u32>,
    /// Most bytes of all days together, but for the latest day, which is always kept; `None`: all.
    pub bytes_max: Option<u64>,
}

/// What a store takes of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Days that are kept.
    pub days: u64,
    /// Bytes of all days together, logs included.
    pub bytes: u64,
    /// Bytes of their write-ahead logs.
    pub wal_bytes: u64,
}

/// Place of a row in the order of receipt: the day file, then the row in it. Newer is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    /// Day of receipt as `YYYYMMDD`.
    pub day: u32,
    /// Row within the day, from 1.
    pub row: i64,
}

impl RowId {
    /// Greater than every row.
    pub const END: Self = Self {
        day: u32::MAX,
        row: i64::MAX,
    };

    /// The id of a text made by `Display`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (day, row) = text.split_once('-')?;
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if day.len() != 8 || !digits(day) || row.len() > 18 || !digits(row) {
            return None;
        }
        Some(Self {
            day: day.parse().ok()?,
            row: row.parse().ok()?,
        })
    }
}

impl std::fmt::Display for RowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08}-{}", self.day, self.row)
    }
}

/// Names a flow over all streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Stream it was reported in.
    pub stream_id: u64,
    /// Its id within the stream.
    pub flow_id: u64,
}

impl FlowKey {
    /// The key of a text made by `Display`: 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        Some(Self {
            stream_id: u64::from_str_radix(text.get(..16)?, 16).ok()?,
            flow_id: u64::from_str_radix(text.get(16..)?, 16).ok()?,
        })
    }
}

impl std::fmt::Display for FlowKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}{:016x}", self.stream_id, self.flow_id)
    }
}

/// A stored packet sample.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketRow {
    /// Its place.
    pub id: RowId,
    /// Who saw it.
    pub sensor: String,
    /// Its flow.
    pub flow: FlowKey,
    /// What was seen.
    pub packet: Packet,
}

/// A stored flow.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRow {
    /// Place of its first record of the day.
    pub id: RowId,
    /// Who saw it.
    pub sensor: String,
    /// Stream it was reported in.
    pub stream_id: u64,
    /// Its latest record.
    pub flow: Flow,
}

impl FlowRow {
    /// Its name over all streams.
    #[must_use]
    pub fn key(&self) -> FlowKey {
        FlowKey {
            stream_id: self.stream_id,
            flow_id: self.flow.flow_id,
        }
    }
}

/// A stored event.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Its place.
    pub id: RowId,
    /// Whom it is about.
    pub sensor: String,
    /// What happened.
    pub event: Event,
}

/// What passed an interface in one step of time: differences of exact kernel totals.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrafficPoint {
    /// Start of the step, unix seconds.
    pub unix_s: i64,
    /// Sensor; empty in answers over all.
    pub sensor: String,
    /// Interface; empty in answers over all.
    pub interface: String,
    /// Received.
    pub rx_bytes: u64,
    /// Sent.
    pub tx_bytes: u64,
    /// Received.
    pub rx_packets: u64,
    /// Sent.
    pub tx_packets: u64,
    /// Packets missing from the analysis; frames without an IP packet inside are none.
    pub lost_packets: u64,
}

impl TrafficPoint {
    /// Adds what `other` counts.
    pub fn add(&mut self, other: &Self) {
        self.rx_bytes = self.rx_bytes.saturating_add(other.rx_bytes);
        self.tx_bytes = self.tx_bytes.saturating_add(other.tx_bytes);
        self.rx_packets = self.rx_packets.saturating_add(other.rx_packets);
        self.tx_packets = self.tx_packets.saturating_add(other.tx_packets);
        self.lost_packets = self.lost_packets.saturating_add(other.lost_packets);
    }
}

/// Width of the steps of a traffic answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One second.
    Second,
    /// One minute.
    Minute,
    /// One hour.
    Hour,
}

impl Step {
    /// All steps.
    pub const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    /// Its width in seconds.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    /// The step used for a range: 1 s up to 15 min, 1 min up to a day, then 1 h.
    #[must_use]
    pub const fn of_range(range_s: i64) -> Self {
        // Rounding a range to whole seconds can add two.
        if range_s <= 15 * 60 + 2 {
            Self::Second
        } else if range_s <= 24 * 3_600 + 2 {
            Self::Minute
        } else {
            Self::Hour
        }
    }
}

/// By what talkers are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// Responder's address.
    Destination = 0,
    /// Initiator's address.
    Source = 1,
    /// Responder's port with its protocol, such as `443/tcp`; `-` for protocols without ports.
    Port = 2,
    /// Protocol.
    Protocol = 3,
    /// Sensor.
    Sensor = 4,
}

impl Dimension {
    /// All dimensions, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Destination,
        Self::Source,
        Self::Port,
        Self::Protocol,
        Self::Sensor,
    ];

    /// Key of a flow in this dimension.
    #[must_use]
    pub fn key(self, sensor: &str, flow: &Flow) -> String {
        match self {
            Self::Destination => flow.dst_ip.to_string(),
            Self::Source => flow.src_ip.to_string(),
            Self::Port if matches!(flow.ip_protocol, 6 | 17 | 132) => {
                format!("{}/{}", flow.dst_port, protocol_name(flow.ip_protocol))
            }
            Self::Port => "-".to_owned(),
            Self::Protocol => protocol_name(flow.ip_protocol),
            Self::Sensor => sensor.to_owned(),
        }
    }
}

/// Name of an IP protocol in answers: `tcp`, `udp`, `icmp`, `icmpv6`, or its number.
#[must_use]
pub fn protocol_name(ip_protocol: u8) -> String {
    match ip_protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        n => n.to_string(),
    }
}

/// What flows carried, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Wire bytes, both directions.
    pub bytes: u64,
    /// Wire packets, both directions.
    pub packets: u64,
    /// Flows begun.
    pub flows: u64,
}

impl Volume {
    /// Adds another volume; sums stop at [`COUNT_MAX`].
    pub fn add(&mut self, other: Self) {
        for (sum, value) in [
            (&mut self.bytes, other.bytes),
            (&mut self.packets, other.packets),
            (&mut self.flows, other.flows),
        ] {
            *sum = sum.saturating_add(value).min(COUNT_MAX);
        }
    }
}

/// What talkers are ordered by, greatest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Bytes.
    Bytes,
    /// Packets.
    Packets,
    /// Flows.
    Flows,
}

/// Greatest talkers, and the rest in one, so that sums balance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Talkers {
    /// Greatest first.
    pub top: Vec<(String, Volume)>,
    /// Everything else.
    pub other: Volume,
}

/// A time range in unix seconds, `from` inclusive and `to` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First second.
    pub from_unix_s: i64,
    /// Second after the last.
    pub to_unix_s: i64,
}

impl Range {
    /// The same in nanoseconds, as far as they reach.
    #[must_use]
    pub const fn unix_ns(self) -> (i64, i64) {
        (
            self.from_unix_s.saturating_mul(1_000_000_000),
            self.to_unix_s.saturating_mul(1_000_000_000),
        )
    }
}

/// Which packets, flows or events are wanted; unset fields admit everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Verdict.
    pub verdict: Option<Verdict>,
    /// Attack kind.
    pub kind: Option<String>,
    /// IP protocol number.
    pub ip_protocol: Option<u8>,
    /// Source or destination address.
    pub address: Option<IpAddr>,
    /// Source or destination port.
    pub port: Option<u16>,
    /// Direction (packets only).
    pub direction: Option<Direction>,
    /// Sensor.
    pub sensor: Option<String>,
    /// When: of packets and events their time; flows of which some part lies within.
    pub seen: Option<Range>,
}

impl Filter {
    /// Whether something that was there from one time to another (unix nanoseconds, both included) is
    /// within [`Self::seen`].
    #[must_use]
    pub fn admits_time(&self, first_unix_ns: i64, last_unix_ns: i64) -> bool {
        self.seen.is_none_or(|range| {
            let (from, to) = range.unix_ns();
            first_unix_ns < to && last_unix_ns >= from
        })
    }
}

/// A page of a list, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Only rows older than this.
    pub before: RowId,
    /// Most rows, 1 to [`PAGE_ROWS_MAX`].
    pub limit: usize,
}

/// Rows of a page and where the next one begins; `None` at the end.
///
/// A page may hold fewer rows than asked for, even none, and still have a next one: a filter that
/// admits little is searched for a bounded time per call.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// `before` of the next page.
    pub next: Option<RowId>,
}

/// Exact totals since the sensors attached, summed over their interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Received.
    pub rx: CounterTotals,
    /// Sent.
    pub tx: CounterTotals,
    /// Flows by latest verdict, in the order of [`Verdict::ALL`].
    pub verdicts: [u64; 4],
}

/// A known sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct SensorRow {
    /// What it last said of itself.
    pub hello: Hello,
    /// When it was last heard.
    pub last_seen_unix_ms: i64,
    /// Its latest health.
    pub health: Option<Health>,
}

/// What became of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything up to `ack` is durably stored.
    Stored {
        /// Watermark of the stream.
        ack: u64,
        /// Records stored now.
        stored: u64,
        /// Records that had been stored before.
        duplicate: u64,
        /// Records refused for an impossible value.
        refused: u64,
        /// Records that the sensor gave up before they came here.
        gap: u64,
    },
    /// The stream belongs to another sensor; nothing was stored.
    ForeignStream,
}

/// What an append stored: outcomes in the order of the batches, and the rows for the live feed.
#[derive(Clone, Debug, Default)]
pub struct Appended {
    /// One per batch.
    pub outcomes: Vec<Outcome>,
    /// New packets, oldest first.
    pub packets: Vec<PacketRow>,
    /// New or changed flows, each once, as they stand.
    pub flows: Vec<FlowRow>,
    /// New events.
    pub events: Vec<EventRow>,
    /// What was added to seconds; points of one second, sensor and interface add up.
    pub traffic: Vec<TrafficPoint>,
    /// New health.
    pub health: Vec<(SensorName, Health)>,
    /// Streams, counters and flows whose state left memory for want of room; it is looked up where
    /// it is needed again.
    pub forgotten: u64,
}

/// What was found damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Days' files set aside since the store was opened.
    pub days_set_aside: u64,
    /// Rows left out of answers since then because a value in them cannot be; each counts once.
    pub rows_unreadable: u64,
    /// Files that lie set aside, by name, in the order of their days.
    pub files: Vec<String>,
}

/// A durable store of what sensors sent.
pub trait Store: Send + Sync {
    /// What was found damaged. A store without files has nothing to tell.
    fn damage(&self) -> Damage {
        Damage::default()
    }

    /// Removes the oldest days that are beyond the retention, whole; never the latest, which is
    /// being written. Gives the days removed, oldest first.
    fn retain(&self, retention: Retention) -> BoxFuture<'_, Result<Vec<u32>, StoreError>>;

    /// Stores batches in one transaction: all rows, sums and watermarks, or on an error nothing.
    /// Only one append runs at a time.
    fn append<'a>(
        &'a self,
        batches: &'a [SensorBatch],
        received_unix_ms: i64,
    ) -> BoxFuture<'a, Result<Appended, StoreError>>;

    /// Notes that a sensor connected.
    fn hello<'a>(
        &'a self,
        hello: &'a Hello,
        now_unix_ms: i64,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Notes when a sensor was last heard.
    fn seen<'a>(
        &'a self,
        sensor: &'a SensorName,
        now_unix_ms: i64,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// All known sensors, by name.
    fn sensors(&self) -> BoxFuture<'_, Result<Vec<SensorRow>, StoreError>>;

    /// A page of packets. [`Filter::kind`] applies as well.
    fn packets<'a>(
        &'a self,
        filter: &'a Filter,
        page: PageRequest,
    ) -> BoxFuture<'a, Result<Page<PacketRow>, StoreError>>;

    /// A page of flows, in the order in which they were first reported.
    fn flows<'a>(
        &'a self,
        filter: &'a Filter,
        page: PageRequest,
    ) -> BoxFuture<'a, Result<Page<FlowRow>, StoreError>>;

    /// One flow as it stands.
    fn flow(&self, key: FlowKey) -> BoxFuture<'_, Result<Option<FlowRow>, StoreError>>;

    /// A page of events; only [`Filter::sensor`] and [`Filter::seen`] apply.
    fn events<'a>(
        &'a self,
        filter: &'a Filter,
        page: PageRequest,
    ) -> BoxFuture<'a, Result<Page<EventRow>, StoreError>>;

    /// Traffic per step, oldest first, summed over what the filters leave open.
    fn traffic<'a>(
        &'a self,
        range: Range,
        step: Step,
        sensor: Option<&'a str>,
        interface: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<TrafficPoint>, StoreError>>;

    /// Greatest talkers of a range, which is widened to whole minutes.
    fn talkers(
        &self,
        dimension: Dimension,
        range: Range,
        order: Order,
        limit: usize,
    ) -> BoxFuture<'_, Result<Talkers, StoreError>>;

    /// Totals since the sensors attached.
    fn totals<'a>(&'a self, sensor: Option<&'a str>) -> BoxFuture<'a, Result<Totals, StoreError>>;

    /// What it takes of the disk; nothing for a store without one.
    fn size(&self) -> Size {
        Size::default()
    }

    /// Writes what is pending and closes the files.
    fn close(&self) -> BoxFuture<'_, ()>;
}
