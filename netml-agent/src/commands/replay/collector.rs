//! Replay to a collector: a thread plays, the client's task sends; the file waits for both.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use netml_common::{Direction, InterfaceCounters, LossReason, ProtocolClass};
use netml_proto::daemon::usage::Meter;
use netml_proto::v1;
use tokio::signal::unix::{SignalKind, signal};

use super::ndjson::conclude;
use super::player::{Listener, Pacer, Wait, play};
use super::{Args, FileBooks, Speed};
use crate::capture_file::{Item, Reading};
use crate::commands::{events, identity};
use crate::diagnose::{Accept, Runner};
use crate::engine::{FlowReport, FlowState, JudgedPacket, Settings, Sink};
use crate::export::batcher::Limits;
use crate::export::client::ExportState;
use crate::export::convert::{self, Context};
use crate::export::outbox::WhenFull;
use crate::export::sampler::{SAMPLES_PER_SECOND, Sampler};
use crate::export::{Client, Exporter, Outbox, Pace, Transport, Watched};
use crate::model::Model;
use crate::sys;

/// Mode of both directions in the hello.
const MODE: &str = "replay";

/// How often samples are chosen and handed over.
const TICK_NS: u64 = 50_000_000;

/// How often totals and health are told.
const REPORT_NS: u64 = 1_000_000_000;

/// Replays to the collector at `url`.
pub(super) fn run(args: &Args, url: &str) -> anyhow::Result<()> {
    let transport = identity::transport(url, args.identity.as_deref())?;
    let sensor = identity::known_as(&transport, args.sensor.as_deref())?;
    let model = args.model.load()?;
    let interface = interface_name(&args.files);
    let runner = Runner::new(vec![Accept::Traceroute, Accept::Probe]);
    let hello = identity::hello(
        sensor,
        args.source.into(),
        vec![v1::Interface {
            slot: 0,
            ifindex: 0,
            name: interface.clone(),
            ingress_mode: MODE.into(),
            egress_mode: MODE.into(),
            aggregated_totals: false,
        }],
        model.as_deref(),
        runner.accepted(),
    )?;
    let seed = hello.stream_id;
    let client = Client {
        transports: vec![transport],
        pace: Pace::default(),
        hello,
        context: Context {
            model: model.clone(),
            // Interfaces of a pcapng file are shown as the one file.
            interfaces: Watched::of_names(vec![
                interface.clone();
                netml_common::INTERFACES_MAX as usize
            ]),
        },
        limits: Limits::default(),
        spool: None,
        when_full: WhenFull::Wait,
        runner,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        tokio::spawn(Transport::keep_renewed(client.transports.clone()));
        let exporter = Exporter::start(client);
        let stop = Arc::new(AtomicBool::new(false));
        let sampler = Sampler::new(SAMPLES_PER_SECOND, seed);
        let playlist = Playlist {
            files: args.files.clone(),
            speed: args.speed.unwrap_or(Speed::Original),
            reading: args.reading.reading(),
            repeat: args.repeat,
            model,
            interface,
            attach_id: identity::random()?,
            outbox: Outbox::new(exporter.sender(), WhenFull::Wait, sampler),
            export: exporter.state(),
            stop: Arc::clone(&stop),
        };
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot take signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot take signals")?;
        let mut played = tokio::task::spawn_blocking(move || playlist.run());
        let failed = tokio::select! {
            failed = &mut played => failed,
            _ = interrupt.recv() => { stop.store(true, Ordering::Release); played.await }
            _ = terminate.recv() => { stop.store(true, Ordering::Release); played.await }
        }
        .context("the player died")?;
        let delivered = tokio::select! {
            delivered = exporter.finish() => delivered.context("the client died")?,
            _ = interrupt.recv() => bail!("interrupted before everything was delivered"),
            _ = terminate.recv() => bail!("ended before everything was delivered"),
        };
        let books = delivered.books;
        eprintln!(
            "  export:  {} records = {} acknowledged + {} backlog-full + {} undelivered",
            books.records_in, books.acked, books.lost, delivered.undelivered
        );
        if delivered.undelivered > 0 || books.lost > 0 {
            bail!(
                "{} records did not reach the collector at {url}{}; start it with `netml-collector serve`",
                delivered.undelivered + books.lost,
                delivered
                    .last_error
                    .map_or_else(String::new, |error| format!(" ({error})"))
            );
        }
        if failed > 0 {
            bail!("{failed} captures could not be replayed in full");
        }
        Ok(())
    })
}

