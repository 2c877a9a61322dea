//! The program with a real Redis: what is acknowledged, what is delivered again, and to which worker.
//!
//! Without Redis, and without root to install it, these tests say so and check nothing.
#![cfg(unix)]

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use redis::streams::{
    StreamClaimOptions, StreamClaimReply, StreamPendingCountReply, StreamPendingId,
    StreamPendingReply, StreamRangeReply, StreamReadOptions, StreamReadReply,
};
use redis::{Commands, Connection};

/// The exit code of the scripts if there is no Redis.
const NO_REDIS: i32 = 77;

/// A server that ends when its standard input does.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start() -> Option<Self> {
        let mut process = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/with-redis"))
            .args(["sh", "-c", "echo $1; exec cat >/dev/null", "sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        let output = process.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut url).unwrap();
        if url.is_empty() {
            let code = process.wait().unwrap().code();
            assert_eq!(code, Some(NO_REDIS), "the server does not start");
            // Unlike `println!`, this shows in tests that pass too.
            let skipped = b"SKIPPED: without Redis the worker is not tested\n";
            io::stderr().write_all(skipped).unwrap();
            return None;
        }
        Some(Self {
            process,
            url: url.trim().to_owned(),
        })
    }
}

/// The server of all tests. It is never dropped, so its input ends with this process.
fn server() -> Option<&'static Server> {
    static SERVER: LazyLock<Option<Server>> = LazyLock::new(Server::start);
    SERVER.as_ref()
}

/// The stream of one test, with its consumer group.
struct Stream {
    url: &'static str,
    name: &'static str,
    redis: Connection,
}

impl Stream {
    /// In the server of all tests.
    fn new(name: &'static str) -> Option<Self> {
        server().map(|server| Self::of(server, name))
    }

    fn of(server: &'static Server, name: &'static str) -> Self {
        let url = server.url.as_str();
        let client = redis::Client::open(url).unwrap();
        let mut redis = client.get_connection().unwrap();
        let _: () = redis.xgroup_create_mkstream(name, "workers", "0").unwrap();
        Self { url, name, redis }
    }

    fn put(&mut self, fields: &[(&str, &str)]) {
        let _: String = self.redis.xadd(self.name, "*", fields).unwrap();
    }

    fn put_jobs(&mut self, jobs: impl IntoIterator<Item = u32>) {
        for job in jobs {
            self.put(&[("job", &job.to_string()), ("backend", "mail")]);
        }
    }

    /// Lets a worker take the first job and vanish.
    fn take_and_vanish(&mut self) -> String {
        let Self { name, redis, .. } = self;
        let options = StreamReadOptions::default().group("workers", "gone");
        let taken: StreamReadReply = redis.xread_options(&[*name], &[">"], &options).unwrap();
        taken.keys[0].ids[0].id.clone()
    }

    fn worker(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
        command
            .args(["--name", name, "--redis", self.url, "--stream", self.name])
            .args(arguments)
            .env("RUST_BACKTRACE", "0");
        command
    }

    /// Lets a worker do all jobs, with a long timeout for jobs, and a short one for redelivery.
    fn finish(&self, arguments: &[&str]) -> Output {
        let mut command = self.worker("last", &["--until-empty", "--min-idle", "200ms"]);
        if !arguments.contains(&"--deliveries") {
            command.args(["--deliveries", "1000"]);
        }
        if !arguments.contains(&"--job-timeout") {
            command.args(["--job-timeout", "1h"]);
        }
        let output = command.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        output
    }

    /// The jobs that have a result, with the worker that it came from.
    fn done(&mut self) -> HashMap<String, String> {
        self.redis.hgetall(format!("{}:done", self.name)).unwrap()
    }

    fn pending(&mut self) -> usize {
        let reply: StreamPendingReply = self.redis.xpending(self.name, "workers").unwrap();
        reply.count()
    }

