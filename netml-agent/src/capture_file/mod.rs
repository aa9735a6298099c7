//! Capture files (pcap, pcapng; plain, gzip, zstd) as packet records.
//!
//! In: a path (`-` is standard input), the format told by its magic number: pcap of both byte
//! orders with micro- or nanoseconds, pcapng with several interfaces, each plain, gzip or
//! zstd.
//! Out: one [`Item`] for every packet of the file, so that `packets == records + Σ lost`; the
//! headers are read by the very walk the kernel programs run.
//!
//! - A packet's wire length is its original length, however little of it was captured.
//! - `mono_ns` is the file's own time stamp in unix nanoseconds; a packet without one (pcapng
//!   simple packet block) takes that of the packet before it. A stamp that its neighbours do not
//!   bear out is replaced and counted, see [`clock`].
//! - Direction is ingress, but for packets a Linux cooked capture calls outgoing.
//! - A frame over the link's MTU, as captures with offloads on have them, counts as the packets it was
//!   on the wire, see [`offload`].
//! - An interface of a pcapng file is the record's slot; those past the last slot share it.
//! - A cut file gives all its whole packets, then ends with [`CaptureWarning::Truncated`].
//!
//! Bounds: one fixed buffer of [`source::BUFFER_BYTES`], [`FRAME_BYTES_MAX`] a packet,
//! [`pcapng::INTERFACES_PER_SECTION_MAX`] interfaces. Nothing is allocated per packet.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use netml_common::walk::HeaderBytes;
use netml_common::{
    Extras, INTERFACES_MAX, LOSS_REASONS, LossReason, PacketRecord, walk_with_extras,
};

pub mod clock;
pub mod link;
pub mod offload;
mod pcap;
pub mod pcapng;
pub mod source;
pub mod write;
pub mod zstd;

use clock::{Clock, NEIGHBOURS};
use link::LinkType;
use offload::{MTU_BYTES, on_the_wire};
use source::{Input, InputError};

pub use source::Position;

/// Most captured bytes of one packet (tcpdump's own bound); a file that claims more is damaged.
pub const FRAME_BYTES_MAX: u32 = 262_144;

/// Unknown link types told apart in warnings; packets of further ones are counted with the last.
const UNKNOWN_LINK_TYPES_MAX: usize = 8;

/// Why a capture file gives no (more) packets.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be opened.
    #[error("cannot open capture {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Reading or decompressing failed.
    #[error("cannot read capture {} at byte {offset}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Where, counted after decompression.
        offset: u64,
        /// The system's or the decompressor's answer.
        source: std::io::Error,
    },
    /// It holds not even a file header.
    #[error("capture {} ends inside its file header; capture it anew", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The first bytes are those of no known format.
    #[error(
        "{} is no capture file (it begins with {magic:08x}); give a pcap or pcapng file, plain, gzip or zstd",
        path.display()
    )]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// Its first four bytes.
        magic: u32,
    },
    /// The structure contradicts itself; the packets before this place were given.
    #[error("capture {} is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, counted after decompression.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// What a reader of the results must know of a file that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureWarning {
    /// The file ends inside a packet: all whole packets before it were given.
    Truncated {
        /// Bytes of the file, after decompression.
        offset: u64,
    },
    /// Packets of a link type that is not read; each is counted as
    /// [`LossReason::CaptureRefused`].
    UnknownLinkType {
        /// Its number (LINKTYPE_ of the pcap registry).
        number: u32,
        /// Packets of it.
        packets: u64,
    },
    /// Packets whose time stamp was replaced by that of the packet before, see [`clock`].
    WildTimestamps {
        /// How many.
        packets: u64,
    },
    /// The capture's clock was set back; times behind go on from where they were.
    ClockSetBack {
        /// How often.
        times: u64,
    },
    /// Frames that a card had yet to cut, or had put together: taken as what they were on the wire,
    /// see [`offload`].
    Oversized {
        /// How many.
        packets: u64,
        /// Of how many wire packets.
        segments: u64,
        /// The MTU they are over.
        mtu_bytes: u32,
    },
}

