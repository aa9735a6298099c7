//! Every chore of the project: `run`, `test`, `bench`, `ebpf`, `setup`, `lab`.

mod lab;
mod sys;

use clap::{Parser, Subcommand};

#[derive(Parser, Debug)]
#[command(
    name = "xtask",
    about = "Every chore of netml",
    bin_name = "cargo xtask"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Makes labelled traffic between namespaces of its own (root)
    Lab(lab::LabArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Lab(args) => lab::run(&args),
    }
}
