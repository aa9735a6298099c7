//! Writes classic pcap with nanoseconds, for `capture`.

use std::io::{self, Write};

/// Magic of a pcap file with nanoseconds.
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;

/// LINKTYPE_ETHERNET.
pub const LINK_ETHERNET: u32 = 1;
/// LINKTYPE_RAW.
pub const LINK_RAW: u32 = 101;

/// A pcap file being written, in the host's byte order.
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn new(mut out: W, link_type: u32, snap_bytes: u32) -> io::Result<Self> {
        out.write_all(&MAGIC_NANOSECONDS.to_ne_bytes())?;
        out.write_all(&2_u16.to_ne_bytes())?;
        out.write_all(&4_u16.to_ne_bytes())?;
        for value in [0, 0, snap_bytes, link_type] {
            out.write_all(&value.to_ne_bytes())?;
        }
        Ok(Self { out })
    }

    /// Adds a packet of which `bytes` were kept.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn packet(&mut self, unix_ns: u64, wire_bytes: u32, bytes: &[u8]) -> io::Result<()> {
        let seconds = u32::try_from(unix_ns / 1_000_000_000).unwrap_or(u32::MAX);
        let captured_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        for value in [
            seconds,
            (unix_ns % 1_000_000_000) as u32,
            captured_bytes,
            wire_bytes,
        ] {
            self.out.write_all(&value.to_ne_bytes())?;
        }
        self.out.write_all(bytes)
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
