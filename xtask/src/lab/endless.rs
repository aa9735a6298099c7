//! The lab behind `run --lab`: ordinary traffic all the time, an attack now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::random::Random;
use super::{Lab, Running, attack, benign, start};

/// How long one run of a scenario lasts before it begins anew with other numbers.
const BENIGN_RUN: Duration = Duration::from_secs(60);
/// How long one attack lasts.
const ATTACK_RUN: Duration = Duration::from_secs(15);
/// Pause between attacks, typically.
const CALM_MS: u64 = 15_000;

/// Scenarios that go on until stopped.
pub(crate) struct Endless {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Endless {
    /// Starts all ordinary scenarios, and attacks one after the other.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(lab: Arc<Lab>, seed: u64) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stop_here = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("lab-endless".to_owned())
            .spawn(move || go_on(&lab, seed, &stop_here))
            .context("cannot start a thread of the lab")?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => eprintln!("lab: {error:#}"),
            Some(Err(_)) => eprintln!("lab: a thread panicked"),
            Some(Ok(Ok(()))) | None => {}
        }
    }
}

fn go_on(lab: &Lab, seed: u64, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let mut random = Random::new(seed, "endless");
    let mut ordinary: Vec<Running> = benign::SCENARIOS
        .iter()
        .map(|scenario| start(lab, scenario, BENIGN_RUN, random.next(), stop))
        .collect::<anyhow::Result<_>>()?;
    let mut attack: Option<Running> = None;
    let mut turn = 0;
    let mut calm_until = Instant::now() + random.pause(CALM_MS / 2);
    while !stop.load(Ordering::SeqCst) {
        for (running, scenario) in ordinary.iter_mut().zip(benign::SCENARIOS) {
            if running.is_finished() {
                let next = start(lab, scenario, BENIGN_RUN, random.next(), stop)?;
                std::mem::replace(running, next).finish()?;
            }
        }
        match attack.take() {
            Some(running) if running.is_finished() => {
                running.finish()?;
                calm_until = Instant::now() + random.pause(CALM_MS);
            }
            Some(running) => attack = Some(running),
            None if Instant::now() >= calm_until => {
                let scenario = &attack::SCENARIOS[turn % attack::SCENARIOS.len()];
                turn += 1;
                eprintln!("lab: {} begins", scenario.name);
                attack = Some(start(lab, scenario, ATTACK_RUN, random.next(), stop)?);
            }
            None => {}
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    for running in ordinary.into_iter().chain(attack) {
        running.finish()?;
    }
    Ok(())
}
