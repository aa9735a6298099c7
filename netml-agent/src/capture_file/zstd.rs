//! Zstandard (RFC 8878), frame after frame, as a byte stream.
//!
//! Bounds: a window of [`WINDOW_BYTES_MAX`], which is refused beyond. A cut stream gives all its
//! whole blocks before it ends with [`io::ErrorKind::UnexpectedEof`]; a frame whose checksum does
//! not fit ends with [`io::ErrorKind::InvalidData`].

use std::io::{self, BufReader, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Largest window taken: that of the highest ordinary level (22). What `--long` makes beyond it
/// is refused by name.
pub const WINDOW_BYTES_MAX: u64 = 128 << 20;

/// A last block without content, and room for a checksum: it ends a frame that was cut.
const LAST_BLOCK: [u8; 7] = [1, 0, 0, 0, 0, 0, 0];

/// True for the first four bytes of a frame, an ordinary or a skippable one (RFC 8878 §3.1).
pub(crate) fn is_magic(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]
    )
}

/// The decompressed bytes of a stream.
pub(crate) struct Decoder<R> {
    source: BufReader<Watched<R>>,
    frame: FrameDecoder,
    state: State,
}

enum State {
    Between,
    /// In a frame; true where the stream ended within it.
    Frame(bool),
    Ended,
}

/// Notes that the stream has no more.
struct Watched<R> {
    read: R,
    ended: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.read.read(buffer)?;
        self.ended |= got == 0 && !buffer.is_empty();
        Ok(got)
    }
}

impl<R: Read> Decoder<R> {
    pub(crate) fn new(read: R) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(WINDOW_BYTES_MAX);
        Self {
            source: BufReader::new(Watched { read, ended: false }),
            frame,
            state: State::Between,
        }
    }

    /// Begins the next frame; false at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        use std::io::BufRead as _;
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.frame.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(self.error(error)),
            }
        }
    }

    /// Decodes one block; returns whether the stream was cut before it.
    fn decode(&mut self) -> io::Result<bool> {
        let one = BlockDecodingStrategy::UptoBlocks(1);
        match self.frame.decode_blocks(&mut self.source, one) {
            Ok(_) => Ok(false),
            Err(_) if self.source.get_ref().ended => {
                // What was decoded is held back as the window of what follows: nothing does.
                let all = BlockDecodingStrategy::All;
                match self.frame.decode_blocks(LAST_BLOCK.as_slice(), all) {
                    Ok(_) => Ok(true),
                    Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
            Err(error) => Err(self.error(error)),
        }
    }

    /// A short stream is told apart from a damaged one.
    fn error(&self, error: FrameDecoderError) -> io::Error {
        if self.source.get_ref().ended {
            io::ErrorKind::UnexpectedEof.into()
        } else {
            io::Error::new(io::ErrorKind::InvalidData, error)
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.state {
                State::Ended => return Ok(0),
                State::Between => match self.begin() {
                    Ok(true) => self.state = State::Frame(false),
                    Ok(false) => self.state = State::Ended,
                    Err(error) => {
                        self.state = State::Ended;
                        return Err(error);
                    }
                },
                State::Frame(_) if self.frame.can_collect() > 0 => return self.frame.read(buffer),
                State::Frame(true) => {
                    self.state = State::Ended;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                State::Frame(false) if self.frame.is_finished() => {
                    let given = self.frame.get_checksum_from_data();
                    if given.is_some() && given != self.frame.get_calculated_checksum() {
                        self.state = State::Ended;
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "the checksum of a zstd frame does not fit",
                        ));
                    }
                    self.state = State::Between;
                }
                State::Frame(false) => match self.decode() {
                    Ok(cut) => self.state = State::Frame(cut),
                    Err(error) => {
                        self.state = State::Ended;
                        return Err(error);
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    /// Bytes that compress, but not to nothing.
    fn content(bytes: usize) -> Vec<u8> {
        let mut state = 1_u32;
        (0..bytes)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 28) as u8
            })
            .collect()
    }

    fn zipped(content: &[u8]) -> Vec<u8> {
        compress_to_vec(content, CompressionLevel::Fastest)
    }

    /// What comes out before the end or the error.
    fn decoded(bytes: &[u8]) -> (Vec<u8>, Option<io::ErrorKind>) {
        let mut out = Vec::new();
        let error = Decoder::new(bytes).read_to_end(&mut out).err();
        (out, error.map(|error| error.kind()))
    }

    #[test]
    fn frames_follow_each_other_and_skippable_ones_are_skipped() {
        let mut stream = zipped(&content(300_000));
        stream.extend([0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9]);
        stream.extend(zipped(b"more"));
        let mut expected = content(300_000);
        expected.extend(b"more");
        assert_eq!(decoded(&stream), (expected, None));
        assert!(is_magic(&stream[..4]) && is_magic(&[0x5f, 0x2a, 0x4d, 0x18]));
    }

    #[test]
    fn a_cut_stream_gives_its_whole_blocks_and_then_is_short() {
        const BLOCK_BYTES: usize = 128 * 1024;
        let content = content(4 * BLOCK_BYTES);
        let stream = zipped(&content);
        for cut in [1, 5, 9, stream.len() / 2, stream.len() - 1] {
            let (out, error) = decoded(&stream[..cut]);
            assert_eq!(error, Some(io::ErrorKind::UnexpectedEof), "cut at {cut}");
            assert!(content.starts_with(&out));
            if cut == stream.len() / 2 {
                assert!(out.len() >= BLOCK_BYTES, "{} bytes", out.len());
            }
        }
    }

    #[test]
    fn a_wrong_checksum_and_what_is_no_frame_are_refused() {
        let mut stream = zipped(&content(1_000));
        let last = stream.len() - 1;
        stream[last] ^= 1;
        assert_eq!(decoded(&stream).1, Some(io::ErrorKind::InvalidData));
        let mut stream = zipped(b"some");
        stream.extend(b"something else");
        assert_eq!(
            decoded(&stream),
            (b"some".to_vec(), Some(io::ErrorKind::InvalidData))
        );
    }

    #[test]
    fn a_window_above_the_bound_is_refused() {
        // Window descriptor 0xa0: 2^30 bytes.
        let stream = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0, 1, 0, 0];
        assert_eq!(decoded(&stream).1, Some(io::ErrorKind::InvalidData));
    }
}
