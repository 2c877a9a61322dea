//! Draws the table: one panel for each fan-out, one line for each patience.

use std::io;
use std::path::Path;

use examples::picture::{end, line, middle, sheet, text, title};
use svg::node::element::{Circle, Polyline};

use crate::measure::{Measurement, Patience};
use crate::milliseconds;

const PERCENTILES: [(f64, &str); 4] =
    [(0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99.9")];
const FAN_OUTS: [usize; 3] = [1, 20, 100];

const LEFT: f64 = 60.0;
const TOP: f64 = 70.0;
const PANEL: f64 = 230.0;
const GAP: f64 = 30.0;
const HEIGHT: f64 = 280.0;

/// Draws the measurements into an SVG file.
pub(crate) fn draw(measured: &[Measurement], file: &Path) -> io::Result<()> {
    let scale = Scale::over(measured);
    let (width, height) = (LEFT + 3.0 * (PANEL + GAP), TOP + HEIGHT + 70.0);
    let mut picture = sheet(width, height).add(title(
        LEFT,
        26.0,
        "How long an operation takes, in milliseconds",
    ));
    for (column, fan_out) in FAN_OUTS.into_iter().enumerate() {
        let left = LEFT + (PANEL + GAP) * column as f64;
        let panel = match fan_out {
            1 => "one request".to_owned(),
            _ => format!("fan-out to {fan_out}"),
        };
        picture = picture.add(middle(left + PANEL / 2.0, TOP - 18.0, panel));
        for tick in scale.ticks() {
            let y = scale.y(tick);
            let across = line((left, y), (left + PANEL, y)).set("stroke", "#dddddd");
            picture = picture.add(across);
            if column == 0 {
                picture = picture.add(end(left - 8.0, y + 4.0, tick.to_string()));
            }
        }
        for (place, (_, name)) in PERCENTILES.into_iter().enumerate() {
            picture = picture.add(middle(x(left, place), TOP + HEIGHT + 20.0, name));
        }
        for measurement in measured.iter().filter(|line| line.fan_out == fan_out) {
            let points = PERCENTILES
                .into_iter()
                .enumerate()
                .map(|(place, (part, _))| {
                    let time = milliseconds(measurement.percentile(part));
                    (x(left, place), scale.y(time))
                });
            let points: Vec<_> = points.collect();
            let corners = points.iter().map(|(x, y)| format!("{x},{y}"));
            picture = picture.add(
                Polyline::new()
                    .set("points", corners.collect::<Vec<_>>().join(" "))
                    .set("fill", "none")
                    .set("stroke", colour(measurement.patience))
                    .set("stroke-width", 2),
            );
            for (x, y) in points {
                picture = picture.add(
                    Circle::new()
                        .set("cx", x)
                        .set("cy", y)
                        .set("r", 3.5)
                        .set("fill", colour(measurement.patience)),
                );
            }
        }
    }
    let legend = measured.iter().rev().take(3).rev();
    for (place, measurement) in legend.enumerate() {
        let (x, y) = (LEFT + 200.0 * place as f64, TOP + HEIGHT + 52.0);
        let dot = Circle::new()
            .set("cx", x)
            .set("cy", y - 4.0)
            .set("r", 5)
            .set("fill", colour(measurement.patience));
        picture = picture.add(dot).add(text(x + 12.0, y, measurement.name()));
    }
    svg::save(file, &picture)
}

/// A logarithmic scale, because the tail is a multiple of the median.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn over(measured: &[Measurement]) -> Self {
        let times = || {
            let each = measured.iter();
            each.flat_map(|line| PERCENTILES.map(|(part, _)| milliseconds(line.percentile(part))))
        };
        Self {
            least: times().fold(f64::INFINITY, f64::min) * 0.8,
            most: times().fold(0.0, f64::max) * 1.2,
        }
    }

    fn y(&self, time: f64) -> f64 {
        let part = (time / self.least).ln() / (self.most / self.least).ln();
        TOP + HEIGHT * (1.0 - part)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let steps = [1.0, 2.0, 5.0];
        let all = (-1..6).flat_map(move |power| steps.map(|step| step * 10_f64.powi(power)));
        all.filter(|tick| (self.least..=self.most).contains(tick))
    }
}

fn x(left: f64, place: usize) -> f64 {
    left + 20.0 + (PANEL - 40.0) / 3.0 * place as f64
}

fn colour(patience: Patience) -> &'static str {
    match patience {
        Patience::All => "#cc3333",
        Patience::Hedged(_) => "#2e8b57",
        Patience::Quorum(_) => "#3366cc",
    }
}
