//! The figures as lines, as Markdown and as a picture.

use std::fmt::Write;
use std::io;
use std::path::Path;

use svg::Document;
use svg::node::element::{Line, Rectangle, Text};

use crate::harness::Row;

/// `1000000` as `1,000,000`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn line(row: &Row) -> String {
    let own = row.costs[0].1;
    let mut line = format!("{:<46} {own:>8.1} ns", row.name);
    for (name, ratio) in row.ratios() {
        let _ = write!(line, "   {name} {ratio:.2}");
    }
    line
}

pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| workload | ns per source | peers: how many times as long |\n|---|---:|---|\n",
    );
    for row in rows {
        let ratios = row
            .ratios()
            .map(|(name, ratio)| format!("{name} {ratio:.2}"));
        let ratios = ratios.collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "| {} | {:.1} | {ratios} |", row.name, row.costs[0].1);
    }
    text
}

/// Draws a bar for each peer: how many times as long as this crate it took.
pub(crate) fn draw(rows: &[Row], file: &Path) -> io::Result<()> {
    const LEFT: f64 = 330.0;
    const WIDTH: f64 = 520.0;
    const BAR: f64 = 15.0;
    /// Longer bars are cut, and say so by their number.
    const MOST: f64 = 10.0;

    let x = |ratio: f64| LEFT + ratio.min(MOST) / MOST * WIDTH;
    let bars: usize = rows.iter().map(|row| row.costs.len() - 1).sum();
    let height = 60.0 + bars as f64 * BAR + rows.len() as f64 * 10.0 + 20.0;
    let width = LEFT + WIDTH + 60.0;
    let mut picture = Document::new()
        .set("viewBox", (0, 0, width, height))
        .set("width", width)
        .set("height", height)
        .set("font-family", "system-ui, sans-serif")
        .set("font-size", 11)
        .set("fill", "#222222")
        .add(
            Rectangle::new()
                .set("width", width)
                .set("height", height)
                .set("fill", "#ffffff"),
        )
        .add(text(20.0, 26.0, "How many times as long as futures-aggregate").set("font-size", 16));
    let mut y = 56.0;
    for row in rows {
        picture = picture.add(text(20.0, y + 11.0, &row.name).set("font-weight", "bold"));
        for (name, ratio) in row.ratios() {
            let colour = if ratio >= 1.0 { "#2e8b57" } else { "#cc3333" };
            let bar = Rectangle::new()
                .set("x", LEFT)
                .set("y", y + 2.0)
                .set("width", x(ratio) - LEFT)
                .set("height", BAR - 4.0)
                .set("fill", colour);
            picture = picture
                .add(bar)
                .add(text(LEFT - 8.0, y + 11.0, name).set("text-anchor", "end"))
                .add(text(x(ratio) + 6.0, y + 11.0, &format!("{ratio:.2}")));
            y += BAR;
        }
        y += 10.0;
    }
    let same = Line::new()
        .set("x1", x(1.0))
        .set("x2", x(1.0))
        .set("y1", 44.0)
        .set("y2", height - 16.0)
        .set("stroke", "#222222")
        .set("stroke-dasharray", "4 3");
    svg::save(file, &picture.add(same))
}

fn text(x: f64, y: f64, content: &str) -> Text {
    Text::new(content).set("x", x).set("y", y)
}
