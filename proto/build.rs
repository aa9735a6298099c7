//! Generates the protocol's types with protox, so that building needs no external compiler.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=netml/v1/sensor.proto");
    let descriptors = protox::compile(["netml/v1/sensor.proto"], ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
