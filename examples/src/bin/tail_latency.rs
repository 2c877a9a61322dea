//! Measures how hedging and quorums change the tail latency of a fan-out, as in 'The Tail at Scale'
//! (Dean and Barroso, 2013), against real HTTP servers on this machine.
//!
//! Each server answers after a heavy-tailed delay. The program measures single requests and fan-outs to
//! 20 and to 100 servers. It waits for all answers, for all answers with each request hedged after the
//! measured 95th percentile, and for 95 % of the answers.

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

/// Draws the table: one panel for each fan-out, one line for each patience.
mod chart {
    use std::io;
    use std::path::Path;

    use examples::picture::{end, line, middle, sheet, text, title};
    use svg::node::element::{Circle, Polyline};

    use crate::measure::{Measurement, Patience};
    use crate::milliseconds;

    const PERCENTILES: [(f64, &str); 4] =
        [(0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99.9")];
    const FAN_OUTS: [usize; 3] = [1, 20, 100];

    const LEFT: f64 = 60.0;
    const TOP: f64 = 70.0;
    const PANEL: f64 = 230.0;
    const GAP: f64 = 30.0;
    const HEIGHT: f64 = 280.0;

    /// Draws the measurements into an SVG file.
    pub(crate) fn draw(measured: &[Measurement], file: &Path) -> io::Result<()> {
        let scale = Scale::over(measured);
        let (width, height) = (LEFT + 3.0 * (PANEL + GAP), TOP + HEIGHT + 70.0);
        let mut picture = sheet(width, height).add(title(
            LEFT,
            26.0,
            "How long an operation takes, in milliseconds",
        ));
        for (column, fan_out) in FAN_OUTS.into_iter().enumerate() {
            let left = LEFT + (PANEL + GAP) * column as f64;
            let panel = match fan_out {
                1 => "one request".to_owned(),
                _ => format!("fan-out to {fan_out}"),
            };
            picture = picture.add(middle(left + PANEL / 2.0, TOP - 18.0, panel));
            for tick in scale.ticks() {
                let y = scale.y(tick);
                let across = line((left, y), (left + PANEL, y)).set("stroke", "#dddddd");
                picture = picture.add(across);
                if column == 0 {
                    picture = picture.add(end(left - 8.0, y + 4.0, tick.to_string()));
                }
            }
            for (place, (_, name)) in PERCENTILES.into_iter().enumerate() {
                picture = picture.add(middle(x(left, place), TOP + HEIGHT + 20.0, name));
            }
            for measurement in measured.iter().filter(|line| line.fan_out == fan_out) {
                let points = PERCENTILES
                    .into_iter()
                    .enumerate()
                    .map(|(place, (part, _))| {
                        let time = milliseconds(measurement.percentile(part));
                        (x(left, place), scale.y(time))
                    });
                let points: Vec<_> = points.collect();
                let corners = points.iter().map(|(x, y)| format!("{x},{y}"));
                picture = picture.add(
                    Polyline::new()
                        .set("points", corners.collect::<Vec<_>>().join(" "))
                        .set("fill", "none")
                        .set("stroke", colour(measurement.patience))
                        .set("stroke-width", 2),
                );
                for (x, y) in points {
                    picture = picture.add(
                        Circle::new()
                            .set("cx", x)
                            .set("cy", y)
                            .set("r", 3.5)
                            .set("fill", colour(measurement.patience)),
                    );
                }
            }
        }
        let legend = measured.iter().rev().take(3).rev();
        for (place, measurement) in legend.enumerate() {
            let (x, y) = (LEFT + 200.0 * place as f64, TOP + HEIGHT + 52.0);
            let dot = Circle::new()
                .set("cx", x)
                .set("cy", y - 4.0)
                .set("r", 5)
                .set("fill", colour(measurement.patience));
            picture = picture.add(dot).add(text(x + 12.0, y, measurement.name()));
        }
        svg::save(file, &picture)
    }

    /// A logarithmic scale, because the tail is a multiple of the median.
    struct Scale {
        least: f64,
        most: f64,
    }

    impl Scale {
        fn over(measured: &[Measurement]) -> Self {
            let times = || {
                let each = measured.iter();
                each.flat_map(|line| {
                    PERCENTILES.map(|(part, _)| milliseconds(line.percentile(part)))
                })
            };
            Self {
                least: times().fold(f64::INFINITY, f64::min) * 0.8,
                most: times().fold(0.0, f64::max) * 1.2,
            }
        }

        fn y(&self, time: f64) -> f64 {
            let part = (time / self.least).ln() / (self.most / self.least).ln();
            TOP + HEIGHT * (1.0 - part)
        }

        fn ticks(&self) -> impl Iterator<Item = f64> {
            let steps = [1.0, 2.0, 5.0];
            let all = (-1..6).flat_map(move |power| steps.map(|step| step * 10_f64.powi(power)));
            all.filter(|tick| (self.least..=self.most).contains(tick))
        }
    }

    fn x(left: f64, place: usize) -> f64 {
        left + 20.0 + (PANEL - 40.0) / 3.0 * place as f64
    }

    fn colour(patience: Patience) -> &'static str {
        match patience {
            Patience::All => "#cc3333",
            Patience::Hedged(_) => "#2e8b57",
            Patience::Quorum(_) => "#3366cc",
        }
    }
}

/// Runs many operations, and measures the time of each.
mod measure {
    use std::fmt;
    use std::io;
    use std::time::{Duration, Instant};

