//! A way out of the lab for the sensor's own stream, without a wire to the host.
//!
//! The collector listens on the host's loopback, which a process inside a namespace cannot reach.
//! So a port on the namespace's own loopback is answered by a thread inside, and its connections
//! are carried on by a thread outside.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;

use super::space::{Lab, Space};
use crate::sys;

/// Joins a loopback port of the server's namespace to `target` on the host; ends when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    stop: Arc<AtomicBool>,
    /// Where the inside connects to.
    pub(crate) inside: SocketAddr,
}

impl Relay {
    /// Starts both threads.
    ///
    /// # Errors
    /// A thread cannot be started, or the port inside is taken.
    pub(crate) fn start(lab: &Lab, target: SocketAddr) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (taken, to_carry) = mpsc::channel::<TcpStream>();
        let (ready, is_ready) = mpsc::channel();
        let stop_inside = Arc::clone(&stop);
        let inside = lab.spawn(Space::Server, move || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            ready
                .send(listener.local_addr()?)
                .context("nobody waits for the relay")?;
            while !stop_inside.load(Ordering::SeqCst) {
                let ready = sys::readable(&[listener.as_fd()], Duration::from_millis(100))?;
                if ready == [true]
                    && let Ok((stream, _)) = listener.accept()
                    && taken.send(stream).is_err()
                {
                    break;
                }
            }
            Ok(())
        })?;
        // This thread stays in the namespace of its starter: the host's.
        std::thread::Builder::new()
            .name("lab-relay".to_owned())
            .spawn(move || {
                for stream in to_carry {
                    if let Err(error) = carry(stream, target) {
                        eprintln!("lab: cannot reach {target} for the sensor: {error}");
                    }
                }
            })
            .context("cannot start a thread of the lab")?;
        let Ok(address) = is_ready.recv_timeout(Duration::from_secs(5)) else {
            return match inside.join() {
                Ok(Err(error)) => Err(error.context("the lab's relay did not start")),
                _ => anyhow::bail!("the lab's relay did not start"),
            };
        };
        Ok(Self {
            stop,
            inside: address,
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn carry(inside: TcpStream, target: SocketAddr) -> io::Result<()> {
    inside.set_nonblocking(false)?;
    let outside = TcpStream::connect_timeout(&target, Duration::from_secs(2))?;
    inside.set_nodelay(true)?;
    outside.set_nodelay(true)?;
    for (mut from, mut to) in [
        (inside.try_clone()?, outside.try_clone()?),
        (outside, inside),
    ] {
        std::thread::spawn(move || {
            // Either end may close at any time; both halves are then closed.
            let carried = io::copy(&mut from, &mut to);
            let closed = from
                .shutdown(Shutdown::Both)
                .and(to.shutdown(Shutdown::Both));
            (carried, closed)
        });
    }
    Ok(())
}
