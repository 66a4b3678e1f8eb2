//! Writes a graph of related indicators as messages of the protocol.

use crate::convert::indicator::{self, write_disposition};
use crate::convert::verdict::{source_name, write_not_asked};
use crate::engine::RelationGraph;
use crate::pb;

pub(super) fn write_graph(graph: &RelationGraph) -> pb::RelationGraph {
    let index = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    let nodes = graph.nodes.iter().map(|node| pb::RelationNode {
        indicator: Some(indicator::write(&node.indicator)),
        depth: node.depth,
        disposition: write_disposition(node.disposition).into(),
        verdict: node.verdict.as_ref().map(|id| format!("verdicts/{id}")).unwrap_or_default(),
        expanded: node.expanded,
        not_expanded: node.not_expanded.as_ref().map(write_not_asked),
    });
    let edges = graph.edges.iter().map(|edge| pb::RelationEdge {
        from: index(edge.from),
        to: index(edge.to),
        relation: edge.name.as_str().to_owned(),
        reverse: edge.name.reverse().as_str().to_owned(),
        sources: edge.sources.iter().map(|source| source_name(source)).collect(),
        source_names: edge.source_names.clone(),
    });
    pb::RelationGraph { nodes: nodes.collect(), edges: edges.collect(), calls: graph.calls, notes: graph.notes.clone() }
}
