//! The project's own tasks: one match on the command line, and one module for each task.

mod flags;

mod bench;
mod ci;
mod demo;
mod dist;
mod no_std;
mod scenario;
mod soak;
mod test;
mod tidy;
mod vectors;

mod harness;
mod venv;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::flags::{Flags, Task};

fn main() -> ExitCode {
    let done = match Flags::parse().task {
        Task::Test(flags) if flags.list => {
            scenario::list(&flags);
            Ok(())
        }
        Task::Test(flags) => return test::run(&flags).into(),
        Task::Vectors(flags) => vectors::run(flags.mode()),
        Task::Soak(flags) => soak::run(&flags),
        Task::Demo => demo::run(),
        Task::Bench(flags) => bench::run(&flags),
        Task::Dist(flags) => dist::run(&flags),
        Task::Ci => ci::run(),
        Task::Tidy => tidy::run(),
        Task::NoStd => no_std::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
