//! A picture of both ways: memory, and the tasks that are left, over the number of runs. The left side shows
//! the runs until the leaking way was stopped, and the right side all runs.

use std::io;
use std::path::Path;

use num_format::{Locale, ToFormattedString};
use svg::Document;
use svg::node::element::{Circle, ClipPath, Group, Line, Polyline, Rectangle, Text};

use crate::load::{Checkpoint, Soak};
use crate::report::megabytes;
use crate::run::Way;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 650.0;
const LEFTS: [f64; 2] = [64.0, 504.0];
const TOPS: [f64; 2] = [176.0, 428.0];
const PANEL: (f64, f64) = (352.0, 170.0);
const STROKE: f64 = 2.5;
/// The load of the leaking service, in runs per second.
const RUNS_A_SECOND: u64 = 100;

/// A quantity on the vertical axis.
struct Measure {
    name: &'static str,
    of: fn(&Checkpoint) -> f64,
    label: fn(&Checkpoint) -> String,
}

pub(crate) fn draw(tight: &Soak, leaking: &Soak, file: &Path) -> io::Result<()> {
    let memory = if tight.last().census.resident_bytes.is_some() {
        "resident memory, in MB"
    } else {
        "allocated memory, in MB"
    };
    let rows = [
        Measure {
            name: memory,
            of: |checkpoint| checkpoint.census.memory() as f64 / 1e6,
            label: |checkpoint| format!("{} MB", megabytes(checkpoint.census.memory())),
        },
        Measure {
            name: "tasks left when all runs have ended, in thousands",
            of: |checkpoint| checkpoint.census.tasks as f64 / 1e3,
            label: |checkpoint| {
                format!(
                    "{} tasks",
                    checkpoint.census.tasks.to_formatted_string(&Locale::en)
                )
            },
        },
    ];
    let columns = [
        ("Until the tasks were stopped", leaking),
        ("To the end", tight),
    ];
    let background = Rectangle::new().set("width", WIDTH).set("height", HEIGHT);
    let mut picture = Document::new()
        .set("viewBox", (0, 0, WIDTH, HEIGHT))
        .set("width", WIDTH)
        .set("height", HEIGHT)
        .set("font-family", "system-ui, sans-serif")
        .set("font-size", 12)
        .set("fill", "#222222")
        .add(background.set("fill", "#ffffff"))
        .add(text(20.0, 32.0, "What is left of runs that end early").set("font-size", 17))
        .add(text(
            20.0,
            56.0,
            "Each run asks six sources, some of which never answer, and ends when it times out, is \
             cancelled, or is left by its receiver.",
        ));
    for (place, soak) in [leaking, tight].into_iter().enumerate() {
        let y = 82.0 + 20.0 * place as f64;
        let line = line((20.0, y), (44.0, y), colour(soak.way)).set("stroke-width", STROKE);
        picture = picture.add(line).add(text(52.0, y + 4.0, soak.way.name()));
    }
    for (left, (heading, longest)) in LEFTS.into_iter().zip(columns) {
        let heading = format!(
            "{heading}: {} runs",
            longest.last().runs.to_formatted_string(&Locale::en)
        );
        let heading = text(left, TOPS[0] - 32.0, &heading).set("font-size", 14);
        picture = picture.add(heading);
        for (top, measure) in TOPS.into_iter().zip(&rows) {
            let highest = (measure.of)(leaking.last());
            let panel = Panel {
                left,
                top,
                most: (longest.last().runs as f64, highest * 1.05),
            };
            picture = picture
                .add(panel.axes(measure.name))
                .add(panel.clip())
                .add(panel.curve(leaking, measure))
                .add(panel.curve(tight, measure))
                .add(panel.end(longest, measure));
        }
    }
    svg::save(file, &picture)
}

struct Panel {
    left: f64,
    top: f64,
    /// The number of runs at the right edge, and the value at the upper edge.
    most: (f64, f64),
}

impl Panel {
    fn point(&self, (runs, value): (f64, f64)) -> (f64, f64) {
        let x = self.left + PANEL.0 * runs / self.most.0;
        let y = self.top + PANEL.1 * (1.0 - value / self.most.1);
        (x, y)
    }