impl CaptureWarning {
    /// True for [`Self::UnknownLinkType`].
    #[must_use]
    pub const fn is_unknown_link_type(&self) -> bool {
        matches!(self, Self::UnknownLinkType { .. })
    }
}

impl std::fmt::Display for CaptureWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated { offset } => write!(
                f,
                "the file ends inside a packet at byte {offset}; all packets before it were read"
            ),
            Self::UnknownLinkType { number, packets } => write!(
                f,
                "link type {number} ({}) is not supported: {packets} packets not analysed; capture on an Ethernet, raw IP, PPP, Linux cooked or loopback device",
                link::name(*number)
            ),
            Self::WildTimestamps { packets } => write!(
                f,
                "{packets} packets have a time stamp a day or more from all around them; they were given the time of the packet before"
            ),
            Self::Oversized {
                packets,
                segments,
                mtu_bytes,
            } => write!(
                f,
                "{packets} packets are over the MTU of {mtu_bytes} bytes, as captures with offloads on have them; they count as the {segments} packets they were on the wire (--mtu for a link with jumbo frames)"
            ),
            Self::ClockSetBack { times } => write!(
                f,
                "the clock of the capture went back by a day or more {times} times; times behind go on from where it was, so they are later than in the file"
            ),
        }
    }
}

/// How the frames of a file are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The flow of a tunnel's packet is that of the packet inside.
    pub decapsulate: bool,
    /// Bytes of the largest packet on the link, its link header left out; see [`offload`].
    pub mtu_bytes: u32,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            decapsulate: true,
            mtu_bytes: MTU_BYTES,
        }
    }
}

/// Outcome of one packet of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// Its record.
    Packet(PacketRecord),
    /// Why it has none, and its wire bytes.
    Lost(LossReason, u32),
}

/// Books of one file: `packets == records + Σ lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureBooks {
    /// Whole packets in the file.
    pub packets: u64,
    /// Their wire bytes, those of [`Self::further_segments`]' headers included.
    pub wire_bytes: u64,
    /// Packets over the MTU of the link, see [`offload`].
    pub oversized: u64,
    /// Packets that these were on the wire, but for the first of each.
    pub further_segments: u64,
    /// Packets that gave a record.
    pub records: u64,
    /// Packets that gave none, by [`LossReason`] index.
    pub lost: [u64; LOSS_REASONS],
    /// Packets, of either kind, whose time stamp was replaced, see [`clock`].
    pub wild_timestamps: u64,
}

impl CaptureBooks {
    /// `packets == records + Σ lost`.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.packets == self.records + self.lost.iter().sum::<u64>()
    }
}

enum Format {
    Pcap(pcap::Pcap),
    Pcapng(pcapng::Pcapng),
}

/// Reads the packets of one file, in the order of the file.
pub struct Reader {
    path: PathBuf,
    input: Input,
    format: Format,
    clock: Clock,
    /// Packets read ahead of the one given, because its time stamp was in doubt.
    ahead: VecDeque<Stamped>,
    /// What ended the file while reading ahead.
    failed: Option<CaptureError>,
    books: CaptureBooks,
    unknown_links: Vec<(u32, u64)>,
    truncated_at: Option<u64>,
    ended: bool,
    reading: Reading,
    /// Of the packet given last.
    extras: Extras,
}

/// A packet's outcome, and its time stamp as in the file.
struct Stamped {
    item: Item,
    extras: Extras,
    stamp_ns: u64,
}

/// One captured packet, still in the input's buffer.
pub(crate) struct Frame<'a> {
    /// `None`: of an interface the file does not declare.
    pub(crate) link_type: Option<LinkType>,
    pub(crate) interface: u32,
    pub(crate) time_ns: u64,
    pub(crate) wire_bytes: u32,
    pub(crate) bytes: &'a [u8],
}

