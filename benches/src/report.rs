//! The figures as lines of text, and as a table in Markdown.

use std::fmt::Write;

use crate::harness::Row;

/// The columns of the table.
pub(crate) const PEERS: [&str; 7] = [
    "async-lock",
    "future-queue",
    "FuturesUnordered",
    "futures-buffered",
    "futures-concurrency",
    "join_all",
    "tokio",
];

pub(crate) fn line(row: &Row) -> String {
    let own = row.costs[0].1;
    let mut line = format!("{:<46} {own:>8.1} ns", row.name);
    for (name, ratio) in row.ratios() {
        let _ = write!(line, "   {name} {ratio:.2}");
    }
    line
}

pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = format!(
        "| workload | ns per source | {} |\n|---|---:|{}\n",
        PEERS.join(" | "),
        "---:|".repeat(PEERS.len())
    );
    for row in rows {
        let _ = write!(text, "| {} | {:.1} |", row.name, row.costs[0].1);
        for peer in PEERS {
            let ratio = row.ratios().find(|(name, _)| *name == peer);
            let _ = match ratio {
                Some((_, ratio)) => write!(text, " {ratio:.2} |"),
                None => write!(text, " |"),
            };
        }
        text.push('\n');
    }
    text
}