    /// The jobs that became dead letters, with their errors.
    fn dead(&mut self) -> Vec<(String, String)> {
        let dead = format!("{}:dead", self.name);
        let letters: HashMap<String, String> = self.redis.hgetall(dead).unwrap();
        let letter = |(id, error): (String, String)| {
            let entries: StreamRangeReply = self.redis.xrange(self.name, &id, &id).unwrap();
            (entries.ids[0].get("job").unwrap_or_default(), error)
        };
        letters.into_iter().map(letter).collect()
    }

    /// The entries that are pending, with their worker and their deliveries.
    fn held(&mut self) -> Vec<StreamPendingId> {
        let reply: StreamPendingCountReply = self
            .redis
            .xpending_count(self.name, "workers", "-", "+", 10_000)
            .unwrap();
        reply.ids
    }

    /// Lets all pending entries look as if Redis had not heard of them for a day.
    fn make_overdue(&mut self) {
        for entry in self.held() {
            let options = StreamClaimOptions::default().idle(86_400_000).with_justid();
            let Self { name, redis, .. } = self;
            let ids = [&entry.id];
            let claimed: Vec<String> = redis
                .xclaim_options(*name, "workers", &entry.consumer, 0, &ids, options)
                .unwrap();
            assert_eq!(claimed, [entry.id]);
        }
    }
}

/// A worker that runs beside the test, and is killed with it.
struct Worker {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = process.stdout.take().unwrap();
        let lines = BufReader::new(output).lines();
        Self { process, lines }
    }

    /// The next line that a job prints, or nothing if the worker has ended.
    fn line(&mut self) -> Option<String> {
        self.lines.next().map(Result::unwrap)
    }

    fn signal(&self, name: &str) {
        signal(&self.process, name);
    }

    /// Waits for the end of the worker.
    fn code(&mut self) -> Option<i32> {
        wait_until("the worker ends", || {
            self.process.try_wait().unwrap().is_some()
        });
        self.process.wait().unwrap().code()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn signal(process: &Child, signal: &str) {
    let id = process.id().to_string();
    let status = Command::new("kill").args([signal, &id]).status().unwrap();
    assert!(status.success());
}

/// Jobs that finish immediately, and jobs that hang in their first delivery.
fn quick_and_hanging() -> impl Iterator<Item = u32> {
    (1..=10).chain((0..10).map(|job| 50 + 100 * job))
}

/// Starts a worker that does the quick jobs, while the other jobs hang. Returns the quick ones.
fn start_half(stream: &mut Stream) -> (Worker, BTreeSet<String>) {
    stream.put_jobs(quick_and_hanging());
    let arguments = [
        "--concurrency",
        "20",
        "--job-timeout",
        "1h",
        "--min-idle",
        "2h",
    ];
    let mut worker = Worker::start(&mut stream.worker("first", &arguments));
    let jobs = (0..10).map(|_| worker.line().unwrap()).collect();
    (worker, jobs)
}

/// Waits until something holds that another process is about to do.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn jobs_are_acknowledged_as_they_finish_and_a_second_signal_leaves_the_others_pending() {
    for (name, signals) in [
        ("terminated", ["-TERM", "-INT"]),
        ("interrupted", ["-INT", "-TERM"]),
    ] {
        let Some(mut stream) = Stream::new(name) else {
            return;
        };
        let (mut worker, mut jobs) = start_half(&mut stream);
        wait_until("10 jobs have a result", || stream.done().len() == 10);
        for signal_name in signals {
            worker.signal(signal_name);
        }
        assert_eq!(worker.code(), Some(0));
        assert_eq!(stream.done().len(), 10);
        let held = stream.held();
        assert_eq!(held.len(), 10);
        assert!(held.iter().all(|entry| entry.times_delivered == 1));

        let output = stream.finish(&[]);
        for job in text(&output.stdout).lines() {
            assert!(jobs.insert(job.to_owned()), "{job} twice");
        }
        assert_eq!(jobs.len(), 20);
        assert_eq!(stream.done().len(), 20);
        assert_eq!(stream.pending(), 0);
        assert_eq!(stream.dead(), []);
    }
}

