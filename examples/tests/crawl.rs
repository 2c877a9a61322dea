//! Runs the program and checks that each page that it finds is in exactly one list, wherever the crawl
//! is cut.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::gate::{Gate, Log};
use common::running::Running;
use common::{Said, refuses, run};
use examples::site::{self, Kind};

const CRAWL: &str = env!("CARGO_BIN_EXE_crawl");

/// The limit of the program, unless another one is given.
const CONCURRENCY: usize = 32;

/// The pages in each list.
struct Lists(BTreeMap<String, BTreeSet<usize>>);

impl Lists {
    /// Reads the output of a crawl, and checks what holds for every crawl.
    fn of(said: &Said) -> Self {
        let mut lists = Self(BTreeMap::new());
        let (lines, totals) = said.output.trim_end().split_once("\n\n").unwrap();
        let mut all = BTreeSet::new();
        for line in lines.lines() {
            let mut words = line.split_whitespace();
            let (list, url) = (words.next().unwrap(), words.next().unwrap());
            let page = url.rsplit('/').next().unwrap().parse().unwrap();
            assert!(all.insert(page), "{page} is there twice");
            lists.0.entry(list.to_owned()).or_default().insert(page);
        }

        // The pages found are the start page, and all pages that the pages fetched link to.
        let mut found: BTreeSet<_> = lists.get("fetched").flat_map(site::links).collect();
        found.insert(0);
        assert_eq!(all, found);
        for page in lists.get("fetched") {
            let is_good = matches!(site::kind(page), Kind::Sound | Kind::Slow | Kind::Moved);
            assert!(is_good, "{page} cannot have been fetched");
        }

        // The counts are those of the lists, and add up to the number of pages found.
        let counts = format!(
            "{} pages found: {} fetched, {} failed, {} unfinished, {} not started in ",
            found.len(),
            lists.len("fetched"),
            lists.len("failed"),
            lists.len("unfinished"),
            lists.len("not-started")
        );
        assert!(totals.starts_with(&counts), "{totals} is not {counts}");
        lists
    }

    fn get(&self, list: &str) -> impl Iterator<Item = usize> {
        self.0.get(list).into_iter().flatten().copied()
    }

    fn len(&self, list: &str) -> usize {
        self.get(list).count()
    }

    /// Checks the lists against the requests that the site has received.
    fn agree_with(&self, log: &Log) {
        let pages = |paths: &[String]| -> BTreeSet<usize> {
            let page = |path: &String| path.strip_prefix("/page/")?.parse().ok();
            paths.iter().filter_map(page).collect()
        };
        let (arrived, answered) = (pages(&log.arrived), pages(&log.answered));
        assert_eq!(arrived.len(), log.arrived.len(), "a page was asked twice");
        for page in self.get("fetched") {
            assert!(answered.contains(&page), "{page} was not answered");
        }
        for page in self.get("not-started") {
            assert!(!arrived.contains(&page), "{page} was asked");
        }
        let visited = ["fetched", "failed", "unfinished"].map(|list| self.get(list));
        let visited: BTreeSet<_> = visited.into_iter().flatten().collect();
        assert!(arrived.is_subset(&visited));
    }
}

/// A site that answers so many requests, and holds the others.
fn site_that_answers(requests: usize) -> (Gate, String) {
    let (gate, url) = Gate::serve(site::router(), move |log, _| log.arrived.len() > requests);
    (gate, format!("{url}page/0"))
}

#[test]
fn site_of_its_own_is_crawled_to_the_end() {
    let said = run(CRAWL, &["--list"]);
    let lists = Lists::of(&said);
    assert_eq!(said.status, Some(0));
    assert!(said.output.ends_with("; no more pages.\n"));
    assert_eq!(lists.len("unfinished") + lists.len("not-started"), 0);

    // The crawl comes to every page, and each of the broken ones fails in its way.
    for page in 0..site::PAGES {
        let url = format!("{} ", site::path(page));
        let says = match site::kind(page) {
            Kind::Sound | Kind::Slow => continue,
            Kind::Failing => "500 Internal Server Error",
            Kind::Reset => "error sending request: ",
            Kind::Hanging => "source timed out",
            Kind::Moved => "moved to http://127.0.0.1",
        };
        let mut lines = said.output.lines();
        let line = lines.find(|line| line.contains(&url)).unwrap();
        assert!(line.contains(says), "{line}");
    }
    assert_eq!(lists.len("fetched") + lists.len("failed"), site::PAGES);
}

#[test]
fn as_many_pages_are_visited_as_are_wanted() {
    for pages in [1, 10, 333, 1500] {
        let (gate, url) = site_that_answers(usize::MAX);
        let said = run(CRAWL, &[&url, "--list", "--pages", &pages.to_string()]);
        let lists = Lists::of(&said);
        lists.agree_with(&gate.log());
        assert_eq!(said.status, Some(2));
        assert!(said.output.ends_with("; enough pages.\n"));
        assert_eq!(lists.len("fetched") + lists.len("failed"), pages);
        assert_eq!(lists.len("unfinished"), 0);
        assert_eq!(gate.log().arrived.len(), pages);
    }
}

