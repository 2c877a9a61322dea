//! Stalls: a thread is busy until after a deadline, or the process is stopped. Answers that arrived before
//! the deadline are results.

mod runtimes;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};
use futures_aggregate::fetch_and_aggregate;
use runtimes::{
    Account, Limit, Source, compute, current_thread, fetch, flavours, ms, runs_with_both_timers,
    workers,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

/// The test that keeps the processor busy holds this lock, so that it stalls only its own threads.
static PROCESSOR: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner)
}

const LIMITS: [Limit; 4] = [Limit::Run, Limit::Batch, Limit::Source, Limit::Timer];

/// The time at which the last answer was sent.
type Sent = Arc<Mutex<Option<Instant>>>;

/// Looks whether the machine stands still, as it does if other processes need all processors: then threads
/// that only sleep come late.
struct Watch {
    longest: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    /// Starts to look after the threads of the runtime were busy.
    fn after_the_stall() -> Self {
        let watch = Self {
            longest: Arc::default(),
            is_over: Arc::default(),
        };
        let (longest, is_over) = (Arc::clone(&watch.longest), Arc::clone(&watch.is_over));
        thread::spawn(move || {
            thread::sleep(ms(230));
            while !is_over.load(Ordering::SeqCst) {
                let began = Instant::now();
                thread::sleep(ms(1));
                let late = began.elapsed().saturating_sub(ms(1));
                longest.fetch_max(late.as_micros() as u64, Ordering::SeqCst);
            }
        });
        watch
    }

    /// Whether the machine has stood still for some milliseconds.
    fn has_stood_still(&self) -> bool {
        self.longest.load(Ordering::SeqCst) > 5_000
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

/// Runs this many sources while the threads of the runtime are busy. Another thread answers all of them
/// before the deadline. If that thread was too slow, or an answer is missing and the machine has stood still,
/// this tries again.
fn answered_in_time(
    runtime: &Runtime,
    threads: usize,
    count: u32,
    run: fn(Vec<Source>, Limit, Duration) -> BoxFuture<'static, Account>,
    limit: Limit,
    sources: impl Fn(Sent) -> Vec<Source>,
) -> Account {
    for _ in 0..50 {
        let sent = Sent::default();
        let watch = Watch::after_the_stall();
        let (began, account) = while_threads_are_busy(runtime, threads, || {
            *sent.lock().unwrap() = None;
            let list = sources(Arc::clone(&sent));
            async move { (Instant::now(), run(list, limit, ms(100)).await) }
        });
        let sent = *sent.lock().unwrap();
        let is_complete = account.results.len() == count as usize;
        let was_in_time = sent.is_some_and(|sent| sent < began + ms(95));
        if was_in_time && (is_complete || !watch.has_stood_still()) {
            return account;
        }
    }
    panic!("the answers were sent too late in every attempt");
}

/// Runs a future. Its thread and all other workers are busy from 20 to 220 ms.
fn while_threads_are_busy<F>(runtime: &Runtime, threads: usize, run: impl Fn() -> F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    again_until_all_are_busy(|| {
        let run = run();
        runtime.block_on(async move {
            let run = tokio::spawn(run);
            let are_busy = keep_busy(threads, ms(20));
            let output = run.await.unwrap();
            are_busy.await.then_some(output)
        })
    })
}

/// Repeats an attempt until all workers were busy in it. They may not be, because the runtime may run both
/// busy tasks on one worker.
fn again_until_all_are_busy<T>(attempt: impl Fn() -> Option<T>) -> T {
    let mut attempts = std::iter::repeat_with(attempt).take(50);
    attempts
        .find_map(|output| output)
        .expect("in every attempt, a worker was not busy")
}

/// Keeps all workers busy for 200 ms. Waits for the end of that, and returns whether all were busy at the
/// same time.
fn keep_busy(threads: usize, after: Duration) -> impl Future<Output = bool> {
    let arrived = Arc::new(AtomicUsize::new(0));
    let busy = (0..threads).map(|_| {
        let arrived = Arc::clone(&arrived);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            arrived.fetch_add(1, Ordering::SeqCst);
            let began = Instant::now();
            while arrived.load(Ordering::SeqCst) < threads && began.elapsed() < ms(20) {
                std::hint::spin_loop();
            }
            let are_busy = arrived.load(Ordering::SeqCst) == threads;
            compute(ms(200));
            are_busy
        })
    });
    let busy = join_all(busy.collect::<Vec<_>>());
    async { busy.await.into_iter().all(Result::unwrap) }
}