#[test]
fn worker_that_drains_finishes_what_it_has_started_and_gives_back_what_it_has_not() {
    let Some(mut stream) = Stream::new("drained") else {
        return;
    };
    // None of them fails or hangs.
    let jobs = (0..200).flat_map(|hundred| (1..=9).map(move |job| 100 * hundred + job));
    stream.put_jobs(jobs);
    let arguments = ["--concurrency", "4", "--job-timeout", "1h"];
    let mut worker = Worker::start(&mut stream.worker("first", &arguments));
    let first = worker.line().unwrap();
    worker.signal("-TERM");
    assert_eq!(worker.code(), Some(0));
    let done = 1 + worker.lines.by_ref().count();
    assert!(done < 1800, "{first} was the first of all jobs");
    assert_eq!(stream.done().len(), done);
    // The run polls its stream once more, and so it takes entries that it does not start.
    let held = stream.held();
    assert!(held.iter().all(|entry| entry.times_delivered == 0));

    stream.finish(&["--concurrency", "100"]);
    assert_eq!(stream.done().len(), 1800);
    assert_eq!(stream.pending(), 0);
}

#[test]
fn jobs_of_a_worker_that_is_killed_are_done_again() {
    let Some(mut stream) = Stream::new("killed") else {
        return;
    };
    let (mut worker, jobs) = start_half(&mut stream);
    worker.signal("-KILL");
    assert_eq!(worker.code(), None);
    let done = stream.done().len();
    assert!(done <= 10);
    assert_eq!(stream.pending(), 20 - done);

    let output = stream.finish(&[]);
    let again: BTreeSet<_> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(again.len(), 20 - done);
    assert_eq!(jobs.union(&again).count(), 20);
    assert_eq!(stream.done().len(), 20);
    assert_eq!(stream.pending(), 0);
}

#[test]
fn jobs_of_a_worker_that_is_frozen_are_done_by_another_and_it_goes_on() {
    let Some(mut stream) = Stream::new("frozen") else {
        return;
    };
    let (mut worker, _) = start_half(&mut stream);
    wait_until("10 jobs have a result", || stream.done().len() == 10);
    worker.signal("-STOP");
    let output = stream.finish(&[]);
    assert_eq!(text(&output.stdout).lines().count(), 10);
    assert_eq!(stream.pending(), 0);

    worker.signal("-CONT");
    stream.put_jobs([11]);
    wait_until("job 11 has a result", || stream.done().contains_key("11"));
    worker.signal("-TERM");
    worker.signal("-INT");
    assert_eq!(worker.code(), Some(0));
    let done = stream.done();
    let by_last = done.values().filter(|&worker| worker == "last").count();
    assert_eq!((done.len(), by_last), (21, 10));
    assert_eq!(stream.pending(), 0);
}

#[test]
fn worker_keeps_a_job_that_takes_longer_than_the_time_for_redelivery() {
    let Some(mut stream) = Stream::new("kept") else {
        return;
    };
    stream.put_jobs([50]);
    let times = [
        "--job-timeout",
        "1h",
        "--min-idle",
        "1s",
        "--concurrency",
        "1",
    ];
    let _keeps = Worker::start(&mut stream.worker("keeps", &times));
    wait_until("the job is taken", || !stream.held().is_empty());

    // These take at least two seconds, and the other worker looks for overdue jobs all the time.
    stream.put_jobs((1..=100).map(|job| 100 * job + 19));
    let mut other = Worker::start(&mut stream.worker("other", &times));
    assert_eq!(other.lines.by_ref().take(100).count(), 100);
    other.signal("-TERM");
    assert_eq!(other.code(), Some(0));
    let held = stream.held();
    let mut held = held
        .iter()
        .map(|entry| (&*entry.consumer, entry.times_delivered));
    assert_eq!(held.next(), Some(("keeps", 1)));
}

