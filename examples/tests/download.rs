//! Kills and stops the program, starts it again, and compares the file with the records of the server.

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use common::gate::{Gate, Log};
use common::running::Running;
use common::{Said, refuses, run};
use examples::records::{self, PAGES, TOTAL_PAGES};
use tempfile::TempDir;

const DOWNLOAD: &str = env!("CARGO_BIN_EXE_download");

/// The limit of the program, unless another one is given.
const CONCURRENCY: usize = 20;

/// A file to download to, in a folder of its own.
struct Target {
    _folder: TempDir,
    file: PathBuf,
    progress: PathBuf,
}

impl Target {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            file: folder.path().join("records.ndjson"),
            progress: folder.path().join("records.ndjson.progress"),
            _folder: folder,
        }
    }

    fn arguments<'a>(&'a self, url: &'a str) -> [&'a str; 3] {
        [self.file.to_str().unwrap(), "--url", url]
    }

    /// Fails unless the file has every record, in order, and there is nothing beside it.
    fn is_complete(&self) {
        assert_eq!(fs::read_to_string(&self.file).unwrap(), lines_of(PAGES));
        let files = fs::read_dir(self.file.parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1);
    }

    /// The number of pages that the progress counts.
    fn pages(&self) -> usize {
        let progress = fs::read(&self.progress).unwrap_or_else(|_| br#"{"pages":0}"#.to_vec());
        let progress: serde_json::Value = serde_json::from_slice(&progress).unwrap();
        progress["pages"].as_u64().unwrap().try_into().unwrap()
    }
}

/// The lines of the first pages.
fn lines_of(pages: usize) -> String {
    (1..=pages).map(records::lines).collect()
}

/// The page that a request asks for. A run begins with a HEAD request for page 1, which tells the number
/// of pages.
fn page(request: &str) -> usize {
    request.rsplit('=').next().unwrap().parse().unwrap()
}

/// A server that holds the requests for one page, if there is one.
fn server(held: Option<usize>) -> (Gate, String) {
    let (gate, url) = Gate::serve(records::router(), move |_, request| {
        held == Some(page(request))
    });
    (gate, format!("{url}records"))
}

/// The number of whole pages in a file.
fn pages_in(file: &Path) -> usize {
    static ENDS: LazyLock<Vec<usize>> = LazyLock::new(|| {
        let lengths = (1..=PAGES).map(|page| records::lines(page).len());
        let ends = lengths.scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        ends.collect()
    });
    let length = fs::metadata(file).map_or(0, |of| of.len());
    ENDS.partition_point(|end| *end as u64 <= length)
}

/// Waits until page 30 holds up the pages after it: those that were asked for are all answered.
fn wait_for_the_pages_after_30(gate: &Gate) {
    let is_answered = |log: &Log, after| log.answered.iter().any(|request| page(request) == after);
    gate.wait_until(|log| (31..50).all(|after| is_answered(log, after)));
}

fn ends_well(said: &Said, new: usize) {
    assert_eq!(said.status, Some(0), "{}", said.errors);
    let says = format!(": {PAGES} of {PAGES} pages, {new} of them new\n");
    assert!(said.output.ends_with(&says), "{}", said.output);
}

#[test]
fn file_has_the_records_in_order() {
    let target = Target::new();
    let said = run(DOWNLOAD, &[target.file.to_str().unwrap()]);
    ends_well(&said, PAGES);
    target.is_complete();
}

/// The server looks at the file whenever a request comes. The pages between those in the file and those
/// that were asked for are in the memory of the program, or on their way to it.
#[test]
fn few_pages_are_asked_for_and_held_at_a_time() {
    let target = Target::new();
    let most = Arc::new(AtomicUsize::new(0));
    let (file, most_held) = (target.file.clone(), Arc::clone(&most));
    let (gate, url) = Gate::serve(records::router(), move |_, request| {
        if request.starts_with("HEAD") {
            return false;
        }
        let page = page(request);
        let held = page.saturating_sub(pages_in(&file));
        most_held.fetch_max(held, Ordering::Relaxed);
        page <= CONCURRENCY || page == 30
    });
    let url = format!("{url}records");
    let program = Running::start(DOWNLOAD, &target.arguments(&url));
    gate.wait_until(|log| log.held.len() == CONCURRENCY);
    gate.release();
    wait_for_the_pages_after_30(&gate);
    gate.open();
    ends_well(&program.finish(), PAGES);
    target.is_complete();

    assert_eq!(gate.log().most_in_flight, CONCURRENCY);
    // The limit, and the page that is being written.
    let most = most.load(Ordering::Relaxed);
    assert!((CONCURRENCY..=CONCURRENCY + 1).contains(&most), "{most}");
}

