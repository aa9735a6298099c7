use std::collections::BTreeMap;

use netml_proto::v1;
use proptest::prelude::*;
use prost::Message as _;

use super::fs::{Directory, DirectoryError, SpoolFs as _};
use super::sim::{SimFs, below};
use super::*;

/// Of the tests: a segment holds some ten batches.
const SMALL_SEGMENT: u64 = 4096;
const ROOMY: u64 = 1 << 20;

fn settings(stream_id: u64) -> Settings {
    Settings {
        sensor: "sensor".into(),
        stream_id,
        bytes_max: ROOMY,
        segment_bytes: SMALL_SEGMENT,
        memory: Limits::default(),
    }
}

fn at(mono_ms: u64) -> Moment {
    Moment {
        mono_ms,
        unix_ns: 1_700_000_000_000_000_000 + mono_ms * 1_000_000,
    }
}

fn open(fs: &SimFs, stream_id: u64) -> Spool<SimFs> {
    Spool::open(fs.clone(), settings(stream_id), at(0)).unwrap()
}

fn text(stream_id: u64, seq: u64) -> String {
    format!("{stream_id}-{seq}-{}", "x".repeat(seq as usize % 40))
}

fn batch(stream_id: u64, first_seq: u64, count: u32) -> v1::Batch {
    let records = (first_seq..first_seq + u64::from(count)).map(|seq| v1::Record {
        record: Some(v1::record::Record::Event(v1::Event {
            kind: "test".into(),
            message: text(stream_id, seq),
            ..Default::default()
        })),
    });
    let payload = v1::Payload {
        records: records.collect(),
    }
    .encode_to_vec();
    v1::Batch {
        stream_id,
        first_seq,
        count,
        crc32: crc32fast::hash(&payload),
        payload,
    }
}

fn ack(stream_id: u64, seq: u64) -> v1::Ack {
    v1::Ack { stream_id, seq }
}

/// What a collector does with batches: stores what is above the stream's watermark, counts what was
/// left out.
#[derive(Default)]
struct Sink {
    watermarks: BTreeMap<u64, u64>,
    /// Numbers stored, those of closing batches not among them.
    stored: BTreeMap<u64, u64>,
    gaps: BTreeMap<u64, u64>,
    closings: u64,
}

impl Sink {
    fn take(&mut self, batch: &v1::Batch) -> v1::Ack {
        assert_eq!(crc32fast::hash(&batch.payload), batch.crc32);
        let payload = v1::Payload::decode(&batch.payload[..]).unwrap();
        assert_eq!(payload.records.len(), batch.count as usize);
        let watermark = self.watermarks.entry(batch.stream_id).or_default();
        *self.gaps.entry(batch.stream_id).or_default() +=
            batch.first_seq.saturating_sub(*watermark + 1);
        for (seq, record) in (batch.first_seq..).zip(payload.records) {
            if seq <= *watermark {
                continue;
            }
            *watermark = seq;
            let Some(v1::record::Record::Event(event)) = record.record else {
                panic!("{record:?}");
            };
            if event.kind == "loss" {
                self.closings += 1;
            } else {
                assert_eq!(
                    event.message,
                    text(batch.stream_id, seq),
                    "whose number it is"
                );
                *self.stored.entry(batch.stream_id).or_default() += 1;
            }
        }
        ack(batch.stream_id, *watermark)
    }

    fn stored(&self, stream_id: u64) -> u64 {
        self.stored.get(&stream_id).copied().unwrap_or(0)
    }

    fn gap(&self, stream_id: u64) -> u64 {
        self.gaps.get(&stream_id).copied().unwrap_or(0)
    }
}

/// Delivers all there is.
fn deliver(spool: &mut Spool<SimFs>, sink: &mut Sink, now: Moment) {
    while let Some(batch) = spool.next(now) {
        let ack = sink.take(&batch);
        assert!(spool.ack(ack));
    }
}

fn balanced(spool: &Spool<SimFs>) -> bool {
    let books = spool.books();
    books.found + books.records_in == books.acked + books.lost() + spool.waiting()
}

