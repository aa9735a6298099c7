//! Every chore of the project: `run`, `test`, `bench`, `fuzz`, `ebpf`, `setup`, `lab`.

mod bench;
mod documents;
mod e2e;
mod ebpf;
mod fuzz;
mod lab;
mod process;
mod run;
mod setup;
mod sys;
mod test;

use std::process::ExitCode;

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
    /// Builds and starts everything and prints the dashboard's address
    Run(run::RunArgs),
    /// Proves that everything works; what CI runs
    Test(test::TestArgs),
    /// Measures absolute speeds and names the machine
    Bench(bench::BenchArgs),
    /// Feeds mutated inputs to the packet walk, the capture reader and the record decoder
    Fuzz(fuzz::FuzzArgs),
    /// Builds the kernel object, or checks the kept one
    Ebpf(ebpf::EbpfArgs),
    /// Installs what building and checking need
    Setup(setup::SetupArgs),
    /// Makes labelled traffic between namespaces of its own (root)
    Lab(lab::LabArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Ebpf(args) => ebpf::run(&args),
        Command::Setup(args) => setup::run(&args),
        Command::Lab(args) => lab::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<run::Misuse>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
