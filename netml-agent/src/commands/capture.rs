//! `capture`: a live interface to a pcap file without payload and, where the trainer is built in,
//! to labelled feature rows.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use netml_common::{Direction, Extras, Link, LossReason, PacketRecord, walk_with_extras};
use tokio::signal::unix::{SignalKind, signal};

use super::{Misuse, ReadingArgs};
use crate::capture_file::Reading;
use crate::capture_file::offload::on_the_wire;
use crate::capture_file::write::{LINK_ETHERNET, LINK_RAW, Writer};
use crate::probe::{self, Interface};
use crate::sys::packet_socket::{PacketSocket, Statistics};

#[cfg(feature = "train")]
mod rows;

/// Largest frame: a super-packet behind GRO.
const FRAME_BYTES_MAX: usize = 1 << 18;

/// How soon a stop is noticed on a silent interface.
const READ_TIMEOUT: Duration = Duration::from_millis(100);

/// Arguments of `capture`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Interface to record
    #[arg(long, value_name = "NAME")]
    pub interface: String,
    /// Write packets to this new pcap file
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// What to keep of a packet: its headers, or so many bytes of it
    #[arg(long, value_name = "headers|BYTES", default_value = "headers")]
    pub snap: Snap,
    /// Write labelled feature rows to this file (.csv.gz), for `train`
    #[cfg(feature = "train")]
    #[arg(long, value_name = "FILE", requires = "label")]
    pub rows: Option<PathBuf>,
    /// What the traffic is: benign, or the kind of attack
    #[cfg(feature = "train")]
    #[arg(long, value_name = "benign|KIND", requires = "rows")]
    pub label: Option<String>,
    /// Where the rows are from, the unit that training and test are split by
    #[cfg(feature = "train")]
    #[arg(long, value_name = "NAME", default_value = "own")]
    pub group: String,
    /// What a packet inside another is, for the rows.
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Stop after this time
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// Stop after so many packets
    #[arg(long, value_name = "N")]
    pub packets: Option<u64>,
}

/// How much of a packet is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snap {
    /// Up to the end of the transport header: no payload.
    Headers,
    /// So many bytes.
    Bytes(u32),
}

impl FromStr for Snap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "headers" {
            return Ok(Self::Headers);
        }
        text.parse()
            .ok()
            .filter(|bytes| (14..=FRAME_BYTES_MAX as u32).contains(bytes))
            .map(Self::Bytes)
            .ok_or_else(|| format!("give `headers` or 14 to {FRAME_BYTES_MAX} bytes"))
    }
}

/// Takes the packets that have headers.
trait Take {
    fn packet(&mut self, record: &PacketRecord, extras: &Extras);
}

/// Runs the command.
///
/// # Errors
/// Where nothing is asked for (misuse), the interface or privilege is missing, or a file cannot be
/// written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    #[cfg(feature = "train")]
    let rows = rows::Rows::of(args)?;
    #[cfg(not(feature = "train"))]
    let rows: Option<NoRows> = None;
    if args.write.is_none() && rows.is_none() {
        bail!(Misuse(
            "capture writes nothing: give --write FILE, or --rows FILE with --label".into()
        ));
    }
    let interface = find(&args.interface)?;
    let socket =
        PacketSocket::open(interface.ifindex, READ_TIMEOUT).map_err(|error| {
            match error.kind() {
                io::ErrorKind::PermissionDenied => anyhow!(
                    "no privilege to capture on {}: run as root (sudo), or with CAP_NET_RAW",
                    args.interface
                ),
                _ => anyhow!("cannot capture on {}: {error}", args.interface),
            }
        })?;
    let writer = match &args.write {
        None => None,
        Some(path) => Some(create(path, &interface, args.snap)?),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let stop = Arc::new(AtomicBool::new(false));
    let job = Job {
        socket,
        link: interface.link,
        snap: args.snap,
        reading: args.reading.reading(),
        writer,
        rows,
        packets_max: args.packets.unwrap_or(u64::MAX),
        until: args
            .seconds
            .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds))),
        stop: Arc::clone(&stop),
    };
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot take signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot take signals")?;
        let mut done = tokio::task::spawn_blocking(move || job.run());
        tokio::select! {
            done = &mut done => return done.context("the capture died")?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.store(true, Ordering::Release);
        done.await.context("the capture died")?
    })
}

