//! Generates the protocol's types with protox, so that building needs no external compiler.

const FILES: [&str; 2] = ["netml/v1/sensor.proto", "netml/v1/enrolment.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
