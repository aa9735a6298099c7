//! A spool looked at from outside: what is in it, what of it is damaged, and mending.
//!
//! Shell and core in one: nothing is changed but by [`repair`].

use std::collections::BTreeMap;
use std::io;

use netml_proto::v1;

use super::frame::{
    self, FORMAT, FrameHeader, SEGMENT_HEADER_BYTES, SegmentHeader, Start, Step, Window,
};
use super::fs::SpoolFs;
use super::state::{Noted, StateFile};
use super::{READ_AHEAD_BYTES, bad_name, bad_number_of, number_of, segment_name};

/// A place that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where, from the start of the file.
    pub offset: u64,
    /// How long.
    pub bytes: u64,
    /// What is wrong.
    pub what: What,
}

/// What is wrong at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The file's first bytes are no header; its frames are read all the same.
    Header,
    /// The file is of a format made later; nothing more of it is read.
    Newer(u16),
    /// No frame begins there.
    NoFrame,
    /// A frame whose payload has another checksum, with so many records.
    Payload(u32),
    /// No frame up to the end of the newest segment: what was being written when the power went. The
    /// sensor cuts it at its start.
    TornTail,
    /// The file cannot be read from there on.
    Unreadable(io::ErrorKind),
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header => f.write_str("the segment's header is damaged"),
            Self::Newer(format) => {
                write!(
                    f,
                    "format {format} was made by a newer netml, this one knows {FORMAT}"
                )
            }
            Self::NoFrame => f.write_str("no frame can be read"),
            Self::Payload(records) => write!(f, "a batch of {records} records is damaged"),
            Self::TornTail => f.write_str("torn tail, to be cut at the next start"),
            Self::Unreadable(kind) => write!(f, "cannot be read: {kind}"),
        }
    }
}

/// Records of one stream in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamPart {
    /// Number of the first.
    pub first_seq: u64,
    /// Number of the last.
    pub last_seq: u64,
    /// How many.
    pub records: u64,
    /// Of those, not acknowledged.
    pub unacked: u64,
}

/// What is in a segment.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    /// Its number.
    pub number: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Its header, where it is whole.
    pub header: Option<SegmentHeader>,
    /// Whole frames.
    pub frames: u64,
    /// By stream id.
    pub streams: BTreeMap<u64, StreamPart>,
    /// In the order of offsets.
    pub damage: Vec<Damage>,
}

impl SegmentReport {
    /// True where something of it is lost; a torn tail is none.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let mut damage = self.damage.iter();
        damage.any(|damage| damage.what != What::TornTail)
    }
}

/// What is in a spool.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order of numbers.
    pub segments: Vec<SegmentReport>,
    /// What the state says of streams.
    pub streams: Vec<Noted>,
    /// Segments set aside, with their bytes.
    pub aside: Vec<(String, u64)>,
}

impl Report {
    /// True where something is lost.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.segments.iter().any(SegmentReport::is_damaged)
    }
}

/// Reads everything; each whole batch is given to `each` with the number of its segment.
///
/// # Errors
/// Where the directory or its state cannot be read, or `each` fails.
pub fn look<F: SpoolFs>(
    fs: &F,
    mut each: impl FnMut(u64, v1::Batch) -> io::Result<()>,
) -> io::Result<Report> {
    let mut files = fs.list()?;
    files.sort();
    let mut report = Report {
        streams: StateFile::look(fs)?,
        ..Report::default()
    };
    let newest = files.iter().rev().find_map(|(name, _)| number_of(name));
    for (name, bytes) in files {
        if let Some(number) = number_of(&name) {
            let mut segment = SegmentReport {
                number,
                bytes,
                header: None,
                frames: 0,
                streams: BTreeMap::new(),
                damage: Vec::new(),
            };
            let is_newest = Some(number) == newest;
            if look_at(fs, &mut segment, &report.streams, is_newest, &mut each)? {
                report.segments.push(segment);
            }
        } else if bad_number_of(&name).is_some() {
            report.aside.push((name, bytes));
        }
    }
    Ok(report)
}

