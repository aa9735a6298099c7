//! The kernel programs without a network: frames through the kernel's test run, compared field by
//! field with the reference walk.

use netml_agent::probe::object::{self, LoadSettings};
use netml_common::knobs::{EGRESS_PROGRAM, INGRESS_PROGRAM, XDP_PROGRAM};

#[test]
fn the_verifier_takes_all_programs() {
    let mut loaded = object::load(&LoadSettings {
        ring_bytes: 1 << 16,
        wake_fill_bytes: 1 << 15,
        interfaces: Vec::new(),
    })
    .unwrap();
    object::classifier(&mut loaded.bpf, INGRESS_PROGRAM).unwrap();
    object::classifier(&mut loaded.bpf, EGRESS_PROGRAM).unwrap();
    object::xdp(&mut loaded.bpf, XDP_PROGRAM).unwrap();
}