/// Why a format gives no further frame.
#[derive(Debug)]
pub(crate) enum Stop {
    Truncated,
    Damaged(&'static str),
    Io(std::io::Error),
}

impl From<InputError> for Stop {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Short => Self::Truncated,
            InputError::Io(error) => Self::Io(error),
        }
    }
}

/// Opens a capture file; `-` is standard input.
///
/// # Errors
/// [`CaptureError`] where it cannot be opened or is no capture file.
pub fn open(path: &Path) -> Result<Reader, CaptureError> {
    let input = Input::open(path).map_err(|source| CaptureError::Open {
        path: path.to_owned(),
        source,
    })?;
    Reader::new(path.to_owned(), input)
}

/// Reads a capture out of any byte stream; `name` stands for it in errors.
///
/// # Errors
/// [`CaptureError`] where it is no capture.
pub fn from_read(name: &str, read: Box<dyn std::io::Read + Send>) -> Result<Reader, CaptureError> {
    let path = PathBuf::from(name);
    let input = Input::new(read).map_err(|source| CaptureError::Open {
        path: path.clone(),
        source,
    })?;
    Reader::new(path, input)
}

impl Reader {
    fn new(path: PathBuf, mut input: Input) -> Result<Self, CaptureError> {
        let magic = match input.take(4) {
            Ok(bytes) => be_u32(bytes, 0),
            Err(InputError::Short) => return Err(CaptureError::Empty { path }),
            Err(InputError::Io(source)) => {
                let offset = input.offset();
                return Err(CaptureError::Read {
                    path,
                    offset,
                    source,
                });
            }
        };
        let format = if magic == pcapng::SECTION_HEADER {
            pcapng::Pcapng::open(&mut input).map(Format::Pcapng)
        } else if let Some(shape) = pcap::Shape::of_magic(magic) {
            pcap::Pcap::open(shape, &mut input).map(Format::Pcap)
        } else {
            return Err(CaptureError::NotACapture { path, magic });
        };
        match format {
            Ok(format) => Ok(Self {
                path,
                input,
                format,
                clock: Clock::default(),
                ahead: VecDeque::with_capacity(NEIGHBOURS),
                failed: None,
                books: CaptureBooks::default(),
                unknown_links: Vec::new(),
                truncated_at: None,
                ended: false,
                reading: Reading::default(),
                extras: Extras::NONE,
            }),
            Err(Stop::Truncated) => Err(CaptureError::Empty { path }),
            Err(Stop::Damaged(what)) => Err(CaptureError::Damaged {
                path,
                offset: input.offset(),
                what,
            }),
            Err(Stop::Io(source)) => Err(CaptureError::Read {
                path,
                offset: input.offset(),
                source,
            }),
        }
    }

    /// How frames are to be taken; to be set before the first packet.
    #[must_use]
    pub fn reading(self, reading: Reading) -> Self {
        Self { reading, ..self }
    }

    /// What the packet given last has beside its record.
    #[must_use]
    pub const fn extras(&self) -> &Extras {
        &self.extras
    }

    /// The outcome of the next packet; `None` at the end of the file, see [`Self::warnings`].
    ///
    /// A few packets are read ahead at the beginning and where the time stamps jump.
    ///
    /// # Errors
    /// [`CaptureError`] once, where the file is damaged or cannot be read on; `None` after it.
    pub fn next_item(&mut self) -> Result<Option<Item>, CaptureError> {
        let next = match self.ahead.pop_front() {
            Some(next) => Some(next),
            None => self.read()?,
        };
        let Some(Stamped {
            mut item,
            extras,
            stamp_ns,
        }) = next
        else {
            return match self.failed.take() {
                Some(error) => Err(error),
                None => Ok(None),
            };
        };
        self.extras = extras;
        if self.clock.doubts(stamp_ns) {
            while self.ahead.len() < NEIGHBOURS && self.failed.is_none() {
                match self.read() {
                    Ok(Some(next)) => self.ahead.push_back(next),
                    Ok(None) => break,
                    Err(error) => self.failed = Some(error),
                }
            }
        }
        let behind = self.ahead.iter().map(|next| next.stamp_ns);
        let (time_ns, is_wild) = self.clock.time_ns(stamp_ns, behind);
        self.books.packets += 1;
        self.books.wild_timestamps += u64::from(is_wild);
        match &mut item {
            Item::Packet(record) => {
                record.mono_ns = time_ns;
                self.books.records += 1;
                self.books.wire_bytes += u64::from(record.wire_bytes);
                self.books.oversized += u64::from(record.segments > 1);
                self.books.further_segments += u64::from(record.segments) - 1;
            }
            Item::Lost(reason, wire_bytes) => {
                self.books.lost[reason.index()] += 1;
                self.books.wire_bytes += u64::from(*wire_bytes);
            }
        }
        Ok(Some(item))
    }

