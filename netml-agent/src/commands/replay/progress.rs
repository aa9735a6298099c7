//! One line on the terminal's standard error: how far a capture is read, how fast, how long still.
//!
//! Nothing is written where standard error is no terminal, or where standard output is one as well
//! (its lines would run through the bar).

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::capture_file::{CaptureBooks, Position};

/// Packets between two looks at the clock.
const LOOK_PACKETS: u64 = 1_024;

/// Pause between two drawings.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Characters of the file's name and of the bar: with the figures they fit into 80 columns.
const NAME_CHARACTERS: usize = 20;
const BAR_CHARACTERS: usize = 16;

/// Back to the first column, clearing the line.
const CLEAR: &str = "\r\x1b[K";

/// The line of one file.
pub(super) struct Progress {
    line: Option<Line>,
}

struct Line {
    name: String,
    begun: Instant,
    drawn: Instant,
}

impl Progress {
    /// Of a file about to be played.
    pub(super) fn new(file: &Path) -> Self {
        let wanted = io::stderr().is_terminal() && !io::stdout().is_terminal();
        let now = Instant::now();
        Self {
            line: wanted.then(|| Line {
                name: shown(file),
                begun: now,
                drawn: now,
            }),
        }
    }

    /// To be called after every packet: draws now and then.
    pub(super) fn packet(&mut self, books: &CaptureBooks, position: impl FnOnce() -> Position) {
        if self.line.is_some() && books.packets.is_multiple_of(LOOK_PACKETS) {
            self.look(books, position);
        }
    }

    /// To be called while waiting.
    pub(super) fn look(&mut self, books: &CaptureBooks, position: impl FnOnce() -> Position) {
        let Some(line) = &mut self.line else { return };
        let now = Instant::now();
        if now.duration_since(line.drawn) < DRAW_EVERY {
            return;
        }
        line.drawn = now;
        let elapsed = now.duration_since(line.begun);
        let text = text(&line.name, books.packets, position(), elapsed);
        self.write(&format!("{CLEAR}{text}"));
    }

    /// Takes the line away.
    pub(super) fn end(mut self) {
        if self.line.is_some() {
            self.write(CLEAR);
        }
    }

    /// A terminal that is gone is not written to again.
    fn write(&mut self, text: &str) {
        let mut terminal = io::stderr().lock();
        let written = terminal
            .write_all(text.as_bytes())
            .and_then(|()| terminal.flush());
        if written.is_err() {
            self.line = None;
        }
    }
}

/// Name of a file without its folder, cut, and without what a terminal would obey.
fn shown(file: &Path) -> String {
    file.file_name()
        .unwrap_or(file.as_os_str())
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(NAME_CHARACTERS)
        .collect()
}

fn text(name: &str, packets: u64, position: Position, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-3);
    let mut text = name.to_owned();
    let share = position
        .total_bytes
        .filter(|total| *total > 0)
        .map(|total| (position.read_bytes as f64 / total as f64).min(1.0));
    // Writing to a string does not fail.
    let written = match share {
        Some(share) => write!(text, " [{}] {:3.0} %", bar(share), share * 100.0),
        None => write!(text, " {} MB", position.read_bytes / 1_000_000),
    };
    let written = written.and_then(|()| {
        write!(
            text,
            " {} packets, {}/s",
            short(packets as f64),
            short(packets as f64 / seconds)
        )
    });
    debug_assert!(written.is_ok(), "a string takes everything");
    if let Some(share) = share.filter(|share| *share > 0.0) {
        text.push_str(&format!(", {} left", span(seconds * (1.0 - share) / share)));
    }
    text
}

fn bar(share: f64) -> String {
    (0..BAR_CHARACTERS)
        .map(|place| {
            if (place as f64 + 0.5) / (BAR_CHARACTERS as f64) < share {
                '='
            } else {
                ' '
            }
        })
        .collect()
}

/// Three digits and a unit.
fn short(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{:.2} G", n / 1e9),
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e4 => format!("{:.0} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// `1:02:03` or `2:03`.
fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.ceil()).map_or(u64::MAX, |span| span.as_secs());
    let (hours, minutes, seconds) = (whole / 3_600, whole / 60 % 60, whole % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_bar_a_rate_and_a_time_left_within_80_columns() {
        let position = Position {
            read_bytes: 250,
            total_bytes: Some(1_000),
        };
        let name = shown(Path::new(
            "/some/where/with-a-very-long-name-indeed.pcap.gz",
        ));
        let text = text(&name, 1_234_567, position, Duration::from_secs(2));
        assert_eq!(
            text,
            "with-a-very-long-nam [====            ]  25 % 1.23 M packets, 617 k/s, 0:06 left"
        );
        assert!(text.len() <= 80);
    }

    #[test]
    fn a_pipe_has_no_end_in_sight() {
        let position = Position {
            read_bytes: 12_345_678,
            total_bytes: None,
        };
        let text = text("-", 999, position, Duration::from_secs(1));
        assert_eq!(text, "- 12 MB 999 packets, 999/s");
    }

    #[test]
    fn a_name_gives_the_terminal_no_orders() {
        assert_eq!(shown(Path::new("a\x1b[2Jb")), "a?[2Jb");
    }

    #[test]
    fn long_times_have_hours() {
        assert_eq!(span(3_723.0), "1:02:03");
        assert_eq!(span(0.2), "0:01");
        assert_eq!(span(f64::INFINITY).split(':').count(), 3);
    }
}
