//! What the kernel says of clock, disk and limits of this host: read only.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// How well the wall clock is kept (`adjtimex(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Something keeps it in step with a time source.
    pub synchronised: bool,
    /// Largest error the kernel reckons with, in microseconds.
    pub error_max_us: u64,
}

/// The state of the wall clock. Changes nothing.
///
/// # Errors
/// Where the kernel refuses the question.
pub fn clock_state() -> io::Result<ClockState> {
    // SAFETY: all zero is a valid timex, and its zero `modes` ask for a reading only.
    let mut time: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a timex that lives through the call.
    let state = unsafe { libc::adjtimex(&raw mut time) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ClockState {
        synchronised: time.status & libc::STA_UNSYNC == 0,
        error_max_us: u64::try_from(time.maxerror).unwrap_or_default(),
    })
}

/// Bytes of the file system of `path` that this user may still write.
///
/// # Errors
/// Where the path is none or cannot be reached.
pub fn disk_free_bytes(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends in zero, and the other pointer is valid for one statvfs.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled by the call above.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// True where this user may make files in a directory.
#[must_use]
pub fn is_writable(path: &Path) -> bool {
    CString::new(path.as_os_str().as_bytes()).is_ok_and(|path| {
        // SAFETY: the path ends in zero.
        unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) == 0 }
    })
}

/// Bytes this process may lock in memory; `None`: no limit.
///
/// # Errors
/// Where the kernel refuses the question.
pub fn memlock_bytes() -> io::Result<Option<u64>> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the pointer is valid for one rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, limit.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled by the call above.
    let limit = unsafe { limit.assume_init() };
    Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_and_limits_of_this_host_can_be_read() {
        assert!(disk_free_bytes(Path::new("/")).is_ok());
        assert!(disk_free_bytes(Path::new("/no/such/path")).is_err());
        assert!(!is_writable(Path::new("/no/such/path")));
        assert!(memlock_bytes().is_ok());
    }
}
