//! Runs the program and checks that each page is in exactly one list, wherever the pipeline is cut.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use common::gate::{Gate, Log};
use common::running::Running;
use common::{Said, refuses, run};
use examples::store::{MOST_BYTES, Store};
use flate2::read::GzDecoder;

const PIPELINE: &str = env!("CARGO_BIN_EXE_pipeline");

/// The number of pages that the tests pass to the program.
const PAGES: usize = 60;

/// The most pages in the pipeline: in the first stage, in the channel, in the last stage.
const ROOM: usize = 16 + 4 + 4;

/// The most pages that the last stage stores at a time.
const STORES: usize = 4;

/// A page that does not exist. It is fetched after the first ones, and before the pipeline is full.
const MISSING: usize = 20;

/// A page that is too large for the store.
const LARGE: usize = 58;

/// What a page has in it.
fn content(page: usize) -> Result<Vec<u8>, StatusCode> {
    match page {
        MISSING => Err(StatusCode::NOT_FOUND),
        // Bytes that cannot be compressed.
        LARGE => Ok((0..20 * MOST_BYTES).map(noise).collect()),
        _ => Ok(format!("This is page {page}. ").repeat(page).into_bytes()),
    }
}

fn noise(position: usize) -> u8 {
    let mixed = (position as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29))
        .wrapping_mul(0xBF58_476D_1CE4_E5B9)
        .to_be_bytes()[0]
}

fn origin() -> Router {
    Router::new().route(
        "/{page}",
        get(|Path(page): Path<usize>| async move { content(page) }),
    )
}

/// An origin and a store, either of which may hold its requests.
struct Servers {
    origin: Gate,
    store: Gate,
    stored: Store,
    /// The arguments of the program.
    arguments: Vec<String>,
}

impl Servers {
    fn start(origin_holds: bool, store_holds: bool) -> Self {
        let stored = Store::default();
        let (origin, pages) = Gate::serve(origin(), move |_, _| origin_holds);
        let (store, url) = Gate::serve(stored.router(), move |_, _| store_holds);
        let pages = (0..PAGES).map(|page| format!("{pages}{page}"));
        let arguments = ["--store".to_owned(), url].into_iter().chain(pages);
        Self {
            arguments: arguments.collect(),
            origin,
            store,
            stored,
        }
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let own = self.arguments.iter().map(String::as_str);
        own.chain(more.iter().copied()).collect()
    }

    /// Waits until the store holds up the whole pipeline.
    fn wait_until_full(&self) {
        self.store.wait_until(|log| log.held.len() == STORES);
        self.origin.wait_until(|log| log.answered.len() == ROOM);
    }
}

/// The pages in each list.
struct Lists(BTreeMap<String, BTreeSet<usize>>);

impl Lists {
    /// Reads the output of a run, and checks it against the servers.
    fn of(said: &Said, servers: &Servers) -> Self {
        let mut lists = Self(BTreeMap::new());
        let (lines, totals) = said.output.split_once("\n\n").unwrap();
        let mut all = BTreeSet::new();
        for line in lines.lines() {
            let mut words = line.split_whitespace();
            let (list, url) = (words.next().unwrap(), words.next().unwrap());
            let page = url.rsplit('/').next().unwrap().parse().unwrap();
            assert!(all.insert(page), "{page} is there twice");
            lists.0.entry(list.to_owned()).or_default().insert(page);
        }
        assert_eq!(all, (0..PAGES).collect());
        let counts = format!(
            "{PAGES} pages: {} stored, {} failed, {} not stored, {} not fetched.\n",
            lists.get("stored").len(),
            lists.get("failed").len(),
            lists.get("not-stored").len(),
            lists.get("not-fetched").len()
        );
        assert!(totals.starts_with(&counts), "{totals} is not {counts}");

        // What the program says is what the servers have seen.
        let answered = pages(&servers.origin.log().answered);
        assert!(lists.get("stored").is_subset(&answered));
        assert!(lists.get("not-stored").is_subset(&answered));
        let objects = servers.stored.objects();
        for page in lists.get("stored") {
            let mut content_stored = Vec::new();
            let name = |name: &&String| name.ends_with(&format!("/{page}"));
            let name = objects.keys().find(name).unwrap();
            let mut decoder = GzDecoder::new(&objects[name][..]);
            decoder.read_to_end(&mut content_stored).unwrap();
            assert_eq!(Ok(content_stored), content(page));
        }
        lists
    }

    fn get(&self, list: &str) -> BTreeSet<usize> {
        self.0.get(list).cloned().unwrap_or_default()
    }
}