fn segments(fs: &SimFs) -> Vec<(String, u64)> {
    let mut files = fs.list().unwrap();
    files.retain(|(name, _)| number_of(name).is_some());
    files.sort();
    files
}

#[test]
fn what_a_kill_left_unsynced_is_synced_by_the_next_start() {
    for seed in 0..100 {
        let fs = SimFs::new(seed);
        let mut killed = open(&fs, 7);
        killed.append(batch(7, 1, 5), at(0));
        killed.tick(5, at(50));
        drop(killed);
        drop(open(&fs, 8));
        // The power goes, and comes back.
        fs.power_on();
        let spool = open(&fs, 9);
        assert_eq!(
            (spool.waiting(), spool.books().damaged),
            (5, 0),
            "seed {seed}"
        );
    }
}

#[test]
fn batches_come_back_as_they_were_in_order_and_go_once_acknowledged() {
    let fs = SimFs::new(1);
    let mut spool = open(&fs, 7);
    let made: Vec<_> = (0..10).map(|n| batch(7, n * 5 + 1, 5)).collect();
    for batch in &made {
        spool.append(batch.clone(), at(0));
    }
    let sent: Vec<_> = std::iter::from_fn(|| spool.next(at(1))).collect();
    assert_eq!(sent, made);
    assert!(spool.ack(ack(7, 25)));
    assert_eq!(spool.waiting(), 25);
    spool.rewind();
    assert_eq!(
        spool.next(at(2)).as_ref(),
        Some(&made[5]),
        "the sixth is the first not stored"
    );
    assert!(spool.ack(ack(7, 50)));
    assert_eq!((spool.waiting(), spool.books().acked), (0, 50));
    spool.close(50, at(3));
    assert_eq!(segments(&fs), []);
}

#[test]
fn an_acknowledgement_of_what_was_never_made_changes_nothing() {
    let fs = SimFs::new(1);
    let mut spool = open(&fs, 7);
    spool.append(batch(7, 1, 5), at(0));
    assert!(!spool.ack(ack(7, 6)));
    assert!(!spool.ack(ack(8, 1)));
    assert_eq!(spool.waiting(), 5);
}

#[test]
fn a_later_start_sends_what_is_left_with_its_own_stream_and_nothing_acknowledged() {
    let fs = SimFs::new(1);
    let mut first = open(&fs, 7);
    for n in 0..200 {
        first.append(batch(7, n * 5 + 1, 5), at(n));
    }
    assert!(segments(&fs).len() > 5);
    let mut sink = Sink::default();
    for _ in 0..100 {
        let batch = first.next(at(200)).unwrap();
        first.ack(sink.take(&batch));
    }
    first.tick(1_000, at(1_000));
    drop(first);
    let mut second = open(&fs, 8);
    assert_eq!(second.books().found, 500);
    assert_eq!(second.next(at(0)).unwrap().first_seq, 501);
    second.rewind();
    second.append(batch(8, 1, 3), at(1));
    deliver(&mut second, &mut sink, at(2));
    assert_eq!((sink.stored(7), sink.stored(8)), (1_000, 3));
    assert_eq!((sink.gap(7), sink.gap(8), sink.closings), (0, 0, 0));
    second.tick(3, at(1_000));
    assert!(balanced(&second));
    assert_eq!(segments(&fs).len(), 1, "the one being written");
}

#[test]
fn earlier_streams_and_the_present_one_are_sent_in_turn() {
    let fs = SimFs::new(1);
    let mut first = open(&fs, 7);
    for n in 0..20 {
        first.append(batch(7, n + 1, 1), at(0));
    }
    first.close(20, at(1));
    drop(first);
    let mut second = open(&fs, 8);
    for n in 0..3 {
        second.append(batch(8, n + 1, 1), at(0));
    }
    let order: Vec<u64> = std::iter::from_fn(|| Some(second.next(at(1))?.stream_id)).collect();
    assert_eq!(order[..7], [8, 7, 8, 7, 8, 7, 7]);
    assert_eq!(order.len(), WINDOW_BATCHES);
    second.append(batch(8, 4, 1), at(2));
    assert!(
        second.next(at(2)).is_none(),
        "no more under way than may be"
    );
    second.ack(ack(7, 1));
    assert_eq!(
        second.next(at(2)).unwrap().stream_id,
        8,
        "and then what is new goes first"
    );
}