/// Name of the first file, without its folder.
fn interface_name(files: &[PathBuf]) -> String {
    let name = files.first().and_then(|file| file.file_name());
    name.map_or_else(
        || "capture".to_owned(),
        |name| name.to_string_lossy().chars().take(64).collect(),
    )
}

/// What the playing thread owns.
struct Playlist {
    files: Vec<PathBuf>,
    speed: Speed,
    reading: Reading,
    repeat: bool,
    model: Option<Arc<Model>>,
    interface: String,
    attach_id: u64,
    outbox: Outbox,
    export: Arc<ExportState>,
    stop: Arc<AtomicBool>,
}

impl Playlist {
    /// Plays all files; returns how many could not be played in full.
    fn run(self) -> usize {
        let Self {
            files,
            speed,
            reading,
            repeat,
            model,
            interface,
            attach_id,
            mut outbox,
            export,
            stop,
        } = self;
        for record in events::started(sys::unix_ns(), model.as_deref()) {
            outbox.record(record);
        }
        let mut teller = Teller {
            interface,
            attach_id,
            outbox,
            export,
            stop,
            totals: [InterfaceCounters::ZERO; 2],
            refused: 0,
            books: FileBooks::default(),
            pacer: Pacer::new(speed),
            unix_offset_ns: None,
            ticked_ns: 0,
            reported_ns: 0,
            meter: Meter::default(),
        };
        let mut failed = 0;
        loop {
            for file in &files {
                if teller.stopped() {
                    break;
                }
                if let Err(error) = play_one(file, speed, reading, model.as_ref(), &mut teller) {
                    failed += 1;
                    eprintln!("error: {}", crate::commands::in_one_line(&error));
                }
            }
            // A list of which nothing can be played is not tried for ever.
            if !repeat || teller.stopped() || failed >= files.len() {
                break;
            }
        }
        teller.report(sys::monotonic_ns());
        teller.outbox.record(events::stopped(sys::unix_ns()));
        teller.outbox.flush(sys::monotonic_ns());
        failed
    }
}

fn play_one(
    file: &Path,
    speed: Speed,
    reading: Reading,
    model: Option<&Arc<Model>>,
    teller: &mut Teller,
) -> anyhow::Result<()> {
    teller.begin_file(speed)?;
    let played = play(file, model.cloned(), reading, teller)?;
    teller.outbox.flush(sys::monotonic_ns());
    let mut books = teller.books;
    books.capture = played.capture;
    books.engine = played.engine;
    let name = file.display().to_string();
    conclude(&name, model.map(Arc::as_ref), &books, played)
}

/// The engine's sink and the keeper of the pace and of the totals.
struct Teller {
    interface: String,
    attach_id: u64,
    outbox: Outbox,
    export: Arc<ExportState>,
    stop: Arc<AtomicBool>,
    /// Ingress and egress, since the start.
    totals: [InterfaceCounters; 2],
    /// Packets of an unread link type or cut by the capture: no reason of the kernel's.
    refused: u64,
    books: FileBooks,
    pacer: Pacer,
    /// `None`: the next packet's time is now.
    unix_offset_ns: Option<i64>,
    ticked_ns: u64,
    reported_ns: u64,
    meter: Meter,
}

impl Teller {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn begin_file(&mut self, speed: Speed) -> anyhow::Result<()> {
        self.outbox.set_flow_id_base(identity::flow_id_base()?);
        self.books = FileBooks::default();
        self.pacer = Pacer::new(speed);
        self.unix_offset_ns = None;
        Ok(())
    }

    fn tick(&mut self) {
        let now_ns = sys::monotonic_ns();
        if now_ns.saturating_sub(self.ticked_ns) >= TICK_NS {
            self.ticked_ns = now_ns;
            self.outbox.tick(now_ns);
        }
        if now_ns.saturating_sub(self.reported_ns) >= REPORT_NS {
            self.report(now_ns);
        }
    }

