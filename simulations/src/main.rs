//! Compares adaptive limits, prints the table, and draws the curves.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use simulations::chart;
use simulations::compare::compare;
use simulations::contenders::Contender;
use simulations::scenarios;
use simulations::table::Table;

/// Compare adaptive limits before simulated servers.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Simulate only scenarios whose name contains this.
    #[arg(default_value = "")]
    filter: String,

    /// The number of seeds. The figures are means over all of them.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,

    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Simulate only `Limit::adaptive` and the best fixed limits.
    #[arg(long)]
    alone: bool,

    /// Draw the curves of each scenario into this directory.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/simulations")]
    svg: PathBuf,
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
    let mut scenarios = scenarios::all();
    scenarios.retain(|scenario| scenario.name.contains(&args.filter));
    let contenders = match args.alone {
        true => &Contender::ALL[..1],
        false => &Contender::ALL,
    };
    let seeds: Vec<_> = (args.seed..args.seed.saturating_add(args.seeds)).collect();
    let comparisons = compare(&scenarios, contenders, &seeds);
    std::fs::create_dir_all(&args.svg)?;
    for comparison in &comparisons {
        let name = comparison.scenario.name.replace([' ', ','], "-");
        chart::draw(comparison, &args.svg.join(format!("{name}.svg")))?;
    }
    let table = Table {
        comparisons: &comparisons,
        contenders,
        has_phases: true,
    };
    print!("{table}");
    println!("\nThe curves are in {}.", args.svg.display());
    Ok(())
}
