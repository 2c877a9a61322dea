//! The checks, which are commands, and their verdicts.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::copy::Copy;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Check {
    /// All tests except those in the documentation
    Suite,
    /// The comparison with a simple model of the scheduler
    Model,
    /// Every short list of scripted sources, with every interference
    Exhaustive,
    /// The tree of wakers, in every order of threads
    Loom,
    /// Whole runs, in random orders of threads
    Shuttle,
    /// Memory that is never freed
    LeakSanitizer,
    /// Memory that is used after it was freed
    AddressSanitizer,
    /// Data races
    ThreadSanitizer,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Found(String),
    /// The check did not end in time.
    Hung,
    /// The fault does not compile, so the check did not run.
    Broken(String),
}

impl Check {
    pub(crate) const ALL: [Self; 8] = [
        Self::Suite,
        Self::Model,
        Self::Exhaustive,
        Self::Loom,
        Self::Shuttle,
        Self::LeakSanitizer,
        Self::AddressSanitizer,
        Self::ThreadSanitizer,
    ];

    /// Runs the check on the copy: all of it, or only the tests whose names contain `test`. A check that
    /// takes longer than `patience` counts as hung. The time does not include compiling.
    pub(crate) fn run(
        self,
        copy: &Copy,
        test: &str,
        patience: Duration,
    ) -> anyhow::Result<(Verdict, Duration)> {
        let target = copy.root().with_file_name(self.to_string());
        let output = copy.root().with_file_name("output");
        let built = self
            .command(copy, &target, &output, &["--no-run"])?
            .wait()?;
        if !built.success() {
            return Ok((Verdict::Broken(last_lines(&output)?), Duration::ZERO));
        }
        let filter = if test.is_empty() { self.filter() } else { test };
        let mut child = self.command(copy, &target, &output, &["--no-fail-fast", "--", filter])?;
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = child.try_wait()? {
                let verdict = match status.success() {
                    true => Verdict::Passed,
                    false => Verdict::Found(first_failure(&output)?),
                };
                return Ok((verdict, start.elapsed()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let group = format!("-{}", child.id());
        Command::new("kill")
            .args(["-KILL", "--", &group])
            .status()?;
        child.wait()?;
        Ok((Verdict::Hung, patience))
    }

    /// Starts the check in a process group of its own, so that it can be killed as a whole.
    fn command(
        self,
        copy: &Copy,
        target: &Path,
        output: &Path,
        arguments: &[&str],
    ) -> anyhow::Result<Child> {
        let output = File::create(output)?;
        let mut command = match self {
            Self::LeakSanitizer | Self::AddressSanitizer | Self::ThreadSanitizer => {
                Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../sanitize"))
            }
            _ => {
                let mut cargo = Command::new("cargo");
                cargo.arg("test").env("RUSTFLAGS", self.flags());
                cargo
            }
        };
        let child = command
            .args(self.options())
            .args(arguments)
            .current_dir(copy.root())
            .env("CARGO_TARGET_DIR", target)
            .env("PROPTEST_CASES", self.cases())
            .env("RUST_BACKTRACE", "0")
            .env_remove("RUSTUP_TOOLCHAIN")
            .process_group(0)
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(child)
    }

    fn flags(self) -> &'static str {
        match self {
            Self::Loom => "--cfg futures_aggregate_loom",
            Self::Shuttle => "--cfg futures_aggregate_shuttle",
            _ => "",
        }
    }

    /// How many random cases a check tries. Few schedules of the model show some of the faults.
    fn cases(self) -> &'static str {
        match self {
            Self::Model => "50000",
            _ => "256",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Suite => &["--lib", "--tests"],
            Self::Exhaustive => &["--test", "exhaustive"],
            Self::Model | Self::Loom | Self::Shuttle => &["--lib", "--release"],
            // Only the tests with threads and drops, because all tests would take minutes.
            Self::LeakSanitizer => &["leak", "--test", "adversarial*"],
            Self::AddressSanitizer => &["address", "--test", "adversarial*"],
            Self::ThreadSanitizer => &["thread", "--test", "adversarial*"],
        }
    }

    fn filter(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Loom => "models",
            Self::Shuttle => "races",
            _ => "",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Verdict {
    pub(crate) fn is_found(&self) -> bool {
        matches!(self, Self::Found(_) | Self::Hung)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("NOT FOUND."),
            Self::Found(by) => write!(f, "Found by {by}."),
            Self::Hung => f.write_str("Found, because a test does not end."),
            Self::Broken(why) => write!(f, "NOT FOUND, because it does not compile:\n{why}"),
        }
    }
}

/// The report of a sanitizer, or else the first test that failed, or else the last line.
fn first_failure(output: &Path) -> anyhow::Result<String> {
    let output = String::from_utf8_lossy(&fs::read(output)?).into_owned();
    let found = output.lines().find_map(report);
    let found = found.or_else(|| output.lines().find_map(failed_test));
    let last = output.lines().last().unwrap_or_default();
    Ok(found.unwrap_or(last).to_owned())
}

fn report(line: &str) -> Option<&str> {
    let is_report = line.contains("Sanitizer:");
    line.split_once(": ")
        .filter(|_| is_report)
        .map(|(_, report)| report)
}

fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

fn last_lines(output: &Path) -> anyhow::Result<String> {
    let output = fs::read_to_string(output)?;
    let lines: Vec<_> = output.lines().collect();
    Ok(lines[lines.len().saturating_sub(20)..].join("\n"))
}
