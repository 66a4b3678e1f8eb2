//! The picture as SVG: one document without script, style sheet or reference to elsewhere, with all text escaped.

use std::fmt::Write;

use strum::VariantArray;

use super::layout::{CHAR_WIDTH, Layout, Link, Point, Rect, as_f64, label_width};
use super::picture::{Look, Node, Picture, look, shortened, type_words};
use crate::finding::{Disposition, counted};
use crate::indicator::IndicatorType;

const MARGIN: f64 = 24.0;
/// Height of the title, the line below it and the legend.
const HEADER: f64 = 128.0;
const LEAST_WIDTH: f64 = 660.0;
const NOTE_LINE: f64 = 18.0;
/// Width of a character of the title, and of a note.
const TITLE_CHAR: f64 = 10.9;
const NOTE_CHAR: f64 = 6.8;
/// Radius of the mark of a disposition.
const MARK: f64 = 8.5;

/// A text as character data or as the value of an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // XML has no way to write most of these.
            _ if (c.is_control() && c != '\n') || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

pub(super) fn write(picture: &Picture) -> String {
    let layout = Layout::new(picture);
    let width = (layout.width + 2.0 * MARGIN).max(LEAST_WIDTH);
    let notes = wrapped(&picture.notes, ((width - 2.0 * MARGIN) / NOTE_CHAR).floor() as usize);
    let footer = if notes.is_empty() { 0.0 } else { as_f64(notes.len()) * NOTE_LINE + MARGIN };
    let height = HEADER + layout.height + MARGIN + footer;
    let mut svg = Svg(String::new());
    svg.open(picture, width, height);
    svg.header(picture, width, !layout.frames.is_empty());
    svg.line(format_args!("<g transform=\"translate({MARGIN} {HEADER})\">"));
    for frame in &layout.frames {
        let Rect { x, y, width, height } = *frame;
        svg.line(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"8\" fill=\"#fafafa\" stroke=\"#999999\"/>"
        ));
    }
    layout.links.iter().for_each(|link| svg.link(picture, link));
    for (place, (node, rect)) in picture.nodes.iter().zip(&layout.nodes).enumerate() {
        svg.node(node, *rect, place == 0);
    }
    layout.links.iter().for_each(|link| svg.label(link));
    svg.line(format_args!("</g>"));
    for (line, place) in notes.iter().zip(0..) {
        let y = height - footer + f64::from(place) * NOTE_LINE;
        svg.text(MARGIN, y, "font-size=\"12\" fill=\"#444444\"", line);
    }
    svg.line(format_args!("</svg>"));
    svg.0
}

/// The document as far as it is written.
struct Svg(String);

impl Svg {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    /// A text at this place; the attributes are ours, the text is from outside.
    fn text(&mut self, x: f64, y: f64, attributes: &str, text: &str) {
        self.line(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>", escaped(text)));
    }

    fn open(&mut self, picture: &Picture, width: f64, height: f64) {
        let root = picture.nodes.first().map(|node| node.value.as_str()).unwrap_or_default();
        self.line(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" font-family=\"DejaVu Sans, Verdana, sans-serif\">"
        ));
        self.line(format_args!("<title>Relations of {}</title>", escaped(root)));
        self.line(format_args!(
            "<defs><marker id=\"arrow\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"8\" markerHeight=\"8\" \
             markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 0 L10 5 L0 10 z\" fill=\"#444444\"/></marker></defs>"
        ));
        self.line(format_args!("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"));
    }

    fn header(&mut self, picture: &Picture, width: f64, has_frames: bool) {
        let Some(root) = picture.nodes.first() else { return };
        let chars = ((width - 2.0 * MARGIN) / TITLE_CHAR).floor() as usize;
        self.text(
            MARGIN,
            38.0,
            "font-size=\"17\" font-weight=\"bold\" fill=\"#111111\"",
            &shortened(&root.value, chars, chars / 3),
        );
        let kind = root.indicator_type.map_or("indicator", type_words);
        let nodes = counted(picture.nodes.len(), "indicator");
        let edges = counted(picture.edges.len(), "relation");
        let summary = format!("{kind}, {}; {nodes}, {edges}", root.disposition.as_str());
        self.text(MARGIN, 58.0, "font-size=\"13\" fill=\"#444444\"", &summary);
        self.legend(has_frames);
    }

    fn legend(&mut self, has_frames: bool) {
        let mut x = MARGIN;
        for &disposition in Disposition::VARIANTS.iter().rev() {
            self.mark(Point { x: x + MARK, y: 80.0 }, disposition, look(disposition).strong);
            self.text(x + 23.0, 84.0, "font-size=\"12\" fill=\"#222222\"", disposition.as_str());
            x += 110.0;
        }
        x = MARGIN;
        for &kind in IndicatorType::VARIANTS {
            let outline = outline(Some(kind), Rect { x, y: 96.0, width: 30.0, height: 15.0 });
            self.line(format_args!("<path d=\"{outline}\" fill=\"#ffffff\" stroke=\"#444444\"/>"));
            self.text(x + 37.0, 108.0, "font-size=\"12\" fill=\"#222222\"", type_words(kind));
            x += 110.0;
        }
        if has_frames {
            self.line(format_args!(
                "<rect x=\"{x:.1}\" y=\"96\" width=\"30\" height=\"15\" rx=\"4\" fill=\"#fafafa\" stroke=\"#999999\"/>"
            ));
            self.text(x + 37.0, 108.0, "font-size=\"12\" fill=\"#222222\"", "an arrow holds for all within");
        }
    }

