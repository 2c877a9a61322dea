//! Fetches many URLs at once, under a deadline, and reports the outcome of each.
//!
//! Without URLs it starts its own servers, good and bad ones, and fetches those. Ctrl-C ends the run
//! early and still shows the answers so far.

use std::future::Future;
use std::io;
use std::process::ExitCode;

use args::{Args, Settings};
use examples::{Asked, Limits};
use fetch::{Failure, Fetcher, Page, Target};
use futures_aggregate::{
    AttemptBudget, Interrupted, Outcome, Reason, fetch_and_aggregate, stream_results,
};
use report::Report;
use watch::Watch;

fn main() -> ExitCode {
    examples::main(|args: Args| {
        let asked = examples::asked(args.urls.clone())?;
        examples::on_tokio(run(args, asked))
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

/// The command-line arguments.
mod args {
    use std::path::PathBuf;
    use std::time::Duration;

    use clap::Parser;
    use examples::{Limits, at_least_one, url};
    use reqwest::Url;

    /// Fetch many URLs at once, under a deadline, and report the outcome of each.
    ///
    /// Exits with 0 when every source has answered, failures included, or when the quorum was reached;
    /// with 2 when the deadline, a failure or Ctrl-C interrupted the run; with 1 for bad arguments.
    #[derive(Parser)]
    #[command(version)]
    pub(crate) struct Args {
        /// URLs to fetch. Without any, the program starts servers on this machine and fetches those.
        #[arg(value_parser = url(&["http", "https"]))]
        pub(crate) urls: Vec<Url>,

        /// Time for the whole run, such as `2s` or `500ms`.
        #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
        timeout: Duration,

        /// Time for each source, counted from its own start.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        source_timeout: Option<Duration>,

        /// Sources in flight at the same time.
        #[arg(long, value_name = "NUMBER", value_parser = at_least_one)]
        concurrency: Option<usize>,

        #[command(flatten)]
        pub(crate) limits: Limits,

        /// Stop as soon as this many sources have succeeded.
        #[arg(long, value_name = "NUMBER", value_parser = at_least_one, conflicts_with = "stream")]
        pub(crate) quorum: Option<usize>,

        /// Stop at the first failure.
        #[arg(long, conflicts_with = "stream")]
        pub(crate) fail_fast: bool,

        /// Make a second request when a source has not answered for this long, and take the first
        /// answer.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        pub(crate) hedge_after: Option<Duration>,

        /// Retry a source that fails, up to this many times, within the same deadline.
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        pub(crate) retries: usize,

        /// Draw the run into an SVG file.
        #[arg(long, value_name = "FILE")]
        pub(crate) timeline: Option<PathBuf>,

        /// Show outcomes as they arrive, rather than all at the end.
        #[arg(long)]
        pub(crate) stream: bool,
    }

    /// The limits of a run.
    pub(crate) struct Settings {
        pub(crate) timeout: Duration,
        pub(crate) source_timeout: Duration,
        pub(crate) concurrency: usize,
    }

    impl Args {
        /// The limits from the arguments, or none. The program's own servers get limits under which each
        /// of them shows its behaviour.
        pub(crate) fn settings(&self) -> Settings {
            let (source_timeout, concurrency) = if self.urls.is_empty() {
                (Duration::from_millis(1500), 3)
            } else {
                (Duration::MAX, usize::MAX)
            };
            Settings {
                timeout: self.timeout,
                source_timeout: self.source_timeout.unwrap_or(source_timeout),
                concurrency: self.concurrency.unwrap_or(concurrency),
            }
        }
    }
}

/// One source: a page fetched by HTTP.
mod fetch {
    use std::fmt;
    use std::time::{Duration, Instant};

    use backon::{ExponentialBuilder, Retryable};
    use examples::{Chain, is_overload};
    use futures::future::{BoxFuture, FutureExt};
    use futures_aggregate::{AttemptBudget, hedge};
    use reqwest::{Client, StatusCode, Url};
    use url::Origin;

    /// The first attempt, and one more if it is slow.
    const ATTEMPTS: usize = 2;

    /// A URL with its name.
    pub(crate) struct Target {
        /// Its position in the list.
        pub(crate) index: usize,
        pub(crate) name: String,
        pub(crate) url: Url,
    }

    impl Target {
        /// The host that it is on.
        pub(crate) fn host(&self) -> Origin {
            self.url.origin()
        }
    }

    /// A successful answer.
    pub(crate) struct Page {
        pub(crate) status: StatusCode,
        pub(crate) bytes: usize,
        pub(crate) elapsed: Duration,
    }

    /// Why a request failed.
    pub(crate) struct Failure {
        error: reqwest::Error,
        pub(crate) elapsed: Duration,
    }

    impl Failure {
        pub(crate) fn is_overload(&self) -> bool {
            is_overload(&self.error)
        }
    }

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            Chain(&self.error).fmt(f)
        }
    }

    pub(crate) fn targets(named: Vec<(String, Url)>) -> Vec<Target> {
        let named = named.into_iter().enumerate();
        named
            .map(|(index, (name, url))| Target { index, name, url })
            .collect()
    }

    /// Fetches pages, with retries and hedging.
    #[derive(Clone)]
    pub(crate) struct Fetcher {
        pub(crate) client: Client,
        pub(crate) retries: usize,
        pub(crate) hedge_after: Option<Duration>,
        /// Shared by all sources: limits the extra requests to a backend in trouble.
        pub(crate) budget: AttemptBudget,
    }

    impl Fetcher {
        /// One source: retries and hedges all happen within the deadlines of the run.
        pub(crate) fn fetch(&self, url: Url) -> BoxFuture<'static, Result<Page, Failure>> {
            let Some(delay) = self.hedge_after else {
                return self.clone().fetch_with_retries(url).boxed();
            };
            let fetcher = self.clone();
            let attempt = move |_| fetcher.clone().fetch_with_retries(url.clone());
            let hedged = hedge(delay, ATTEMPTS, attempt).budget(&self.budget);
            async move {
                let started = Instant::now();
                let mut answer = hedged.await.map_err(|failed| failed.last);
                // Report the time of the source, not of its last attempt.
                match &mut answer {
                    Ok(page) => page.elapsed = started.elapsed(),
                    Err(failure) => failure.elapsed = started.elapsed(),
                }
                answer
            }
            .boxed()
        }

        async fn fetch_with_retries(self, url: Url) -> Result<Page, Failure> {
            let started = Instant::now();
            let policy = ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(50))
                .with_max_times(self.retries);
            let fetch = || fetch(self.client.clone(), url.clone());
            match fetch.retry(policy).sleep(tokio::time::sleep).await {
                Ok((status, bytes)) => Ok(Page {
                    status,
                    bytes,
                    elapsed: started.elapsed(),
                }),
                Err(error) => Err(Failure {
                    // The output line names the URL already.
                    error: error.without_url(),
                    elapsed: started.elapsed(),
                }),
            }
        }
    }

    async fn fetch(client: Client, url: Url) -> reqwest::Result<(StatusCode, usize)> {
        let response = client.get(url).send().await?.error_for_status()?;
        let status = response.status();
        let body = response.bytes().await?;
        Ok((status, body.len()))
    }
}

