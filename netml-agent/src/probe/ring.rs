//! The reader of the kernel's ring of packet records.
//!
//! Reads the ring where it lies, in shared memory, and gives its room back in batches. The kernel
//! wakes the reader at a fill mark only; below it records wait for the reader's own time-out.
#![expect(unsafe_code, reason = "shared memory of the kernel's ring buffer")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use netml_common::extras::decode_entry;
use netml_common::{Extras, PacketRecord, RecordError};

use super::error::ProbeError;

/// Bytes of the kernel's header before each record.
const HEADER_BYTES: usize = 8;
const BUSY_BIT: u32 = 1 << 31;
const DISCARD_BIT: u32 = 1 << 30;

/// Records after which their room is given back within one drain.
const RELEASE_RECORDS: usize = 256;

/// The only reader of a ring; may move to a thread of its own.
#[derive(Debug)]
pub struct RingReader {
    epoll: OwnedFd,
    consumer: Mapping,
    producer: Mapping,
    page_bytes: usize,
    ring_bytes: usize,
    wake_fill_bytes: usize,
    position: usize,
}

impl RingReader {
    /// Maps the ring behind `ring`, of `ring_bytes` (a power of two).
    pub(super) fn new(
        ring: BorrowedFd<'_>,
        ring_bytes: u32,
        wake_fill_bytes: u32,
    ) -> Result<Self, ProbeError> {
        let page_bytes = page_bytes();
        let ring_bytes = ring_bytes as usize;
        let map = |length, offset, writable| {
            Mapping::new(ring, length, offset, writable).map_err(|source| ProbeError::Ring {
                action: "mapped",
                source,
            })
        };
        let consumer = map(page_bytes, 0, true)?;
        let producer = map(page_bytes + 2 * ring_bytes, page_bytes, false)?;
        let epoll = watch(ring).map_err(|source| ProbeError::Ring {
            action: "watched",
            source,
        })?;
        let position = consumer.position().load(Ordering::Acquire);
        Ok(Self {
            epoll,
            consumer,
            producer,
            page_bytes,
            ring_bytes,
            wake_fill_bytes: wake_fill_bytes as usize,
            position,
        })
    }

    /// Takes up to `max` records in the order in which their room was reserved; returns how many.
    /// Beside each stands what it has more than its record. One the decoder refuses counts as taken
    /// and is handed on as its error.
    pub fn drain(
        &mut self,
        max: usize,
        mut take: impl FnMut(Result<(PacketRecord, Extras), RecordError>),
    ) -> usize {
        let end = self.producer.position().load(Ordering::Acquire);
        let mut taken = 0;
        while taken < max && self.position != end {
            let offset = self.position & (self.ring_bytes - 1);
            let header = self.header_at(offset).load(Ordering::Acquire);
            if header & BUSY_BIT != 0 {
                break;
            }
            let length = ((header & !(BUSY_BIT | DISCARD_BIT)) as usize).min(self.ring_bytes);
            if header & DISCARD_BIT == 0 {
                take(decode_entry(self.record_at(offset, length)));
                taken += 1;
            }
            self.position = self
                .position
                .wrapping_add((HEADER_BYTES + length).next_multiple_of(8));
            if taken.is_multiple_of(RELEASE_RECORDS) {
                self.release();
            }
        }
        self.release();
        taken
    }

    /// Sleeps until the ring is filled to the wake mark or `timeout` (rounded up to milliseconds)
    /// has passed; at once where it already is. True where the mark was reached.
    ///
    /// # Errors
    /// [`ProbeError::Ring`] where the kernel refuses to wait.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, ProbeError> {
        if self.backlog_bytes() >= self.wake_fill_bytes {
            return Ok(true);
        }
        let timeout_ms = i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: `event` has room for the one event asked for; the descriptor is our own.
        let ready =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), &raw mut event, 1, timeout_ms) };
        if ready >= 0 {
            return Ok(ready > 0);
        }
        let source = io::Error::last_os_error();
        if source.kind() == io::ErrorKind::Interrupted {
            return Ok(false);
        }
        Err(ProbeError::Ring {
            action: "waited on",
            source,
        })
    }

    /// Bytes of the ring that hold records not yet taken, their headers included.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        let end = self.producer.position().load(Ordering::Acquire);
        end.wrapping_sub(self.position)
    }

    /// Position behind every record whose room has been reserved so far, for [`Self::has_passed`].
    #[must_use]
    pub fn end_position(&self) -> usize {
        self.producer.position().load(Ordering::Acquire)
    }

    /// True once everything before a position was taken.
    #[must_use]
    pub const fn has_passed(&self, position: usize) -> bool {
        // Positions wrap; the ring is far smaller than half of their range.
        self.position.wrapping_sub(position) <= usize::MAX / 2
    }

    /// Size of the ring in bytes.
    #[must_use]
    pub const fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    fn release(&self) {
        // After the records were read: the kernel overwrites their room from here on.
        self.consumer
            .position()
            .store(self.position, Ordering::Release);
    }

    /// The header of the record at `offset`, below `ring_bytes`.
    fn header_at(&self, offset: usize) -> &AtomicU32 {
        let at = self.page_bytes + offset;
        // SAFETY: records begin at multiples of 8 below `ring_bytes`; the data pages begin
        // `page_bytes` into the mapping and are `2 * ring_bytes` long. The kernel writes the
        // header by atomic operations; the mapping lives as long as `self`.
        unsafe { &*self.producer.start.as_ptr().add(at).cast::<AtomicU32>() }
    }

    /// The bytes behind that header; `length` is at most `ring_bytes`.
    fn record_at(&self, offset: usize, length: usize) -> &[u8] {
        let at = self.page_bytes + offset + HEADER_BYTES;
        let length = length.min(self.producer.length - at);
        // SAFETY: `at + length` lies inside the mapping, which holds the data pages twice in a
        // row. The record is committed (the busy bit was seen clear with acquire order) and the
        // kernel does not touch it before `release`.
        unsafe { std::slice::from_raw_parts(self.producer.start.as_ptr().add(at), length) }
    }
}

/// Size of a memory page in bytes.
pub(super) fn page_bytes() -> usize {
    // SAFETY: no preconditions.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// Watches the ring edge-triggered: only a wake-up of the kernel ends a wait, not the mere presence
/// of records, so that they are taken in batches.
fn watch(ring: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: no preconditions; the result is checked.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor just made, owned by nobody else.
    let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN.cast_unsigned() | libc::EPOLLET.cast_unsigned(),
        u64: 0,
    };
    // SAFETY: both descriptors are open, `event` outlives the call.
    let failed = unsafe {
        libc::epoll_ctl(
            epoll.as_raw_fd(),
            libc::EPOLL_CTL_ADD,
            ring.as_raw_fd(),
            &raw mut event,
        )
    };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(epoll)
}

/// A shared mapping of a part of the ring, unmapped at drop. It keeps the ring alive.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is plain shared memory, bound to no thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(ring: BorrowedFd<'_>, length: usize, offset: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_READ
        };
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                ring.as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { start, length })
    }

    /// The position at the start of the consumer's and of the producer's page.
    fn position(&self) -> &AtomicUsize {
        // SAFETY: the mapping is at least a page long and page-aligned; the kernel keeps an
        // unsigned long there and writes it atomically.
        unsafe { &*self.start.as_ptr().cast::<AtomicUsize>() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nothing borrows it any more.
        let failed = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert_eq!(failed, 0);
    }
}