/// Sources that another thread answers after 60 ms.
fn answered_by_a_thread(count: u32, sent: Sent) -> Vec<Source> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| oneshot::channel()).unzip();
    thread::spawn(move || {
        thread::sleep(ms(60));
        for sender in senders {
            let _ = sender.send(());
        }
        *sent.lock().unwrap() = Some(Instant::now());
    });
    let source = |(id, receiver): (u32, oneshot::Receiver<()>)| -> Source {
        let answer = async move { receiver.await.map(|()| id).map_err(|_| "dropped") };
        (id, Box::pin(answer))
    };
    (0..).zip(receivers).map(source).collect()
}

/// Sources that each read a hundred messages. Another thread sends them after 60 ms.
fn readers(count: u32, sent: Sent) -> Vec<Source> {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    thread::spawn(move || {
        thread::sleep(ms(60));
        for sender in senders {
            for message in 0..100 {
                let _ = sender.send(message);
            }
        }
        *sent.lock().unwrap() = Some(Instant::now());
    });
    let source = |(id, mut receiver): (u32, mpsc::UnboundedReceiver<u32>)| -> Source {
        let read = async move {
            let mut read = 0;
            while receiver.recv().await.is_some() {
                read += 1;
            }
            Ok(read)
        };
        (id, Box::pin(read))
    };
    (0..).zip(receivers).map(source).collect()
}

