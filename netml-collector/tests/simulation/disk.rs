//! The simulated disk of the spool's own tests.

pub(crate) use netml_agent::spool::fs;

#[path = "../../../netml-agent/src/spool/sim.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
pub(crate) mod sim;
