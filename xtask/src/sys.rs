//! The few system calls std has no safe form for. With the sender of the benches the
//! only module of xtask with unsafe code.
#![expect(
    unsafe_code,
    reason = "namespaces, packet sockets, signals and poll have no safe form in std"
)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

/// Set by SIGINT and SIGTERM once [`catch_stop_signals`] was called.
static STOP: AtomicBool = AtomicBool::new(false);

/// Ethtool commands that set a flag (linux/ethtool.h): TSO, GSO, GRO, TX checksum, scatter-gather.
const ETHTOOL_SET_FLAGS: [u32; 5] = [0x1f, 0x24, 0x2c, 0x17, 0x19];

/// True for the superuser.
#[must_use]
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Moves the calling thread, and the threads it starts from now on, into a network namespace.
///
/// # Errors
/// The namespace's file cannot be opened, or the caller lacks CAP_SYS_ADMIN.
pub(crate) fn enter_netns(file: &Path) -> io::Result<()> {
    let file = File::open(file)?;
    // SAFETY: the descriptor is open for the whole call; setns touches only the calling thread.
    match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Turns SIGINT and SIGTERM into [`stop_requested`].
///
/// # Errors
/// The kernel refuses a handler.
pub(crate) fn catch_stop_signals() -> io::Result<()> {
    extern "C" fn on_signal(_number: libc::c_int) {
        STOP.store(true, Ordering::SeqCst);
    }
    let handler = on_signal as extern "C" fn(libc::c_int);
    for number in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: sigaction is plain data for which all-zero is valid (empty mask, no flags); the
        // handler is async-signal-safe, as it only stores to an atomic; the old action is not asked for.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            libc::sigaction(number, &raw const action, std::ptr::null_mut())
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// True once SIGINT or SIGTERM came.
#[must_use]
pub(crate) fn stop_requested() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// Sends SIGTERM to a process this program started and has not yet waited for.
///
/// # Errors
/// There is no such process, or it belongs to another user.
pub(crate) fn terminate(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: kill takes two integers; a positive pid names one process.
    match unsafe { libc::kill(pid, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Puts the child into a process group of its own (a terminal's Ctrl-C reaches only this program)
/// and has the kernel send it SIGTERM when the thread that starts it dies.
pub(crate) fn tie_to_parent(command: &mut Command) {
    command.process_group(0);
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe and touches no
    // memory of the parent.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Waits until one of the sockets can be read; gives which.
///
/// # Errors
/// The kernel refuses the poll; an interrupting signal is not an error but "none".
pub(crate) fn readable(sockets: &[BorrowedFd<'_>], patience: Duration) -> io::Result<Vec<bool>> {
    let mut fds: Vec<libc::pollfd> = sockets
        .iter()
        .map(|socket| libc::pollfd {
            fd: socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let patience_ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let count = libc::nfds_t::try_from(fds.len()).map_err(io::Error::other)?;
    // SAFETY: the array holds `count` valid entries and outlives the call.
    if unsafe { libc::poll(fds.as_mut_ptr(), count, patience_ms) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        return Ok(vec![false; sockets.len()]);
    }
    Ok(fds.iter().map(|fd| fd.revents != 0).collect())
}

/// Index of an interface of the calling thread's namespace.
///
/// # Errors
/// There is no interface of that name.
pub(crate) fn interface_index(name: &str) -> io::Result<i32> {
    let name = CString::new(name).map_err(io::Error::other)?;
    // SAFETY: the string is NUL-terminated and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => i32::try_from(index).map_err(io::Error::other),
    }
}

/// A packet socket of the calling thread's namespace, bound to one interface: reads give whole
/// frames of both directions, sends put frames on the wire as they are.
///
/// # Errors
/// No such interface, or the caller lacks CAP_NET_RAW.
pub(crate) fn packet_socket(interface: &str) -> io::Result<Socket> {
    /// ETH_P_ALL in network byte order.
    const EVERY_PROTOCOL: u16 = (libc::ETH_P_ALL as u16).to_be();
    let index = interface_index(interface)?;
    let protocol = Protocol::from(i32::from(EVERY_PROTOCOL));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is smaller than sockaddr_storage, has no stricter alignment, and every bit
    // pattern of it is valid; the view ends before the storage is used again.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as libc::sa_family_t;
    link.sll_protocol = EVERY_PROTOCOL;
    link.sll_ifindex = index;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the storage holds an initialised sockaddr_ll of exactly this length.
    let address = unsafe { SockAddr::new(storage, length) };
    socket.bind(&address)?;
    Ok(socket)
}

/// Frames that this host sends are not given by a packet socket any more.
///
/// # Errors
/// The socket is no packet socket, or the kernel is older than 4.20.
pub(crate) fn ignore_outgoing(socket: &Socket) -> io::Result<()> {
    /// linux/if_packet.h.
    const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
    let on: libc::c_int = 1;
    // SAFETY: the option reads one int, for which pointer and length are valid.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Wall-clock time at which the kernel saw the frame read last from a packet socket.
///
/// # Errors
/// Nothing was read yet.
pub(crate) fn last_frame_time(socket: &Socket) -> io::Result<Duration> {
    /// linux/sockios.h, SIOCGSTAMPNS_OLD.
    const SIOCGSTAMPNS: libc::c_ulong = 0x8907;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the request writes one timespec, for which the pointer is valid.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSTAMPNS, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
    let nanos = u32::try_from(time.tv_nsec).map_err(io::Error::other)?;
    Ok(Duration::new(seconds, nanos))
}

/// Turns segmentation, receive aggregation and checksum offload of an interface off, so that every
/// frame a program sees is one packet as on the wire.
///
/// # Errors
/// No such interface or no privilege. A flag the driver does not have is left as it is.
pub(crate) fn offloads_off(interface: &str) -> io::Result<()> {
    #[repr(C)]
    struct EthtoolValue {
        command: u32,
        data: u32,
    }
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    for command in ETHTOOL_SET_FLAGS {
        let mut value = EthtoolValue { command, data: 0 };
        // SAFETY: ifreq is plain data for which all-zero is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays zero, so the name is terminated.
        for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1]
            .iter_mut()
            .zip(interface.bytes())
        {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the request and the value it points at live until the call returns; SIOCETHTOOL with
        // these commands reads an ethtool_value, whose layout is that of the struct above.
        let result =
            unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
        if result != 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
                return Err(error);
            }
        }
    }
    Ok(())
}
