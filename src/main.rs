//! Lizards: a real-time stock price tracker.
//!
//! One binary with a subcommand for each role; `lizards up` runs all of them in one process.

mod bench;
mod cli;
mod config;
mod doctor;
mod dry_run;
mod print;
mod raw;
mod rejected;
mod replay;
mod roles;
mod signals;
mod sources;
mod streams;
mod up;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// A third of what a tick costs `provide` is its buffers, and this one is much quicker about them.
/// Without huge pages, because they make idle connections a third larger.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            // One line: what, and every cause that says something new.
            let mut line = error.to_string();
            for cause in error.chain().skip(1).map(ToString::to_string) {
                if !line.contains(&cause) {
                    line = format!("{line}: {cause}");
                }
            }
            print::complain(format_args!("lizards: {line}"));
            ExitCode::FAILURE
        }
    }
}
