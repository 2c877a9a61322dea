//! A timeline of a run: each source from its start to its end, as text and as SVG.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use futures_aggregate::Reason;
use svg::node::element::Polygon;

use crate::picture::{end, line, middle, rectangle, sheet, text, title};

/// The width of the picture, which fits into every terminal.
const COLUMNS: usize = 80;
/// The longest name that is shown in full, in characters.
const LONGEST_NAME: usize = 24;

/// How a source ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    NeverStarted,
    Answered,
    Failed,
    TimedOut,
    CutOff,
}

impl Fate {
    const SHOWN: [Self; 4] = [Self::Answered, Self::Failed, Self::TimedOut, Self::CutOff];

    fn text(self) -> &'static str {
        match self {
            Self::NeverStarted => "never started",
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::CutOff => "cut off",
        }
    }

    /// The end of its bar, so that fates differ without colours too.
    fn mark(self) -> char {
        match self {
            Self::NeverStarted => ' ',
            Self::Answered => '●',
            Self::Failed => '✗',
            Self::TimedOut => '○',
            Self::CutOff => '┤',
        }
    }

    fn style(self) -> Style {
        let colour = match self {
            Self::NeverStarted => AnsiColor::BrightBlack,
            Self::Answered => AnsiColor::Green,
            Self::Failed => AnsiColor::Red,
            Self::TimedOut => AnsiColor::Yellow,
            Self::CutOff => AnsiColor::Magenta,
        };
        colour.on_default()
    }

    fn fill(self) -> &'static str {
        match self {
            Self::NeverStarted => "none",
            Self::Answered => "#2e8b57",
            Self::Failed => "#cc3333",
            Self::TimedOut => "#e0a100",
            Self::CutOff => "#8e6bbf",
        }
    }
}

/// One source on the timeline. Times count from the start of the run.
pub struct Span {
    name: String,
    pub start: Option<Duration>,
    pub end: Option<Duration>,
    pub fate: Fate,
}

impl Span {
    pub fn new(name: &str) -> Self {
        Self {
            name: shortened(name),
            start: None,
            end: None,
            fate: Fate::NeverStarted,
        }
    }

    pub fn elapsed(&self) -> Option<Duration> {
        Some(self.end?.saturating_sub(self.start?))
    }
}

/// All sources of a run that has ended.
pub struct Timeline {
    spans: Vec<Span>,
    reason: Option<Reason>,
    elapsed: Duration,
}

impl Timeline {
    pub fn new(spans: Vec<Span>, reason: Option<Reason>) -> Self {
        let elapsed = spans.iter().filter_map(|span| span.end).max();
        Self {
            spans,
            reason,
            elapsed: elapsed.unwrap_or_default(),
        }
    }

    /// The time from the start of the run to its last event.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The position of a moment on a scale of `width`.
    fn place(&self, moment: Duration, width: f64) -> f64 {
        let whole = self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        (moment.as_secs_f64() / whole).min(1.0) * width
    }