#[test]
fn worker_that_claims_a_job_that_it_works_on_does_not_start_it_twice() {
    let Some(mut stream) = Stream::new("own") else {
        return;
    };
    stream.put_jobs([50]);
    let times = ["--job-timeout", "1h", "--min-idle", "2h"];
    let mut worker = Worker::start(&mut stream.worker("own", &times));
    wait_until("the job is taken", || !stream.held().is_empty());
    stream.make_overdue();
    wait_until("it is claimed", || stream.held()[0].times_delivered == 2);
    // Started now, this job ends later than the other one, had that been started again.
    stream.put_jobs([19]);
    assert_eq!(worker.line().unwrap(), "job 19 done");
    worker.signal("-TERM");
    worker.signal("-INT");
    assert_eq!(worker.code(), Some(0));
    assert_eq!(worker.line(), None);
}

#[test]
fn worker_goes_on_when_redis_is_killed_and_comes_back() {
    if server().is_none() {
        return;
    }
    let server = Server::start().unwrap();
    let mut stream = Stream::of(Box::leak(Box::new(server)), "restarted");
    let (mut worker, _) = start_half(&mut stream);
    wait_until("10 jobs have a result", || stream.done().len() == 10);
    let server: redis::InfoDict = redis::cmd("INFO").query(&mut stream.redis).unwrap();
    let id: u32 = server.get("process_id").unwrap();
    let killed = Command::new("kill")
        .args(["-KILL", &id.to_string()])
        .status();
    assert!(killed.unwrap().success());

    let client = redis::Client::open(stream.url).unwrap();
    wait_until("Redis is back", || {
        let connected = client.get_connection();
        connected.is_ok_and(|mut redis| redis.ping::<String>().is_ok())
    });
    stream.redis = client.get_connection().unwrap();
    // Nothing is lost, neither results nor what the worker holds.
    assert_eq!(stream.done().len(), 10);
    assert_eq!(stream.pending(), 10);
    stream.put_jobs([11]);
    wait_until("job 11 has a result", || stream.done().contains_key("11"));
    worker.signal("-TERM");
    worker.signal("-INT");
    assert_eq!(worker.code(), Some(0));
    assert_eq!(stream.pending(), 10);
}

#[test]
fn worker_fails_when_redis_stays_away() {
    if server().is_none() {
        return;
    }
    let server: &'static mut Server = Box::leak(Box::new(Server::start().unwrap()));
    let url = server.url.clone();
    let mut stream = Stream::of(server, "away");
    stream.put_jobs([50]);
    let times = ["--patience", "0s", "--job-timeout", "1h"];
    let mut worker = Worker::start(stream.worker("first", &times).stderr(Stdio::piped()));
    wait_until("the job is taken", || stream.pending() == 1);
    let _: redis::RedisResult<()> = redis::cmd("SHUTDOWN").query(&mut stream.redis);
    wait_until("Redis is gone", || {
        redis::Client::open(&*url)
            .unwrap()
            .get_connection()
            .is_err()
    });
    // The job still hangs. The worker ends only after the second signal.
    worker.signal("-TERM");
    worker.signal("-INT");
    assert_eq!(worker.code(), Some(1));
    let message = io::read_to_string(worker.process.stderr.take().unwrap()).unwrap();
    assert!(message.contains("error: first: "), "{message}");
}

#[test]
fn first_result_of_a_job_stays() {
    let Some(mut stream) = Stream::new("twice") else {
        return;
    };
    let done = format!("{}:done", stream.name);
    let _: usize = stream.redis.hset(&done, "1", "another").unwrap();
    stream.put_jobs([1]);
    stream.finish(&[]);
    assert_eq!(stream.done()["1"], "another");
    assert_eq!(stream.pending(), 0);
}