/// The pages that some requests are about.
fn pages(requests: &[String]) -> BTreeSet<usize> {
    let page = |request: &String| {
        request
            .rsplit(|of: char| !of.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    requests.iter().filter_map(page).collect()
}

#[test]
fn servers_of_its_own_give_every_kind_of_end() {
    let said = run(PIPELINE, &[]);
    assert_eq!(said.status, Some(2));
    for (server, begins, says) in [
        ("fast", "stored ", " bytes"),
        ("slow", "stored ", " bytes"),
        ("dripping", "stored ", " bytes"),
        (
            "failing",
            "failed ",
            " fetch: HTTP status server error (500",
        ),
        (
            "half-way",
            "failed ",
            " fetch: error decoding response body",
        ),
        ("garbage", "failed ", " fetch: error sending request"),
        ("large", "failed ", " store: HTTP status client error (413"),
        ("hanging", "not-fetched ", "hanging"),
        ("too-late", "not-fetched ", "too-late"),
    ] {
        let line = said.line(server);
        assert!(line.starts_with(begins) && line.contains(says), "{line}");
    }
    let totals = "9 pages: 3 stored, 4 failed, 0 not stored, 2 not fetched.\n\
                  The fetches were interrupted: receiver closed.\n\
                  The stores were interrupted: timed out.\n";
    assert!(said.output.ends_with(totals), "{}", said.output);
}

#[test]
fn pages_come_to_the_store_and_errors_come_through() {
    let servers = Servers::start(false, false);
    let said = run(PIPELINE, &servers.arguments(&["--timeout", "1min"]));
    let lists = Lists::of(&said, &servers);
    assert_eq!(said.status, Some(0), "{}", said.output);
    assert!(!said.output.contains("interrupted"));
    assert_eq!(lists.get("failed"), [MISSING, LARGE].into());
    assert!(
        said.line("/20 ")
            .contains("fetch: HTTP status client error (404")
    );
    assert!(
        said.line("/58 ")
            .contains("store: HTTP status client error (413")
    );
    assert!(servers.store.log().most_in_flight <= STORES);
}

#[test]
fn store_that_is_down_fails_every_page() {
    let servers = Servers::start(false, false);
    let mut arguments = servers.arguments(&["--timeout", "1min"]);
    arguments[1] = "http://127.0.0.1:1/";
    let said = run(PIPELINE, &arguments);
    let lists = Lists::of(&said, &servers);
    assert_eq!(said.status, Some(0));
    assert_eq!(lists.get("failed").len(), PAGES);
    assert!(said.line("/8 ").contains("store: error sending request: "));
}

#[test]
fn deadline_of_the_last_stage_ends_the_first_one_too() {
    for (origin_holds, store_holds) in [(true, false), (false, true)] {
        let servers = Servers::start(origin_holds, store_holds);
        let said = run(PIPELINE, &servers.arguments(&["--timeout", "1s"]));
        let lists = Lists::of(&said, &servers);
        assert_eq!(said.status, Some(2));
        assert!(
            said.output
                .contains("fetches were interrupted: receiver closed.")
        );
        assert!(said.output.contains("stores were interrupted: timed out."));
        assert_eq!(lists.get("stored"), BTreeSet::new());
        // A stage that is slow slows the one before it.
        assert!(servers.origin.log().arrived.len() <= ROOM);
    }
}

#[cfg(unix)]
#[test]
fn second_ctrl_c_cuts_a_pipeline_that_is_full() {
    let servers = Servers::start(false, true);
    let mut program = Running::start(PIPELINE, &servers.arguments(&["--timeout", "1h"]));
    servers.wait_until_full();
    program.press_ctrl_c();
    program.wait_for_error("Storing the pages in the pipeline");
    program.press_ctrl_c();
    let said = program.finish();

    let lists = Lists::of(&said, &servers);
    assert_eq!(said.status, Some(2));
    assert!(said.output.contains("stores were interrupted: cancelled."));
    let fetched = pages(&servers.origin.log().answered);
    // The page that failed waited between the stages.
    assert_eq!(lists.get("failed"), [MISSING].into());
    assert_eq!(&lists.get("not-stored") | &lists.get("failed"), fetched);
    assert_eq!(lists.get("not-fetched").len(), PAGES - ROOM);
    let stores = pages(&servers.store.log().arrived);
    assert_eq!(stores.len(), STORES);
    assert!(stores.is_subset(&fetched));
}

#[cfg(unix)]
#[test]
fn first_ctrl_c_empties_the_pipeline() {
    let servers = Servers::start(false, true);
    let mut program = Running::start(PIPELINE, &servers.arguments(&["--timeout", "1h"]));
    servers.wait_until_full();
    program.press_ctrl_c();
    program.wait_for_error("Storing the pages in the pipeline");
    servers.store.open();
    let said = program.finish();

    let lists = Lists::of(&said, &servers);
    assert_eq!(said.status, Some(2));
    assert!(said.output.contains("fetches were interrupted: drained."));
    assert!(!said.output.contains("stores were interrupted"));
    assert_eq!(lists.get("failed"), [MISSING].into());
    let through = &lists.get("stored") | &lists.get("failed");
    assert_eq!(through, pages(&servers.origin.log().answered));
    assert_eq!(through.len(), ROOM);
    assert_eq!(lists.get("not-fetched").len(), PAGES - ROOM);
}

/// Fetches that never answer.
#[cfg(unix)]
#[test]
fn second_ctrl_c_reaches_the_first_stage() {
    let servers = Servers::start(true, false);
    let mut program = Running::start(PIPELINE, &servers.arguments(&["--timeout", "1h"]));
    servers.origin.wait_until(|log: &Log| log.held.len() == 16);
    program.press_ctrl_c();
    program.wait_for_error("Storing the pages in the pipeline");
    program.press_ctrl_c();
    let said = program.finish();
    let lists = Lists::of(&said, &servers);
    assert_eq!(said.status, Some(2));
    assert_eq!(lists.get("not-fetched").len(), PAGES);
    assert!(
        said.output
            .contains("fetches were interrupted: receiver closed.")
    );
}

#[test]
fn bad_arguments_are_refused_with_what_would_be_right() {
    refuses(
        PIPELINE,
        &[
            (&["a.example"], "https://example.com/page"),
            (&["--store", "ftp://a.example"], "only http: and https:"),
            (&["--timeout", "3"], "for example 3sec"),
        ],
    );
}
