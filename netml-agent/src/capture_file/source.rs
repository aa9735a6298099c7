//! The bytes of a capture: a file, standard input or a gzip of either, through one fixed buffer.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::FRAME_BYTES_MAX;

/// Size of the buffer: the largest packet and a good read ahead.
pub const BUFFER_BYTES: usize = 2 * FRAME_BYTES_MAX as usize;

/// First two bytes of a gzip member (RFC 1952 §2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why bytes could not be had.
#[derive(Debug)]
pub(crate) enum InputError {
    /// The stream ends before them.
    Short,
    /// Reading failed.
    Io(io::Error),
}

/// A byte stream, given out in contiguous pieces of at most [`BUFFER_BYTES`].
pub(crate) struct Input {
    read: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    consumed: u64,
}

impl Input {
    /// Opens a file; `-` is standard input.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            Self::new(Box::new(io::stdin()))
        } else {
            Self::new(Box::new(File::open(path)?))
        }
    }

    /// Takes a stream, decompressing it when it begins like gzip.
    pub(crate) fn new(mut read: Box<dyn Read + Send>) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
        read.by_ref()
            .take(GZIP_MAGIC.len() as u64)
            .read_to_end(&mut magic)?;
        let is_gzip = magic == GZIP_MAGIC;
        let whole = Cursor::new(magic).chain(read);
        Ok(Self {
            read: if is_gzip {
                Box::new(MultiGzDecoder::new(whole))
            } else {
                Box::new(whole)
            },
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            consumed: 0,
        })
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
                // A gzip that was cut: as short as a plain file that was.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(InputError::Short);
                }
                Err(error) => return Err(InputError::Io(error)),
            }
        }
        Ok(())
    }
}