#[test]
fn kills_neither_lose_nor_repeat_a_record() {
    let target = Target::new();
    let (gate, url) = server(None);
    let mut arrived = 0;
    // The program is killed when so many requests have come since its start, or soon after.
    for requests in [1, 2, 3, 20, 21, 22, 40, 60] {
        let before = target.pages();
        let program = Running::start(DOWNLOAD, &target.arguments(&url));
        gate.wait_until(|log| log.arrived.len() >= arrived + requests);
        program.kill();
        // The server notices that the client has gone.
        gate.wait_until(|log| log.in_flight == 0);
        let log = gate.log();
        let asked = log.arrived[arrived..].iter();
        let mut asked = asked.filter(|request| !request.starts_with("HEAD"));
        assert!(asked.all(|request| page(request) > before));
        arrived = log.arrived.len();

        let written = fs::read_to_string(&target.file).unwrap_or_default();
        assert!(lines_of(PAGES).starts_with(&written));
        assert!(target.pages() <= pages_in(&target.file));
    }
    let before = target.pages();
    assert!((1..PAGES).contains(&before), "{before}");
    ends_well(&run(DOWNLOAD, &target.arguments(&url)), PAGES - before);
    target.is_complete();
}

/// The system kills the program in the middle of a write, when the file is as large as permitted.
#[cfg(unix)]
#[test]
fn kill_in_the_middle_of_a_write_loses_nothing() {
    let (_gate, url) = server(None);
    for blocks in ["1", "2", "50", "333", "900"] {
        let target = Target::new();
        let limit = "ulimit -c 0; ulimit -f $0; exec \"$@\"";
        let arguments = ["-c", limit, blocks, DOWNLOAD];
        let said = run("sh", &[&arguments[..], &target.arguments(&url)].concat());
        assert_eq!(said.status, None, "{}", said.errors);
        let size = fs::metadata(&target.file).unwrap().len();
        assert!(size > 0 && size % 512 == 0, "{size}");

        let before = target.pages();
        assert_eq!(before, pages_in(&target.file));
        ends_well(&run(DOWNLOAD, &target.arguments(&url)), PAGES - before);
        target.is_complete();
    }
}

/// What a kill between two writes leaves.
#[test]
fn pages_that_the_progress_does_not_count_are_cut_off() {
    let half = &records::lines(30)[..100];
    for rest in [half, &records::lines(30), "\n", "{}"] {
        let target = Target::new();
        let (gate, url) = server(Some(30));
        let program = Running::start(DOWNLOAD, &target.arguments(&url));
        // Page 49 is asked for after page 29 has come to the file.
        gate.wait_until(|log| log.arrived.iter().any(|request| page(request) == 49));
        program.kill();
        gate.open();
        gate.wait_until(|log| log.in_flight == 0);

        let mut file = OpenOptions::new().append(true).open(&target.file).unwrap();
        file.write_all(rest.as_bytes()).unwrap();
        fs::write(target.progress.with_extension("progress.new"), "{\"from").unwrap();
        let before = target.pages();
        assert!((28..30).contains(&before), "{before}");
        ends_well(&run(DOWNLOAD, &target.arguments(&url)), PAGES - before);
        target.is_complete();
    }
}

#[cfg(unix)]
#[test]
fn first_ctrl_c_writes_the_pages_in_flight() {
    let target = Target::new();
    let (gate, url) = server(Some(30));
    let mut program = Running::start(DOWNLOAD, &target.arguments(&url));
    wait_for_the_pages_after_30(&gate);
    program.press_ctrl_c();
    program.wait_for_error("Waiting for the pages in flight");
    gate.open();
    let said = program.finish();
    assert_eq!(said.status, Some(2));
    assert!(said.output.contains(": 49 of 300 pages, 49 of them new"));
    assert_eq!(fs::read_to_string(&target.file).unwrap(), lines_of(49));

    ends_well(&run(DOWNLOAD, &target.arguments(&url)), PAGES - 49);
    target.is_complete();
}

