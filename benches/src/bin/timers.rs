//! Benchmark of timers: what it costs to set and drop a deadline while many others wait, and how late the
//! last of many deadlines at one instant wakes its task.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use futures_aggregate::{SystemTimer, Timer};
use num_format::{Locale, ToFormattedString};

/// Measure the default timer of futures-aggregate against those of tokio and async-io.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The number of samples of each timer. The table has the medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,

    /// The number of deadlines that wait meanwhile.
    #[arg(long, default_value_t = 100_000)]
    waiting: u32,
}

/// Deadlines set and dropped by each thread in a sample.
const REPETITIONS: u32 = 100_000;

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes a sleep.
type MakeSleep = fn(Instant) -> Sleep;

const TIMERS: [(&str, MakeSleep); 3] = [
    ("futures-aggregate", |at| {
        Box::pin(SystemTimer.sleep_until(at))
    }),
    ("tokio", |at| Box::pin(tokio::time::sleep_until(at.into()))),
    ("async-io", |at| {
        let timer = async_io::Timer::at(at);
        Box::pin(async {
            timer.await;
        })
    }),
];

fn main() {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();

    print!("{:44}", "");
    for (name, _) in TIMERS {
        print!("{name:>20}");
    }
    println!();
    let waiting = args.waiting.to_formatted_string(&Locale::en);
    for threads in [1, 2, 4] {
        let unit = if threads == 1 { "thread" } else { "threads" };
        let row = format!("set and drop, {threads} {unit}, {waiting} wait");
        print_row(&row, "ns", args.samples, |make| {
            set_and_drop(make, threads, args.waiting)
        });
    }
    for deadlines in [1_000, 100_000, 300_000] {
        let number = deadlines.to_formatted_string(&Locale::en);
        let row = format!("{number} at one instant, the last one is late");
        print_row(&row, "ms", args.samples, |make| lateness(make, deadlines));
    }
}

/// Measures all timers by turns.
fn print_row(name: &str, unit: &str, samples: u32, measure: impl Fn(MakeSleep) -> f64) {
    let mut measured = TIMERS.map(|_| Vec::new());
    for _ in 0..samples {
        for ((_, make), measured) in TIMERS.iter().zip(&mut measured) {
            measured.push(measure(*make));
        }
    }
    print!("{name:44}");
    for mut measured in measured {
        measured.sort_unstable_by(f64::total_cmp);
        let median = measured[measured.len() / 2];
        print!("{:>20}", format!("{median:.1} {unit}"));
    }
    println!();
}

/// The nanoseconds that a thread takes to make a sleep, poll it once and drop it, while others wait that
/// end between one and two minutes from now.
fn set_and_drop(make: MakeSleep, threads: u32, waiting: u32) -> f64 {
    let minute = Duration::from_secs(60);
    let now = Instant::now();
    let wait = |number| {
        let at = now + minute + minute * number / waiting.max(1);
        let mut sleep = make(at);
        assert!(is_pending(&mut sleep, Waker::noop()));
        sleep
    };
    let others: Vec<_> = (0..waiting).map(wait).collect();
    let handle = tokio::runtime::Handle::current();
    let set_all = || {
        let _entered = handle.enter();
        let began = Instant::now();
        for _ in 0..REPETITIONS {
            let mut sleep = make(Instant::now() + minute);
            assert!(is_pending(&mut sleep, Waker::noop()));
        }
        began.elapsed()
    };
    let taken: Duration = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(set_all)).collect();
        let taken = threads.into_iter().map(|it| it.join().expect("no panic"));
        taken.sum()
    });
    drop(others);
    taken.as_nanos() as f64 / f64::from(threads * REPETITIONS)
}

/// The milliseconds from an instant until the last of many tasks was woken that sleep until then.
fn lateness(make: MakeSleep, deadlines: u32) -> f64 {
    let at = Instant::now() + Duration::from_millis(200 + u64::from(deadlines) / 500);
    let woken = Arc::new(Woken {
        left: AtomicUsize::new(deadlines as usize),
        all: Mutex::new(None),
        changed: Condvar::new(),
    });
    let waker = Waker::from(Arc::clone(&woken));
    let wait = |_| {
        let mut sleep = make(at);
        assert!(is_pending(&mut sleep, &waker));
        sleep
    };
    let sleeps: Vec<_> = (0..deadlines).map(wait).collect();
    assert!(Instant::now() < at, "all are set before");
    let mut all = woken.all.lock().expect("no panic");
    while all.is_none() {
        all = woken.changed.wait(all).expect("no panic");
    }
    drop(sleeps);
    let last = all.expect("all are woken");
    last.saturating_duration_since(at).as_secs_f64() * 1e3
}

fn is_pending(sleep: &mut Sleep, waker: &Waker) -> bool {
    let poll = sleep.as_mut().poll(&mut Context::from_waker(waker));
    poll == Poll::Pending
}

/// Counts wakes, and notes the time of the last one.
struct Woken {
    left: AtomicUsize,
    all: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.all.lock().expect("no panic") = Some(Instant::now());
            self.changed.notify_one();
        }
    }
}
