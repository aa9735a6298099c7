//! Frames sent from inside the kernel: the hardest sender there is without a card of one's own.
//!
//! A small XDP program, run by the kernel's test run with live frames, gives every frame the next
//! source address and answers "send back"; the kernel puts it on the wire of the interface it is
//! said to come from. The program is written here as instructions, so that neither a compiler nor
//! a loader is needed; the overload tests of the sensor include this file.
//!
//! Frames are Ethernet and IPv4, 60 bytes before the check sequence: UDP without a checksum, or a
//! TCP SYN. Sources are `first_octet`.0.0.0 and the 24 bits behind; the IP identification changes
//! against the address, so that the header's checksum holds for all of them.
#![expect(
    unsafe_code,
    reason = "the bpf system call, which std has no form for; see docs/decisions/0006-where-unsafe-lives.md"
)]

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Bytes of a frame: 64 with the check sequence, which veth does not have.
pub(crate) const FRAME_BYTES: u32 = 60;

/// Frames the kernel takes at once.
const BATCH_FRAMES: u32 = 64;

/// Most sources: 24 bits.
const SOURCE_BITS_MAX: u32 = 24;

// Commands, kinds and flags of linux/bpf.h and linux/if_link.h.
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
const BPF_PSEUDO_MAP_FD: u8 = 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const XDP_TX: i32 = 3;

/// What the frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the tests and the benches each use some")]
pub(crate) enum Kind {
    /// A datagram without payload.
    Udp,
    /// A TCP SYN.
    Syn,
}

/// Where frames go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Ethernet address of the interface they are sent from.
    pub(crate) from_mac: [u8; 6],
    /// Ethernet address of the interface they are sent to.
    pub(crate) to_mac: [u8; 6],
    /// Destination address.
    pub(crate) to: Ipv4Addr,
    /// Destination port.
    pub(crate) port: u16,
}

/// Native XDP on an interface; gone with the value.
#[derive(Debug)]
pub(crate) struct BarePass {
    _link: OwnedFd,
}

impl BarePass {
    /// Lets everything pass that comes through the interface, of the calling thread's namespace.
    ///
    /// # Errors
    /// No privilege, no such interface, or its driver has no XDP.
    pub(crate) fn attach(ifindex: u32) -> io::Result<Self> {
        // mov r0, XDP_PASS; exit
        let program = load(&[insn(0xb7, 0, 0, 0, XDP_PASS), insn(0x95, 0, 0, 0, 0)])?;
        #[repr(C)]
        struct LinkCreate {
            program: i32,
            ifindex: u32,
            attach_type: u32,
            flags: u32,
        }
        let link = bpf(
            BPF_LINK_CREATE,
            &mut LinkCreate {
                program: program.as_raw_fd(),
                ifindex,
                attach_type: BPF_XDP,
                flags: XDP_FLAGS_DRV_MODE,
            },
        )?;
        Ok(Self {
            _link: descriptor(link)?,
        })
    }
}

/// A sender of live frames. Its interface has native XDP for as long.
#[derive(Debug)]
pub(crate) struct Sender {
    program: OwnedFd,
    frame: [u8; FRAME_BYTES as usize],
    ifindex: u32,
    _map: OwnedFd,
    _pass: BarePass,
}

impl Sender {
    /// Prepares to send from an interface of the calling thread's namespace, from two to the power
    /// of `source_bits` sources in a scattered order that repeats when all have been.
    ///
    /// # Errors
    /// No privilege, or the kernel (Linux 5.18 at least) refuses.
    pub(crate) fn new(
        ifindex: u32,
        kind: Kind,
        target: &Target,
        first_octet: u8,
        source_bits: u32,
    ) -> io::Result<Self> {
        if source_bits > SOURCE_BITS_MAX {
            return Err(io::Error::other(format!(
                "2^{source_bits} sources; at most 2^{SOURCE_BITS_MAX}"
            )));
        }
        #[repr(C)]
        struct MapCreate {
            kind: u32,
            key_bytes: u32,
            value_bytes: u32,
            entries: u32,
            flags: u32,
        }
        let map = bpf(
            BPF_MAP_CREATE,
            &mut MapCreate {
                kind: BPF_MAP_TYPE_ARRAY,
                key_bytes: 4,
                value_bytes: 8,
                entries: 1,
                flags: 0,
            },
        )?;
        let map = descriptor(map)?;
        let program = load(&source_program(map.as_raw_fd(), first_octet, source_bits))?;
        Ok(Self {
            program,
            frame: frame(kind, target),
            ifindex,
            _map: map,
            _pass: BarePass::attach(ifindex)?,
        })
    }