#[cfg(unix)]
#[test]
fn second_ctrl_c_stops_at_once() {
    let target = Target::new();
    let (gate, url) = server(Some(30));
    let mut program = Running::start(DOWNLOAD, &target.arguments(&url));
    wait_for_the_pages_after_30(&gate);
    program.press_ctrl_c();
    program.wait_for_error("Waiting for the pages in flight");
    program.press_ctrl_c();
    let said = program.finish();
    assert_eq!(said.status, Some(2));
    assert!(said.output.contains(": 29 of 300 pages, 29 of them new"));
    assert_eq!(fs::read_to_string(&target.file).unwrap(), lines_of(29));

    gate.open();
    ends_well(&run(DOWNLOAD, &target.arguments(&url)), PAGES - 29);
    target.is_complete();
}

#[test]
fn page_that_fails_stops_the_download_before_it() {
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let router = records::router().layer(axum::middleware::from_fn(
        move |request: axum::extract::Request, next: axum::middleware::Next| {
            let is_broken =
                broken.load(Ordering::Relaxed) && request.uri().query() == Some("page=12");
            async move {
                match is_broken {
                    true => Err(StatusCode::BAD_GATEWAY),
                    false => Ok(next.run(request).await),
                }
            }
        },
    ));
    let target = Target::new();
    let url = format!("{}records", examples::serve(router).unwrap());
    let said = run(DOWNLOAD, &target.arguments(&url));
    assert_eq!(said.status, Some(1));
    assert!(
        said.errors
            .contains("page 12: HTTP status server error (502")
    );
    assert!(said.errors.contains("start the program again to go on"));
    assert_eq!(fs::read_to_string(&target.file).unwrap(), lines_of(11));

    is_broken.store(false, Ordering::Relaxed);
    ends_well(&run(DOWNLOAD, &target.arguments(&url)), PAGES - 11);
    target.is_complete();
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let refused = |target: &Target, url: &str, says: &str| {
        let before = fs::read(&target.file).unwrap();
        let said = run(DOWNLOAD, &target.arguments(url));
        assert_eq!(said.status, Some(1));
        assert!(said.errors.contains(says), "{}", said.errors);
        assert_eq!(fs::read(&target.file).unwrap(), before);
    };
    let url = "http://127.0.0.1:1/records";

    let target = Target::new();
    fs::write(&target.file, "mine").unwrap();
    refused(&target, url, "no download of it has begun");

    fs::write(&target.progress, "mine too").unwrap();
    refused(&target, url, "not the progress of a download");

    let progress = format!(r#"{{"from":"{url}","pages":1,"bytes":5}}"#);
    fs::write(&target.progress, progress).unwrap();
    refused(&target, url, "is shorter than");
    refused(
        &target,
        "http://127.0.0.1:2/records",
        "has begun from http://127.0.0.1:1/records",
    );

    let (_gate, url) = server(None);
    let progress = format!(r#"{{"from":"{url}","pages":301,"bytes":4}}"#);
    fs::write(&target.progress, progress).unwrap();
    refused(
        &target,
        &url,
        "has 300 pages, and an earlier run has written 301",
    );
}

#[test]
fn servers_that_are_no_such_api_are_refused() {
    for (router, says) in [
        (
            Router::new().route("/", get("hello")),
            "header x-total-pages must be a number",
        ),
        (
            Router::new().route("/", get(([(TOTAL_PAGES, "1")], "hello"))),
            "page 1: not an array of records",
        ),
    ] {
        let url = examples::serve(router).unwrap();
        let target = Target::new();
        let said = run(DOWNLOAD, &target.arguments(url.as_str()));
        assert_eq!(said.status, Some(1));
        assert!(said.errors.contains(says), "{}", said.errors);
    }
}

#[test]
fn records_are_written_on_one_line_each() {
    let records = "[\n {\"a\":\r\n 1},\n \"b\\nc\"\n]";
    let router = Router::new().route("/", get(([(TOTAL_PAGES, "1")], records)));
    let url = examples::serve(router).unwrap();
    let target = Target::new();
    let said = run(DOWNLOAD, &target.arguments(url.as_str()));
    assert_eq!(said.status, Some(0), "{}", said.errors);
    let written = fs::read_to_string(&target.file).unwrap();
    assert_eq!(written, "{\"a\":   1}\n\"b\\nc\"\n");
}

#[test]
fn bad_arguments_are_refused_with_what_would_be_right() {
    refuses(
        DOWNLOAD,
        &[
            (&[], "<FILE>"),
            (&["f", "--url", "a.example"], "https://example.com/page"),
            (&["f", "--concurrency", "0"], "at least 1"),
            (&["f", "--page-timeout", "3"], "for example 3sec"),
            (&["/nonexistent/f"], "/nonexistent/f.progress: No such file"),
        ],
    );
}
