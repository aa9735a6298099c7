//! Bounds-checked reads of a frame's headers: the only pointer arithmetic of the programs.
//!
//! The linear part is read directly. What lies behind it (fragments of a multi-buffer XDP frame,
//! pages of a socket buffer) is copied out by the kernel's helper, four bytes at most at a time.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use netml_common::HeaderBytes;

/// Headers beyond this offset are not read. The verifier wants offsets below 64 KiB; the walk's
/// own bounds (8 extensions of at most 2 KiB behind what begins below 8 KiB) stay below.
const OFFSET_MAX: usize = 0x7fff;

/// Copies out what is not in the linear part.
pub trait Load {
    /// Copies `bytes` bytes at `offset` to `to`; zero where they are there.
    ///
    /// # Safety
    /// `context` is the program's own context, and `to` has room for `bytes` bytes.
    unsafe fn load(context: *mut c_void, offset: u32, to: *mut c_void, bytes: u32) -> i64;
}

/// Frames of XDP programs.
pub struct Xdp;
/// Socket buffers of TC programs.
pub struct Skb;

// Inlined: a function of its own would carry the build folder's hash in its name.
impl Load for Xdp {
    #[inline(always)]
    unsafe fn load(context: *mut c_void, offset: u32, to: *mut c_void, bytes: u32) -> i64 {
        // SAFETY: the caller's contract; the kernel checks the offset.
        unsafe { bpf_xdp_load_bytes(context.cast::<xdp_md>(), offset, to, bytes) }
    }
}

impl Load for Skb {
    #[inline(always)]
    unsafe fn load(context: *mut c_void, offset: u32, to: *mut c_void, bytes: u32) -> i64 {
        // SAFETY: the caller's contract; the kernel checks the offset.
        unsafe { bpf_skb_load_bytes(context, offset, to, bytes) }
    }
}

/// An integer of the packet, at most four bytes long.
trait Int: Copy {}

impl Int for u8 {}
impl Int for u16 {}
impl Int for u32 {}

/// One frame.
pub struct Packet<L> {
    context: *mut c_void,
    data: usize,
    data_end: usize,
    /// Bytes of the frame, linear part and fragments.
    pub frame_bytes: u32,
    /// In map memory, for `forget` and for what is copied out: the stack is too small.
    cell: *mut u32,
    load: core::marker::PhantomData<L>,
}

impl Packet<Xdp> {
    /// The frame of an XDP program.
    #[inline(always)]
    pub fn of_xdp(context: &XdpContext, cell: *mut u32) -> Self {
        // SAFETY: the context is the program's own.
        let frame_bytes = unsafe { bpf_xdp_get_buff_len(context.ctx) } as u32;
        Self {
            context: context.as_ptr(),
            data: context.data(),
            data_end: context.data_end(),
            frame_bytes,
            cell,
            load: core::marker::PhantomData,
        }
    }
}

impl Packet<Skb> {
    /// The socket buffer of a TC program.
    #[inline(always)]
    pub fn of_skb(context: &TcContext, cell: *mut u32) -> Self {
        Self {
            context: context.as_ptr(),
            data: context.data(),
            data_end: context.data_end(),
            frame_bytes: context.len(),
            cell,
            load: core::marker::PhantomData,
        }
    }
}

impl<L: Load> Packet<L> {
    /// Reads a `T` of one, two or four bytes.
    #[inline(always)]
    fn read<T: Int>(&self, offset: u32) -> Option<T> {
        let mut distance = offset as usize;
        // What is compared must be what is added: the compiler would at times compare a copy, and
        // the verifier would learn nothing of the other.
        // SAFETY: a move onto itself.
        unsafe {
            core::arch::asm!(
                "{distance} = {distance}",
                distance = inout(reg) distance,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        if distance > OFFSET_MAX {
            return None;
        }
        let at = self.data + distance;
        let mut end = at;
        // The verifier learns a range only from `pointer + constant > data_end`; for one byte the
        // compiler would turn that into `pointer >= data_end`, which teaches it nothing.
        // SAFETY: an addition, nothing else.
        unsafe {
            core::arch::asm!(
                "{end} += {bytes}",
                end = inout(reg) end,
                bytes = const size_of::<T>(),
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        if end <= self.data_end {
            // SAFETY: `at .. at + size` lies in the linear part, checked above and again by the
            // verifier. Unaligned loads of packet bytes are what the verifier allows where the
            // machine can do them; `T` is an integer, any bytes are valid.
            return Some(unsafe { *(at as *const T) });
        }
        let bytes = size_of::<T>() as u32;
        // SAFETY: the context is the program's own; the cell has four bytes, `T` no more, and any
        // bytes are a valid integer.
        unsafe {
            if L::load(self.context, offset, self.cell.cast(), bytes) != 0 {
                return None;
            }
            Some(self.cell.cast::<T>().read_volatile())
        }
    }
}

impl<L: Load> HeaderBytes for Packet<L> {
    #[inline(always)]
    fn forget(&self, offset: u32) -> u32 {
        // SAFETY: a cell of this CPU's own scratch place; what is read back from a map is an
        // unknown number to the verifier.
        unsafe {
            self.cell.write_volatile(offset);
            self.cell.read_volatile()
        }
    }

    #[inline(always)]
    fn u8_at(&self, offset: u32) -> Option<u8> {
        self.read(offset)
    }
    #[inline(always)]
    fn u16_at(&self, offset: u32) -> Option<u16> {
        self.read(offset).map(u16::from_be)
    }
    #[inline(always)]
    fn ipv4_at(&self, offset: u32) -> Option<[u8; 4]> {
        self.read(offset).map(u32::to_ne_bytes)
    }
    #[inline(always)]
    fn ipv6_at(&self, offset: u32) -> Option<[u8; 16]> {
        let words = [
            self.read::<u32>(offset)?,
            self.read::<u32>(offset + 4)?,
            self.read::<u32>(offset + 8)?,
            self.read::<u32>(offset + 12)?,
        ];
        // SAFETY: both are sixteen plain bytes.
        Some(unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) })
    }
}

/// What a socket buffer says of its segments and its tag.
pub struct SkbFacts {
    /// Interface index.
    pub ifindex: u32,
    /// Segments by the kernel's count; 0 or 1: none, or not counted yet.
    pub gso_segs: u32,
    /// Payload bytes of a segment; 0: not a super-packet.
    pub gso_size: u32,
    /// Bytes on the wire by the queueing layer.
    pub wire_len: u32,
    /// True where a VLAN tag waits beside the frame.
    pub vlan_present: bool,
}

impl SkbFacts {
    /// Reads them.
    #[inline(always)]
    pub fn of(context: &TcContext) -> Self {
        let skb: *const __sk_buff = context.skb.skb;
        // SAFETY: the context is the program's own; the verifier turns each field access into one
        // of the kernel's structure.
        unsafe {
            Self {
                ifindex: (*skb).ifindex,
                gso_segs: (*skb).gso_segs,
                gso_size: (*skb).gso_size,
                wire_len: (*skb).wire_len,
                vlan_present: (*skb).vlan_present != 0,
            }
        }
    }
}
