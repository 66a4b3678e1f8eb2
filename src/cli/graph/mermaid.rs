//! The picture as a flowchart of Mermaid, which wikis and code hosts draw in their pages.

use std::fmt::Write;

use strum::VariantArray;

use super::picture::{Look, Picture, look};
use crate::finding::Disposition;
use crate::indicator::IndicatorType;

/// A text in double quotes. All but what no grammar of Mermaid knows is written by number: it has no escape for quotes, and
/// directives, comments, HTML and Markdown are read also within them.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            ' ' | '.' | ':' | '/' | '-' | '…' => out.push(c),
            _ if c.is_alphanumeric() => out.push(c),
            _ if c.is_control() => out.push(' '),
            _ => {
                let _ = write!(out, "#{};", u32::from(c));
            }
        }
    }
    out + "\""
}

pub(super) fn write(picture: &Picture) -> String {
    let mut out = String::from("flowchart LR\n");
    for (place, node) in picture.nodes.iter().enumerate() {
        let (open, close) = match node.indicator_type {
            Some(IndicatorType::Ip) => ("([", "])"),
            Some(IndicatorType::Domain) | None => ("[", "]"),
            Some(IndicatorType::Url) => ("{{", "}}"),
            Some(IndicatorType::File) => ("[[", "]]"),
        };
        let label = quoted(&node.label());
        let label = format!("{}<br>{}\"", label.trim_end_matches('"'), node.disposition);
        let _ = writeln!(out, "  n{place}{open}{label}{close}:::{}", node.disposition);
    }
    for edge in &picture.edges {
        let _ = writeln!(out, "  n{} -->|{}| n{}", edge.from, quoted(&edge.relation), edge.to);
    }
    if !picture.notes.is_empty() {
        let _ = writeln!(out, "  notes[{}]", quoted(&picture.notes.join(". ")));
    }
    for &disposition in Disposition::VARIANTS {
        let Look { tint, line, .. } = look(disposition);
        let _ = writeln!(out, "  classDef {disposition} fill:{tint},stroke:{line},color:#111111");
    }
    out + "  style n0 stroke-width:4px\n"
}
