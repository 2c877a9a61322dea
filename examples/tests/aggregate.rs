//! Runs the program and checks its output.

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use common::gate::Gate;
use common::running::Running;
use common::{answer, prompt_server, refuses};

const AGGREGATE: &str = env!("CARGO_BIN_EXE_aggregate");

fn aggregate(arguments: &[&str]) -> Output {
    Command::new(AGGREGATE).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The line about a source.
fn line<'a>(output: &'a Output, source: &str) -> &'a str {
    let lines = || text(&output.stdout).lines();
    lines()
        .find(|line| line.starts_with(source))
        .unwrap_or_else(|| {
            panic!(
                "no line about {source} in {:?}",
                lines().collect::<Vec<_>>()
            )
        })
}

fn shows_every_kind_of_outcome(output: &Output) {
    assert_eq!(output.status.code(), Some(2));
    for (source, says) in [
        ("fast", "200"),
        ("slow", "200"),
        ("large", "2000 kB"),
        ("dripping", "50 B"),
        ("failing", "500 Internal Server Error"),
        ("half-way", "end of file before message length reached"),
        ("garbage", "invalid HTTP version"),
        ("hanging", "timed out"),
        ("too-late", "unfinished"),
    ] {
        let line = line(output, source);
        assert!(line.contains(says), "{line}");
    }
    let totals = text(&output.stdout).lines().last().unwrap();
    assert!(totals.starts_with("4 answered, 4 failed, 1 unfinished in"));
    assert!(totals.ends_with("interrupted: timed out."));
}

#[test]
fn without_urls_it_shows_every_kind_of_outcome() {
    shows_every_kind_of_outcome(&aggregate(&[]));
}

#[test]
fn streaming_shows_the_same_outcomes() {
    shows_every_kind_of_outcome(&aggregate(&["--stream"]));
}

#[test]
fn given_urls_are_fetched_and_all_answers_are_a_success() {
    for stream in [&[][..], &["--stream"]] {
        let (one, other) = (prompt_server(), prompt_server());
        let output = aggregate(&[&[one.as_str(), &other, "--timeout", "1min"], stream].concat());
        assert_eq!(output.status.code(), Some(0));
        for url in [one, other] {
            assert!(line(&output, &url).contains("5 B"));
        }
        let totals = text(&output.stdout).lines().last().unwrap();
        assert!(totals.starts_with("2 answered, 0 failed, 0 unfinished in"));
        assert!(totals.ends_with("every source has answered."));
    }
}

#[test]
fn machine_without_certificates_can_fetch_from_servers_of_its_own() {
    let output = Command::new(AGGREGATE)
        .args(["--timeout", "300ms"])
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent")
        .output()
        .unwrap();
    assert!(line(&output, "fast").contains("200"));
}

/// A reader so slow that the pipe is full, and the deadline over, before it reads anything.
#[test]
fn streaming_to_a_slow_reader_shows_every_source() {
    // Long enough that the lines overflow a pipe.
    let path = "x".repeat(2000);
    let urls: Vec<_> = (0..100)
        .map(|id| format!("http://127.0.0.1:1/{id}/{path}"))
        .collect();
    let mut program = Command::new(AGGREGATE)
        .args(["--stream", "--timeout", "300ms"])
        .args(&urls)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The output is the same without this wait. With it the deadline passes while the pipe is full.
    thread::sleep(std::time::Duration::from_secs(1));
    let mut output = String::new();
    let mut pipe = program.stdout.take().unwrap();
    pipe.read_to_string(&mut output).unwrap();
    for url in &urls {
        assert!(output.contains(&format!("{url} ")), "no line about {url}");
    }
    let totals = output.lines().last().unwrap();
    let counts = totals
        .split(", ")
        .map_while(|count| count.split(' ').next()?.parse::<usize>().ok());
    assert_eq!(counts.sum::<usize>(), urls.len(), "{totals}");
    assert!(program.wait().unwrap().code().is_some());
}

/// A server that holds every request until it is released.
fn server_that_holds() -> (Gate, String) {
    Gate::serve(Router::new().fallback(async || "hello"), |_, _| true)
}