    /// Prints the timeline 80 columns wide, in colours if the terminal wants them.
    pub fn print(&self) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        let names = self.spans.iter().map(|span| span.name.chars().count());
        let names = names.max().unwrap_or(0);
        let width = COLUMNS - names - 2;
        writeln!(out)?;
        for span in &self.spans {
            let style = span.fate.style();
            let (before, bar) = self.bar(span, width);
            writeln!(out, "{:<names$}  {before}{style}{bar}{style:#}", span.name)?;
        }
        let end = time(self.elapsed);
        writeln!(out, "{:names$}  0{end:>rest$}", "", rest = width - 1)?;
        let legend = Fate::SHOWN.map(|fate| {
            let style = fate.style();
            format!("{style}━{}{style:#} {}", fate.mark(), fate.text())
        });
        writeln!(out, "{:names$}  {}", "", legend.join("   "))
    }

    /// A bar, and the blanks before it.
    fn bar(&self, span: &Span, width: usize) -> (String, String) {
        let (Some(start), Some(end)) = (span.start, span.end) else {
            return (String::new(), span.fate.text().to_owned());
        };
        let last = (width - 1) as f64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let column = |moment| self.place(moment, last).round() as usize;
        let (from, to) = (column(start), column(end));
        let bar = "━".repeat(to - from);
        (" ".repeat(from), format!("{bar}{}", span.fate.mark()))
    }

    /// Draws the timeline into an SVG file.
    pub fn draw(&self, file: &Path) -> io::Result<()> {
        const ROW: f64 = 26.0;
        const TOP: f64 = 56.0;
        const LEFT: f64 = 190.0;
        const WIDTH: f64 = 640.0;
        const RIGHT: f64 = 130.0;

        let bottom = TOP + ROW * self.spans.len() as f64;
        let (width, height) = (LEFT + WIDTH + RIGHT, bottom + 64.0);
        let x = |moment| LEFT + self.place(moment, WIDTH);
        let vertical = |x, from| line((x, from), (x, bottom));
        let mut picture =
            sheet(width, height).add(title(LEFT, 28.0, "Every source from its start to its end"));
        for tick in 0..=4 {
            let moment = self.elapsed * tick / 4;
            picture = picture
                .add(vertical(x(moment), TOP - 6.0).set("stroke", "#dddddd"))
                .add(middle(x(moment), bottom + 20.0, time(moment)));
        }
        for (row, span) in self.spans.iter().enumerate() {
            let y = TOP + ROW * row as f64;
            picture = picture.add(end(LEFT - 10.0, y + 17.0, &*span.name));
            let (Some(start), Some(end)) = (span.start, span.end) else {
                picture = picture.add(text(LEFT + 6.0, y + 17.0, span.fate.text()));
                continue;
            };
            let (from, to) = (x(start), x(end));
            let length = (to - from).max(3.0);
            let bar = rectangle(from, y + 5.0, length, ROW - 10.0);
            picture = picture.add(bar.set("fill", span.fate.fill()));
            if span.fate == Fate::CutOff {
                picture = picture.add(torn_edge(to, y + 5.0, ROW - 10.0));
            }
            let label = span.elapsed().map(time).unwrap_or_default();
            picture = picture.add(text(from + length + 8.0, y + 17.0, label));
        }
        if let Some(reason) = self.reason {
            let over = x(self.elapsed);
            picture = picture
                .add(
                    vertical(over, TOP - 12.0)
                        .set("stroke", "#222222")
                        .set("stroke-width", 1.5)
                        .set("stroke-dasharray", "5 3"),
                )
                .add(middle(over, TOP - 16.0, reason.to_string()));
        }
        for (place, fate) in Fate::SHOWN.into_iter().enumerate() {
            let from = LEFT + 130.0 * place as f64;
            picture = picture
                .add(rectangle(from, bottom + 36.0, 14.0, 14.0).set("fill", fate.fill()))
                .add(text(from + 20.0, bottom + 48.0, fate.text()));
        }
        svg::save(file, &picture)
    }
}

/// White teeth at the end of a bar: the source was cut off there.
fn torn_edge(x: f64, y: f64, height: f64) -> Polygon {
    const TEETH: usize = 4;
    let step = height / TEETH as f64;
    let mut points = vec![format!("{x},{y}")];
    for tooth in 0..TEETH {
        let top = y + step * tooth as f64;
        points.push(format!("{},{}", x - 6.0, top + step / 2.0));
        points.push(format!("{x},{}", top + step));
    }
    Polygon::new()
        .set("points", points.join(" "))
        .set("fill", "#ffffff")
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return name.to_owned();
    }
    let end: String = name.chars().take(LONGEST_NAME - 1).collect();
    format!("{end}…")
}

/// A duration, to two digits or more.
pub fn time(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}
