//! Measures how hedging and quorums change the tail latency of a fan-out, as in 'The Tail at Scale'
//! (Dean and Barroso, 2013), against real HTTP servers on this machine.
//!
//! Each server answers after a heavy-tailed delay. The program measures single requests and fan-outs to
//! 20 and to 100 servers. It waits for all answers, for all answers with each request hedged after the
//! measured 95th percentile, and for 95 % of the answers.

mod chart;
mod measure;
mod servers;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use measure::{Measurement, Patience, Workload};
use servers::Servers;

/// Measure the tail latency of fan-outs, without and with hedging and quorum.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Fan-outs to measure for each line. Single requests are measured five times as often.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    operations: u32,

    /// Draw the table into an SVG file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    examples::main(|args: Args| run(&args).map(|()| ExitCode::SUCCESS))
}

#[tokio::main]
async fn run(args: &Args) -> io::Result<()> {
    let servers = Servers::start().await?;
    let mut out = io::stdout();
    writeln!(
        out,
        "{} servers on this machine answer after {:.0} ms in the middle, one of a hundred after \
         more than {:.0} ms.\n",
        servers.len(),
        milliseconds(servers::MEDIAN),
        milliseconds(servers::percentile_99()),
    )?;
    writeln!(
        out,
        "{:<30} {:>7}  {:>8} {:>8} {:>8} {:>8}  {:>10}",
        "milliseconds", "times", "p50", "p95", "p99", "p99.9", "extra load"
    )?;

    let mut measured = Vec::new();
    let single = Workload::new(1, args.operations.saturating_mul(5));
    let usual = measure_and_show(&servers, &single, Patience::All, &mut measured).await?;
    let delay = usual.percentile(0.95);
    measure_and_show(&servers, &single, Patience::Hedged(delay), &mut measured).await?;
    for fan_out in [20, 100] {
        let workload = Workload::new(fan_out, args.operations);
        for patience in [
            Patience::All,
            Patience::Hedged(delay),
            Patience::Quorum(fan_out * 95 / 100),
        ] {
            measure_and_show(&servers, &workload, patience, &mut measured).await?;
        }
    }
    writeln!(
        out,
        "\nHedged after {:.1} ms, the measured p95.",
        milliseconds(delay)
    )?;
    if args.operations < 1000 {
        writeln!(
            out,
            "With fewer than 1000 operations p99.9 is the slowest of them."
        )?;
    }
    if let Some(file) = &args.svg {
        chart::draw(&measured, file)?;
    }
    Ok(())
}

async fn measure_and_show(
    servers: &Servers,
    workload: &Workload,
    patience: Patience,
    measured: &mut Vec<Measurement>,
) -> io::Result<Measurement> {
    let measurement = measure::measure(servers, workload, patience).await?;
    writeln!(io::stdout(), "{measurement}")?;
    measured.push(measurement.clone());
    Ok(measurement)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