    fn axes(&self, name: &str) -> Group {
        let mut axes = Group::new().add(text(self.left, self.top - 8.0, name));
        for value in ticks(self.most.1) {
            let (x, y) = self.point((0.0, value));
            let label = text(
                x - 8.0,
                y + 4.0,
                &(value as u64).to_formatted_string(&Locale::en),
            );
            axes = axes
                .add(line((x, y), (x + PANEL.0, y), "#dddddd"))
                .add(label.set("text-anchor", "end"));
        }
        for runs in ticks(self.most.0) {
            let (x, y) = self.point((runs, 0.0));
            let label = text(x, y + 18.0, &(runs as u64).to_formatted_string(&Locale::en));
            axes = axes
                .add(line((x, y), (x, y + 4.0), "#222222"))
                .add(label.set("text-anchor", "middle"));
        }
        let label = text(self.left + PANEL.0, self.top + PANEL.1 + 36.0, "runs");
        axes.add(label.set("text-anchor", "end"))
    }

    fn name(&self) -> String {
        format!("panel-{}-{}", self.left, self.top)
    }

    /// The rectangle that clips the curves.
    fn clip(&self) -> ClipPath {
        let inside = Rectangle::new()
            .set("x", self.left)
            .set("y", self.top)
            .set("width", PANEL.0)
            .set("height", PANEL.1 + STROKE);
        ClipPath::new().set("id", self.name()).add(inside)
    }

    fn curve(&self, soak: &Soak, measure: &Measure) -> Polyline {
        let points = soak.checkpoints.iter().map(|checkpoint| {
            let (x, y) = self.point((checkpoint.runs as f64, (measure.of)(checkpoint)));
            format!("{x:.1},{y:.1}")
        });
        Polyline::new()
            .set("points", points.collect::<Vec<_>>().join(" "))
            .set("fill", "none")
            .set("stroke", colour(soak.way))
            .set("stroke-width", STROKE)
            .set("clip-path", format!("url(#{})", self.name()))
    }

    /// The last value, beside the end of the curve.
    fn end(&self, soak: &Soak, measure: &Measure) -> Group {
        let last = soak.last();
        let (x, y) = self.point((last.runs as f64, (measure.of)(last)));
        let beside = match soak.way {
            Way::Tight => y - 32.0,
            Way::Leaking => y + 104.0,
        };
        let value = text(x, beside, &(measure.label)(last)).set("font-size", 14);
        let time = text(x, beside + 17.0, &time_at(RUNS_A_SECOND, last.runs));
        Group::new()
            .set("fill", colour(soak.way))
            .add(Circle::new().set("cx", x).set("cy", y).set("r", 4))
            .add(value.set("text-anchor", "end"))
            .add(time.set("text-anchor", "end"))
    }
}

fn time_at(runs_a_second: u64, runs: u64) -> String {
    let minutes = runs as f64 / runs_a_second as f64 / 60.0;
    let time = if minutes < 100.0 {
        format!("{minutes:.0} minutes")
    } else {
        format!("{:.1} hours", minutes / 60.0)
    };
    format!("after {time} at {runs_a_second} runs a second")
}

/// Round numbers for an axis, as many as fit.
fn ticks(most: f64) -> impl Iterator<Item = f64> {
    let power = 10_f64.powf((most / 4.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().find(|step| most / step <= 5.0);
    let step = step.unwrap_or(most);
    (0..)
        .map(move |number| f64::from(number) * step)
        .take_while(move |tick| *tick <= most)
}

fn colour(way: Way) -> &'static str {
    match way {
        Way::Tight => "#2e8b57",
        Way::Leaking => "#cc3333",
    }
}

fn line(from: (f64, f64), to: (f64, f64), colour: &str) -> Line {
    Line::new()
        .set("x1", from.0)
        .set("y1", from.1)
        .set("x2", to.0)
        .set("y2", to.1)
        .set("stroke", colour)
}

fn text(x: f64, y: f64, content: &str) -> Text {
    Text::new(content).set("x", x).set("y", y)
}