    /// Totals and health.
    fn report(&mut self, now_ns: u64) {
        self.reported_ns = now_ns;
        let unix_ns = sys::unix_ns();
        for direction in [Direction::Ingress, Direction::Egress] {
            let mut record = convert::counters(
                unix_ns,
                0,
                &self.interface,
                direction,
                self.attach_id,
                &self.totals[direction as usize],
            );
            if let Some(v1::record::Record::Counters(counters)) = &mut record.record
                && direction == Direction::Ingress
                && self.refused > 0
            {
                let name = LossReason::CaptureRefused.name().to_owned();
                counters.lost.insert(name, self.refused);
            }
            self.outbox.record(record);
        }
        let health = self.health(unix_ns, now_ns);
        self.outbox.record(health);
    }

    fn health(&mut self, unix_ns: u64, now_ns: u64) -> v1::Record {
        let usage = self.meter.usage(now_ns);
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let outbox = self.outbox.books();
        let frames = self.totals.iter().map(|totals| totals.frames).sum();
        let recorded = self.totals.iter().map(|totals| totals.recorded).sum();
        let books = [
            ("kernel_frames", frames),
            ("kernel_recorded", recorded),
            ("packets_seen", read(&outbox.packets)),
            ("packets_sampled", read(&outbox.sampled)),
            ("sample-budget", read(&outbox.left_out)),
            ("observations", read(&outbox.observations)),
            ("observations_lost", read(&outbox.lost)),
            ("export_in", read(&self.export.records_in)),
            ("export_acked", read(&self.export.acked)),
            ("backlog-full", read(&self.export.lost)),
        ];
        v1::Record {
            record: Some(v1::record::Record::Health(v1::Health {
                unix_ns,
                resident_bytes: usage.resident_bytes,
                cpu_share: usage.cpu_share,
                flows_max: Settings::default().flows_max as u64,
                backlog_records: read(&self.export.waiting),
                books: books
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
                ..Default::default()
            })),
        }
    }
}

impl Listener for Teller {
    fn before_packet(&mut self, mono_ns: u64) -> Wait {
        if self.stopped() {
            return Wait::Stop;
        }
        if self.unix_offset_ns.is_none() {
            let offset = i128::from(sys::unix_ns()) - i128::from(mono_ns);
            let offset = i64::try_from(offset).unwrap_or(0);
            self.unix_offset_ns = Some(offset);
            self.outbox.set_unix_offset_ns(offset);
        }
        self.tick();
        self.pacer.wait(mono_ns)
    }

    fn outcome(&mut self, item: &Item) {
        let (direction, class, packets, bytes) = match item {
            Item::Packet(record) => (
                record.direction(),
                ProtocolClass::of_ip_protocol(record.ip_protocol),
                u64::from(record.segments),
                record.wire_bytes,
            ),
            Item::Lost(reason, bytes) => (Direction::Ingress, reason.protocol_class(), 1, *bytes),
        };
        let totals = &mut self.totals[direction as usize];
        totals.frames += 1;
        totals.packets += packets;
        totals.bytes += u64::from(bytes);
        totals.protocol_packets[class.index()] += packets;
        totals.protocol_bytes[class.index()] += u64::from(bytes);
        match item {
            Item::Packet(_) => totals.recorded += 1,
            Item::Lost(reason, _) => match totals.lost.get_mut(reason.index()) {
                Some(lost) => *lost += 1,
                None => self.refused += 1,
            },
        }
    }

    fn cut(&mut self) {
        self.outbox.flush(sys::monotonic_ns());
        self.unix_offset_ns = None;
    }
}

impl Sink for Teller {
    fn flow(&mut self, report: &FlowReport) {
        if matches!(report.state, FlowState::End(_)) {
            self.books.flow_ended(
                report.fwd_packets + report.rev_packets,
                report.verdict.verdict,
            );
        }
        self.outbox.flow(report);
    }

    fn packet(&mut self, packet: &JudgedPacket) {
        self.books.packets_judged += 1;
        self.outbox.packet(packet);
    }
}
