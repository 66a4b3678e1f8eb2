//! `concord graph`: draws which indicators an indicator is related to.
//!
//! `picture.rs` is what is drawn, `layout.rs` where it stands; `svg.rs`, `dot.rs` and `mermaid.rs` write it.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use tonic::Request;

use super::args::{Client, Graph, GraphFormat};
use super::connect::Connection;
use super::enrich::options;
use super::verdict_table::not_asked_reason;
use super::{Failure, input, json, print, table};
use crate::convert::indicator::{read_disposition, read_type};
use crate::finding::counted;
use crate::pb;

mod dot;
mod layout;
mod mermaid;
mod picture;
mod svg;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use picture::{Edge, Node, Picture};

/// The limits of the protocol, so that a server that does not keep them cannot keep this program busy.
const MOST_NODES: usize = 500;
const MOST_EDGES: usize = 2000;

pub(super) async fn run(client: &Client, args: Graph) -> Result<ExitCode, Failure> {
    let format = format(&args)?;
    let request = request(&args)?;
    let answer =
        Connection::with(client, async |connection| Ok(connection.enrichment().enrich(request).await?.into_inner()))
            .await?;
    let graph = match answer.graph.clone() {
        Some(graph) => graph,
        None => {
            eprintln!("concord: the server sent no graph, which older versions cannot; only the indicator is drawn");
            indicator_alone(&answer)?
        }
    };
    if answer.graph.is_some() && graph.nodes.len() < 2 {
        let hint = if args.max_calls == 0 { "; --max-calls lets them be asked for more" } else { "" };
        eprintln!("concord: no source names an indicator that this one is related to{hint}");
    }
    let text = match format {
        GraphFormat::Json => json::list(&[json::document("RelationGraph", &graph)?]),
        GraphFormat::Svg => draw(&graph),
        GraphFormat::Dot => dot::write(&picture(&graph)),
        GraphFormat::Mermaid => mermaid::write(&picture(&graph)),
    };
    match &args.out {
        Some(path) => std::fs::write(path, text).map_err(|error| Failure::io(path.display(), &error))?,
        None => print(&text)?,
    }
    graph.notes.iter().for_each(|note| eprintln!("concord: {}", table::printable(note)));
    let (nodes, edges) = (counted(graph.nodes.len(), "indicator"), counted(graph.edges.len(), "relation"));
    eprintln!("concord: {nodes}, {edges}, {} for them", counted(graph.calls, "call"));
    Ok(ExitCode::SUCCESS)
}

/// What to write: as told, else as the file's name says, else SVG.
fn format(args: &Graph) -> Result<GraphFormat, Failure> {
    let extension = args.out.as_deref().and_then(Path::extension).and_then(|extension| extension.to_str());
    let named = match extension {
        Some("dot" | "gv") => GraphFormat::Dot,
        Some("mmd" | "mermaid") => GraphFormat::Mermaid,
        Some("json") => GraphFormat::Json,
        Some(_) | None => GraphFormat::Svg,
    };
    let format = args.output.unwrap_or(named);
    if format == GraphFormat::Svg && args.out.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::new("a terminal shows no SVG: give --out FILE, or --output dot, mermaid or json"));
    }
    Ok(format)
}

fn request(args: &Graph) -> Result<Request<pb::EnrichRequest>, Failure> {
    let mut request = Request::new(pb::EnrichRequest {
        indicator: Some(input::argument(&args.value, args.indicator_type)?.indicator()),
        options: Some(pb::EnrichOptions {
            relations: Some(pb::RelationOptions {
                names: args.relations.clone(),
                max_calls: args.max_calls,
                depth: args.depth,
            }),
            ..options(&args.lookup, 1)
        }),
    });
    request.set_timeout(args.lookup.timeout);
    Ok(request)
}

/// The graph of the indicator that was looked up and nothing else.
fn indicator_alone(answer: &pb::EnrichResponse) -> Result<pb::RelationGraph, Failure> {
    let verdict = answer.decode_verdict();
    let verdict = verdict.map_err(|error| Failure::new(format!("the server's answer cannot be read: {error}")))?;
    let node = pb::RelationNode {
        indicator: verdict.indicator.clone(),
        disposition: verdict.disposition,
        verdict: verdict.name,
        ..Default::default()
    };
    Ok(pb::RelationGraph { nodes: vec![node], ..Default::default() })
}

/// The graph as SVG.
pub(super) fn draw(graph: &pb::RelationGraph) -> String {
    svg::write(&picture(graph))
}

fn picture(graph: &pb::RelationGraph) -> Picture {
    let nodes = graph.nodes.iter().take(MOST_NODES).map(node).collect();
    let edges = graph.edges.iter().take(MOST_EDGES).map(edge).collect();
    Picture::new(nodes, edges, graph.notes.iter().map(|note| table::printable(note)).collect())
}

fn node(node: &pb::RelationNode) -> Node {
    let indicator = node.indicator.clone().unwrap_or_default();
    Node {
        value: table::printable(&indicator.value),
        indicator_type: read_type(indicator.r#type, "").ok().flatten(),
        disposition: read_disposition(node.disposition, "").ok().flatten().unwrap_or_default(),
        depth: node.depth,
        not_expanded: node.not_expanded.as_ref().map(not_asked_reason).unwrap_or_default(),
    }
}

fn edge(edge: &pb::RelationEdge) -> Edge {
    let place = |position: u32| usize::try_from(position).unwrap_or(usize::MAX);
    let sources: Vec<&str> = edge.sources.iter().map(|source| source.trim_start_matches("sources/")).collect();
    let words = if edge.source_names.is_empty() { "" } else { ": " };
    Edge {
        from: place(edge.from),
        to: place(edge.to),
        relation: table::printable(&edge.relation),
        sources: table::printable(&format!("{}{words}{}", sources.join(", "), edge.source_names.join(", "))),
    }
}