    fn mark(&mut self, at: Point, disposition: Disposition, fill: &str) {
        let Look { mark, line, .. } = look(disposition);
        let Point { x, y } = at;
        self.line(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{MARK}\" fill=\"{fill}\" stroke=\"{line}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"11\" font-weight=\"bold\" text-anchor=\"middle\" fill=\"#000000\">{mark}</text>",
            y + 4.0
        ));
    }

    fn node(&mut self, node: &Node, rect: Rect, is_root: bool) {
        let Look { strong, tint, line, .. } = look(node.disposition);
        self.line(format_args!("<g><title>{}</title>", escaped(&node.description())));
        let (fill, mark, thickness) = if is_root { (strong, tint, 3.0) } else { (tint, strong, 1.3) };
        let outline = outline(node.indicator_type, rect);
        self.line(format_args!(
            "<path d=\"{outline}\" fill=\"{fill}\" stroke=\"{line}\" stroke-width=\"{thickness}\"/>"
        ));
        self.mark(Point { x: rect.x + 20.0, y: rect.middle() }, node.disposition, mark);
        let label = node.label();
        // A renderer without our fonts must not let text run out of its shape.
        let length = as_f64(label.chars().count()) * CHAR_WIDTH;
        let weight = if is_root { " font-weight=\"bold\"" } else { "" };
        let attributes = format!(
            "font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"12\" fill=\"#111111\" \
             textLength=\"{length:.1}\" lengthAdjust=\"spacingAndGlyphs\"{weight}"
        );
        self.text(rect.x + 33.0, rect.middle() + 4.0, &attributes, &label);
        self.line(format_args!("</g>"));
    }

    fn link(&mut self, picture: &Picture, link: &Link) {
        let sentences: Vec<String> =
            link.edges.iter().filter_map(|edge| picture.edges.get(*edge)).map(|edge| picture.sentence(edge)).collect();
        self.line(format_args!(
            "<g><title>{}</title><path d=\"{}\" fill=\"none\" stroke=\"#555555\" stroke-width=\"1.3\" marker-end=\"url(#arrow)\"/></g>",
            escaped(&sentences.join("\n")),
            curve(&link.path)
        ));
    }

    fn label(&mut self, link: &Link) {
        let Point { x, y } = link.label_at;
        let width = label_width(&link.label);
        self.line(format_args!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"16\" fill=\"#ffffff\"/>",
            x - width / 2.0,
            y - 8.0
        ));
        self.text(x, y + 4.0, "font-size=\"11\" text-anchor=\"middle\" fill=\"#222222\"", &link.label);
    }
}

/// The shape of a type of indicator. Every shape reaches the middles of its sides, where arrows end.
fn outline(kind: Option<IndicatorType>, rect: Rect) -> String {
    let Rect { x, y, width, height } = rect;
    let (right, bottom, middle) = (rect.right(), y + height, rect.middle());
    match kind {
        Some(IndicatorType::Ip) => {
            let half = height / 2.0;
            let straight = width - height;
            format!(
                "M{:.1} {y:.1} h{straight:.1} a{half:.1} {half:.1} 0 0 1 0 {height:.1} h-{straight:.1} a{half:.1} {half:.1} 0 0 1 0 -{height:.1} z",
                x + half
            )
        }
        Some(IndicatorType::Domain) | None => format!("M{x:.1} {y:.1} h{width:.1} v{height:.1} h-{width:.1} z"),
        Some(IndicatorType::Url) => {
            let side = height / 3.0;
            let (inner, outer) = (x + side, right - side);
            format!(
                "M{x:.1} {middle:.1} L{inner:.1} {y:.1} L{outer:.1} {y:.1} L{right:.1} {middle:.1} L{outer:.1} {bottom:.1} L{inner:.1} {bottom:.1} z"
            )
        }
        Some(IndicatorType::File) => {
            let fold = height / 3.0;
            let inner = right - fold;
            format!(
                "M{x:.1} {y:.1} L{inner:.1} {y:.1} L{right:.1} {:.1} L{right:.1} {bottom:.1} L{x:.1} {bottom:.1} z M{inner:.1} {y:.1} v{fold:.1} h{fold:.1}",
                y + fold
            )
        }
    }
}

/// A line through the points that leaves and reaches each of them level.
fn curve(path: &[Point]) -> String {
    let mut out = String::new();
    for (place, point) in path.iter().enumerate() {
        let Point { x, y } = *point;
        let _ = match place.checked_sub(1).and_then(|before| path.get(before)) {
            None => write!(out, "M{x:.1} {y:.1}"),
            Some(before) if before.y == y => write!(out, " L{x:.1} {y:.1}"),
            Some(before) => {
                let half = before.x + (x - before.x) / 2.0;
                write!(out, " C{half:.1} {:.1} {half:.1} {y:.1} {x:.1} {y:.1}", before.y)
            }
        };
    }
    out
}

/// Texts broken into lines of at most this many characters.
fn wrapped(texts: &[String], chars: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for text in texts {
        let mut line = String::new();
        for word in text.split_whitespace() {
            let word = shortened(word, chars, 1);
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > chars {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += &word;
        }
        lines.push(line);
    }
    lines
}
