//! A backend that is down for a while, and retries with and without a budget.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use futures_aggregate::{AttemptBudget, TestTimer, Timer, retry};

use crate::load;

/// An error comes back this fast.
const FAST: Duration = Duration::from_millis(1);

/// The part of the requests that fails while the backend is up.
const FAILURES: f64 = 0.01;

/// The table.
pub(crate) struct Table {
    ratio: f64,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    /// While the backend is up, and while it is down.
    calls: [u32; 2],
    sent: [u32; 2],
    answered: [u32; 2],
}

pub(crate) fn simulate(requests: u32, seed: u64, ratio: f64) -> Table {
    let budget = AttemptBudget::new(100, ratio);
    Table {
        ratio,
        rows: vec![
            measure("without a budget", requests, seed, None),
            measure("with a budget", requests, seed, Some(&budget)),
        ],
    }
}

fn measure(name: &'static str, requests: u32, seed: u64, budget: Option<&AttemptBudget>) -> Row {
    let timer = TestTimer::new();
    let sent = [Cell::new(0), Cell::new(0)];
    let is_down = |request: u32| (requests / 3..requests / 3 * 2).contains(&request);
    let half = |request| usize::from(is_down(request));
    let request = |id| {
        let (timer, sent) = (&timer, &sent);
        async move {
            let sent = &sent[half(id)];
            let ask = |attempt: futures_aggregate::Attempt| {
                sent.set(sent.get() + 1);
                let sleep = timer.sleep_until(timer.now() + FAST);
                let random = &mut load::random(seed, id, attempt.number);
                let fails = is_down(id) || load::part(random) < FAILURES;
                async move {
                    sleep.await;
                    if fails { Err("503") } else { Ok(()) }
                }
            };
            // The pauses are short, so that an outage is still the same when an attempt comes.
            let retry = retry(FAST, 4, ask).seed(u64::from(id)).timer(timer);
            let answer = match budget {
                Some(budget) => retry.budget(budget).await,
                None => retry.await,
            };
            answer.is_ok()
        }
    };
    let answers = load::run(&timer, seed, requests, request);
    let mut row = Row {
        name,
        calls: [0; 2],
        sent: sent.map(|sent| sent.get()),
        answered: [0; 2],
    };
    for (id, is_answered) in (0..).zip(answers) {
        row.calls[half(id)] += 1;
        row.answered[half(id)] += u32::from(is_answered);
    }
    row
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:20}{:^30}{:^30}",
            "", "backend is up", "backend is down"
        )?;
        let columns = "     calls      sent  answered";
        writeln!(f, "{:20}{columns}{columns}   sent for each call", "")?;
        for row in &self.rows {
            write!(f, "{:20}", row.name)?;
            for state in 0..2 {
                let (calls, sent) = (row.calls[state], row.sent[state]);
                write!(f, "{calls:>10}{sent:>10}{:>10}", row.answered[state])?;
            }
            let per_call =
                f64::from(row.sent[0] + row.sent[1]) / f64::from(row.calls[0] + row.calls[1]);
            writeln!(f, "{per_call:>21.3}")?;
        }
        writeln!(
            f,
            "\nThe budget admits at most {:.3} requests for each call.",
            1.0 + self.ratio
        )
    }
}
