//! A picture of the ratios: a row for each workload, and a dot for each peer. Of several sizes it shows the one
//! nearest to a thousand sources; the table has all.

use std::io;
use std::path::Path;

use svg::Document;
use svg::node::element::{Circle, Line, Rectangle, Text};

use crate::harness::Row;
use crate::report::PEERS;

const COLOURS: [&str; 7] = [
    "#8c564b", "#d62728", "#1f77b4", "#ff7f0e", "#2ca02c", "#7f7f7f", "#9467bd",
];

const LEFT: f64 = 330.0;
const RIGHT: f64 = 900.0;
const TOP: f64 = 96.0;
const ROW: f64 = 20.0;
/// The ends of the scale, which is logarithmic.
const LEAST: f64 = 0.25;
const MOST: f64 = 32.0;

pub(crate) fn draw(rows: &[Row], file: &Path) -> io::Result<()> {
    let rows = &one_size_each(rows);
    let bottom = TOP + rows.len() as f64 * ROW;
    let (width, height) = (RIGHT + 30.0, bottom + 40.0);
    let background = Rectangle::new().set("width", width).set("height", height);
    let better = Rectangle::new()
        .set("x", x(1.0))
        .set("y", TOP)
        .set("width", RIGHT - x(1.0))
        .set("height", bottom - TOP);
    let mut picture = Document::new()
        .set("viewBox", (0, 0, width, height))
        .set("width", width)
        .set("height", height)
        .set("font-family", "system-ui, sans-serif")
        .set("font-size", 12)
        .set("fill", "#222222")
        .add(background.set("fill", "#ffffff"))
        .add(better.set("fill", "#eef6ee"))
        .add(text(20.0, 28.0, "How many times as long as futures-aggregate").set("font-size", 17))
        .add(text(x(1.0) + 8.0, TOP - 8.0, "the peer takes longer"))
        .add(text(x(1.0) - 8.0, TOP - 8.0, "less long").set("text-anchor", "end"));
    for (place, (peer, colour)) in PEERS.iter().zip(COLOURS).enumerate() {
        let left = 20.0 + place as f64 * 138.0;
        picture = picture
            .add(dot(left + 5.0, 52.0, colour))
            .add(text(left + 16.0, 56.0, peer));
    }
    let mut step = LEAST;
    while step <= MOST {
        let line = Line::new()
            .set("x1", x(step))
            .set("x2", x(step))
            .set("y1", TOP)
            .set("y2", bottom)
            .set("stroke", if step == 1.0 { "#222222" } else { "#cccccc" });
        let label = text(x(step), bottom + 18.0, &format!("{step}×"));
        picture = picture.add(line).add(label.set("text-anchor", "middle"));
        step *= 2.0;
    }
    for (place, row) in rows.iter().enumerate() {
        let y = TOP + (place as f64 + 0.5) * ROW;
        picture = picture.add(text(20.0, y + 4.0, &row.name));
        for (name, ratio) in row.ratios() {
            let peer = PEERS.iter().position(|peer| *peer == name);
            let colour = peer.map_or("#222222", |peer| COLOURS[peer]);
            picture = picture.add(dot(x(ratio), y, colour));
        }
    }
    svg::save(file, &picture)
}

/// One row of each workload.
fn one_size_each(rows: &[Row]) -> Vec<&Row> {
    let distance = |row: &Row| (row.size as f64 / 1000.0).ln().abs();
    let mut shown: Vec<&Row> = Vec::new();
    for row in rows {
        match shown.last_mut() {
            Some(last) if last.workload == row.workload => {
                if distance(row) < distance(last) {
                    *last = row;
                }
            }
            _ => shown.push(row),
        }
    }
    shown
}

fn x(ratio: f64) -> f64 {
    let share = (ratio / LEAST).log2() / (MOST / LEAST).log2();
    LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
}

fn dot(x: f64, y: f64, colour: &str) -> Circle {
    Circle::new()
        .set("cx", x)
        .set("cy", y)
        .set("r", 5)
        .set("fill", colour)
        .set("fill-opacity", 0.85)
}

fn text(x: f64, y: f64, content: &str) -> Text {
    Text::new(content).set("x", x).set("y", y)
}
