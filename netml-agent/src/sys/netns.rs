//! Network namespaces. A namespace belongs to a thread: whatever happens in another one happens on
//! a thread that is made for it and ends with it, so that no other ever changes its own.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::thread;

/// Runs `work` in a network namespace, on a thread of its own, and waits for it. `None`: here.
///
/// # Errors
/// Where no thread is to be had or the kernel refuses the namespace (it asks CAP_SYS_ADMIN).
pub fn within<T: Send>(netns: Option<&File>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let Some(netns) = netns else {
        return Ok(work());
    };
    on_own_thread(|| {
        // SAFETY: a call on a valid descriptor, which the borrow keeps open.
        check(unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) })?;
        Ok(work())
    })
}

/// Runs `work` in a new network namespace that nothing else is in and that goes with it.
///
/// # Errors
/// As [`within`].
pub fn in_a_new_one<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_own_thread(|| {
        // SAFETY: a call without pointers, which changes the calling thread only.
        check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
        Ok(work())
    })
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
