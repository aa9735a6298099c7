//! Corpora of the fuzzed parsers and seeded mutations of them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fmt::Write as _;

/// The inputs of `tests/corpus/TARGET.hex`, one a line.
pub(crate) fn inputs(target: &str) -> Vec<Vec<u8>> {
    let path = format!("{}/tests/corpus/{target}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            line.as_bytes()
                .chunks(2)
                .map(|digits| {
                    let digits = std::str::from_utf8(digits).unwrap();
                    u8::from_str_radix(digits, 16).unwrap()
                })
                .collect()
        })
        .collect()
}

/// An input as a line of its corpus.
pub(crate) fn hex(input: &[u8]) -> String {
    input.iter().fold(String::new(), |mut line, byte| {
        write!(line, "{byte:02x}").unwrap();
        line
    })
}

/// A xorshift generator (Marsaglia, 2003).
pub(crate) struct Random(u64);

/// Bytes at which parsers change their mind.
const TELLING: [u8; 16] = [
    0, 1, 2, 4, 6, 8, 17, 41, 44, 58, 60, 0x45, 0x60, 0x7f, 0x80, 0xff,
];

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) as usize
    }

    /// One of the inputs after one to eight changes, of at most `bytes_max` bytes.
    pub(crate) fn mutation(&mut self, corpus: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
        let mut input = corpus[self.next() % corpus.len()].clone();
        for _ in 0..=self.next() % 8 {
            self.change(&mut input, corpus);
        }
        input.truncate(bytes_max);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        if input.is_empty() {
            input.push(self.next() as u8);
            return;
        }
        // Mostly among the headers.
        let reach = match self.next() % 4 {
            0 => input.len(),
            _ => input.len().min(80),
        };
        let at = self.next() % reach;
        match self.next() % 8 {
            0 => input[at] ^= 1 << (self.next() % 8),
            1 => input[at] = self.next() as u8,
            2 | 3 => input[at] = TELLING[self.next() % TELLING.len()],
            4 => input.truncate(at),
            5 => {
                let byte = self.next() as u8;
                input.insert(at, byte);
            }
            6 => {
                let end = (at + 1 + self.next() % 8).min(input.len());
                input.drain(at..end);
            }
            // The end of another.
            _ => {
                let other = &corpus[self.next() % corpus.len()];
                let from = self.next() % (other.len() + 1);
                input.truncate(at);
                input.extend(&other[from..]);
            }
        }
    }
}
