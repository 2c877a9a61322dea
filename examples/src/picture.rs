//! Parts of SVG pictures.

use svg::Document;
use svg::node::element::{Line, Rectangle, Text};

/// A white sheet.
#[must_use]
pub fn sheet(width: f64, height: f64) -> Document {
    Document::new()
        .set("viewBox", (0, 0, width, height))
        .set("width", width)
        .set("height", height)
        .set("font-family", "system-ui, sans-serif")
        .set("font-size", 13)
        .set("fill", "#222222")
        .add(rectangle(0.0, 0.0, width, height).set("fill", "#ffffff"))
}

pub fn title(x: f64, y: f64, content: impl Into<String>) -> Text {
    text(x, y, content).set("font-size", 16)
}

/// Text that begins at `x`.
pub fn text(x: f64, y: f64, content: impl Into<String>) -> Text {
    Text::new(content).set("x", x).set("y", y)
}

/// Text that has its middle at `x`.
pub fn middle(x: f64, y: f64, content: impl Into<String>) -> Text {
    text(x, y, content).set("text-anchor", "middle")
}

/// Text that ends at `x`.
pub fn end(x: f64, y: f64, content: impl Into<String>) -> Text {
    text(x, y, content).set("text-anchor", "end")
}

#[must_use]
pub fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    Rectangle::new()
        .set("x", x)
        .set("y", y)
        .set("width", width)
        .set("height", height)
}

#[must_use]
pub fn line((x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> Line {
    Line::new()
        .set("x1", x1)
        .set("x2", x2)
        .set("y1", y1)
        .set("y2", y2)
}