#[test]
fn each_host_has_its_limit() {
    for stream in [&[][..], &["--stream"]] {
        let hosts = [server_that_holds(), server_that_holds()];
        // All URLs of the first host come before those of the second one.
        let urls: Vec<_> = hosts
            .iter()
            .flat_map(|(_, url)| (0..6).map(move |page| format!("{url}{page}")))
            .collect();
        let mut arguments: Vec<_> = urls.iter().map(String::as_str).collect();
        arguments.extend(["--per-host", "2", "--timeout", "1min"]);
        arguments.extend(stream);
        let program = Running::start(AGGREGATE, &arguments);
        for _ in 0..3 {
            for (gate, _) in &hosts {
                gate.wait_until(|log| log.held.len() >= 2);
            }
            for (gate, _) in &hosts {
                gate.release();
            }
        }
        let said = program.finish();
        assert_eq!(said.status, Some(0));
        assert!(said.output.contains("2 of each host"));
        assert!(said.output.contains("12 answered, 0 failed, 0 unfinished"));
        for (gate, _) in &hosts {
            let log = gate.log();
            assert_eq!((log.arrived.len(), log.most_in_flight), (6, 2));
        }
    }
}

#[test]
fn requests_start_at_the_rate() {
    for stream in [&[][..], &["--stream"]] {
        let (gate, url) = server_that_holds();
        gate.open();
        let urls: Vec<_> = (0..15).map(|page| format!("{url}{page}")).collect();
        let mut arguments: Vec<_> = urls.iter().map(String::as_str).collect();
        arguments.extend(["--rate", "50", "--timeout", "1min"]);
        arguments.extend(stream);
        let launch = Instant::now();
        let output = aggregate(&arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("50 per second"));
        let log = gate.log();
        assert_eq!(log.arrived.len(), urls.len());
        log.is_spaced(launch, Duration::from_millis(20));
    }
}

#[test]
fn bad_arguments_are_refused_with_what_would_be_right() {
    refuses(
        AGGREGATE,
        &[
            (&["--concurrency", "0"], "at least 1"),
            (&["--concurrency", "many"], "invalid digit"),
            (&["--per-host", "0"], "at least 1"),
            (&["--rate", "0"], "at least 0.001"),
            (&["--rate", "-1"], "at least 0.001"),
            (&["--rate", "often"], "such as 20 or 0.5"),
            (&["--timeout", "3"], "for example 3sec"),
            (&["--source-timeout", "soon"], "expected number"),
            (&["example.com"], "https://example.com/page"),
            (&["ftp://example.com"], "only http: and https:"),
            (&["--fast"], "unexpected argument"),
        ],
    );
}

#[test]
fn help_is_no_error() {
    let output = aggregate(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("--source-timeout"));
}

#[cfg(unix)]
#[test]
fn interrupt_from_the_keyboard_still_shows_what_is_there() {
    use std::io::{BufRead, BufReader};

    for stream in [&[][..], &["--stream"]] {
        // The server accepts, and then the user presses Ctrl-C.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hanging = format!("http://{}/", listener.local_addr().unwrap());
        let quick = prompt_server();
        let arguments = [&[hanging.as_str(), &quick, "--timeout", "1h"], stream].concat();
        let mut program = Command::new(AGGREGATE)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let _connection = listener.accept().unwrap();
        let mut output = BufReader::new(program.stdout.take().unwrap());
        if !stream.is_empty() {
            // The quick answer was shown when it arrived.
            let mut line = String::new();
            while !line.contains("5 B") {
                line.clear();
                assert!(output.read_line(&mut line).unwrap() > 0);
            }
        }
        let interrupted = Command::new("kill")
            .args(["-INT", &program.id().to_string()])
            .status()
            .unwrap();
        assert!(interrupted.success());
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(program.wait().unwrap().code(), Some(2));
        let unfinished = rest.lines().find(|line| line.starts_with(&hanging));
        assert!(unfinished.unwrap().contains("unfinished"));
        assert!(rest.contains("interrupted: cancelled."));
    }
}

