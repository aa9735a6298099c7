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
    for name in [INGRESS_PROGRAM, EGRESS_PROGRAM] {
        let program = object::classifier(&mut loaded.bpf, name).unwrap();
        verified_cheaply(program.info().unwrap().verified_instruction_count());
    }
    let program = object::xdp(&mut loaded.bpf, XDP_PROGRAM).unwrap();
    verified_cheaply(program.info().unwrap().verified_instruction_count());
}

/// The verifier gives up at a million instructions; other kernels than this one must have room.
fn verified_cheaply(instructions: Option<u32>) {
    if let Some(instructions) = instructions {
        assert!(instructions < 100_000, "{instructions} instructions");
    }
}
