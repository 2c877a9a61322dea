//! Fetches many URLs at once, under a deadline, and reports the outcome of each.
//!
//! Without URLs it starts its own servers, good and bad ones, and fetches those. Ctrl-C ends the run
//! early and still shows the answers so far.

mod args;
mod fetch;
mod report;
mod timeline;
mod watch;

use std::future::Future;
use std::io;
use std::process::ExitCode;

use args::{Args, Settings};
use examples::{Asked, Limits, exit_code};
use fetch::{Failure, Fetcher, Page, Target};
use futures_aggregate::{
    AttemptBudget, Interrupted, Outcome, Reason, fetch_and_aggregate, stream_results,
};
use report::Report;
use tokio::runtime::Runtime;
use watch::Watch;

fn main() -> ExitCode {
    examples::main(|args: Args| {
        let asked = examples::asked(args.urls.clone())?;
        let runtime = Runtime::new()?;
        let complete = runtime.block_on(run(args, asked));
        // A blocking name lookup must not keep the program alive.
        runtime.shutdown_background();
        Ok(exit_code(complete?))
    })
}

/// Returns whether the run was complete.
async fn run(args: Args, asked: Asked) -> io::Result<bool> {
    let targets = fetch::targets(asked.targets);
    let fetcher = Fetcher {
        client: asked.client,
        retries: args.retries,
        hedge_after: args.hedge_after,
        budget: AttemptBudget::new(100, 0.1),
    };
    let settings = args.settings();
    let watch = Watch::new(&targets);
    let report = Report::new(&targets, &watch);
    report.header(&settings, &args.limits, args.urls.is_empty())?;

    let sources: Vec<_> = targets
        .into_iter()
        .map(|target| {
            let fetch = fetcher.fetch(target.url.clone());
            (target, fetch)
        })
        .collect();
    let (counts, reason) = if args.stream {
        stream(sources, &args.limits, &settings, &watch, &report).await?
    } else {
        aggregate(sources, &args, &settings, &watch, &report).await?
    };

    let timeline = watch.finish(reason);
    timeline.print()?;
    if let Some(file) = &args.timeline {
        timeline.draw(file).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", file.display()))
        })?;
    }
    report.totals(counts, reason, timeline.elapsed())?;
    Ok(reason.is_none())
}

/// Completes when the user presses Ctrl-C. Never completes if the system cannot report that.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

/// The counts of each kind of outcome, and what interrupted the run.
type Ended = ([(usize, &'static str); 3], Option<Reason>);

/// Waits for all sources, then shows their outcomes.
async fn aggregate<F>(
    sources: Vec<(Target, F)>,
    args: &Args,
    settings: &Settings,
    watch: &Watch,
    report: &Report,
) -> io::Result<Ended>
where
    F: Future<Output = Result<Page, Failure>>,
{
    let mut run = fetch_and_aggregate(sources, settings.timeout)
        .source_timeout(settings.source_timeout)
        .concurrency(args.limits.concurrency(settings.concurrency))
        .overload_if(|page| page.as_ref().is_err_and(Failure::is_overload))
        .concurrency_per(Target::host, args.limits.per_host())
        .cancel_on(interrupted())
        .observe(watch.observer());
    if let Some(rate) = args.limits.rate() {
        run = run.rate(&rate);
    }
    if args.fail_fast {
        run = run.fail_fast();
    }
    if let Some(successes) = args.quorum {
        run = run.quorum(successes);
    }
    let answer = run.await;

    let reason = answer.as_ref().err().map(|interrupted| interrupted.reason);
    let aggregate = answer.unwrap_or_else(Interrupted::into_partial);
    for (target, page) in &aggregate.results {
        report.answered(target, page)?;
    }
    for (target, error) in &aggregate.errors {
        report.failed(target, error)?;
    }
    for target in &aggregate.unfinished {
        report.unfinished(target)?;
    }
    let counts = [
        (aggregate.results.len(), "answered"),
        (aggregate.errors.len(), "failed"),
        (aggregate.unfinished.len(), "unfinished"),
    ];
    Ok((counts, reason))
}

/// Shows each outcome as it arrives. The driver runs in another task.
async fn stream<F>(
    sources: Vec<(Target, F)>,
    limits: &Limits,
    settings: &Settings,
    watch: &Watch,
    report: &Report,
) -> io::Result<Ended>
where
    F: Future<Output = Result<Page, Failure>> + Send + 'static,
{
    let (sender, outcomes) = async_channel::bounded(8);
    let mut driver = stream_results(sources, sender)
        .timeout(settings.timeout)
        .source_timeout(settings.source_timeout)
        .concurrency(limits.concurrency(settings.concurrency))
        .overload_if(|page| page.as_ref().is_err_and(Failure::is_overload))
        .concurrency_per(Target::host, limits.per_host())
        .cancel_on(interrupted())
        .observe(watch.observer());
    if let Some(rate) = limits.rate() {
        driver = driver.rate(&rate);
    }
    let driver = tokio::spawn(driver);

    let (mut answered, mut failed) = (0, 0);
    let mut show = |(target, outcome): Outcome<Target, Page, Failure>| match outcome {
        Ok(page) => {
            answered += 1;
            report.answered(&target, &page)
        }
        Err(error) => {
            failed += 1;
            report.failed(&target, &error)
        }
    };
    while let Ok(outcome) = outcomes.recv().await {
        show(outcome)?;
    }
    let answer = driver.await.map_err(io::Error::other)?;

    let reason = answer.as_ref().err().map(|interrupted| interrupted.reason);
    let streamed = answer.unwrap_or_else(Interrupted::into_partial);
    // Outcomes that found no room in the channel before the deadline.
    for outcome in streamed.undelivered {
        show(outcome)?;
    }
    for target in &streamed.unfinished {
        report.unfinished(target)?;
    }
    let counts = [
        (answered, "answered"),
        (failed, "failed"),
        (streamed.unfinished.len(), "unfinished"),
    ];
    Ok((counts, reason))
}