    /// Sends so many frames as fast as the kernel can, on the calling thread.
    ///
    /// # Errors
    /// The kernel refuses, or a signal came.
    pub(crate) fn send(&self, frames: u32) -> io::Result<()> {
        /// struct xdp_md.
        #[repr(C)]
        struct Context {
            data: u32,
            data_end: u32,
            data_meta: u32,
            ingress_ifindex: u32,
            rx_queue_index: u32,
            egress_ifindex: u32,
        }
        #[repr(C)]
        struct TestRun {
            program: i32,
            retval: u32,
            data_in_bytes: u32,
            data_out_bytes: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
            context_in_bytes: u32,
            context_out_bytes: u32,
            context_in: u64,
            context_out: u64,
            flags: u32,
            cpu: u32,
            batch_size: u32,
            /// The kernel wants zeros behind its own fields.
            rest: u32,
        }
        let context = Context {
            data: 0,
            data_end: FRAME_BYTES,
            data_meta: 0,
            ingress_ifindex: self.ifindex,
            rx_queue_index: 0,
            egress_ifindex: 0,
        };
        bpf(
            BPF_PROG_TEST_RUN,
            &mut TestRun {
                program: self.program.as_raw_fd(),
                retval: 0,
                data_in_bytes: FRAME_BYTES,
                data_out_bytes: 0,
                data_in: address(&raw const self.frame),
                data_out: 0,
                repeat: frames,
                duration: 0,
                context_in_bytes: size_of::<Context>() as u32,
                context_out_bytes: 0,
                context_in: address(&raw const context),
                context_out: 0,
                flags: BPF_F_TEST_XDP_LIVE_FRAMES,
                cpu: 0,
                batch_size: BATCH_FRAMES,
                rest: 0,
            },
        )?;
        Ok(())
    }
}

/// The program: source = `first_octet` and the frame's number, scattered by an odd factor.
fn source_program(map: i32, first_octet: u8, source_bits: u32) -> Vec<u64> {
    /// Odd, so that multiplying modulo a power of two only reorders.
    const SCATTER: i32 = 0x2c9_277b5;
    /// Of an Ethernet frame: IP identification, and the source address.
    const IDENTIFICATION_AT: i16 = 18;
    const SOURCE_AT: i16 = 26;
    let mask = (1_i32 << source_bits) - 1;
    // Jumps go to the two instructions at the end.
    let mut program = vec![
        insn(0x61, 7, 1, 0, 0),                      // r7 = data
        insn(0x61, 3, 1, 4, 0),                      // r3 = data_end
        insn(0xbf, 4, 7, 0, 0),                      // r4 = r7
        insn(0x07, 4, 0, 0, FRAME_BYTES as i32),     // r4 += a frame
        insn(0x2d, 4, 3, 0, 0),                      // if r4 > r3 drop
        insn(0x62, 10, 0, -4, 0),                    // key = 0
        insn(0xbf, 2, 10, 0, 0),                     // r2 = stack
        insn(0x07, 2, 0, 0, -4),                     // r2 = key
        insn(0x18, 1, BPF_PSEUDO_MAP_FD, 0, map),    // r1 = map
        insn(0, 0, 0, 0, 0),                         //
        insn(0x85, 0, 0, 0, 1),                      // r0 = bpf_map_lookup_elem
        insn(0x15, 0, 0, 0, 0),                      // if r0 == 0 drop
        insn(0x79, 1, 0, 0, 0),                      // r1 = number
        insn(0xbf, 2, 1, 0, 0),                      // r2 = r1
        insn(0x07, 2, 0, 0, 1),                      // r2 += 1
        insn(0x7b, 0, 2, 0, 0),                      // number = r2
        insn(0x27, 1, 0, 0, SCATTER),                // r1 *= odd
        insn(0x57, 1, 0, 0, mask),                   // r1 &= sources
        insn(0xbf, 2, 1, 0, 0),                      // r2 = r1
        insn(0x77, 2, 0, 0, 16),                     // r2 >>= 16
        insn(0x67, 2, 0, 0, 8),                      // r2 <<= 8
        insn(0x47, 2, 0, 0, i32::from(first_octet)), // r2 |= first octet
        insn(0x57, 1, 0, 0, 0xffff),                 // r1 &= 0xffff
        insn(0x6b, 7, 2, SOURCE_AT, 0),              // source, first half
        insn(0x6b, 7, 1, SOURCE_AT + 2, 0),          // source, second half
        insn(0x0f, 1, 2, 0, 0),                      // r1 += r2
        insn(0xbf, 2, 1, 0, 0),                      // r2 = r1
        insn(0x77, 2, 0, 0, 16),                     // r2 >>= 16
        insn(0x0f, 1, 2, 0, 0),                      // r1 += r2
        insn(0xa7, 1, 0, 0, 0xffff),                 // r1 ^= 0xffff
        insn(0x6b, 7, 1, IDENTIFICATION_AT, 0),      // identification
        insn(0xb7, 0, 0, 0, XDP_TX),                 // send back
        insn(0x95, 0, 0, 0, 0),                      // exit
    ];
    let drop_at = program.len();
    for (at, opcode) in [(4, 0x2d), (11, 0x15)] {
        let distance = (drop_at - at - 1) as i16;
        let (to, from) = if at == 4 { (4, 3) } else { (0, 0) };
        program[at] = insn(opcode, to, from, distance, 0);
    }
    program.push(insn(0xb7, 0, 0, 0, XDP_DROP));
    program.push(insn(0x95, 0, 0, 0, 0));
    program
}