/// A server that answers each request with the next of these statuses, and then with the last one.
fn failing_server(statuses: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for request in 0.. {
            let (mut connection, _) = listener.accept().unwrap();
            let _ = connection.read(&mut [0; 4096]).unwrap();
            let status = statuses[request.min(statuses.len() - 1)];
            let answer =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            connection.write_all(answer.as_bytes()).unwrap();
        }
    });
    format!("http://{address}/")
}

/// A server that accepts, does not answer on the first connection, and answers on the others.
fn server_that_hangs_once() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let _silent = listener.accept().unwrap();
        loop {
            answer(&listener);
        }
    });
    format!("http://{address}/")
}

fn totals(output: &Output) -> &str {
    text(&output.stdout).lines().last().unwrap()
}

#[test]
fn quorum_ends_the_run_as_a_success() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging = format!("http://{}/", listener.local_addr().unwrap());
    let (one, other) = (prompt_server(), prompt_server());
    let output = aggregate(&[&hanging, &one, &other, "--quorum", "2", "--timeout", "1h"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(totals(&output).starts_with("2 answered, 0 failed, 1 unfinished"));
    assert!(line(&output, &hanging).contains("unfinished"));
}

#[test]
fn failing_fast_ends_the_run_as_interrupted() {
    let failing = failing_server(&["500 Internal Server Error"]);
    let output = aggregate(&[&failing, "--fail-fast"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(totals(&output).ends_with("interrupted: source failed."));
}

#[test]
fn retries_are_made_within_the_deadline() {
    let failing = failing_server(&[
        "503 Service Unavailable",
        "500 Internal Server Error",
        "200 OK",
    ]);
    let output = aggregate(&[&failing, "--retries", "2", "--timeout", "1min"]);
    assert!(line(&output, &failing).contains("200"));

    let failing = failing_server(&["503 Service Unavailable", "200 OK"]);
    let output = aggregate(&[&failing]);
    assert!(line(&output, &failing).contains("503"));

    let failing = failing_server(&["503 Service Unavailable"]);
    let output = aggregate(&[&failing, "--retries", "1000", "--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(line(&output, &failing).contains("unfinished"));
}

#[test]
fn request_that_hangs_is_hedged() {
    let hangs_once = server_that_hangs_once();
    let output = aggregate(&[&hangs_once, "--hedge-after", "50ms", "--timeout", "1min"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(line(&output, &hangs_once).contains("5 B"));
}

#[test]
fn policies_of_the_whole_do_not_go_with_streaming() {
    for policy in [&["--fail-fast"][..], &["--quorum", "1"]] {
        let output = aggregate(&[policy, &["--stream"]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("cannot be used with"));
    }
}

#[test]
fn timeline_is_80_columns_wide_without_colours_where_there_is_no_terminal() {
    let output = aggregate(&["--timeout", "300ms"]);
    let output = text(&output.stdout);
    assert!(!output.contains('\u{1b}'));
    let (_, after) = output.split_once("\n\nfast ").unwrap();
    let timeline = after.split("\n\n").nth(1).unwrap();
    let bars: Vec<_> = timeline.lines().filter(|line| line.contains('┤')).collect();
    assert!(bars.len() >= 2);
    assert!(
        timeline.lines().all(|line| line.chars().count() <= 80),
        "{timeline}"
    );
    // Sources that were cut off end with the run.
    assert!(
        bars[0].ends_with('┤') && bars[0].chars().count() == 80,
        "{timeline}"
    );
}

#[test]
fn timeline_is_drawn_into_a_file() {
    let file = std::env::temp_dir().join(format!("timeline-{}.svg", std::process::id()));
    let name = file.to_str().unwrap();
    let output = aggregate(&["--timeout", "300ms", "--timeline", name]);
    assert_eq!(output.status.code(), Some(2));
    let picture = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(picture.starts_with("<svg"));
    for source in ["fast", "slow", "hanging", "failing", "half-way", "garbage"] {
        assert!(picture.contains(source));
    }
    assert!(picture.contains("timed out"));

    let output = aggregate(&[
        "--timeout",
        "300ms",
        "--timeline",
        "/nonexistent/picture.svg",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nonexistent/picture.svg"));
}