#[test]
fn records_made_and_never_written_are_a_gap_at_the_end_of_their_stream() {
    let fs = SimFs::new(1);
    let mut first = open(&fs, 7);
    first.append(batch(7, 1, 10), at(0));
    // Four more were made and not sealed when the process was killed.
    first.tick(14, at(50));
    drop(first);
    let mut sink = Sink::default();
    let mut second = open(&fs, 8);
    assert_eq!(second.books().lost_before, 4);
    deliver(&mut second, &mut sink, at(0));
    assert_eq!((sink.stored(7), sink.gap(7), sink.closings), (10, 4, 1));
    second.tick(0, at(600));
    drop(second);
    let mut third = open(&fs, 9);
    deliver(&mut third, &mut sink, at(0));
    assert_eq!(sink.closings, 1, "told once");
}

#[test]
fn a_stop_with_everything_delivered_leaves_nothing_to_tell() {
    let fs = SimFs::new(1);
    let mut sink = Sink::default();
    let mut first = open(&fs, 7);
    first.append(batch(7, 1, 10), at(0));
    deliver(&mut first, &mut sink, at(1));
    first.close(10, at(2));
    drop(first);
    let mut second = open(&fs, 8);
    assert!(second.next(at(0)).is_none());
    assert_eq!(second.books().found + second.books().lost_before, 0);
}

#[test]
fn past_the_bound_the_oldest_segment_goes_and_its_records_are_counted_and_seen_as_a_gap() {
    const CAP: u64 = 10 * SMALL_SEGMENT;
    let fs = SimFs::new(1);
    let bounded = |stream_id| Settings {
        bytes_max: CAP,
        ..settings(stream_id)
    };
    let mut first = Spool::open(fs.clone(), bounded(7), at(0)).unwrap();
    let (mut written, mut records) = (0, 0);
    while written < 4 * CAP {
        let batch = batch(7, records + 1, 7);
        written += batch.payload.len() as u64;
        records += 7;
        first.append(batch, at(records));
        assert!(fs.bytes() <= CAP + SMALL_SEGMENT + 2 * state::SLOT_BYTES as u64);
        assert!(balanced(&first));
    }
    first.close(records, at(records));
    let lost = first.books().lost_full;
    assert!(lost > records / 2);
    drop(first);
    let mut sink = Sink::default();
    let mut second = Spool::open(fs.clone(), bounded(8), at(0)).unwrap();
    deliver(&mut second, &mut sink, at(0));
    assert_eq!((sink.stored(7), sink.gap(7)), (records - lost, lost));
}

#[test]
fn a_stream_that_went_whole_for_want_of_room_is_told_too() {
    let fs = SimFs::new(1);
    let bounded = |stream_id| Settings {
        bytes_max: 4 * SMALL_SEGMENT,
        ..settings(stream_id)
    };
    let mut first = Spool::open(fs.clone(), bounded(7), at(0)).unwrap();
    first.append(batch(7, 1, 10), at(0));
    first.close(10, at(1));
    drop(first);
    let mut second = Spool::open(fs.clone(), bounded(8), at(0)).unwrap();
    let mut records = 0;
    while second.books().lost_full == 0 {
        second.append(batch(8, records + 1, 5), at(0));
        records += 5;
    }
    assert_eq!(second.books().lost_full, 10);
    drop(second);
    let mut sink = Sink::default();
    let mut third = Spool::open(fs.clone(), bounded(9), at(0)).unwrap();
    deliver(&mut third, &mut sink, at(0));
    assert_eq!((sink.stored(7), sink.gap(7)), (0, 10));
    assert_eq!((sink.stored(8), sink.gap(8)), (records, 0));
}

