//! A small part of the comparison: whether `Limit::adaptive` reaches its targets, and whether a seed decides
//! everything.

use simulations::compare::{Comparison, compare_beside};
use simulations::contenders::Contender;
use simulations::scenarios::{self, Scenario};
use simulations::simulate::simulate;
use simulations::table::scores;

/// Scenarios, with shorter phases.
fn short(names: &[&str]) -> Vec<Scenario> {
    let mut scenarios = scenarios::all();
    scenarios.retain(|scenario| names.contains(&scenario.name));
    assert_eq!(scenarios.len(), names.len());
    for scenario in &mut scenarios {
        for phase in &mut scenario.phases {
            phase.length = phase.length.min(200.0);
        }
    }
    scenarios
}

fn alone(names: &[&str]) -> Vec<Comparison> {
    let scenarios = short(names);
    // What keeps the server busy, and no more.
    let fixed: Vec<Vec<_>> = scenarios
        .iter()
        .map(|scenario| {
            let phases = scenario.phases.iter();
            phases
                .map(|phase| phase.condition.places / phase.clients)
                .collect()
        })
        .collect();
    compare_beside(&scenarios, &[Contender::Adaptive], &[1, 2], &fixed)
}

#[test]
fn one_client_gets_nearly_all_of_the_server_and_follows_it() {
    let comparisons = alone(&["queue", "shares", "outage"]);
    let scores = scores(&comparisons, Contender::Adaptive);
    let held = scores.iter().filter(|(_, score)| score.is_held).count();
    assert!(held * 10 >= scores.len() * 9, "{scores:?}");
    for (name, score) in &scores {
        assert!(score.goodput >= 0.85, "{name}: {score:?}");
        let most = if name.starts_with("outage") {
            100.0
        } else {
            50.0
        };
        let adapted = score.adapted.unwrap_or(f64::INFINITY);
        assert!(adapted <= most, "{name}: {score:?}");
    }
}

#[test]
fn two_clients_share_the_server() {
    let comparisons = alone(&["two clients, shares"]);
    for (name, score) in scores(&comparisons, Contender::Adaptive) {
        assert!(
            score.goodput >= 0.85 && score.p99 <= 2.0,
            "{name}: {score:?}"
        );
        assert!((0.3..0.7).contains(&score.share), "{name}: {score:?}");
    }
}

#[test]
fn limit_does_not_grow_in_an_outage_or_while_unused() {
    let comparisons = alone(&["outage", "uses a part"]);
    let outage = &comparisons[0].rows[0].phases[1];
    let last = outage.bins.last().expect("a bin");
    assert!(last.limit <= 2.0, "{last:?}");
    let unused = &comparisons[1].rows[0].phases[0];
    assert!(unused.greatest_limit <= 4.0, "{}", unused.greatest_limit);
}

#[test]
fn same_seed_gives_the_same_figures() {
    let [scenario] = &mut short(&["two clients, shares"])[..] else {
        panic!("one scenario");
    };
    scenario.phases.truncate(1);
    scenario.phases[0].length = 60.0;
    let scenario = &*scenario;
    let figures = |contender, seed| format!("{:?}", simulate(scenario, contender, &[9], seed));
    for contender in Contender::ALL {
        assert_eq!(
            figures(contender, 1),
            figures(contender, 1),
            "{contender:?}"
        );
    }
    let adaptive = Contender::Adaptive;
    assert_ne!(figures(adaptive, 1), figures(adaptive, 2));
}
