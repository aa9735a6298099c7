//! The few system calls that neither std nor socket2 offers in safe form.
//!
//! Each is wrapped where it is made: past this module there are numbers, addresses and bytes.
#![expect(
    unsafe_code,
    reason = "system calls without a safe wrapper among the dependencies"
)]

use std::io;
use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

pub mod error_queue;
pub mod ethtool;
pub mod host;
pub mod netns;
pub mod packet_socket;

/// The kernel's monotonic clock, that of `bpf_ktime_get_ns`.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is valid for one timespec, which the call fills where it returns 0.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr()) };
    if answer != 0 {
        // Cannot be: this clock exists on every Linux and the pointer is valid.
        return 0;
    }
    // SAFETY: filled by the call above.
    let time = unsafe { time.assume_init() };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The wall clock in unix nanoseconds; 0 before 1970.
#[must_use]
pub fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
}

/// What is to be added to a monotonic time for unix nanoseconds, as the clocks stand now.
#[must_use]
pub fn unix_offset_ns() -> i64 {
    let offset = i128::from(unix_ns()) - i128::from(monotonic_ns());
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// Sets an integer option of a socket.
fn set_option(
    socket: &impl std::os::fd::AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let bytes = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to a c_int that lives through the call, and the length is its own.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            bytes,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_goes_on_and_the_offset_leads_to_the_wall_clock() {
        let before = monotonic_ns();
        let after = monotonic_ns();
        assert!(before > 0 && after >= before);
        let unix = after.saturating_add_signed(unix_offset_ns());
        assert!(unix.abs_diff(unix_ns()) < 10_000_000_000);
    }
}
