//! The picture in the DOT language of Graphviz.

use std::fmt::Write;

use super::picture::{Look, Picture, look};
use crate::indicator::IndicatorType;

/// A text in double quotes. Graphviz reads `\N` and the like, and entities of HTML, also within quotes.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('&', "&amp;");
    format!("\"{}\"", text.replace(char::is_control, " "))
}

/// A label of two lines.
fn two_lines(first: &str, second: &str) -> String {
    format!("{}\\n{}", quoted(first).trim_end_matches('"'), quoted(second).trim_start_matches('"'))
}

pub(super) fn write(picture: &Picture) -> String {
    let mut out = String::from("digraph concord {\n  rankdir=LR;\n  node [fontname=\"monospace\", fontsize=11];\n");
    out += "  edge [fontname=\"sans-serif\", fontsize=9, color=\"#555555\"];\n";
    if !picture.notes.is_empty() {
        let _ = writeln!(out, "  label={};", quoted(&picture.notes.join(". ")));
    }
    for (place, node) in picture.nodes.iter().enumerate() {
        let Look { strong, tint, line, .. } = look(node.disposition);
        let shape = match node.indicator_type {
            Some(IndicatorType::Ip) => "ellipse",
            Some(IndicatorType::Domain) | None => "box",
            Some(IndicatorType::Url) => "hexagon",
            Some(IndicatorType::File) => "note",
        };
        let (fill, width) = if place == 0 { (strong, 3) } else { (tint, 1) };
        let label = two_lines(&node.label(), node.disposition.as_str());
        let tooltip = quoted(&node.description());
        let _ = writeln!(
            out,
            "  n{place} [label={label}, tooltip={tooltip}, shape={shape}, style=filled, fillcolor=\"{fill}\", \
             color=\"{line}\", penwidth={width}];"
        );
    }
    for edge in &picture.edges {
        let (label, tooltip) = (quoted(&edge.relation), quoted(&picture.sentence(edge)));
        let _ = writeln!(out, "  n{} -> n{} [label={label}, tooltip={tooltip}];", edge.from, edge.to);
    }
    out + "}\n"
}