/// A frame without source address and identification.
fn frame(kind: Kind, target: &Target) -> [u8; FRAME_BYTES as usize] {
    let (protocol, ip_bytes): (u8, u16) = match kind {
        Kind::Udp => (17, 28),
        Kind::Syn => (6, 40),
    };
    let mut frame = [0; FRAME_BYTES as usize];
    frame[..6].copy_from_slice(&target.to_mac);
    frame[6..12].copy_from_slice(&target.from_mac);
    frame[12] = 8;
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&ip_bytes.to_be_bytes());
    frame[22] = 64;
    frame[23] = protocol;
    frame[30..34].copy_from_slice(&target.to.octets());
    // What the program writes adds up to nothing.
    let mut sum: u32 = frame[14..34]
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame[34..36].copy_from_slice(&40_000_u16.to_be_bytes());
    frame[36..38].copy_from_slice(&target.port.to_be_bytes());
    match kind {
        Kind::Udp => frame[39] = 8,
        Kind::Syn => {
            frame[46] = 0x50;
            frame[47] = 2;
            frame[48] = 0xfa;
        }
    }
    frame
}

/// One instruction (struct bpf_insn).
fn insn(opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    u64::from_ne_bytes([opcode, from << 4 | to, o0, o1, i0, i1, i2, i3])
}

fn load(program: &[u64]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct ProgramLoad {
        kind: u32,
        instructions: u32,
        program: u64,
        licence: u64,
        log_level: u32,
        log_bytes: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        ifindex: u32,
        attach_type: u32,
    }
    let mut name = [0; 16];
    name[..11].copy_from_slice(b"netml_bench");
    let loaded = bpf(
        BPF_PROG_LOAD,
        &mut ProgramLoad {
            kind: BPF_PROG_TYPE_XDP,
            instructions: program.len() as u32,
            program: address(program.as_ptr()),
            licence: address(c"Apache-2.0 OR MIT".as_ptr()),
            log_level: 0,
            log_bytes: 0,
            log: 0,
            kernel_version: 0,
            flags: BPF_F_XDP_HAS_FRAGS,
            name,
            ifindex: 0,
            attach_type: BPF_XDP,
        },
    )?;
    descriptor(loaded)
}

/// `TCP_INFO` of a connection: the beginning of the kernel's struct tcp_info, zeros behind what an
/// older kernel tells.
///
/// # Errors
/// The kernel refuses.
#[allow(dead_code, reason = "the tests alone use it")]
pub(crate) fn tcp_info(stream: &std::net::TcpStream) -> io::Result<[u8; 256]> {
    let mut info = [0_u8; 256];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes; both places outlive the call.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info)
}

fn address<T>(place: *const T) -> u64 {
    place.expose_provenance() as u64
}

/// The `bpf` system call over the beginning of its union of attributes; the rest is zero to it.
fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are plain integers laid out as linux/bpf.h has them, without padding
    // that is not at the end; addresses among them are those of values of the callers, which live
    // until the call returns, and the kernel only reads there.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn descriptor(number: libc::c_long) -> io::Result<OwnedFd> {
    let number = i32::try_from(number).map_err(io::Error::other)?;
    // SAFETY: a descriptor that the kernel just made for this call's caller, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