#[test]
fn answers_that_arrived_in_time_are_results_however_many_they_are() {
    let _alone = alone();
    for (threads, runtime) in [(1, current_thread()), (2, workers(2))] {
        for limit in LIMITS {
            for (operation, run) in runs_with_both_timers(limit) {
                // All of them start before tokio looks at its timers, and so before its threads are busy.
                for count in [1, 64, 65, 1000, 3000] {
                    let account = answered_in_time(&runtime, threads, count, run, limit, |sent| {
                        answered_by_a_thread(count, sent)
                    });
                    let came = account.results.len() as u32;
                    assert_eq!(came, count, "{operation}, {limit:?}, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn sources_with_many_messages_to_read_are_results() {
    let _alone = alone();
    for (threads, runtime) in [(1, current_thread()), (2, workers(2))] {
        for limit in LIMITS {
            for (operation, run) in runs_with_both_timers(limit) {
                let account =
                    answered_in_time(&runtime, threads, 5, run, limit, |sent| readers(5, sent));
                let came = account.results.len();
                assert_eq!(came, 5, "{operation}, {limit:?}, {threads} threads");
                assert!(account.results.iter().all(|&(_, read)| read == 100));
            }
        }
    }
}

/// Starts a server that answers each request after 20 ms. It has threads of its own.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut request = [0];
                while stream.read_exact(&mut request).is_ok() {
                    thread::sleep(ms(20));
                    if stream.write_all(&request).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Sources that each send a request over an open connection.
async fn requests(count: u32, address: SocketAddr) -> Vec<Source> {
    let streams = join_all((0..count).map(|_| TcpStream::connect(address))).await;
    let request = |(id, stream): (u32, std::io::Result<TcpStream>)| -> Source {
        let answer = async move {
            let mut stream = stream.map_err(|_| "no connection")?;
            stream.write_all(&[7]).await.map_err(|_| "not sent")?;
            let mut answer = [0];
            stream
                .read_exact(&mut answer)
                .await
                .map_err(|_| "no answer")?;
            Ok(id)
        };
        (id, Box::pin(answer))
    };
    (0..).zip(streams).map(request).collect()
}

/// Sends requests, and keeps all threads busy from 10 to 210 ms.
fn while_reactor_is_stalled<R: Send + 'static>(
    runtime: &Runtime,
    threads: usize,
    count: u32,
    run: impl Fn(Vec<Source>) -> BoxFuture<'static, R>,
) -> R {
    let address = server();
    again_until_all_are_busy(|| {
        runtime.block_on(async {
            let sources = requests(count, address).await;
            let run = tokio::spawn(run(sources));
            let are_busy = keep_busy(threads, ms(10));
            let output = run.await.unwrap();
            are_busy.await.then_some(output)
        })
    })
}

#[test]
fn answers_in_the_sockets_of_a_stalled_runtime_are_results() {
    let _alone = alone();
    for (threads, runtime) in [(1, current_thread()), (2, workers(2))] {
        for limit in LIMITS {
            for (operation, run) in runs_with_both_timers(limit) {
                let account = while_reactor_is_stalled(&runtime, threads, 10, |sources| {
                    run(sources, limit, ms(100))
                });
                let came = account.results.len();
                assert_eq!(
                    came, 10,
                    "{operation}, {limit:?}, {threads} threads: {account:?}"
                );
            }
        }
    }
}

#[test]
fn run_that_is_polled_late_ends_soon_without_answers() {
    let _alone = alone();
    for (threads, runtime) in [(1, current_thread()), (2, workers(2))] {
        for limit in [Limit::Run, Limit::Source] {
            let run = || async move {
                let hangs = |id| -> Source { (id, Box::pin(std::future::pending())) };
                let started = Instant::now();
                let account = fetch((0..100).map(hangs).collect(), limit, ms(100)).await;
                assert_eq!(account.late(), 100);
                started.elapsed()
            };
            let elapsed = while_threads_are_busy(&runtime, threads, run);
            assert!(
                elapsed < ms(600),
                "{limit:?}, {threads} threads: {elapsed:?}"
            );
        }
    }
}

/// The process that is stopped. It prints when its requests are sent, and then how many were answered.
#[test]
#[ignore = "run by the test that stops it"]
fn process_to_be_stopped() {
    let address: SocketAddr = std::env::var("SERVER").unwrap().parse().unwrap();
    let limit = match std::env::var("LIMIT").unwrap().as_str() {
        "source" => Limit::Source,
        _ => Limit::Run,
    };
    let account = current_thread().block_on(async move {
        let sources = requests(10, address).await;
        println!("\nsent");
        fetch(sources, limit, ms(100)).await
    });
    println!("\nanswered {}", account.results.len());
}

#[test]
fn answers_in_the_sockets_of_a_stopped_process_are_results() {
    let _alone = alone();
    let address = server();
    for limit in ["run", "source"] {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "process_to_be_stopped",
                "--ignored",
                "--nocapture",
            ])
            .env("SERVER", address.to_string())
            .env("LIMIT", limit)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let id = process.id().to_string();
        let signal = |name: &str| {
            let status = Command::new("kill").args([name, &id]).status();
            assert!(status.unwrap().success());
        };
        let mut output = std::io::BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("sent") {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut output, &mut line).unwrap() > 0);
        }
        signal("-STOP");
        thread::sleep(ms(300));
        signal("-CONT");
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert!(process.wait().unwrap().success());
        assert!(rest.contains("answered 10"), "{limit}: {rest}");
    }
}

#[test]
fn deadline_that_is_on_time_is_punctual() {
    let _alone = alone();
    for (flavour, runtime) in flavours() {
        let mut lateness: Vec<_> = (0..20)
            .map(|_| {
                runtime.block_on(async {
                    let hangs = std::future::pending::<Result<(), ()>>();
                    let started = Instant::now();
                    let run = fetch_and_aggregate([((), hangs)], ms(20));
                    assert!(run.await.is_err());
                    started.elapsed() - ms(20)
                })
            })
            .collect();
        lateness.sort_unstable();
        assert!(lateness[10] < ms(20), "{flavour}: {lateness:?}");
    }
}

/// Each run has its own alarm. Most runs are polled late, because the others are polled first.
#[test]
fn many_runs_that_are_late_at_once_all_end() {
    let _alone = alone();
    for (flavour, runtime) in flavours() {
        for count in [30, 1000, 10_000] {
            let started = Instant::now();
            let runs: Vec<_> = (0..count)
                .map(|_| {
                    runtime.spawn(async {
                        let hangs = std::future::pending::<Result<(), ()>>();
                        fetch_and_aggregate([((), hangs)], ms(200)).await.is_err()
                    })
                })
                .collect();
            let all = async { tokio::time::timeout(ms(20_000), join_all(runs)).await };
            let ended = runtime.block_on(all);
            let ended = ended.expect("a run is still pending");
            assert!(ended.into_iter().all(Result::unwrap), "{flavour}, {count}");
            assert!(
                started.elapsed() < ms(5000),
                "{flavour}, {count}: {:?}",
                started.elapsed()
            );
        }
    }
}