#[test]
fn without_space_batches_wait_in_memory_are_sent_from_there_and_written_once_there_is_room() {
    let fs = SimFs::new(1);
    let mut spool = Spool::open(
        fs.clone(),
        Settings {
            memory: Limits {
                records_max: 30,
                bytes_max: 1 << 20,
            },
            ..settings(7)
        },
        at(0),
    )
    .unwrap();
    let mut sink = Sink::default();
    spool.append(batch(7, 1, 10), at(0));
    spool.tick(10, at(500));
    fs.set_room(Some(fs.bytes() + 100));
    for n in 1..4 {
        spool.append(batch(7, n * 10 + 1, 10), at(500 + n));
    }
    assert_eq!(spool.waiting_in_memory(), 30);
    assert!(spool.books().io_errors > 0);
    spool.append(batch(7, 41, 10), at(600));
    assert_eq!(spool.books().lost_memory, 10, "the oldest there goes");
    assert!(balanced(&spool));
    // Still full: tried again, alive, and sent from memory.
    spool.tick(50, at(5_000));
    assert_eq!(spool.waiting_in_memory(), 30);
    let sent = spool.next(at(5_000)).unwrap();
    spool.ack(sink.take(&sent));
    let sent = spool.next(at(5_000)).unwrap();
    assert_eq!(sent.first_seq, 21);
    spool.ack(sink.take(&sent));
    assert_eq!(spool.waiting_in_memory(), 20);
    // Room again.
    fs.set_room(None);
    spool.tick(50, at(10_000));
    assert_eq!(spool.waiting_in_memory(), 0);
    drop(spool);
    let mut next = open(&fs, 8);
    deliver(&mut next, &mut sink, at(0));
    assert_eq!((sink.stored(7), sink.gap(7)), (40, 10));
}

#[test]
fn a_full_disk_is_freed_by_acknowledgements_alone() {
    let fs = SimFs::new(1);
    let mut spool = open(&fs, 7);
    let mut records = 0;
    while segments(&fs).len() < 4 {
        spool.append(batch(7, records + 1, 5), at(0));
        records += 5;
    }
    fs.set_room(Some(fs.bytes()));
    let mut sink = Sink::default();
    deliver(&mut spool, &mut sink, at(1));
    spool.tick(records, at(600));
    assert_eq!(segments(&fs).len(), 1);
    assert_eq!(spool.books().io_errors, 0);
}

#[test]
fn it_starts_on_a_full_disk_and_goes_on_once_there_is_room() {
    let fs = SimFs::new(1);
    fs.set_room(Some(0));
    let mut spool = open(&fs, 7);
    spool.append(batch(7, 1, 5), at(0));
    assert_eq!(spool.waiting_in_memory(), 5);
    fs.set_room(None);
    spool.tick(5, at(2_000));
    assert_eq!(spool.waiting_in_memory(), 0);
    drop(spool);
    assert_eq!(open(&fs, 8).books().found, 5);
}

#[test]
fn a_segment_that_cannot_be_synced_takes_no_more() {
    let fs = SimFs::new(1);
    let mut spool = open(&fs, 7);
    spool.append(batch(7, 1, 5), at(0));
    fs.set_sync_fails(true);
    spool.tick(5, at(600));
    assert!(spool.books().io_errors > 0);
    fs.set_sync_fails(false);
    spool.append(batch(7, 6, 5), at(2_000));
    assert_eq!(segments(&fs).len(), 2);
    let mut sink = Sink::default();
    deliver(&mut spool, &mut sink, at(3_000));
    assert_eq!(sink.stored(7), 10);
}

#[test]
fn what_cannot_be_read_for_a_while_is_tried_again_and_given_up_in_the_end() {
    let fs = SimFs::new(1);
    let mut first = open(&fs, 7);
    first.append(batch(7, 1, 5), at(0));
    first.close(5, at(1));
    drop(first);
    let mut second = open(&fs, 8);
    fs.set_read_fails(true);
    let mut now_ms = 0;
    for _ in 0..3 {
        assert!(second.next(at(now_ms)).is_none());
        now_ms += RETRY_MS;
    }
    fs.set_read_fails(false);
    assert_eq!(second.next(at(now_ms)).unwrap().first_seq, 1);
    second.rewind();
    fs.set_read_fails(true);
    let closing = std::iter::repeat_with(|| {
        now_ms += RETRY_MS;
        second.next(at(now_ms))
    });
    let closing = closing.take(20).flatten().next().unwrap();
    assert_eq!((closing.first_seq, closing.count), (6, 1));
    assert_eq!(second.books().lost_damaged, 5);
    assert!(balanced(&second));
}