    /// The next packet out of the file.
    fn read(&mut self) -> Result<Option<Stamped>, CaptureError> {
        if self.ended {
            return Ok(None);
        }
        let frame = match &mut self.format {
            Format::Pcap(pcap) => pcap.next_frame(&mut self.input),
            Format::Pcapng(pcapng) => pcapng.next_frame(&mut self.input),
        };
        let stop = match frame {
            Ok(Some(frame)) => {
                if let Some(LinkType::Other(number)) = frame.link_type {
                    note_unknown(&mut self.unknown_links, number);
                }
                let (item, extras) = outcome(&frame, self.reading);
                return Ok(Some(Stamped {
                    item,
                    extras,
                    stamp_ns: frame.time_ns,
                }));
            }
            Ok(None) => {
                self.ended = true;
                return Ok(None);
            }
            Err(stop) => stop,
        };
        self.ended = true;
        let offset = self.input.offset();
        match stop {
            Stop::Truncated => {
                self.truncated_at = Some(offset);
                Ok(None)
            }
            Stop::Damaged(what) => Err(CaptureError::Damaged {
                path: self.path.clone(),
                offset,
                what,
            }),
            Stop::Io(source) => Err(CaptureError::Read {
                path: self.path.clone(),
                offset,
                source,
            }),
        }
    }

    /// Names of the file's interfaces by slot, as far as it was read; empty where it tells none. A
    /// section of a pcapng file that begins anew replaces those before it.
    #[must_use]
    pub fn interface_names(&self) -> &[String] {
        match &self.format {
            Format::Pcap(_) => &[],
            Format::Pcapng(pcapng) => pcapng.names(),
        }
    }

    /// How often [`Self::interface_names`] changed.
    #[must_use]
    pub fn interface_changes(&self) -> u64 {
        match &self.format {
            Format::Pcap(_) => 0,
            Format::Pcapng(pcapng) => pcapng.name_changes(),
        }
    }

    /// How far the file itself (as compressed as it is) has been read.
    #[must_use]
    pub fn position(&self) -> Position {
        self.input.position()
    }

    /// Books so far.
    #[must_use]
    pub fn books(&self) -> &CaptureBooks {
        &self.books
    }

    /// The file, as it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What must be told beside the packets; complete once [`Self::next_item`] gave `None`.
    #[must_use]
    pub fn warnings(&self) -> Vec<CaptureWarning> {
        let links =
            self.unknown_links
                .iter()
                .map(|(number, packets)| CaptureWarning::UnknownLinkType {
                    number: *number,
                    packets: *packets,
                });
        let cut = self
            .truncated_at
            .map(|offset| CaptureWarning::Truncated { offset });
        let packets = self.books.wild_timestamps;
        let wild = (packets > 0).then_some(CaptureWarning::WildTimestamps { packets });
        let oversized = (self.books.oversized > 0).then_some(CaptureWarning::Oversized {
            packets: self.books.oversized,
            segments: self.books.oversized + self.books.further_segments,
            mtu_bytes: self.reading.mtu_bytes,
        });
        let times = self.clock.set_backs();
        let set_back = (times > 0).then_some(CaptureWarning::ClockSetBack { times });
        links
            .chain(cut)
            .chain(wild)
            .chain(set_back)
            .chain(oversized)
            .collect()
    }
}

