//! Curves of limit, latency and goodput.

use std::io;
use std::path::Path;

use svg::Document;
use svg::node::element::{Line, Polyline, Rectangle, Text};

use crate::compare::{Comparison, Means, Row};
use crate::simulate::Bin;

const COLOURS: [&str; 8] = [
    "#d62728", "#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f",
];
const BEST: &str = "#222222";

const LEFT: f64 = 70.0;
const WIDTH: f64 = 900.0;
const TOP: f64 = 96.0;
const PANEL: f64 = 150.0;
const GAP: f64 = 40.0;

/// The name of a panel, and what it shows.
type Panel = (&'static str, fn(&Bin) -> f64);

const PANELS: [Panel; 3] = [
    ("limit", |bin| bin.limit),
    ("latency, in round trips", |bin| bin.latency),
    ("answers in a round trip", |bin| bin.answers),
];

/// Draws a scenario into a file.
pub fn draw(comparison: &Comparison, file: &Path) -> io::Result<()> {
    let (width, height) = (LEFT + WIDTH + 30.0, TOP + 3.0 * (PANEL + GAP));
    let background = Rectangle::new().set("width", width).set("height", height);
    let mut picture = Document::new()
        .set("viewBox", (0, 0, width, height))
        .set("width", width)
        .set("height", height)
        .set("font-family", "system-ui, sans-serif")
        .set("font-size", 12)
        .set("fill", "#222222")
        .add(background.set("fill", "#ffffff"))
        .add(text(20.0, 26.0, comparison.scenario.name).set("font-size", 17));
    let names = comparison.rows.iter().map(|row| row.contender.name());
    for (place, name) in names.chain(["best fixed limit"]).enumerate() {
        let (column, line) = ((place % 4) as f64, (place / 4) as f64);
        let colour = match place < comparison.rows.len() {
            true => COLOURS[place % COLOURS.len()],
            false => BEST,
        };
        let key = text(20.0 + column * 240.0, 46.0 + line * 16.0, name);
        picture = picture.add(key.set("fill", colour));
    }
    let lengths = comparison.best.iter().map(|phase| phase.bins.len());
    let count: usize = lengths.clone().sum();
    for (number, (name, value)) in PANELS.iter().enumerate() {
        let top = TOP + number as f64 * (PANEL + GAP) + 16.0;
        // Contenders that go beyond are cut off: the curve of the best one has to be seen.
        let own = comparison.rows.first().map(|row| &row.phases);
        let most = own
            .into_iter()
            .chain([&comparison.best])
            .flat_map(|phases| curve(phases, *value))
            .fold(1e-9, f64::max)
            * 1.3;
        let point = |place: usize, value: f64| {
            let x = LEFT + place as f64 / count as f64 * WIDTH;
            (x, top + PANEL * (1.0 - (value / most).min(1.0)))
        };
        picture = picture
            .add(text(LEFT, top - 6.0, name))
            .add(text(20.0, top + 10.0, &format!("{most:.1}")))
            .add(text(20.0, top + PANEL, "0"));
        let mut end = 0;
        for length in [0].into_iter().chain(lengths.clone()) {
            end += length;
            let x = point(end, 0.0).0;
            let line = Line::new().set("x1", x).set("x2", x);
            let line = line.set("y1", top).set("y2", top + PANEL);
            picture = picture.add(line.set("stroke", "#cccccc"));
        }
        let best = match number {
            0 => fixed(comparison),
            _ => curve(&comparison.best, *value),
        };
        for (row, colour) in comparison.rows.iter().zip(COLOURS).rev() {
            picture = picture.add(line(&curve_of(row, *value), point, colour));
        }
        picture = picture.add(line(&best, point, BEST));
    }
    svg::save(file, &picture)
}

/// The best fixed limit over time.
fn fixed(comparison: &Comparison) -> Vec<f64> {
    let phases = comparison.best.iter().zip(&comparison.fixed);
    let phases = phases.map(|(phase, limit)| std::iter::repeat_n(*limit as f64, phase.bins.len()));
    phases.flatten().collect()
}

fn curve_of(row: &Row, value: fn(&Bin) -> f64) -> Vec<f64> {
    curve(&row.phases, value)
}

fn curve(phases: &[Means], value: fn(&Bin) -> f64) -> Vec<f64> {
    phases
        .iter()
        .flat_map(|phase| phase.bins.iter().map(value))
        .collect()
}

fn line(values: &[f64], point: impl Fn(usize, f64) -> (f64, f64), colour: &str) -> Polyline {
    let points: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(place, value)| {
            let (x, y) = point(place, *value);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    Polyline::new()
        .set("points", points.join(" "))
        .set("fill", "none")
        .set("stroke", colour)
        .set("stroke-width", 1.5)
}

fn text(x: f64, y: f64, content: &str) -> Text {
    Text::new(content).set("x", x).set("y", y)
}