#[test]
fn a_batch_that_the_collector_refuses_over_and_over_does_not_hold_up_the_others() {
    let fs = SimFs::new(1);
    let mut first = open(&fs, 7);
    for n in 0..3 {
        first.append(batch(7, n * 5 + 1, 5), at(0));
    }
    first.close(15, at(1));
    drop(first);
    let mut spool = open(&fs, 8);
    let mut sink = Sink::default();
    // The second batch of the earlier stream is refused each time.
    let mut connections = 0;
    while spool.waiting() > 0 {
        connections += 1;
        assert!(connections < 10);
        spool.rewind();
        while let Some(batch) = spool.next(at(2)) {
            if batch.first_seq == 6 {
                spool.refused();
                break;
            }
            spool.ack(sink.take(&batch));
        }
    }
    assert_eq!(connections, 1 + REFUSALS_MAX);
    assert_eq!(spool.books().lost_refused, 5);
    assert_eq!((sink.stored(7), sink.gap(7)), (10, 5));
    assert!(balanced(&spool));
}

#[test]
fn a_foreign_file_is_left_a_bad_segment_is_set_aside_and_a_newer_one_refused() {
    let fs = SimFs::new(1);
    fs.plant("notes.txt", b"mine".to_vec());
    for number in 1..=5 {
        fs.plant(&segment_name(number), vec![0x55; 1_000]);
    }
    let mut spool = open(&fs, 7);
    assert_eq!(spool.books().set_aside, 5);
    assert_eq!(segments(&fs), []);
    let names = fs.list().unwrap();
    let bad = names
        .iter()
        .filter(|(name, _)| name.ends_with(".bad"))
        .count();
    assert_eq!(bad, BAD_KEPT_MAX);
    assert!(names.iter().any(|(name, _)| name == "notes.txt"));
    spool.append(batch(7, 1, 5), at(0));
    drop(spool);

    let mut newer = frame::SegmentHeader {
        number: 99,
        stream_id: 1,
        made_unix_ns: 0,
        sensor: "sensor".into(),
    }
    .encode();
    newer[8] = 2;
    frame::seal(&mut newer);
    fs.plant(&segment_name(99), newer.to_vec());
    let refused = Spool::open(fs.clone(), settings(8), at(0)).err().unwrap();
    assert!(
        refused.to_string().contains("made by a newer netml"),
        "{refused}"
    );
}

#[test]
fn the_spool_of_another_sensor_is_refused() {
    let fs = SimFs::new(1);
    open(&fs, 7).append(batch(7, 1, 5), at(0));
    let other = Settings {
        sensor: "other".into(),
        ..settings(8)
    };
    let refused = Spool::open(fs, other, at(0)).err().unwrap();
    assert!(refused.to_string().contains("--sensor sensor"), "{refused}");
}

#[test]
fn more_streams_than_the_state_holds_are_delivered_all_the_same() {
    let fs = SimFs::new(1);
    let starts = state::STREAMS_MAX as u64 + 20;
    for stream_id in 1..=starts {
        let mut spool = open(&fs, stream_id);
        spool.append(batch(stream_id, 1, 5), at(0));
        // Two more made, not written, and then killed.
        spool.tick(7, at(600));
    }
    let mut sink = Sink::default();
    let mut last = open(&fs, starts + 1);
    deliver(&mut last, &mut sink, at(0));
    for stream_id in 1..=starts {
        assert_eq!(sink.stored(stream_id), 5);
    }
    let told: u64 = sink.gaps.values().sum();
    assert!(told >= 2 * (state::STREAMS_MAX as u64 - 1), "{told}");
    assert!(told <= 2 * starts);
}

