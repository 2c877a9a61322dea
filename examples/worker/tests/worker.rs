//! The program with a real Redis: what is acknowledged, what is delivered again, and to which worker.
//!
//! Without Redis, and without root to install it, these tests say so and check nothing.
#![cfg(unix)]

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use redis::streams::{
    StreamClaimReply, StreamPendingReply, StreamRangeReply, StreamReadOptions, StreamReadReply,
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
    fn new(name: &'static str) -> Option<Self> {
        let url = &server()?.url;
        let client = redis::Client::open(url.as_str()).unwrap();
        let redis = client.get_connection().unwrap();
        Some(Self { url, name, redis })
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
        let _: () = redis.xgroup_create_mkstream(*name, "workers", "0").unwrap();
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

    /// Lets a worker do all jobs, with long timeouts for redelivery and for jobs, and a short one for
    /// batches.
    fn drain(&self, arguments: &[&str]) -> Output {
        let times = ["--drain", "--batch-timeout", "200ms", "--min-idle", "201ms"];
        let mut command = self.worker("last", &times);
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

    /// How often each job was acknowledged.
    fn done(&mut self) -> HashMap<String, u32> {
        self.redis.hgetall(format!("{}:done", self.name)).unwrap()
    }

    fn pending(&mut self) -> usize {
        let reply: StreamPendingReply = self.redis.xpending(self.name, "workers").unwrap();
        reply.count()
    }

    /// The jobs that became dead letters, with their errors.
    fn dead(&mut self) -> Vec<(String, String)> {
        let dead = format!("{}:dead", self.name);
        let letters: StreamRangeReply = self.redis.xrange_all(dead).unwrap();
        let letter = |letter: redis::streams::StreamId| {
            let field = |name| letter.get(name).unwrap();
            (field("job"), field("error"))
        };
        letters.ids.into_iter().map(letter).collect()
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

/// Lets a worker do the quick jobs, then sends it this signal. Returns the jobs that it has done.
fn stop_half_way(stream: &Stream, signal_name: &str, code: Option<i32>) -> BTreeSet<String> {
    let times = ["--batch-timeout", "1h", "--min-idle", "2h"];
    let mut worker = stream
        .worker("first", &[&times[..], &["--concurrency", "20"]].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(worker.stdout.take().unwrap());
    let mut lines = output.lines().map(Result::unwrap);
    let mut jobs: BTreeSet<_> = lines.by_ref().take(10).collect();
    signal(&worker, signal_name);
    jobs.extend(lines);
    assert_eq!(worker.wait().unwrap().code(), code);
    assert_eq!(jobs.len(), 10);
    jobs
}

#[test]
fn worker_that_is_told_to_stop_keeps_what_it_has_and_nothing_is_done_twice() {
    for (name, signal) in [("terminated", "-TERM"), ("interrupted", "-INT")] {
        let Some(mut stream) = Stream::new(name) else {
            return;
        };
        stream.put_jobs(quick_and_hanging());
        let mut jobs = stop_half_way(&stream, signal, Some(0));
        assert_eq!(stream.done().len(), 10);
        assert_eq!(stream.pending(), 10);

        let output = stream.drain(&[]);
        for job in text(&output.stdout).lines() {
            assert!(jobs.insert(job.to_owned()), "{job} twice");
        }
        assert_eq!(jobs.len(), 20);
        assert_eq!(stream.done().len(), 20);
        assert!(stream.done().values().all(|&times| times == 1));
        assert_eq!(stream.pending(), 0);
        assert_eq!(stream.dead(), []);
    }
}

#[test]
fn jobs_of_a_worker_that_is_killed_are_done_again() {
    let Some(mut stream) = Stream::new("killed") else {
        return;
    };
    stream.put_jobs(quick_and_hanging());
    let jobs = stop_half_way(&stream, "-KILL", None);
    assert!(stream.done().is_empty());
    assert_eq!(stream.pending(), 20);

    let output = stream.drain(&[]);
    let again: BTreeSet<_> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(again.len(), 20);
    assert!(again.is_superset(&jobs));
    assert_eq!(stream.done().len(), 20);
    assert!(stream.done().values().all(|&times| times == 1));
    assert_eq!(stream.pending(), 0);
}

#[test]
fn jobs_that_fail_hang_or_panic_are_delivered_until_they_are_done() {
    let Some(mut stream) = Stream::new("again") else {
        return;
    };
    stream.put_jobs([13, 50, 61, 77, 78]);
    let output = stream.drain(&[]);
    let tally = text(&output.stderr).lines().last().unwrap();
    // How often a job hangs until the deadline depends on the machine too.
    assert!(tally.starts_with("last: 5 done, 4 failed and "), "{tally}");
    assert!(!tally.contains(" 0 unfinished"), "{tally}");
    assert!(tally.ends_with(", 0 dead"), "{tally}");
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
    let output = stream.drain(&["--deliveries", "1", "--job-timeout", "20ms"]);
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

/// With the default job timeout, and with one so long that only the batch timeout ends hanging jobs.
#[test]
fn jobs_that_wait_for_those_that_hang_do_not_become_dead_letters() {
    let much = ["--job-timeout", "1h"];
    for (name, job_timeout, error) in [
        ("freed", &[][..], "source timed out"),
        ("kept", &much, "no outcome in 1 deliveries"),
    ] {
        let Some(mut stream) = Stream::new(name) else {
            return;
        };
        let hanging = (0..8).map(|job| 50 + 100 * job);
        stream.put_jobs(hanging.clone().chain(1..=5));
        let output = stream
            .worker("only", &["--drain", "--deliveries", "1"])
            .args(["--concurrency", "8"])
            .args(["--batch-timeout", "2s", "--min-idle", "2001ms"])
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

    let output = stream.drain(&["--deliveries", "2"]);
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
    let output = stream.drain(&[]);
    let says = format!("warning: {id} was deleted");
    assert!(text(&output.stderr).contains(&says));
    assert_eq!(stream.pending(), 0);
}

#[test]
fn nothing_is_lost_of_two_workers_when_one_is_killed_half_way() {
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
    assert!(counts["were held by it then"] > 0);
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
        (&["--batch-timeout", "3"], 2, "for example 3sec"),
        (&["--min-idle", "500ms"], 2, "longer than --batch-timeout"),
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
    for jobs in ["few", "0"] {
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/run"))
            .arg(jobs)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("such as 1000"));
    }
}
