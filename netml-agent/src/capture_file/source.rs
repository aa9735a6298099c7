//! The bytes of a capture: a file or standard input, plain or compressed, through one fixed buffer.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use super::{FRAME_BYTES_MAX, zstd};

/// Size of the buffer: the largest packet and a good read ahead.
pub const BUFFER_BYTES: usize = 2 * FRAME_BYTES_MAX as usize;

/// First two bytes of a gzip member (RFC 1952 §2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Bytes by which a compression is told.
const MAGIC_BYTES: u64 = 4;

/// Why bytes could not be had.
#[derive(Debug)]
pub(crate) enum InputError {
    /// The stream ends before them.
    Short,
    /// Reading failed.
    Io(io::Error),
}

/// How far the file on disk has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Bytes read, before decompression.
    pub read_bytes: u64,
    /// Bytes there are, where that is known: of a file, not of a pipe.
    pub total_bytes: Option<u64>,
}

/// Counts what passes.
struct Counted<R> {
    read: R,
    read_bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.read.read(buffer)?;
        self.read_bytes.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// A byte stream, given out in contiguous pieces of at most [`BUFFER_BYTES`].
pub(crate) struct Input {
    read: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    consumed: u64,
    read_bytes: Arc<AtomicU64>,
    total_bytes: Option<u64>,
}

impl Input {
    /// Opens a file; `-` is standard input.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            Self::new(Box::new(io::stdin()))
        } else {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            let mut input = Self::new(Box::new(file))?;
            input.total_bytes = metadata.is_file().then_some(metadata.len());
            Ok(input)
        }
    }

    /// Takes a stream, decompressing it when it begins like gzip or zstd.
    pub(crate) fn new(read: Box<dyn Read + Send>) -> io::Result<Self> {
        let read_bytes = Arc::new(AtomicU64::new(0));
        let mut read = Counted {
            read,
            read_bytes: Arc::clone(&read_bytes),
        };
        let mut magic = Vec::with_capacity(MAGIC_BYTES as usize);
        read.by_ref().take(MAGIC_BYTES).read_to_end(&mut magic)?;
        let is_gzip = magic.starts_with(&GZIP_MAGIC);
        let is_zstd = zstd::is_magic(&magic);
        let whole = Cursor::new(magic).chain(read);
        Ok(Self {
            read: if is_gzip {
                Box::new(MultiGzDecoder::new(whole))
            } else if is_zstd {
                Box::new(zstd::Decoder::new(whole))
            } else {
                Box::new(whole)
            },
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            consumed: 0,
            read_bytes,
            total_bytes: None,
        })
    }

    /// How far the stream itself has been read, before decompression.
    pub(crate) fn position(&self) -> Position {
        Position {
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes,
        }
    }

    /// Bytes given out or skipped so far.
    pub(crate) fn offset(&self) -> u64 {
        self.consumed
    }

    /// True where nothing is left; to be asked where a file may rightly end.
    pub(crate) fn at_end(&mut self) -> Result<bool, InputError> {
        match self.fill(1) {
            Ok(()) => Ok(false),
            Err(InputError::Short) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next `bytes` bytes, at most [`BUFFER_BYTES`]; past the end [`InputError::Short`], the
    /// rest being taken.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<&[u8], InputError> {
        if let Err(error) = self.fill(bytes) {
            self.consumed += (self.end - self.start) as u64;
            self.start = self.end;
            return Err(error);
        }
        let at = self.start;
        self.start += bytes;
        self.consumed += bytes as u64;
        Ok(&self.buffer[at..self.start])
    }

    /// Skips bytes, however many, without holding them.
    pub(crate) fn skip(&mut self, bytes: u64) -> Result<(), InputError> {
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(BUFFER_BYTES as u64 / 2);
            self.take(piece as usize)?;
            left -= piece;
        }
        Ok(())
    }

    /// Makes `bytes` contiguous bytes available from `start`.
    fn fill(&mut self, bytes: usize) -> Result<(), InputError> {
        debug_assert!(bytes <= self.buffer.len(), "a piece above the buffer");
        if self.end - self.start >= bytes {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < bytes {
            match self.read.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(InputError::Short),
                Ok(got) => self.end += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A compressed stream that was cut: as short as a plain file that was.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(InputError::Short);
                }
                Err(error) => return Err(InputError::Io(error)),
            }
        }
        Ok(())
    }
}