#[test]
fn a_directory_has_one_holder_and_its_files_are_for_the_user_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a").join("spool");
    let held = Directory::lock(&path).unwrap();
    let refused = Directory::lock(&path).unwrap_err();
    assert!(matches!(refused, DirectoryError::InUse { .. }), "{refused}");
    assert!(Directory::look(&path).unwrap().1, "seen as held");
    let mut spool = Spool::open(held, settings(7), at(0)).unwrap();
    spool.append(batch(7, 1, 5), at(0));
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{entry:?}");
    }
    drop(spool);
    let again = Spool::open(Directory::lock(&path).unwrap(), settings(8), at(0)).unwrap();
    assert_eq!(again.books().found, 5);
}

/// One life of a sensor on a disk that may lose power; numbers known to be safe are noted.
struct Life<'a> {
    fs: &'a SimFs,
    random: &'a mut u64,
    sink: &'a mut Sink,
    /// By stream: written and synced up to, known to be made up to.
    safe: &'a mut BTreeMap<u64, (u64, u64)>,
}

impl Life<'_> {
    fn run(&mut self, stream_id: u64, steps: u64) {
        let Ok(mut spool) = Spool::open(self.fs.clone(), settings(stream_id), at(0)) else {
            assert!(self.fs.is_off(), "only the power ends it");
            return;
        };
        let (mut next, mut now_ms, mut made) = (1, 0, 0);
        for _ in 0..steps {
            match below(self.random, 8) {
                0..=3 => {
                    let count = 1 + below(self.random, 12) as u32;
                    spool.append(batch(stream_id, next, count), at(now_ms));
                    next += u64::from(count);
                    made = next - 1 + below(self.random, 5);
                    // The numbers of what is still open are given again to the next batch.
                    made = made.max(next - 1);
                }
                4 | 5 => {
                    for _ in 0..below(self.random, 6) {
                        let Some(batch) = spool.next(at(now_ms)) else {
                            break;
                        };
                        let answer = self.sink.take(&batch);
                        if below(self.random, 8) > 0 {
                            spool.ack(answer);
                        }
                    }
                }
                6 => spool.rewind(),
                _ => {}
            }
            now_ms += below(self.random, 200);
            spool.tick(made, at(now_ms));
            if self.fs.is_off() {
                return;
            }
            assert!(balanced(&spool));
            if spool.is_synced() {
                self.safe.insert(stream_id, (next - 1, made));
            }
        }
    }
}

/// Tells the seed of a test that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

/// 1,000 seeds, 5 times as many with `NETML_LONG`.
fn seeds() -> impl Iterator<Item = u64> {
    let is_long = std::env::var_os("NETML_LONG").is_some();
    1..=if is_long { 5_000 } else { 1_000 }
}

/// A power cut at any change, over and over, then a last start that delivers everything.
#[test]
fn a_power_cut_at_any_write_loses_nothing_that_was_synced_and_doubles_nothing() {
    for seed in seeds() {
        let _told = Seed(seed);
        let fs = SimFs::new(seed);
        let mut random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
        let mut sink = Sink::default();
        let mut safe = BTreeMap::new();
        let lives = 2 + below(&mut random, 4);
        for life in 1..=lives {
            fs.cut_power_after(below(&mut random, 150));
            let mut life_of = Life {
                fs: &fs,
                random: &mut random,
                sink: &mut sink,
                safe: &mut safe,
            };
            life_of.run(life, 200);
            fs.power_on();
        }
        let mut last = open(&fs, 1_000);
        deliver(&mut last, &mut sink, at(0));
        last.tick(0, at(600));
        assert_eq!(last.waiting(), 0, "seed {seed}");
        assert!(balanced(&last), "seed {seed}");
        for (stream_id, (written, made)) in &safe {
            let watermark = sink.watermarks.get(stream_id).copied().unwrap_or(0);
            assert!(
                sink.stored(*stream_id) >= *written,
                "seed {seed}: stream {stream_id} stored {} of {written} that were synced",
                sink.stored(*stream_id)
            );
            assert!(
                watermark >= *made,
                "seed {seed}: stream {stream_id} is known up to {watermark}, made up to {made}"
            );
        }
    }
}