    use futures::future::{BoxFuture, FutureExt};
    use futures_aggregate::{AttemptBudget, fetch_and_aggregate, hedge};

    use crate::milliseconds;
    use crate::servers::Servers;

    /// About how many requests are in flight. So few leave the processor mostly idle, so the figures show the
    /// delay of the servers.
    const IN_FLIGHT: usize = 100;
    /// Longer than any answer takes.
    const TIMEOUT: Duration = Duration::from_secs(60);

    /// What to measure, and how often.
    pub(crate) struct Workload {
        fan_out: usize,
        operations: u32,
    }

    impl Workload {
        pub(crate) fn new(fan_out: usize, operations: u32) -> Self {
            Self {
                fan_out,
                operations,
            }
        }
    }

    /// What an operation waits for.
    #[derive(Clone, Copy)]
    pub(crate) enum Patience {
        /// Every answer.
        All,
        /// Every answer, each request made once more after this long.
        Hedged(Duration),
        /// This many answers.
        Quorum(usize),
    }

    /// The times of the operations of a workload.
    #[derive(Clone)]
    pub(crate) struct Measurement {
        pub(crate) fan_out: usize,
        pub(crate) patience: Patience,
        /// In ascending order.
        times: Vec<Duration>,
        /// Extra requests, as a part of the requests that are needed at least.
        extra_load: f64,
    }

    impl Measurement {
        /// The time within which this part of the operations ended.
        pub(crate) fn percentile(&self, part: f64) -> Duration {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let rank = (part * self.times.len() as f64).ceil() as usize;
            self.times[rank.clamp(1, self.times.len()) - 1]
        }

        pub(crate) fn name(&self) -> &'static str {
            match self.patience {
                Patience::All => "all answers",
                Patience::Hedged(_) => "all answers, hedged",
                Patience::Quorum(_) => "95 % of the answers",
            }
        }
    }

