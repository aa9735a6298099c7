//! Writes what passes an interface of the lab to a classic pcap file.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use socket2::Socket;

use crate::sys;

/// Bytes kept of a frame: all headers; payload of the lab is noise anyway.
const SNAP_BYTES: usize = 128;
/// Receive buffer: a flood of the lab fits while the disk is busy.
const SOCKET_BUFFER_BYTES: usize = 16 * 1024 * 1024;

/// Writes frames of both directions until `stop`; gives how many.
///
/// # Errors
/// The file cannot be written or the socket fails.
pub(crate) fn record(socket: &Socket, path: &Path, stop: &AtomicBool) -> anyhow::Result<u64> {
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    out.write_all(&header(SNAP_BYTES))?;
    let mut frame = vec![0_u8; 65_536];
    let mut frames = 0;
    let mut reader = socket;
    loop {
        match reader.read(&mut frame) {
            Ok(length) => {
                let time = sys::last_frame_time(socket)?;
                out.write_all(&record_header(time, length.min(SNAP_BYTES), length))?;
                out.write_all(&frame[..length.min(SNAP_BYTES)])?;
                frames += 1;
            }
            Err(error) if is_timeout(&error) => {
                if stop.load(Ordering::SeqCst) {
                    out.flush()?;
                    return Ok(frames);
                }
            }
            Err(error) => return Err(error).context("cannot read the packet socket"),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// File header: microseconds, version 2.4, Ethernet; at most `snap` bytes of a frame.
pub(super) fn header(snap: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(24);
    header.extend(0xa1b2_c3d4_u32.to_le_bytes());
    header.extend(2_u16.to_le_bytes());
    header.extend(4_u16.to_le_bytes());
    header.extend([0; 8]);
    header.extend((snap as u32).to_le_bytes());
    header.extend(1_u32.to_le_bytes());
    header
}

/// In front of a frame of `length` bytes, `kept` of which follow.
pub(super) fn record_header(time: Duration, kept: usize, length: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(16);
    header.extend((time.as_secs() as u32).to_le_bytes());
    header.extend(time.subsec_micros().to_le_bytes());
    header.extend((kept as u32).to_le_bytes());
    header.extend((length as u32).to_le_bytes());
    header
}
