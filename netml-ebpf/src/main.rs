//! The kernel programs: XDP and TC ingress for what an interface receives, TC egress for what it
//! sends. Each counts every frame and records the headers of every IP packet.
//!
//! No path drops, alters or redirects anything: every program returns "go on".
#![no_std]
// Two places in packet.rs that the compiler must not rewrite.
#![feature(asm_experimental_arch)]
#![no_main]

mod account;
mod flows;
mod maps;
mod packet;
mod yardstick;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use netml_common::Direction;

use crate::account::{Frame, account};
use crate::maps::{SCRATCH, Scratch};
use crate::packet::{Packet, SkbFacts};

/// Lets the next program decide; the same number as `TC_ACT_UNSPEC`, which does so in a clsact
/// filter.
const TCX_NEXT: i32 = -1;

// Each program is inlined into the entry that its attribute makes: a function of its own would
// carry a hash of the build folder in its name, and the kept object would be stale elsewhere.

/// What an interface receives, before anything else sees it.
#[xdp(frags)]
#[inline(always)]
pub fn netml_xdp(context: XdpContext) -> u32 {
    if let Some((scratch, cell)) = scratch() {
        let frame = Frame {
            packet: Packet::of_xdp(&context, cell),
            ifindex: context.ingress_ifindex() as u32,
            direction: Direction::Ingress,
            skb: None,
        };
        account(&frame, scratch);
    }
    XDP_PASS
}

/// What an interface receives, where XDP is not to be had.
#[classifier]
#[inline(always)]
pub fn netml_ingress(context: TcContext) -> i32 {
    account_skb(&context, Direction::Ingress);
    TCX_NEXT
}

/// What an interface sends.
#[classifier]
#[inline(always)]
pub fn netml_egress(context: TcContext) -> i32 {
    account_skb(&context, Direction::Egress);
    TCX_NEXT
}

#[inline(always)]
fn account_skb(context: &TcContext, direction: Direction) {
    if let Some((scratch, cell)) = scratch() {
        let skb = SkbFacts::of(context);
        let frame = Frame {
            packet: Packet::of_skb(context, cell),
            ifindex: skb.ifindex,
            direction,
            skb: Some(skb),
        };
        account(&frame, scratch);
    }
}

/// This CPU's working memory. The lookup cannot fail, but the verifier does not know.
#[inline(always)]
fn scratch() -> Option<(*mut Scratch, *mut u32)> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: an address inside the map's value.
    Some((scratch, unsafe { &raw mut (*scratch).cell }))
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 18] = *b"Apache-2.0 OR MIT\0";
