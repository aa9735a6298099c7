//! `run`: the live sensor. Kernel programs, ring reader, engine, collector.
//!
//! Three parties: the reader's thread (ring → engine → sinks, never waiting for anyone), this
//! thread (totals, health, signals, and the client's task), and where asked for a printer. At stop:
//! detach, drain the ring, finish the flows, flush, print the books. Who asks how it fares, by HTTP or as
//! service manager, is answered on this thread.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::events::ModelChange;
use super::identity::{self, SourceArg};
use super::{Misuse, ModelArgs, TunnelArgs};
use crate::diagnose::{Accept, Runner};
use crate::engine::{Engine, Settings};
use crate::export::batcher::Limits;
use crate::export::convert::Context;
use crate::export::outbox::{CHUNKS_MAX, WhenFull};
use crate::export::sampler::{SAMPLES_PER_SECOND, Sampler};
use crate::export::spooler::Spooler;
use crate::export::{Client, Delivered, Exporter, Outbox, Pace, Transport, Watched};
use crate::health::Observed;
use crate::health::endpoint::{Endpoint, EndpointError};
use crate::model::Model;
use crate::probe::{
    CaptureMode, FlowMaps, Probe, ProbeError, ProbeSettings, RING_BYTES_DEFAULT, RingReader, TcMode,
};
use crate::spool::fs::Directory;
use crate::spool::{self, Moment, Spool};
use crate::sys;

mod books;
mod links;
mod model_file;
mod printer;
mod reader;
mod service;
mod totals;

use links::Links;
use model_file::{Look, ModelFile};
use reader::{Hindrance, LiveState, Reader, Sinks};
use service::Service;
use totals::Reporter;
use totals::snapshot::{Observing, add_stages};

/// Totals and health are told this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Time the reader may take to drain the ring and finish its flows.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Interface to watch, or a pattern ('veth*'; '!veth*' leaves out), may be repeated; default:
    /// those with a default route
    #[arg(long, value_name = "NAME")]
    pub interface: Vec<String>,
    /// Watch all interfaces but the loopback
    #[arg(long)]
    pub all: bool,
    /// Network namespace of the interfaces: a name of `ip netns`, or a path
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// Where the collector takes sensors; may be repeated: the first is preferred, the others are for
    /// when it takes nothing
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub collector: Vec<String>,
    /// File that `enroll` made, for a collector on another host; one for all, or one for each collector
    #[arg(long, value_name = "FILE")]
    pub identity: Vec<PathBuf>,
    /// Tell no collector
    #[arg(long, conflicts_with_all = ["collector", "identity"])]
    pub no_collector: bool,
    /// Keep what no collector has stored yet in this directory, over restarts too; without it, in
    /// memory only
    #[arg(long, value_name = "DIR", conflicts_with = "no_collector")]
    pub spool: Option<PathBuf>,
    /// Bytes that the spool may take; past them the oldest records go and are counted
    #[arg(
        long,
        value_name = "N",
        requires = "spool",
        default_value_t = spool::BYTES_DEFAULT,
        value_parser = clap::value_parser!(u64).range(spool::BYTES_MIN..)
    )]
    pub spool_max_bytes: u64,
    /// Print a line for each ended flow, and at once for what is not NORMAL
    #[arg(long)]
    pub print: bool,
    /// Print a line for each packet too, up to 500 a second
    #[arg(long, requires = "print")]
    pub print_packets: bool,
    /// Which model judges.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Take a model that did worse than the one it is to replace, or was not compared with it
    #[arg(long)]
    pub accept_worse_model: bool,
    /// Name of this sensor; default: the host's
    #[arg(long, value_name = "NAME")]
    pub sensor: Option<String>,
    /// How to see what is received
    #[arg(long, value_enum, default_value = "auto")]
    pub capture: CaptureArg,
    /// How to attach TC programs
    #[arg(long, value_enum, default_value = "auto")]
    pub tc: TcArg,
    /// Size of the ring between kernel and sensor, a power of two
    #[arg(long, value_name = "N", default_value_t = RING_BYTES_DEFAULT)]
    pub ring_bytes: u32,
    /// What a packet inside another is.
    #[command(flatten)]
    pub tunnels: TunnelArgs,
    /// Commands run for the collector, comma-separated
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "traceroute,probe"
    )]
    pub accept_command: Vec<AcceptArg>,
    /// Answer /metrics (Prometheus), /healthz and /readyz there
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// Allow --metrics-listen an address that other hosts reach: they read it, in plain text
    #[arg(long, requires = "metrics_listen")]
    pub metrics_remote: bool,
    /// What the packets are, for the project's own tools.
    #[arg(long, value_enum, default_value = "live", hide = true)]
    pub source: SourceArg,
    /// A test setting: microseconds the reader rests after each batch of at most 4,096 records.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub test_reader_delay_us: u64,
    /// A test setting: seconds the reader rests once, after the first records.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub test_reader_pause_s: u64,
}