#[test]
fn deadline_leaves_the_pages_in_flight_unfinished() {
    for answered in [0, 1, 40, 200] {
        let (gate, url) = site_that_answers(answered);
        let program = Running::start(
            CRAWL,
            &[&url, "--list", "--timeout", "1s", "--page-timeout", "1h"],
        );
        let said = program.finish();
        let lists = Lists::of(&said);
        lists.agree_with(&gate.log());
        assert_eq!(said.status, Some(2));
        assert!(said.output.ends_with("; interrupted: timed out.\n"));
        let in_flight = lists.len("unfinished");
        assert!((1..=CONCURRENCY).contains(&in_flight), "{in_flight}");
    }
}

/// The pages in flight when the site has stopped answering: as many as the limit permits.
#[cfg(unix)]
fn pages_in_flight(gate: &Gate) -> BTreeSet<String> {
    let hang = |log: &Log| {
        let held = log.held.iter().cloned();
        // The site never answers some pages anyway.
        let hanging = (0..site::PAGES).filter(|page| site::kind(*page) == Kind::Hanging);
        let hanging = hanging.map(site::path);
        let hanging = hanging.filter(|path| log.arrived.contains(path));
        held.chain(hanging).collect::<BTreeSet<_>>()
    };
    gate.wait_until(|log| log.in_flight == CONCURRENCY && hang(log).len() == CONCURRENCY);
    hang(&gate.log())
}

#[cfg(unix)]
#[test]
fn first_ctrl_c_lets_the_pages_in_flight_finish() {
    for answered in [100, 450] {
        let (gate, url) = site_that_answers(answered);
        let mut program = Running::start(CRAWL, &[&url, "--list", "--page-timeout", "20s"]);
        pages_in_flight(&gate);
        let arrived = gate.log().arrived.len();
        program.press_ctrl_c();
        program.wait_for_error("Waiting for the pages in flight");
        gate.open();

        let said = program.finish();
        let lists = Lists::of(&said);
        lists.agree_with(&gate.log());
        assert_eq!(said.status, Some(2));
        assert!(said.output.ends_with("; interrupted: drained.\n"));
        // No page was asked since, and all of them have answered.
        assert_eq!(gate.log().arrived.len(), arrived);
        assert_eq!(lists.len("fetched") + lists.len("failed"), arrived);
        // To find out whether there are more pages, the run may take one.
        assert!(lists.len("unfinished") <= 1);
        assert!(lists.len("not-started") > 0);
    }
}

#[cfg(unix)]
#[test]
fn second_ctrl_c_stops_at_once() {
    for answered in [100, 450] {
        let (gate, url) = site_that_answers(answered);
        let mut program = Running::start(CRAWL, &[&url, "--list", "--page-timeout", "1h"]);
        let in_flight = pages_in_flight(&gate);
        program.press_ctrl_c();
        program.wait_for_error("Waiting for the pages in flight");
        program.press_ctrl_c();

        let said = program.finish();
        let lists = Lists::of(&said);
        lists.agree_with(&gate.log());
        assert_eq!(said.status, Some(2));
        assert!(said.output.ends_with("; interrupted: cancelled.\n"));
        let unfinished: BTreeSet<_> = lists.get("unfinished").map(site::path).collect();
        assert_eq!(unfinished, in_flight);
    }
}

#[test]
fn each_host_has_its_limit_and_no_page_is_lost() {
    let (gate, url) = site_that_answers(usize::MAX);
    let said = run(
        CRAWL,
        &[&url, "--list", "--pages", "300", "--per-host", "2"],
    );
    let lists = Lists::of(&said);
    let log = gate.log();
    lists.agree_with(&log);
    // The site would see a request for a while whose page has timed out.
    let hangs = |page| site::kind(page) == Kind::Hanging;
    let visited = ["fetched", "failed"].map(|list| lists.get(list));
    assert!(!visited.into_iter().flatten().any(hangs));
    assert_eq!(log.arrived.len(), 300);
    assert_eq!(log.most_in_flight, 2);
}

#[test]
fn host_that_is_full_does_not_hold_up_another() {
    // The first site stops to answer. By then there are fewer pages of it than the run looks ahead.
    let (stuck, stuck_url) = site_that_answers(10);
    let (prompt, prompt_url) = site_that_answers(usize::MAX);
    let arguments = [&stuck_url, &prompt_url, "--per-host", "2"];
    let program = Running::start(CRAWL, &[&arguments[..], &["--page-timeout", "1h"]].concat());
    prompt.wait_until(|log| log.answered.len() >= 250);
    stuck.wait_until(|log| log.held.len() == 2);
    program.kill();
    assert_eq!(stuck.log().arrived.len(), 12);
    assert_eq!(stuck.log().most_in_flight, 2);
    assert_eq!(prompt.log().most_in_flight, 2);
}