/// Changes one bit or cuts a file, anywhere.
#[test]
fn a_flip_or_a_cut_costs_at_most_the_batches_it_touches() {
    const BATCHES: u64 = 40;
    for seed in seeds() {
        let _told = Seed(seed);
        let fs = SimFs::new(seed);
        let mut random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
        let mut first = open(&fs, 7);
        let mut next = 1;
        // Place of each batch: file, offset, first behind it.
        let mut places = Vec::new();
        for _ in 0..BATCHES {
            let count = 1 + below(&mut random, 9) as u32;
            let batch = batch(7, next, count);
            let bytes = frame::FRAME_HEADER_BYTES as u64 + batch.payload.len() as u64;
            first.append(batch, at(0));
            let (name, end) = segments(&fs).pop().unwrap();
            places.push((name, end - bytes, end, count));
            next += u64::from(count);
        }
        first.close(next - 1, at(1_000));
        drop(first);
        let mut files = fs.list().unwrap();
        files.retain(|(_, bytes)| *bytes > 0);
        let (name, bytes) = files[below(&mut random, files.len() as u64) as usize].clone();
        let place = below(&mut random, bytes);
        let is_cut = below(&mut random, 3) == 0;
        fs.tamper(&name, |file| {
            if is_cut {
                file.truncate(place as usize);
            } else {
                file[place as usize] ^= 1 << below(&mut random, 8);
            }
        });
        let touched: u64 = places
            .iter()
            .filter(|(file, _, end, _)| *file == name && *end > place)
            .filter(|(_, start, _, _)| is_cut || *start <= place)
            .map(|(_, _, _, count)| u64::from(*count))
            .sum();
        let mut sink = Sink::default();
        let mut second = open(&fs, 8);
        deliver(&mut second, &mut sink, at(0));
        let told = format!(
            "seed {seed}: {name} at {place}, cut: {is_cut}, {:?}",
            second.books()
        );
        assert_eq!(sink.stored(7), next - 1 - touched, "{told}");
        assert_eq!(sink.gap(7), touched, "{told}");
        assert!(balanced(&second), "{told}");
        second.tick(0, at(600));
        assert_eq!(segments(&fs), [], "{told}");
    }
}

/// Bytes of any kind in the place of files.
#[test]
fn no_bytes_panic() {
    for seed in 1..=300 {
        let _told = Seed(seed);
        let fs = SimFs::new(seed);
        let mut random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
        for number in 1..=3 {
            let mut bytes = Vec::new();
            for _ in 0..below(&mut random, 6) {
                match below(&mut random, 4) {
                    0 => bytes.extend((0..below(&mut random, 300)).map(|n| (n * seed) as u8)),
                    1 => bytes.extend([0; 128]),
                    2 => bytes.extend(
                        frame::SegmentHeader {
                            number,
                            stream_id: number,
                            made_unix_ns: 0,
                            sensor: "sensor".into(),
                        }
                        .encode(),
                    ),
                    _ => {
                        // Numbers of any order, whole and with the wrong payload.
                        let batch = batch(7, 1 + below(&mut random, u64::MAX / 4096), 2);
                        bytes.extend(frame::FrameHeader::of(&batch).unwrap().encode());
                        let kept = batch.payload.len() - below(&mut random, 2) as usize;
                        bytes.extend(&batch.payload[..kept]);
                    }
                }
            }
            fs.plant(&segment_name(number), bytes);
        }
        let mut spool = open(&fs, 8);
        for _ in 0..100 {
            let Some(batch) = spool.next(at(0)) else {
                break;
            };
            spool.ack(ack(
                batch.stream_id,
                batch.first_seq + u64::from(batch.count) - 1,
            ));
        }
        spool.tick(0, at(600));
        assert!(
            balanced(&spool),
            "seed {seed}: {:?} {}",
            spool.books(),
            spool.waiting()
        );
    }
}

