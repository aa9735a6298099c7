//! What the cost of a frame is compared with: programs that do nothing, and that only submit a
//! record. Loaded by the bench of the kernel programs and by nothing else.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use netml_common::PACKET_RECORD_BYTES;

use crate::account::BPF_RB_NO_WAKEUP;
use crate::maps::RING;

/// Lets every frame pass.
#[xdp(frags)]
pub fn netml_bare_pass(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// Submits a record of zeros for every frame.
#[xdp(frags)]
pub fn netml_bare_submit(_context: XdpContext) -> u32 {
    if let Some(mut place) = RING.reserve::<[u64; PACKET_RECORD_BYTES / 8]>(0) {
        *place = MaybeUninit::zeroed();
        place.submit(BPF_RB_NO_WAKEUP);
    }
    XDP_PASS
}
