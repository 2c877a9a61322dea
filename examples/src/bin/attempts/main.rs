//! Simulates what hedges and retries do to a backend that becomes slow, or that is down for a while.
//!
//! Nothing here takes time: the clock is a `TestTimer`, which jumps to the next event. The same seed gives
//! the same table.

mod hedges;
mod load;
mod retries;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Simulate hedges and retries.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    simulation: Simulation,

    /// The number of requests.
    #[arg(long, global = true, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1000..))]
    requests: u32,

    /// Another seed gives other random numbers.
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
}

#[derive(Subcommand)]
enum Simulation {
    /// The backend becomes slower half-way. Compares fixed delays with a learned one.
    Hedges {
        /// How many times slower.
        #[arg(long, default_value_t = 2.0)]
        slower: f64,

        /// The spread of the logarithm of the latency. With 1, the 99th percentile is ten times the median.
        #[arg(long, default_value_t = 1.0)]
        spread: f64,
    },
    /// The backend is down for the middle third. Compares retries with and without a budget.
    Retries {
        /// The part of a token that a success gives back to the budget.
        #[arg(long, default_value_t = 0.1)]
        ratio: f64,
    },
}

fn main() -> ExitCode {
    examples::main(|args: Args| run(&args).map(|()| ExitCode::SUCCESS))
}

fn run(args: &Args) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match args.simulation {
        Simulation::Hedges { slower, spread } => {
            let table = hedges::simulate(args.requests, args.seed, slower, spread);
            write!(out, "{table}")
        }
        Simulation::Retries { ratio } => {
            let table = retries::simulate(args.requests, args.seed, ratio);
            write!(out, "{table}")
        }
    }
}