fn note_unknown(seen: &mut Vec<(u32, u64)>, number: u32) {
    if let Some(entry) = seen.iter_mut().find(|entry| entry.0 == number) {
        entry.1 += 1;
    } else if seen.len() < UNKNOWN_LINK_TYPES_MAX {
        seen.push((number, 1));
    } else if let Some(last) = seen.last_mut() {
        last.1 += 1;
    }
}

/// Bytes of a packet that note whether a read went past them.
struct Captured<'a> {
    bytes: &'a [u8],
    ran_out: Cell<bool>,
}

impl Captured<'_> {
    fn note<T>(&self, read: Option<T>) -> Option<T> {
        if read.is_none() {
            self.ran_out.set(true);
        }
        read
    }
}

impl HeaderBytes for Captured<'_> {
    fn u8_at(&self, offset: u32) -> Option<u8> {
        self.note(self.bytes.u8_at(offset))
    }
    fn u16_at(&self, offset: u32) -> Option<u16> {
        self.note(self.bytes.u16_at(offset))
    }
    fn ipv4_at(&self, offset: u32) -> Option<[u8; 4]> {
        self.note(self.bytes.ipv4_at(offset))
    }
    fn ipv6_at(&self, offset: u32) -> Option<[u8; 16]> {
        self.note(self.bytes.ipv6_at(offset))
    }
}

fn outcome(frame: &Frame<'_>, reading: Reading) -> (Item, Extras) {
    let Some(link_type) = frame.link_type else {
        let item = Item::Lost(LossReason::CaptureRefused, frame.wire_bytes);
        return (item, Extras::NONE);
    };
    let captured = Captured {
        bytes: frame.bytes,
        ran_out: Cell::new(false),
    };
    let walked = link_type.start(&captured).and_then(|(link, direction)| {
        walk_with_extras(&captured, frame.wire_bytes, link, reading.decapsulate)
            .map(|(walked, extras)| (walked, extras, link, direction))
    });
    match walked {
        Ok((walked, extras, link, direction)) => {
            let slot = frame.interface.min(INTERFACES_MAX - 1) as u8;
            let wire = on_the_wire(&walked, link, frame.wire_bytes, reading.mtu_bytes);
            let record = walked.record(
                frame.time_ns,
                slot,
                direction,
                wire.segments,
                wire.wire_bytes,
            );
            (Item::Packet(record), extras)
        }
        Err(reason) => {
            // Cut by the capture, not malformed on the wire.
            let cut =
                captured.ran_out.get() && (frame.bytes.len() as u64) < frame.wire_bytes.into();
            let reason = if cut {
                LossReason::CaptureRefused
            } else {
                reason
            };
            (Item::Lost(reason, frame.wire_bytes), Extras::NONE)
        }
    }
}

/// Four bytes in network order; zero past the end.
fn be_u32(bytes: &[u8], at: usize) -> u32 {
    array(bytes, at).map_or(0, u32::from_be_bytes)
}

/// `N` bytes at an offset.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Byte order of a file or section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Big,
    Little,
}

impl Order {
    /// Two bytes; zero past the end.
    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let value = array(bytes, at).unwrap_or_default();
        match self {
            Self::Big => u16::from_be_bytes(value),
            Self::Little => u16::from_le_bytes(value),
        }
    }

    /// Four bytes; zero past the end.
    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let value = array(bytes, at).unwrap_or_default();
        match self {
            Self::Big => u32::from_be_bytes(value),
            Self::Little => u32::from_le_bytes(value),
        }
    }

    /// Eight bytes; zero past the end.
    fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let value = array(bytes, at).unwrap_or_default();
        match self {
            Self::Big => u64::from_be_bytes(value),
            Self::Little => u64::from_le_bytes(value),
        }
    }
}

#[cfg(test)]
mod tests;
