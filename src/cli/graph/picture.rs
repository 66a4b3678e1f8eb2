//! What is drawn: the indicators and relations of a graph as words, checked and in an order that never changes.

use std::collections::BTreeMap;

use crate::finding::Disposition;
use crate::indicator::IndicatorType;

/// Most characters of an indicator in a label.
const LABEL_CHARS: usize = 32;
/// Characters kept at the end of a label that is shortened: where URLs and hashes differ.
const LABEL_TAIL: usize = 10;

/// Indicators and how they are related. The first is the one that was looked up.
pub(super) struct Picture {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    /// What the graph does not hold, and why, one sentence each.
    pub(super) notes: Vec<String>,
}

/// An indicator.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) value: String,
    /// `None`: a type that this program does not know.
    pub(super) indicator_type: Option<IndicatorType>,
    pub(super) disposition: Disposition,
    /// Steps from the indicator that was looked up.
    pub(super) depth: u32,
    /// Why no source was asked what it is related to. Empty: one was, or none would have been.
    pub(super) not_expanded: String,
}

impl Node {
    /// The indicator, with its middle left out where it is long.
    pub(super) fn label(&self) -> String {
        shortened(&self.value, LABEL_CHARS, LABEL_TAIL)
    }

    /// All that is known of it.
    pub(super) fn description(&self) -> String {
        let kind = self.indicator_type.map_or("indicator", IndicatorType::as_str);
        let why = if self.not_expanded.is_empty() { "" } else { "; its relations were not asked for: " };
        format!("{kind} {}: {}{why}{}", self.value, self.disposition, self.not_expanded)
    }
}

/// How one indicator is related to another.
#[derive(Clone)]
pub(super) struct Edge {
    /// Position of the indicator that the relation is read from.
    pub(super) from: usize,
    pub(super) to: usize,
    /// In kebab-case; several are separated by commas.
    pub(super) relation: String,
    /// Who says so, and in which words. Empty: not stated.
    pub(super) sources: String,
}

impl Picture {
    /// Drops relations of indicators that are not there or of one with itself, and joins those between the same two in the same
    /// direction.
    pub(super) fn new(nodes: Vec<Node>, edges: Vec<Edge>, notes: Vec<String>) -> Self {
        let mut joined: BTreeMap<(usize, usize), Edge> = BTreeMap::new();
        let is_drawn = |edge: &Edge| edge.from != edge.to && edge.from.max(edge.to) < nodes.len();
        for edge in edges.into_iter().filter(is_drawn) {
            match joined.get_mut(&(edge.from, edge.to)) {
                Some(other) => {
                    join(&mut other.relation, &edge.relation);
                    join(&mut other.sources, &edge.sources);
                }
                None => drop(joined.insert((edge.from, edge.to), edge)),
            }
        }
        Self { nodes, edges: joined.into_values().collect(), notes }
    }

    /// What a relation says, as a sentence.
    pub(super) fn sentence(&self, edge: &Edge) -> String {
        let value = |place: usize| self.nodes.get(place).map(|node| node.value.as_str()).unwrap_or_default();
        let by = if edge.sources.is_empty() { String::new() } else { format!(" ({})", edge.sources) };
        format!("{} {} {}{by}", value(edge.from), edge.relation, value(edge.to))
    }
}

/// Adds the words of a list that is separated by commas, each once.
fn join(list: &mut String, words: &str) {
    for word in words.split(", ").filter(|word| !word.is_empty()) {
        if !list.split(", ").any(|other| other == word) {
            let comma = if list.is_empty() { "" } else { ", " };
            *list += &format!("{comma}{word}");
        }
    }
}

/// How a disposition looks: colours of Okabe and Ito, which people who are blind to some colours tell apart, and a letter.
pub(super) struct Look {
    pub(super) mark: char,
    pub(super) strong: &'static str,
    pub(super) tint: &'static str,
    pub(super) line: &'static str,
}

pub(super) fn look(disposition: Disposition) -> Look {
    let (mark, strong, tint, line) = match disposition {
        Disposition::Malicious => ('M', "#d55e00", "#fbe0cf", "#9a4400"),
        Disposition::Suspicious => ('S', "#f0e442", "#fcf9cf", "#7d7500"),
        Disposition::Benign => ('B', "#009e73", "#d3f0e6", "#006b4e"),
        Disposition::Unknown => ('?', "#bbbbbb", "#f4f4f4", "#6b6b6b"),
    };
    Look { mark, strong, tint, line }
}

pub(super) fn type_words(kind: IndicatorType) -> &'static str {
    match kind {
        IndicatorType::Ip => "IP address",
        IndicatorType::Domain => "domain",
        IndicatorType::Url => "URL",
        IndicatorType::File => "file",
    }
}

/// At most `longest` characters of a text, of which `tail` are its end.
pub(super) fn shortened(text: &str, longest: usize, tail: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= longest {
        return text.to_owned();
    }
    let (head, tail) = (longest.saturating_sub(tail + 1), chars.len().saturating_sub(tail));
    chars.iter().take(head).chain(['…'].iter()).chain(chars.iter().skip(tail)).collect()
}