/// The output: one line for each source, and the counts.
mod report {
    use std::io::{self, Write};
    use std::time::Duration;

    use examples::Limits;
    use examples::timeline::time;
    use futures_aggregate::{Reason, SourceError};

    use crate::args::Settings;
    use crate::fetch::{Failure, Page, Target};
    use crate::watch::Watch;

    /// Prints lines of one layout.
    pub(crate) struct Report {
        /// The width of the longest name.
        width: usize,
        watch: Watch,
    }

    impl Report {
        pub(crate) fn new(targets: &[Target], watch: &Watch) -> Self {
            let width = targets
                .iter()
                .map(|target| target.name.chars().count())
                .max();
            Self {
                width: width.unwrap_or(0),
                watch: watch.clone(),
            }
        }

        /// Prints what the program fetches, and the limits.
        pub(crate) fn header(
            &self,
            settings: &Settings,
            more: &Limits,
            own_servers: bool,
        ) -> io::Result<()> {
            let mut limits = vec![format!("{} in all", time(settings.timeout))];
            if settings.source_timeout < Duration::MAX {
                limits.push(format!("{} each", time(settings.source_timeout)));
            }
            if more.adaptive {
                limits.push("as many at a time as the servers can bear".to_owned());
            } else if settings.concurrency < usize::MAX {
                limits.push(format!("{} at a time", settings.concurrency));
            }
            if let Some(number) = more.per_host {
                limits.push(format!("{number} of each host"));
            }
            if let Some(rate) = more.rate {
                limits.push(format!("{rate} per second"));
            }
            let what = if own_servers {
                "No URLs given: fetching from servers started on this machine"
            } else {
                "Fetching"
            };
            writeln!(io::stdout(), "{what}, {}.\n", limits.join(", "))
        }

        pub(crate) fn answered(&self, target: &Target, page: &Page) -> io::Result<()> {
            let status = page.status.as_u16();
            self.line(
                target,
                &format!("{status}"),
                &size(page.bytes),
                &time(page.elapsed),
                "",
            )
        }

        pub(crate) fn failed(
            &self,
            target: &Target,
            error: &SourceError<Failure>,
        ) -> io::Result<()> {
            match error {
                SourceError::Failed(failure) => self.line(
                    target,
                    "failed",
                    "-",
                    &time(failure.elapsed),
                    &failure.to_string(),
                ),
                SourceError::TimedOut => self.stopped(target, "timed out", ""),
                other => self.stopped(target, "failed", &other_text(other)),
            }
        }