fn find(name: &str) -> anyhow::Result<Interface> {
    let all = probe::list_interfaces()?;
    let names: Vec<_> = all.iter().map(|interface| interface.name.clone()).collect();
    all.into_iter()
        .find(|interface| interface.name == name)
        .ok_or_else(|| {
            anyhow!(Misuse(format!(
                "there is no interface {name:?} here; there are: {}",
                names.join(", ")
            )))
        })
}

/// A new file that only its owner may read.
fn create(
    path: &Path,
    interface: &Interface,
    snap: Snap,
) -> anyhow::Result<Writer<BufWriter<File>>> {
    let doing = || format!("cannot write {}", path.display());
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(doing)?;
    let link_type = match interface.link {
        Link::Ethernet => LINK_ETHERNET,
        Link::RawIp | Link::Network { .. } => LINK_RAW,
    };
    let snap_bytes = match snap {
        Snap::Headers => FRAME_BYTES_MAX as u32,
        Snap::Bytes(bytes) => bytes,
    };
    Writer::new(BufWriter::new(file), link_type, snap_bytes).with_context(doing)
}

/// Stands for rows in a build without the trainer.
#[cfg(not(feature = "train"))]
struct NoRows;

#[cfg(not(feature = "train"))]
impl Take for NoRows {
    fn packet(&mut self, _record: &PacketRecord, _extras: &Extras) {}
}

#[cfg(not(feature = "train"))]
impl NoRows {
    fn finish(self) -> anyhow::Result<String> {
        Ok(String::new())
    }
}

#[cfg(feature = "train")]
type RowsOf = rows::Rows;
#[cfg(not(feature = "train"))]
type RowsOf = NoRows;

struct Job {
    socket: PacketSocket,
    link: Link,
    snap: Snap,
    reading: Reading,
    writer: Option<Writer<BufWriter<File>>>,
    rows: Option<RowsOf>,
    packets_max: u64,
    until: Option<Instant>,
    stop: Arc<AtomicBool>,
}

impl Job {
    fn run(mut self) -> anyhow::Result<()> {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let mut packets = 0_u64;
        let mut without_headers = 0_u64;
        while packets < self.packets_max
            && !self.stop.load(Ordering::Acquire)
            && self.until.is_none_or(|until| Instant::now() < until)
        {
            let Some(frame) = self
                .socket
                .receive(&mut buffer)
                .context("cannot read from the interface")?
            else {
                continue;
            };
            packets += 1;
            let bytes = &buffer[..frame.captured_bytes];
            let walked =
                walk_with_extras(bytes, frame.wire_bytes, self.link, self.reading.decapsulate);
            if let Some(writer) = &mut self.writer {
                let keep = match self.snap {
                    Snap::Bytes(bytes) => bytes as usize,
                    Snap::Headers => match &walked {
                        Ok((walked, _)) => walked.header_bytes as usize,
                        Err(reason) => header_bytes_of_lost(*reason, self.link),
                    },
                };
                writer
                    .packet(
                        frame.unix_ns,
                        frame.wire_bytes,
                        &bytes[..keep.min(bytes.len())],
                    )
                    .context("cannot write the capture; is the disk full?")?;
            }
            match walked {
                Ok((walked, extras)) => {
                    let direction = if frame.outgoing {
                        Direction::Egress
                    } else {
                        Direction::Ingress
                    };
                    let wire =
                        on_the_wire(&walked, self.link, frame.wire_bytes, self.reading.mtu_bytes);
                    let record =
                        walked.record(frame.unix_ns, 0, direction, wire.segments, wire.wire_bytes);
                    if let Some(rows) = &mut self.rows {
                        rows.packet(&record, &extras);
                    }
                }
                Err(_) => without_headers += 1,
            }
        }
        let Statistics { lost, .. } = self.socket.statistics().unwrap_or_default();
        if let Some(writer) = &mut self.writer {
            writer
                .flush()
                .context("cannot write the capture; is the disk full?")?;
        }
        let told = self
            .rows
            .map_or_else(|| Ok(String::new()), RowsOf::finish)?;
        eprintln!(
            "{packets} packets, {without_headers} of them without IP headers; {lost} lost by the kernel{told}"
        );
        Ok(())
    }
}

/// What is kept of a frame without IP headers: its link header, and an ARP message whole.
const fn header_bytes_of_lost(reason: LossReason, link: Link) -> usize {
    match (reason, link) {
        (LossReason::Arp, _) => 14 + 28,
        (_, Link::Ethernet) => 14,
        (_, Link::RawIp | Link::Network { .. }) => 0,
    }
}