#[test]
fn pages_that_wait_for_their_host_are_unfinished() {
    for answered in [0, 30, 200] {
        let (gate, url) = site_that_answers(answered);
        let limits = ["--per-host", "2", "--timeout", "1s", "--page-timeout", "1h"];
        let said = run(CRAWL, &[&[url.as_str(), "--list"][..], &limits].concat());
        let lists = Lists::of(&said);
        lists.agree_with(&gate.log());
        assert_eq!(said.status, Some(2));
        assert!(said.output.ends_with("; interrupted: timed out.\n"));
        let unfinished = lists.len("unfinished");
        // Two in flight, and the pages that were parked.
        assert!((1..=2 + 64).contains(&unfinished), "{unfinished}");
        assert!(unfinished > 2 || answered == 0);
    }
}

#[test]
fn requests_start_at_the_rate() {
    let (gate, url) = site_that_answers(usize::MAX);
    let launch = Instant::now();
    let said = run(CRAWL, &[&url, "--list", "--pages", "25", "--rate", "50"]);
    let lists = Lists::of(&said);
    lists.agree_with(&gate.log());
    assert_eq!(gate.log().arrived.len(), 25);
    gate.log().is_spaced(launch, Duration::from_millis(20));
}

#[test]
fn throttled_site_refuses_a_crawl_that_is_too_wide() {
    let crawl = |concurrency| {
        let limits = ["--throttle", "4", "--concurrency", concurrency];
        let said = run(
            CRAWL,
            &[&limits[..], &["--list", "--page-timeout", "1s"]].concat(),
        );
        let (output, site) = said.output.trim_end().rsplit_once('\n').unwrap();
        let site: Vec<usize> = site
            .split([' ', '.'])
            .filter_map(|it| it.parse().ok())
            .collect();
        let output = Said {
            output: output.to_owned(),
            ..said
        };
        (Lists::of(&output), site[0], site[1], output.output)
    };
    // There is room for four in work and twelve in the queue. The site sees the three pages that it never
    // answers a little longer than the crawl.
    let (lists, most, refused, _) = crawl("12");
    assert!((4..=15).contains(&most), "{most}");
    assert_eq!(refused, 0);
    assert_eq!(lists.len("fetched") + lists.len("failed"), site::PAGES);

    let (_, most, refused, output) = crawl("64");
    assert!((17..=64).contains(&most), "{most}");
    assert!(refused > 0);
    let lines = output
        .lines()
        .filter(|line| line.contains("503 Service Unavailable"));
    assert_eq!(lines.count(), refused);
}

#[test]
fn adaptive_limit_adapts_to_a_throttled_site() {
    let said = run(
        CRAWL,
        &["--throttle", "8", "--adaptive", "--page-timeout", "1s"],
    );
    // Eight in work and 24 in the queue. A crawl without a limit has a thousand pages refused.
    let refused: usize = said
        .output
        .trim_end()
        .trim_end_matches('.')
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(refused < site::PAGES / 20, "{refused}");
    let (_, limit) = said.output.split_once("The limit is ").unwrap();
    let limit: usize = limit.split(' ').next().unwrap().parse().unwrap();
    assert!((2..=32).contains(&limit), "{limit}");
    assert!(said.output.contains("; no more pages."));
}

#[test]
fn start_pages_that_are_given_twice_are_visited_once() {
    let (gate, url) = site_that_answers(usize::MAX);
    let said = run(
        CRAWL,
        &[&url, &format!("{url}#top"), "--list", "--pages", "1"],
    );
    Lists::of(&said).agree_with(&gate.log());
}

#[test]
fn bad_arguments_are_refused_with_what_would_be_right() {
    refuses(
        CRAWL,
        &[
            (&["a.example"], "https://example.com/page"),
            (&["ftp://a.example"], "only http: and https:"),
            (&["--pages", "0"], "at least 1"),
            (&["--concurrency", "0"], "at least 1"),
            (&["--per-host", "0"], "at least 1"),
            (&["--per-host", "two"], "invalid digit"),
            (&["--rate", "0"], "at least 0.001"),
            (&["--rate", "-1"], "at least 0.001"),
            (&["--rate", "fast"], "such as 20 or 0.5"),
            (&["--rate", "NaN"], "at least 0.001"),
            (&["--rate", "inf"], "at most 1000000000"),
            (&["--adaptive", "--concurrency", "3"], "cannot be used with"),
            (&["--throttle", "0"], "at least 1"),
            (
                &["--throttle", "4", "http://a.example"],
                "cannot be used with",
            ),
            (&["--timeout", "3"], "for example 3sec"),
            (&["--page-timeout", "soon"], "expected number"),
        ],
    );
}
