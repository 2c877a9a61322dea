//! Benchmarks: this crate and its peers on the same work, in the same process.
//!
//! The contenders of a workload are measured by turns, sample by sample, so that a machine that slows down
//! slows all of them. The result is the ratio of their medians.

mod chart;
mod harness;
mod report;
mod sources;
mod task;
mod workloads;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Measure futures-aggregate against its peers.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Measure only workloads whose name contains this.
    #[arg(default_value = "")]
    filter: String,

    /// Measure only the workload whose name is exactly the filter.
    #[arg(long)]
    exact: bool,

    /// The number of samples of each contender.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,

    /// Measure one contender alone, for a profiler: this crate, or the one named.
    #[arg(
        long,
        value_name = "CONTENDER",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "futures-aggregate"
    )]
    alone: Option<String>,

    /// Do each work exactly this many times and measure nothing, for a tool that counts instructions. The
    /// difference between two such counts excludes the set-up.
    #[arg(long, value_name = "TIMES")]
    times: Option<u32>,

    /// Write the table as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Draw the ratios into an SVG file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    let mut rows = Vec::new();
    for workload in workloads::all() {
        for &size in &workload.sizes {
            let name = workload.row_name(size);
            let is_wanted = match args.exact {
                true => name == args.filter,
                false => name.contains(&args.filter),
            };
            if !is_wanted {
                continue;
            }
            let mut contenders = (workload.contenders)(size);
            if let Some(name) = &args.alone {
                contenders.retain(|contender| contender.name == name);
                if contenders.is_empty() {
                    continue;
                }
            }
            if let Some(times) = args.times {
                for contender in &mut contenders {
                    (0..times).for_each(|_| (contender.work)());
                }
                continue;
            }
            let row = harness::measure(&workload, size, contenders, args.samples);
            println!("{}", report::line(&row));
            rows.push(row);
        }
    }
    if let Some(file) = &args.markdown {
        std::fs::write(file, report::markdown(&rows))?;
    }
    if let Some(file) = &args.svg {
        chart::draw(&rows, file)?;
    }
    Ok(())
}