proptest! {
    #[test]
    fn books_balance_through_any_sequence(
        steps in prop::collection::vec((0u8..10, 0u64..40), 0..80)
    ) {
        let fs = SimFs::new(1);
        let mut spool = Spool::open(
            fs.clone(),
            Settings {
                bytes_max: 5 * SMALL_SEGMENT,
                memory: Limits { records_max: 60, bytes_max: 1 << 20 },
                ..settings(1)
            },
            at(0),
        ).unwrap();
        let mut sink = Sink::default();
        let (mut stream_id, mut next, mut now_ms) = (1, 1, 0);
        for (step, value) in steps {
            now_ms += value * 20;
            match step {
                0..=3 => {
                    let count = 1 + value as u32;
                    spool.append(batch(stream_id, next, count), at(now_ms));
                    next += u64::from(count);
                }
                4 | 5 => {
                    for _ in 0..value {
                        let Some(batch) = spool.next(at(now_ms)) else { break };
                        let answer = sink.take(&batch);
                        if value % 3 > 0 {
                            spool.ack(answer);
                        }
                    }
                }
                6 => spool.rewind(),
                7 => fs.set_room((value % 2 == 0).then(|| fs.bytes() + value * 100)),
                8 => {
                    stream_id += 1;
                    next = 1;
                    drop(spool);
                    spool = Spool::open(fs.clone(), settings(stream_id), at(now_ms)).unwrap();
                }
                _ => spool.tick(next - 1, at(now_ms)),
            }
            prop_assert!(balanced(&spool), "{:?} {}", spool.books(), spool.waiting());
        }
        fs.set_room(None);
        for _ in 0..3 {
            now_ms += 2_000;
            spool.tick(next - 1, at(now_ms));
            spool.rewind();
            deliver(&mut spool, &mut sink, at(now_ms));
        }
        prop_assert_eq!(spool.waiting(), 0);
    }
}

#[test]
fn a_look_tells_frames_records_and_damage_by_its_place_and_a_repair_cuts_and_sets_aside() {
    let fs = SimFs::new(1);
    let mut spool = open(&fs, 7);
    let mut ends = vec![frame::SEGMENT_HEADER_BYTES as u64];
    for n in 0..4 {
        spool.append(batch(7, n * 5 + 1, 5), at(0));
        ends.push(segments(&fs)[0].1);
    }
    spool.ack(ack(7, 5));
    spool.tick(20, at(600));
    drop(spool);
    fs.plant(&segment_name(0), vec![0x55; 500]);
    let first = segment_name(1);
    // The second batch is damaged, the last one torn.
    fs.tamper(&first, |file| {
        file[ends[1] as usize + 60] ^= 1;
        file.truncate(ends[4] as usize - 1);
    });
    let mut records = 0;
    let report = inspect::look(&fs, |_, batch| {
        records += batch.count;
        Ok(())
    })
    .unwrap();
    assert_eq!(records, 10);
    assert!(report.is_damaged());
    let bad = &report.segments[0];
    assert_eq!((bad.number, bad.frames), (0, 0));
    let good = &report.segments[1];
    assert_eq!(good.frames, 2);
    let part = good.streams[&7];
    assert_eq!((part.first_seq, part.last_seq), (1, 15));
    assert_eq!((part.records, part.unacked), (10, 5));
    let damage: Vec<_> = good.damage.iter().map(|d| (d.offset, d.what)).collect();
    assert_eq!(
        damage,
        [
            (ends[1], inspect::What::Payload(5)),
            (ends[3], inspect::What::TornTail)
        ]
    );
    let mended = inspect::repair(&fs, &report).unwrap();
    assert_eq!(
        mended,
        [
            inspect::Mended::SetAside(0, 500),
            inspect::Mended::Cut(1, ends[3], ends[4] - 1 - ends[3]),
            inspect::Mended::Left(1),
        ]
    );
    let again = inspect::look(&fs, |_, _| Ok(())).unwrap();
    assert_eq!(again.segments.len(), 1);
    assert_eq!(again.segments[0].damage.len(), 1);
    assert_eq!(again.aside, [(bad_name(0), 500)]);
}