/// False where the segment is gone, as while a running sensor removes what is acknowledged.
fn look_at<F: SpoolFs>(
    fs: &F,
    segment: &mut SegmentReport,
    noted: &[Noted],
    is_newest: bool,
    each: &mut impl FnMut(u64, v1::Batch) -> io::Result<()>,
) -> io::Result<bool> {
    let unreadable = |segment: &mut SegmentReport, offset: u64, error: &io::Error| {
        let bytes = segment.bytes.saturating_sub(offset);
        segment.damage.push(Damage {
            offset,
            bytes,
            what: What::Unreadable(error.kind()),
        });
    };
    let file = match fs.open(&segment_name(segment.number)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            unreadable(segment, 0, &error);
            return Ok(true);
        }
    };
    let end = segment.bytes;
    let mut window = Window::new(READ_AHEAD_BYTES);
    let start = match window.get(fs, &file, 0, SEGMENT_HEADER_BYTES, end) {
        Ok(bytes) => SegmentHeader::decode(bytes),
        Err(error) => {
            unreadable(segment, 0, &error);
            return Ok(true);
        }
    };
    let header_bytes = end.min(SEGMENT_HEADER_BYTES as u64);
    match start {
        Start::Whole(header) => segment.header = Some(header),
        Start::Newer(format) => {
            segment.damage.push(Damage {
                offset: 0,
                bytes: end,
                what: What::Newer(format),
            });
            return Ok(true);
        }
        Start::Damaged => segment.damage.push(Damage {
            offset: 0,
            bytes: header_bytes,
            what: What::Header,
        }),
    }
    let mut offset = SEGMENT_HEADER_BYTES as u64;
    loop {
        let step = match frame::step(fs, &file, &mut window, offset, end) {
            Ok(step) => step,
            Err(error) => {
                unreadable(segment, offset, &error);
                break;
            }
        };
        match step {
            Step::End => break,
            Step::Damage(bytes) => {
                let what = What::NoFrame;
                segment.damage.push(Damage {
                    offset,
                    bytes,
                    what,
                });
                offset += bytes;
            }
            Step::Frame(header) => {
                match frame::payload(fs, &file, offset, &header) {
                    Ok(Some(payload)) => {
                        count(segment, &header, noted);
                        each(segment.number, header.batch(payload))?;
                    }
                    Ok(None) => segment.damage.push(Damage {
                        offset,
                        bytes: header.frame_bytes(),
                        what: What::Payload(header.count),
                    }),
                    Err(error) => {
                        unreadable(segment, offset, &error);
                        break;
                    }
                }
                offset += header.frame_bytes();
            }
        }
    }
    let is_bare = segment.frames == 0;
    if is_newest
        && let Some(last) = segment.damage.last_mut()
        && last.offset + last.bytes == end
        && !(is_bare && end > header_bytes)
        && !matches!(last.what, What::Unreadable(_))
    {
        last.what = What::TornTail;
    }
    Ok(true)
}

fn count(segment: &mut SegmentReport, header: &FrameHeader, noted: &[Noted]) {
    let mut noted = noted.iter();
    let acked = noted
        .find(|noted| noted.stream_id == header.stream_id)
        .map_or(0, |noted| noted.acked);
    segment.frames += 1;
    let part = segment.streams.entry(header.stream_id).or_default();
    if part.records == 0 {
        part.first_seq = header.first_seq;
    }
    part.last_seq = header.last_seq();
    part.records += u64::from(header.count);
    if header.last_seq() > acked {
        part.unacked += u64::from(header.count);
    }
}

/// What [`repair`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mended {
    /// The end of a segment was cut off at this offset, so many bytes.
    Cut(u64, u64, u64),
    /// A segment in which nothing can be read was set aside.
    SetAside(u64, u64),
    /// A segment with damage between frames stays: the sensor steps over it, and sets the segment
    /// aside once the rest is delivered.
    Left(u64),
}

/// Cuts what cannot be read at the ends of segments and sets aside those that hold nothing else.
///
/// # Errors
/// Where a file cannot be cut or renamed.
pub fn repair<F: SpoolFs>(fs: &F, report: &Report) -> io::Result<Vec<Mended>> {
    let mut mended = Vec::new();
    for segment in &report.segments {
        let Some(last) = segment.damage.last() else {
            continue;
        };
        if matches!(last.what, What::Newer(_) | What::Unreadable(_)) {
            mended.push(Mended::Left(segment.number));
            continue;
        }
        if segment.frames == 0 {
            fs.rename(&segment_name(segment.number), &bad_name(segment.number))?;
            mended.push(Mended::SetAside(segment.number, segment.bytes));
            continue;
        }
        let mut cut_at = segment.bytes;
        let mut left = segment.damage.len();
        for damage in segment.damage.iter().rev() {
            if damage.offset + damage.bytes != cut_at || damage.offset == 0 {
                break;
            }
            cut_at = damage.offset;
            left -= 1;
        }
        if cut_at < segment.bytes {
            let file = fs.open(&segment_name(segment.number))?;
            fs.cut(&file, cut_at)?;
            fs.sync(&file)?;
            mended.push(Mended::Cut(segment.number, cut_at, segment.bytes - cut_at));
        }
        if left > 0 {
            mended.push(Mended::Left(segment.number));
        }
    }
    fs.sync_names()?;
    Ok(mended)
}
