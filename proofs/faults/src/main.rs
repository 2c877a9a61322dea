//! Tests the checks: a check that cannot fail proves nothing. This program puts one fault after another into
//! a copy of the library, and runs the check that has to find the fault.

mod check;
mod copy;
mod fault;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use check::{Check, Verdict};
use copy::Copy;
use fault::Fault;

/// Puts faults into copies of futures-aggregate, and tests that its checks find them.
#[derive(Parser)]
struct Arguments {
    /// Run only these checks, rather than all
    #[arg(value_enum)]
    checks: Vec<Check>,

    /// Put in only faults whose description or patch name contains this
    #[arg(long, default_value = "")]
    fault: String,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let faults: Vec<_> = fault::all()?
        .into_iter()
        .filter(|fault| arguments.checks.is_empty() || arguments.checks.contains(&fault.check))
        .filter(|fault| {
            fault.name.contains(&arguments.fault) || fault.what.contains(&arguments.fault)
        })
        .collect();
    anyhow::ensure!(
        !faults.is_empty(),
        "no fault is called `{}`; the names are those of the patches in proofs/faults",
        arguments.fault
    );

    let copy = Copy::make("copy")?;
    let mut survivors = 0;
    for check in Check::ALL {
        let mut faults = faults
            .iter()
            .filter(|fault| fault.check == check)
            .peekable();
        if faults.peek().is_none() {
            continue;
        }
        let patience = 2 * expect_success(&copy, check)? + Duration::from_secs(20);
        for fault in faults {
            survivors += usize::from(!is_found(&copy, fault, patience)?);
        }
    }
    println!("{} faults, {survivors} of them not found", faults.len());
    Ok(match survivors {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Runs a check on the copy without a fault, where it has to pass. Returns how long that took.
fn expect_success(copy: &Copy, check: Check) -> anyhow::Result<Duration> {
    copy.restore()?;
    let (verdict, time) = check.run(copy, "", Duration::MAX)?;
    anyhow::ensure!(
        verdict == Verdict::Passed,
        "{check} fails without any fault: {verdict}"
    );
    println!("{check}: passes without a fault in {} s", time.as_secs());
    Ok(time)
}

fn is_found(copy: &Copy, fault: &Fault, patience: Duration) -> anyhow::Result<bool> {
    copy.restore()?;
    copy.apply(fault)
        .with_context(|| format!("the fault {:?} cannot be put in", fault.what))?;
    let (verdict, _) = fault.check.run(copy, &fault.test, patience)?;
    println!("  {} {verdict}", fault.what);
    Ok(verdict.is_found())
}
