//! A soak test: many runs that end early, and a census of what they leave behind.
//!
//! A service in Go with the operations `FetchAndAggregate`, `ProcessBatch` and `StreamResults` grew from
//! 50 MB to 8 GB in four hours. Its goroutines were blocked for ever on channels without a reader, because
//! the readers had stopped at timeouts and cancellations. This program puts such a load on the operations of
//! the crate, and then on code that leaks as that service did. No run completes. Whenever all runs have
//! ended, the program counts what is alive.

mod census;
mod flatness;
mod leaking;
mod load;
mod picture;
mod report;
mod run;
mod sources;
mod tight;
mod wakers;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use load::{Length, Soak};
use run::Way;

/// Put runs that end early under load, of the crate's operations and of code that leaks, and report what
/// they leave behind.
///
/// Exits with 0 if the crate's operations leave nothing behind, and the leaks of the other code are found.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// How long each way is put under load, in seconds.
    #[arg(long, value_name = "NUMBER", default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    seconds: u64,

    /// The number of runs of each way, in place of a time.
    #[arg(long, value_name = "NUMBER", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(6_000..))]
    runs: Option<u64>,

    /// Put one way under load, and fail if it is not flat.
    #[arg(long, value_name = "WAY", conflicts_with = "svg")]
    only: Option<Way>,

    /// Draw both ways into an SVG file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    match compare(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> io::Result<()> {
    let length = match args.runs {
        Some(runs) => Length::of_runs(runs),
        None => Length::of_time(Duration::from_secs(args.seconds)),
    };
    if let Some(way) = args.only {
        return flat(&soak(way, length)?);
    }
    // The leaking way comes last, because the memory that it leaves behind would disturb other figures.
    let tight = soak(Way::Tight, length)?;
    flat(&tight)?;
    let leaking = soak(Way::Leaking, length.at_most(tight.last().runs))?;
    match flat(&leaking) {
        Ok(()) => return Err(io::Error::other("the leaking way was not found out")),
        Err(found) => println!("Found out: {found}"),
    }
    if let Some(file) = &args.svg {
        picture::draw(&tight, &leaking, file)?;
    }
    Ok(())
}

fn soak(way: Way, length: Length) -> io::Result<Soak> {
    println!("\n{}\n{}", way.name(), report::heading());
    let show = |checkpoint: &_| println!("{}", report::line(checkpoint));
    let soak = load::soak(way, length, show)?;
    println!("{}", report::summary(&soak));
    Ok(soak)
}

fn flat(soak: &Soak) -> io::Result<()> {
    let findings = flatness::findings(&soak.checkpoints);
    if findings.is_empty() {
        println!("Flat");
        return Ok(());
    }
    Err(io::Error::other(format!(
        "not flat: {}",
        findings.join("; ")
    )))
}
