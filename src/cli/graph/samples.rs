//! Graphs to draw, over documentation names and addresses.

use super::picture::{Edge, Node, Picture};
use crate::finding::Disposition;
use crate::indicator::IndicatorType;

/// A graph of this many indicators around a domain: addresses, files, subdomains and URLs, some with relations of their own.
pub(super) fn sample(size: usize) -> Picture {
    let mut nodes = vec![node("files.example.com", IndicatorType::Domain, Disposition::Malicious, 0)];
    let mut edges = Vec::new();
    for place in 1..size {
        let (value, kind, near, relation) = match place % 6 {
            0 => (format!("192.0.2.{}", place / 6), IndicatorType::Ip, 0, "resolves-to"),
            1 => (hash(place), IndicatorType::File, 0, "communicated-by"),
            2 => (format!("cdn{}.files.example.com", place / 6), IndicatorType::Domain, 0, "supra-domain-of"),
            3 => {
                let url = format!("https://files.example.com/downloads/{place}/invoice-of-november.exe?id={place}");
                (url, IndicatorType::Url, 0, "hosts")
            }
            4 => (hash(place), IndicatorType::File, place - 1, "hosts"),
            _ => (hash(place), IndicatorType::File, place - 5, "communicated-by"),
        };
        let disposition = match place % 7 {
            3 | 4 => Disposition::Malicious,
            1 => Disposition::Suspicious,
            2 | 6 if kind != IndicatorType::File => Disposition::Benign,
            _ => Disposition::Unknown,
        };
        nodes.push(node(&value, kind, disposition, if near == 0 { 1 } else { 2 }));
        edges.push(edge(near, place, relation));
        if place % 24 == 8 {
            edges.push(edge(place, place - 2, "resolves-to"));
        }
    }
    let notes = vec!["VirusTotal names 40 related files; the first 10 were asked for.".to_owned()];
    Picture::new(nodes, edges, if size > 20 { notes } else { Vec::new() })
}

/// An indicator with nothing around it but indicators that have the same relation.
pub(super) fn hub(leaves: usize) -> Picture {
    let mut nodes = vec![node("198.51.100.7", IndicatorType::Ip, Disposition::Suspicious, 0)];
    nodes.extend((1..=leaves).map(|place| {
        let disposition = if place % 9 == 0 { Disposition::Malicious } else { Disposition::Unknown };
        node(&format!("host-{place}.example.net"), IndicatorType::Domain, disposition, 1)
    }));
    Picture::new(nodes, (1..=leaves).map(|place| edge(place, 0, "resolves-to")).collect(), Vec::new())
}

pub(super) fn node(value: &str, kind: IndicatorType, disposition: Disposition, depth: u32) -> Node {
    Node { value: value.into(), indicator_type: Some(kind), disposition, depth, not_expanded: String::new() }
}

pub(super) fn edge(from: usize, to: usize, relation: &str) -> Edge {
    Edge { from, to, relation: relation.into(), sources: "virustotal".into() }
}

/// A text of 64 hexadecimal digits.
fn hash(number: usize) -> String {
    let part = |part: usize| (number * 4 + part + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    (0..4).map(|place| format!("{:016x}", part(place))).collect()
}
