//! Plays one capture file into an engine of its own, at a pace.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netml_common::LossReason;

use super::Speed;
use super::progress::Progress;
use crate::capture_file::{self, CaptureBooks, CaptureError, CaptureWarning, Item, Reading};
use crate::engine::{Books, Engine, Settings, Sink};
use crate::model::Model;

/// Records between two flushes of the engine.
const FLUSH_RECORDS: u32 = 256;

/// Longest sleep: the listener is asked again after it.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// A silence longer than this is cut short: every flow has ended by then (active time-out 120 s).
const SILENCE_MAX_NS: u64 = 121_000_000_000;

/// What to do before a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Feed it.
    Go,
    /// Its time has not come: move the engine's clock to this time and ask again.
    NotYet(u64),
    /// A silence is cut short: end all flows, then feed it.
    Cut(u64),
    /// End here.
    Stop,
}

/// A sink that also sets the pace and sees what the engine does not.
pub(super) trait Listener: Sink {
    /// Asked before each packet, with its time.
    fn before_packet(&mut self, mono_ns: u64) -> Wait;
    /// Each outcome of the file, packet or loss.
    fn outcome(&mut self, _item: &Item) {}
    /// Names of the file's interfaces, by slot; told anew when one is added or changed, before the
    /// packets behind.
    fn interfaces(&mut self, _names: &[String]) {}
    /// All flows have ended, and what follows belongs to another time.
    fn cut(&mut self) {}
}

/// How the playing ended.
pub(super) struct Played {
    pub(super) capture: CaptureBooks,
    pub(super) engine: Books,
    pub(super) warnings: Vec<CaptureWarning>,
    /// The file is damaged or could not be read on.
    pub(super) error: Option<CaptureError>,
}

/// Plays a file to its end, or until the listener stops it.
///
/// # Errors
/// Where the file cannot be opened. Errors within it are in [`Played`], beside the books of what
/// was read.
pub(super) fn play<L: Listener>(
    file: &Path,
    model: Option<Arc<Model>>,
    reading: Reading,
    listener: &mut L,
) -> Result<Played, CaptureError> {
    let mut reader = capture_file::open(file)?.reading(reading);
    let mut engine = Engine::new(Settings::default(), model);
    let mut progress = Progress::new(file);
    let mut since_flush = 0;
    let mut names_told = 0;
    let error = 'file: loop {
        let item = match reader.next_item() {
            Ok(Some(item)) => item,
            Ok(None) => break None,
            Err(error) => break Some(error),
        };
        if reader.interface_changes() != names_told {
            names_told = reader.interface_changes();
            listener.interfaces(reader.interface_names());
        }
        listener.outcome(&item);
        progress.packet(reader.books(), || reader.position());
        let record = match item {
            Item::Packet(record) => record,
            Item::Lost(LossReason::CaptureRefused, _) => {
                engine.lost(1);
                continue;
            }
            Item::Lost(..) => continue,
        };
        let mut stopped = false;
        loop {
            match listener.before_packet(record.mono_ns) {
                Wait::Go => break,
                Wait::NotYet(now_ns) => {
                    progress.look(reader.books(), || reader.position());
                    engine.flush(listener);
                    engine.advance(now_ns, listener);
                }
                Wait::Cut(last_ns) => {
                    engine.flush(listener);
                    engine.advance(last_ns.saturating_add(SILENCE_MAX_NS), listener);
                    listener.cut();
                }
                Wait::Stop => {
                    stopped = true;
                    break;
                }
            }
        }
        engine.packet_with(&record, reader.extras(), listener);
        since_flush += 1;
        if since_flush == FLUSH_RECORDS {
            engine.flush(listener);
            since_flush = 0;
        }
        if stopped {
            break 'file None;
        }
    };
    progress.end();
    engine.finish(listener);
    Ok(Played {
        capture: *reader.books(),
        engine: engine.books(),
        warnings: reader.warnings(),
        error,
    })
}

/// Holds packets back until their time has come.
pub(super) struct Pacer {
    speed: Speed,
    /// Where the file's time and ours were last the same.
    anchor: Option<(u64, Instant)>,
    last_ns: u64,
}

impl Pacer {
    pub(super) fn new(speed: Speed) -> Self {
        Self {
            speed,
            anchor: None,
            last_ns: 0,
        }
    }

    /// Sleeps a little at most.
    pub(super) fn wait(&mut self, mono_ns: u64) -> Wait {
        if self.speed == Speed::Max {
            return Wait::Go;
        }
        let Some((anchor_ns, begun)) = self.anchor else {
            self.anchor = Some((mono_ns, Instant::now()));
            self.last_ns = mono_ns;
            return Wait::Go;
        };
        if mono_ns > self.last_ns.saturating_add(SILENCE_MAX_NS) {
            let cut = Wait::Cut(self.last_ns);
            self.anchor = None;
            return cut;
        }
        let elapsed = begun.elapsed();
        let due = Duration::from_nanos(mono_ns.saturating_sub(anchor_ns));
        let left = due.saturating_sub(elapsed);
        if left.is_zero() {
            self.last_ns = self.last_ns.max(mono_ns);
            return Wait::Go;
        }
        std::thread::sleep(left.min(SLEEP_MAX));
        let now = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Never past the packet that waits.
        Wait::NotYet(anchor_ns.saturating_add(now).min(mono_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_full_speed_nothing_waits() {
        let mut pacer = Pacer::new(Speed::Max);
        assert_eq!(pacer.wait(0), Wait::Go);
        assert_eq!(pacer.wait(u64::MAX), Wait::Go);
    }

    #[test]
    fn at_its_own_pace_a_packet_waits_and_a_long_silence_is_cut() {
        let mut pacer = Pacer::new(Speed::Original);
        let begun = Instant::now();
        assert_eq!(pacer.wait(1_000), Wait::Go);
        let later = 1_000 + 60_000_000;
        while let Wait::NotYet(now_ns) = pacer.wait(later) {
            assert!((1_000..=later).contains(&now_ns));
        }
        assert!(begun.elapsed() >= Duration::from_millis(60));
        // Backwards: at once.
        assert_eq!(pacer.wait(500), Wait::Go);
        let far = later + SILENCE_MAX_NS + 1;
        assert_eq!(pacer.wait(far), Wait::Cut(later));
        assert_eq!(pacer.wait(far), Wait::Go);
    }
}