/// See [`CaptureMode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CaptureArg {
    /// Native XDP, else TC ingress
    Auto,
    /// Native XDP or nothing
    Native,
    /// TC ingress
    Tc,
    /// Generic XDP: totals are those of aggregated packets
    Generic,
}

/// See [`TcMode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TcArg {
    /// TCX, else clsact filters
    Auto,
    /// TCX (Linux 6.6) or nothing
    Tcx,
    /// clsact filters
    Clsact,
}

/// A command to accept, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AcceptArg {
    /// Path to a target
    Traceroute,
    /// Latency, jitter and loss to a target
    Probe,
    /// Nothing
    None,
}

impl Args {
    fn probe_settings(&self) -> ProbeSettings {
        ProbeSettings {
            interfaces: self.interface.clone(),
            all: self.all,
            netns: self.netns.clone(),
            capture: match self.capture {
                CaptureArg::Auto => CaptureMode::Auto,
                CaptureArg::Native => CaptureMode::Native,
                CaptureArg::Tc => CaptureMode::Tc,
                CaptureArg::Generic => CaptureMode::Generic,
            },
            tc: match self.tc {
                TcArg::Auto => TcMode::Auto,
                TcArg::Tcx => TcMode::Tcx,
                TcArg::Clsact => TcMode::Clsact,
            },
            ring_bytes: self.ring_bytes,
            decapsulate: self.tunnels.decapsulate(),
            ..ProbeSettings::default()
        }
    }

    fn runner(&self) -> Runner {
        let accepted = self.accept_command.iter().filter_map(|given| match given {
            AcceptArg::Traceroute => Some(Accept::Traceroute),
            AcceptArg::Probe => Some(Accept::Probe),
            AcceptArg::None => None,
        });
        Runner::new(accepted.collect())
    }