    impl fmt::Display for Measurement {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let what = format!("1 to {}: {}", self.fan_out, self.name());
            write!(f, "{what:<30} {:>7} ", self.times.len())?;
            for part in [0.5, 0.95, 0.99, 0.999] {
                write!(f, " {:>8.1}", milliseconds(self.percentile(part)))?;
            }
            write!(f, "  {:>8.1} %", self.extra_load * 100.0)
        }
    }

    /// Runs a workload: a run of operations. Each operation is a run of requests.
    pub(crate) async fn measure(
        servers: &Servers,
        workload: &Workload,
        patience: Patience,
    ) -> io::Result<Measurement> {
        let before = servers.requests();
        let budget = AttemptBudget::new(100, 0.1);
        let operations = (0..workload.operations).map(|operation| {
            let operation = operation as usize;
            let run = time_one(servers, operation, workload.fan_out, patience, &budget);
            (operation, run)
        });
        let aggregate = fetch_and_aggregate(operations, Duration::MAX)
            .concurrency((IN_FLIGHT / workload.fan_out).max(1))
            .fail_fast()
            .await
            .map_err(|interrupted| {
                let error = interrupted.partial.errors.into_iter().next();
                let error = error.map(|(_, error)| error.to_string());
                io::Error::other(error.unwrap_or_default())
            })?;
        let mut times: Vec<_> = aggregate
            .results
            .into_iter()
            .map(|(_, time)| time)
            .collect();
        times.sort_unstable();
        let least = times.len() as f64 * workload.fan_out as f64;
        let made = servers.requests() - before;
        Ok(Measurement {
            fan_out: workload.fan_out,
            patience,
            times,
            extra_load: made as f64 / least - 1.0,
        })
    }

    /// One operation: asks many servers, and waits for the answers that its patience requires.
    async fn time_one(
        servers: &Servers,
        operation: usize,
        fan_out: usize,
        patience: Patience,
        budget: &AttemptBudget,
    ) -> io::Result<Duration> {
        let started = Instant::now();
        // Every operation starts with another server.
        let requests =
            (0..fan_out).map(|leaf| (leaf, request(servers, operation + leaf, patience, budget)));
        let run = fetch_and_aggregate(requests, TIMEOUT);
        let answer = match patience {
            Patience::Quorum(answers) => run.quorum(answers).await,
            Patience::All | Patience::Hedged(_) => run.fail_fast().await,
        };
        match answer {
            Ok(_) => Ok(started.elapsed()),
            Err(interrupted) => Err(io::Error::other(interrupted.to_string())),
        }
    }

    fn request<'a>(
        servers: &'a Servers,
        server: usize,
        patience: Patience,
        budget: &AttemptBudget,
    ) -> BoxFuture<'a, reqwest::Result<()>> {
        match patience {
            Patience::Hedged(delay) => {
                hedge(delay, 2, move |attempt| servers.ask(server + attempt))
                    .budget(budget)
                    .map(|answer| answer.map_err(|failed| failed.last))
                    .boxed()
            }
            Patience::All | Patience::Quorum(_) => servers.ask(server).boxed(),
        }
    }
}

/// HTTP servers on this machine that answer after a heavy-tailed delay.
mod servers {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use axum::Router;
    use axum::routing::get;
    use rand_distr::{Distribution, LogNormal};
    use reqwest::{Client, Url};
    use tokio::net::TcpListener;

    /// The median delay.
    pub(crate) const MEDIAN: Duration = Duration::from_millis(5);
    /// The spread of the logarithm of the delay: the 99th percentile is ten times the median.
    const SIGMA: f64 = 1.0;
    /// The 99th percentile of the standard normal distribution.
    const NORMAL_99: f64 = 2.326;

    const SERVERS: usize = 20;

    pub(crate) struct Servers {
        urls: Vec<Url>,
        requests: Arc<AtomicU64>,
        client: Client,
    }

    impl Servers {
        /// Starts the servers, each on a port of its own. They run until the program ends.
        pub(crate) async fn start() -> io::Result<Self> {
            let requests = Arc::new(AtomicU64::new(0));
            let mut urls = Vec::new();
            for _ in 0..SERVERS {
                urls.push(serve(Arc::clone(&requests)).await?);
            }
            // An error means that there is a provider already, and any provider is fine.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = Client::builder()
                .no_proxy()
                .tls_certs_only([])
                .build()
                .map_err(io::Error::other)?;
            Ok(Self {
                urls,
                requests,
                client,
            })
        }

        pub(crate) fn len(&self) -> usize {
            self.urls.len()
        }

        /// Asks one of the servers.
        pub(crate) async fn ask(&self, server: usize) -> reqwest::Result<()> {
            let url = self.urls[server % self.urls.len()].clone();
            let response = self.client.get(url).send().await?.error_for_status()?;
            response.bytes().await?;
            Ok(())
        }

        /// The number of requests that all servers have received.
        pub(crate) fn requests(&self) -> u64 {
            self.requests.load(Ordering::Relaxed)
        }
    }

    async fn serve(requests: Arc<AtomicU64>) -> io::Result<Url> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let seconds = LogNormal::new(MEDIAN.as_secs_f64().ln(), SIGMA).map_err(io::Error::other)?;
        let answer = move || {
            requests.fetch_add(1, Ordering::Relaxed);
            let delay = Duration::from_secs_f64(seconds.sample(&mut rand::rng()));
            async move {
                tokio::time::sleep(delay).await;
                "done"
            }
        };
        let router = Router::new().route("/", get(answer));
        tokio::spawn(async { axum::serve(listener, router).await });
        Url::parse(&url).map_err(io::Error::other)
    }

    /// The 99th percentile of the delay.
    pub(crate) fn percentile_99() -> Duration {
        MEDIAN.mul_f64((SIGMA * NORMAL_99).exp())
    }
}