#[test]
fn jobs_that_fail_hang_or_panic_are_delivered_until_they_are_done() {
    let Some(mut stream) = Stream::new("again") else {
        return;
    };
    stream.put_jobs([13, 50, 61, 77, 78]);
    let output = stream.finish(&["--job-timeout", "2s"]);
    let tally = text(&output.stderr).lines().last().unwrap();
    assert_eq!(
        tally,
        "last: 5 done, 5 failed and 0 unfinished left to be delivered again, 0 given back unstarted, \
         0 dead"
    );
    assert_eq!(stream.done().len(), 5);
    assert_eq!(stream.pending(), 0);
}

#[test]
fn what_fails_every_time_becomes_a_dead_letter_with_its_error() {
    let Some(mut stream) = Stream::new("dead") else {
        return;
    };
    stream.put(&[("job", "1"), ("backend", "fax")]);
    stream.put(&[("colour", "red")]);
    stream.put_jobs([50]);
    let output = stream.finish(&["--deliveries", "1", "--job-timeout", "20ms"]);
    assert!(text(&output.stderr).contains("0 done, 0 failed and 0 unfinished"));
    let mut dead = stream.dead();
    dead.sort();
    let expected = [
        ("", "`` is not a job's number"),
        ("1", "there is no backend `fax`"),
        ("50", "source timed out"),
    ];
    assert_eq!(
        dead,
        expected.map(|(job, error)| (job.to_owned(), error.to_owned()))
    );
    assert!(stream.done().is_empty());
    assert_eq!(stream.pending(), 0);
}

/// In batches, with the default job timeout, and with one so long that only the batch timeout ends
/// hanging jobs.
#[test]
fn jobs_that_wait_for_those_that_hang_do_not_become_dead_letters() {
    let much = ["--job-timeout", "1h"];
    for (name, job_timeout, error) in [
        ("freed", &[][..], "source timed out"),
        ("full", &much, "no outcome in 1 deliveries"),
    ] {
        let Some(mut stream) = Stream::new(name) else {
            return;
        };
        let hanging = (0..8).map(|job| 50 + 100 * job);
        stream.put_jobs(hanging.clone().chain(1..=5));
        let output = stream
            .worker("only", &["--batches", "--until-empty", "--deliveries", "1"])
            .args(["--concurrency", "8", "--batch-timeout", "2s"])
            .args(job_timeout)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

        let done: BTreeSet<_> = stream.done().into_keys().collect();
        assert_eq!(done, (1..=5).map(|job| job.to_string()).collect());
        let dead: BTreeSet<_> = stream.dead().into_iter().collect();
        let expected = hanging.map(|job| (job.to_string(), error.to_owned()));
        assert_eq!(dead, expected.collect());
        assert_eq!(stream.pending(), 0);
    }
}

#[test]
fn job_that_no_worker_survives_becomes_a_dead_letter() {
    let Some(mut stream) = Stream::new("poison") else {
        return;
    };
    stream.put_jobs([1]);
    let id = stream.take_and_vanish();
    let (name, group) = (stream.name, "workers");
    let claimed = stream.redis.xclaim(name, group, "gone too", 0, &[id]);
    let _: StreamClaimReply = claimed.unwrap();

    let output = stream.finish(&["--deliveries", "2"]);
    assert!(output.stdout.is_empty());
    let error = "no outcome in 2 deliveries".to_owned();
    assert_eq!(stream.dead(), [("1".to_owned(), error)]);
    assert_eq!(stream.pending(), 0);
}

#[test]
fn job_that_is_deleted_before_it_is_done_is_told_of() {
    let Some(mut stream) = Stream::new("deleted") else {
        return;
    };
    stream.put_jobs([1]);
    let id = stream.take_and_vanish();
    let _: usize = stream.redis.xdel(stream.name, &[&id]).unwrap();
    let output = stream.finish(&[]);
    let says = format!("warning: {id} was deleted");
    assert!(text(&output.stderr).contains(&says));
    assert_eq!(stream.pending(), 0);
}