        pub(crate) fn unfinished(&self, target: &Target) -> io::Result<()> {
            self.stopped(target, "unfinished", "")
        }

        /// A source whose outcome does not carry its time.
        fn stopped(&self, target: &Target, outcome: &str, detail: &str) -> io::Result<()> {
            let elapsed = self.watch.elapsed(target).map(time);
            let elapsed = elapsed.as_deref().unwrap_or("-");
            self.line(target, outcome, "-", elapsed, detail)
        }

        /// The last line: the counts, and why the run ended.
        pub(crate) fn totals(
            &self,
            counts: [(usize, &str); 3],
            reason: Option<Reason>,
            elapsed: Duration,
        ) -> io::Result<()> {
            let unfinished = counts[2].0;
            let counts = counts.map(|(count, what)| format!("{count} {what}"));
            let end = match reason {
                None if unfinished > 0 => "as many as were asked for have answered".to_owned(),
                None => "every source has answered".to_owned(),
                Some(reason) => format!("interrupted: {reason}"),
            };
            let (counts, elapsed) = (counts.join(", "), time(elapsed));
            writeln!(io::stdout(), "\n{counts} in {elapsed}; {end}.")
        }

        fn line(
            &self,
            target: &Target,
            outcome: &str,
            size: &str,
            time: &str,
            detail: &str,
        ) -> io::Result<()> {
            let line = format!(
                "{:<width$}  {outcome:<10}  {size:>9}  {time:>8}  {detail}",
                target.name,
                width = self.width
            );
            self.watch
                .beside_the_bar(|| writeln!(io::stdout(), "{}", line.trim_end()))
        }
    }

    fn other_text(error: &SourceError<Failure>) -> String {
        match error {
            SourceError::Panicked(message) => format!("panicked: {message}"),
            _ => String::new(),
        }
    }

    fn size(bytes: usize) -> String {
        match bytes {
            0..10_000 => format!("{bytes} B"),
            10_000..10_000_000 => format!("{} kB", bytes / 1000),
            _ => format!("{} MB", bytes / 1_000_000),
        }
    }
}

/// Observes a run: a progress bar, and the start and end of each source.
mod watch {
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::time::{Duration, Instant};

    use examples::timeline::{Fate, Span, Timeline};
    use futures_aggregate::{Event, Reason, SourceError};
    use indicatif::{ProgressBar, ProgressStyle};

    use crate::fetch::{Failure, Page, Target};

    /// Follows a run through its events.
    #[derive(Clone)]
    pub(crate) struct Watch {
        started: Instant,
        spans: Arc<Mutex<Vec<Span>>>,
        /// Draws nothing if the output is not a terminal.
        bar: ProgressBar,
    }

    impl Watch {
        pub(crate) fn new(targets: &[Target]) -> Self {
            let spans = targets.iter().map(|target| Span::new(&target.name));
            let bar = ProgressBar::new(targets.len() as u64);
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {elapsed}") {
                bar.set_style(style);
            }
            Self {
                started: Instant::now(),
                spans: Arc::new(Mutex::new(spans.collect())),
                bar,
            }
        }

        /// An observer to pass to a run.
        pub(crate) fn observer(
            &self,
        ) -> impl FnMut(Event<'_, Target, Page, Failure>) + Send + 'static + use<> {
            let watch = self.clone();
            move |event| {
                let now = Some(watch.started.elapsed());
                let mut spans = watch.spans();
                let span = &mut spans[event.id().index];
                match event {
                    Event::Started { .. } => {
                        span.start = now;
                        span.fate = Fate::CutOff;
                        return;
                    }
                    Event::Finished { result, .. } => {
                        span.fate = match result {
                            Ok(_) => Fate::Answered,
                            Err(SourceError::TimedOut) => Fate::TimedOut,
                            Err(_) => Fate::Failed,
                        }
                    }
                    // Its fate stays `NeverStarted`, and it has no span.
                    Event::NotStarted { .. } => return,
                    _ => span.fate = Fate::CutOff,
                }
                span.end = now;
                watch.bar.inc(1);
            }
        }

        /// How long a source took, or how long the run waited for it.
        pub(crate) fn elapsed(&self, target: &Target) -> Option<Duration> {
            self.spans()[target.index].elapsed()
        }

        /// Hides the bar while `write` writes.
        pub(crate) fn beside_the_bar<R>(&self, write: impl FnOnce() -> R) -> R {
            self.bar.suspend(write)
        }

        /// Removes the bar, and returns the timeline of the run that has ended.
        pub(crate) fn finish(&self, reason: Option<Reason>) -> Timeline {
            self.bar.finish_and_clear();
            let spans = std::mem::take(&mut *self.spans());
            Timeline::new(spans, reason)
        }

        fn spans(&self) -> MutexGuard<'_, Vec<Span>> {
            self.spans.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