    /// Identity of the settings, for telling runs apart.
    fn digest(&self) -> String {
        let digest = Sha256::digest(format!("{self:?}"));
        digest[..6].iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// Runs the sensor until it is told to stop.
///
/// # Errors
/// Where the model, the collector's URL or the probe cannot be used, the ring cannot be read, or
/// the books do not balance at the end.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let transports = identity::transports(&args.collector, &args.identity)?;
    let preferred = transports.first().context("no collector is named")?;
    let sensor = identity::known_as(preferred, args.sensor.as_deref())?;
    let model_file = args.model.model.as_deref();
    let model_file = model_file.map(|path| ModelFile::new(path, args.accept_worse_model));
    let model = args.model.load()?;
    if let Some(model) = model.as_ref().filter(|_| !args.accept_worse_model) {
        model.check_standing()?;
    }
    let flow_id_base = identity::flow_id_base()?;
    let stream_id = identity::random()?;
    let endpoint = endpoint(args)?;
    // Before the first packet: a large spool takes its time to be looked through.
    let spool = open_spool(args, &sensor, stream_id)?;
    let (mut probe, ring) = Probe::attach(&args.probe_settings()).map_err(probe_error)?;
    let maps = probe
        .take_flow_maps()
        .ok_or_else(|| anyhow!("the flow maps have another reader"))?;
    let interfaces = links::on_the_wire(&probe);
    let watched = Watched::default();
    watched.set(interfaces.clone());
    say_started(args, &sensor, &probe, model.as_deref());
    let observed = Arc::new(Observed::default());
    let observing = Observing {
        observed: Arc::clone(&observed),
        sensor: sensor.clone(),
        kernel: identity::kernel(),
        collectors: args.collector.clone(),
        spool_max_bytes: args.spool_max_bytes,
    };
    let runner = args.runner();
    let mut hello = identity::hello(
        sensor,
        args.source.into(),
        interfaces,
        model.as_deref(),
        runner.accepted(),
    )?;
    hello.stream_id = stream_id;
    let context = Context {
        model: model.clone(),
        interfaces: watched,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let session = Session {
        probe,
        ring,
        maps,
        hindrance: Hindrance {
            delay: Duration::from_micros(args.test_reader_delay_us),
            pause: Duration::from_secs(args.test_reader_pause_s),
        },
        model,
        model_file,
        context: context.clone(),
        flow_id_base,
        seed: hello.stream_id,
        print: args.print,
        print_packets: args.print_packets,
        endpoint,
        service: Service::of_environment(observed),
        observing,
        client: (!args.no_collector).then_some(Client {
            transports,
            pace: Pace::default(),
            hello,
            context,
            limits: Limits::default(),
            spool,
            when_full: WhenFull::Drop,
            runner,
        }),
    };
    runtime.block_on(session.run())
}

/// The address asked for, where metrics will be told.
fn endpoint(args: &Args) -> anyhow::Result<Option<Endpoint>> {
    let Some(address) = args.metrics_listen else {
        return Ok(None);
    };
    match Endpoint::bind(address, args.metrics_remote) {
        Ok(endpoint) => Ok(Some(endpoint)),
        Err(error @ EndpointError::NotLoopback(_)) => Err(anyhow!(Misuse(error.to_string()))),
        Err(error) => Err(error.into()),
    }
}

/// The spool asked for, on its thread.
fn open_spool(args: &Args, sensor: &str, stream_id: u64) -> anyhow::Result<Option<Spooler>> {
    let Some(path) = &args.spool else {
        return Ok(None);
    };
    let settings = spool::Settings::new(sensor.to_owned(), stream_id, args.spool_max_bytes);
    let now = Moment {
        mono_ms: 0,
        unix_ns: sys::unix_ns(),
    };
    let spool = Spool::open(Directory::lock(path)?, settings, now)
        .with_context(|| format!("cannot use {}", path.display()))?;
    let books = spool.books();
    tracing::info!(
        path = %path.display(),
        bytes = spool.bytes(),
        records = books.found,
        lost_before = books.lost_before,
        damaged = books.damaged,
        torn_tails = books.torn_tails,
        set_aside = books.set_aside,
        "spool opened"
    );
    let spooler = Spooler::start(spool, stream_id).context("cannot start the spool's thread")?;
    Ok(Some(spooler))
}

fn probe_error(error: ProbeError) -> anyhow::Error {
    if error.is_misuse() {
        anyhow!(Misuse(error.to_string()))
    } else {
        anyhow!(error)
    }
}

fn say_started(args: &Args, sensor: &str, probe: &Probe, model: Option<&Model>) {
    let modes: Vec<_> = probe.interfaces().iter().map(links::described).collect();
    let modes = if modes.is_empty() {
        format!("none yet; waiting for {}", probe.selection())
    } else {
        modes.join(", ")
    };
    tracing::info!(
        version = identity::VERSION,
        commit = identity::COMMIT,
        kernel = identity::kernel(),
        sensor,
        interfaces = modes,
        ring_bytes = probe.ring_bytes(),
        model = model.map_or("none", Model::id),
        settings = args.digest(),
        "watching"
    );
}

/// Everything a run owns.
struct Session {
    probe: Probe,
    ring: RingReader,
    maps: FlowMaps,
    hindrance: Hindrance,
    model: Option<Arc<Model>>,
    model_file: Option<ModelFile>,
    context: Context,
    flow_id_base: u64,
    seed: u64,
    print: bool,
    print_packets: bool,
    endpoint: Option<Endpoint>,
    service: Service,
    observing: Observing,
    client: Option<Client>,
}

impl Session {
    async fn run(self) -> anyhow::Result<()> {
        let Self {
            mut probe,
            ring,
            maps,
            hindrance,
            model,
            model_file,
            context,
            flow_id_base,
            seed,
            print,
            print_packets,
            endpoint,
            mut service,
            observing,
            client,
        } = self;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot take signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot take signals")?;
        let mut hang_up = signal(SignalKind::hangup()).context("cannot take signals")?;
        if let Some(client) = &client {
            tokio::spawn(Transport::keep_renewed(client.transports.clone()));
        }
        let exporter = client.map(Exporter::start);
        let outbox = |sender, samples| {
            let sampler = Sampler::new(samples, seed);
            let mut outbox = Outbox::new(sender, WhenFull::Drop, sampler);
            outbox.set_flow_id_base(flow_id_base);
            outbox
        };
        let to_collector = exporter
            .as_ref()
            .map(|exporter| outbox(exporter.sender(), SAMPLES_PER_SECOND));
        let (closed_sender, mut closed) = mpsc::channel(1);
        let watched = context.interfaces.clone();
        let printing = print.then(|| {
            let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
            let printer = printer::start(chunks, context, closed_sender);
            let samples = if print_packets { SAMPLES_PER_SECOND } else { 0 };
            (outbox(sender, samples), printer)
        });
        let (to_printer, printer) = printing.unzip();
        let state = Arc::new(LiveState::default());
        let settings = Settings::default();
        let mut reporter = Reporter::new(
            &probe,
            Arc::clone(&state),
            exporter.as_ref(),
            to_collector.as_ref(),
            settings.flows_max,
        );
        reporter.started(model.as_deref());
        let export = exporter.as_ref().map(Exporter::state);
        add_stages(&observing.observed, &state, export.as_ref());
        if let Some(endpoint) = endpoint {
            tracing::info!(address = %endpoint.address(), "metrics are told");
            tokio::spawn(told(endpoint, Arc::clone(&observing.observed)));
        }
        reporter.observe(observing);
        let mut models = Models {
            file: model_file,
            in_use: model.clone(),
            state: Arc::clone(&state),
        };
        let reader = Reader::new(
            ring,
            maps,
            Engine::new(settings, model),
            Sinks::new(to_collector, to_printer),
            Arc::clone(&state),
            hindrance,
        );
        let mut reader = reader::start(reader)?;

        let mut tick = interval(REPORT_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut links = Links::of(&mut probe).context("cannot listen for interfaces")?;
        reporter.links(&mut probe)?;
        let ended_early = loop {
            tokio::select! {
                _ = tick.tick() => {
                    if probe.is_waiting() {
                        follow(&mut probe, &[], &watched, &mut reporter)?;
                    }
                    reporter.report(&probe)?;
                    service.reported();
                    models.look(&mut reporter).await;
                }
                () = service.pulse() => {}
                _ = hang_up.recv() => models.reload(&mut reporter).await,
                gone = links.news() => follow(&mut probe, &gone, &watched, &mut reporter)?,
                _ = interrupt.recv() => break None,
                _ = terminate.recv() => break None,
                Some(()) = closed.recv() => break None,
                ended = &mut reader.ended => break Some(ended),
            }
        };
        tracing::info!("stopping: detach, drain, flush");
        service.stopping();
        probe.detach();
        state.stop.store(true, Ordering::Release);
        let drained = match ended_early {
            Some(ended) => ended,
            None => tokio::time::timeout(DRAIN_TIMEOUT, &mut reader.ended)
                .await
                .map_err(|_| anyhow!("the ring was not drained within {DRAIN_TIMEOUT:?}"))?,
        };
        let mut done = drained.map_err(|_| anyhow!("the reader's thread died"))?;
        reporter.report(&probe)?;
        reporter.stopped();
        let kernel = reporter.kernel_books();
        drop(reporter);
        done.books.kernel = kernel;
        let delivered = match exporter {
            None => None,
            Some(exporter) => tokio::select! {
                delivered = exporter.finish() => {
                    Some(delivered.context("the collector's client died")?)
                }
                _ = interrupt.recv() => None,
            },
        };
        if let Some(printer) = printer
            && printer.join().is_err()
        {
            tracing::warn!("the printer's thread died");
        }
        finish(&done, delivered.as_ref())
    }
}

/// Answers until the sensor ends.
async fn told(endpoint: Endpoint, observed: Arc<Observed>) {
    if let Err(error) = endpoint.serve(observed).await {
        tracing::warn!(%error, "metrics cannot be told");
    }
}

/// The model in use and the file it is from.
struct Models {
    file: Option<ModelFile>,
    in_use: Option<Arc<Model>>,
    state: Arc<LiveState>,
}

impl Models {
    /// Reads the file anew where it has changed.
    async fn look(&mut self, reporter: &mut Reporter) {
        match self.file.as_mut().map(ModelFile::look) {
            Some(Look::Changed) => self.reload(reporter).await,
            Some(Look::Gone) => tracing::warn!("the model file is gone; its model stays in use"),
            Some(Look::Unchanged | Look::Settling) | None => {}
        }
    }

    /// Reads the file anew and hands its model to the reader; one that cannot be used changes
    /// nothing.
    async fn reload(&mut self, reporter: &mut Reporter) {
        let (Some(mut file), Some(in_use)) = (self.file.take(), self.in_use.clone()) else {
            tracing::info!("no model file to read again: start with `--model FILE` to change it");
            return;
        };
        let path = file.path().display().to_string();
        // Off this thread: a large file must not hold the totals.
        let read = tokio::task::spawn_blocking(move || {
            let read = file.read();
            (file, read)
        });
        let read = match read.await {
            Ok((file, read)) => {
                self.file = Some(file);
                read
            }
            Err(error) => {
                tracing::error!(%error, "the thread that reads the model died; it is not read again");
                return;
            }
        };
        match read {
            Ok(model) if model.id() == in_use.id() => {
                tracing::info!(model = model.id(), "the model file holds the model in use");
            }
            Ok(model) => {
                let model = Arc::new(model);
                if let Some(with) = model.compared_with().filter(|with| with != in_use.id()) {
                    tracing::warn!(
                        model = model.id(),
                        compared_with = with,
                        in_use = in_use.id(),
                        "the new model was compared with another than the one in use"
                    );
                }
                tracing::info!(
                    model = model.id(),
                    before = in_use.id(),
                    path,
                    "model loaded"
                );
                self.state.hand_model(Arc::clone(&model));
                reporter.model(&ModelChange::Loaded {
                    model_id: model.id(),
                    before: in_use.id(),
                });
                self.in_use = Some(model);
            }
            Err(error) => {
                let reason = error.to_string();
                tracing::warn!(
                    model = in_use.id(),
                    path,
                    reason,
                    "the new model is refused"
                );
                reporter.model(&ModelChange::Refused {
                    model_id: in_use.id(),
                    reason: &reason,
                });
            }
        }
    }
}

/// Looks at the interfaces anew and tells what became of them. Where they cannot be listed the
/// sensor goes on with those it has.
fn follow(
    probe: &mut Probe,
    gone: &[u32],
    watched: &Watched,
    reporter: &mut Reporter,
) -> anyhow::Result<()> {
    if let Err(error) = probe.follow(gone) {
        tracing::warn!(%error, "cannot look at the interfaces; trying again with their next change");
    }
    watched.set(links::on_the_wire(probe));
    reporter.links(probe)
}

/// Prints the books and tells how it ended.
fn finish(done: &reader::Done, delivered: Option<&Delivered>) -> anyhow::Result<()> {
    eprint!("{}", done.books.summary(delivered));
    if let Some(error) = &done.error {
        bail!("cannot read the ring: {error}");
    }
    if !done.books.balanced() {
        bail!("the books do not balance, see above; this is a fault of netml-agent");
    }
    Ok(())
}