#[test]
fn nothing_is_lost_when_a_worker_is_frozen_one_is_killed_and_redis_too() {
    // Only one process at a time may install Redis.
    if server().is_none() {
        return;
    }
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/run"))
        .arg("500")
        .env("WORKER", env!("CARGO_BIN_EXE_worker"))
        .output()
        .unwrap();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let counts: HashMap<_, u32> = text(&output.stdout)
        .lines()
        .map(|line| line.trim().split_once("  ").unwrap())
        .map(|(count, of_what)| (of_what, count.parse().unwrap()))
        .collect();
    assert_eq!(counts["jobs were put in"], 500);
    assert_eq!(counts["were done"], 500);
    assert_eq!(counts["have a result"], 500);
    assert_eq!(counts["are dead letters"], 0);
    assert_eq!(counts["are pending"], 0);
    assert_eq!(counts["were lost"], 0);
    assert_eq!(counts["workers failed"], 0);
}

#[test]
fn both_forms_do_all_jobs() {
    if server().is_none() {
        return;
    }
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/compare"))
        .arg("100")
        .env("WORKER", env!("CARGO_BIN_EXE_worker"))
        .output()
        .unwrap();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    assert!(lines[0].contains("jobs per second in-batches"), "{lines:?}");
    assert!(
        lines[1].contains("jobs per second continuously"),
        "{lines:?}"
    );
}

#[test]
fn server_ends_with_its_script_even_if_that_is_killed() {
    let Some(_) = server() else {
        return;
    };
    let mut server = Server::start().unwrap();
    let address = server.url.strip_prefix("redis://").unwrap();
    let mut connection = TcpStream::connect(address).unwrap();
    let long = Duration::from_secs(60);
    connection.set_read_timeout(Some(long)).unwrap();
    // Its input stays open, so nothing else can end it.
    signal(&server.process, "-KILL");
    assert_eq!(connection.read(&mut [0]).unwrap(), 0);
    server.process.wait().unwrap();
}

/// A user without root rights and without Redis, but with a package manager and `sudo`.
#[test]
fn redis_is_not_installed_unless_root_runs_the_script() {
    let folder = tempfile::tempdir().unwrap();
    let setup = r#"
        cd "$1"
        for tool in mktemp mkfifo rm; do ln -s "$(command -v $tool)" .; done
        printf '#!/bin/sh\necho 1000\n' >id
        printf '#!/bin/sh\n: >"${0%%/*}/was-run"\n' | tee apt-get >sudo
        chmod +x id apt-get sudo"#;
    let set_up = Command::new("sh")
        .args(["-euc", setup, "sh"])
        .arg(folder.path())
        .status();
    assert!(set_up.unwrap().success());

    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/with-redis"))
        .arg("echo")
        .env("PATH", folder.path())
        .output()
        .unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(NO_REDIS), "{message}");
    assert!(message.contains("Install one, for example"), "{message}");
    assert_eq!(text(&output.stdout), "");
    assert!(!folder.path().join("was-run").exists(), "{message}");
}

#[test]
fn what_cannot_work_is_refused_with_what_would_be_right() {
    for (arguments, code, says) in [
        (&["--redis", "redis://127.0.0.1:1"][..], 1, "refused"),
        (&["--redis", "127.0.0.1"], 2, "redis://127.0.0.1:6379"),
        (&["--take", "0"], 2, "at least 1"),
        (&["--job-timeout", "3"], 2, "for example 3sec"),
        (&["--timeout-of", "mail"], 2, "looks like archive=500ms"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_worker"))
            .args(["--name", "one"])
            .args(arguments)
            .output()
            .unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{message}");
        assert!(message.contains(says), "{message}");
    }
    for script in ["run", "compare"] {
        for jobs in ["few", "0"] {
            let script = format!("{}/{script}", env!("CARGO_MANIFEST_DIR"));
            let output = Command::new(script).arg(jobs).output().unwrap();
            assert_eq!(output.status.code(), Some(2));
            assert!(text(&output.stderr).contains("such as 1000"));
        }
    }
}
