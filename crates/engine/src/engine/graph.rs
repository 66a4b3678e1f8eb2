//! The graph of related indicators: a breadth-first walk from the indicator that was looked up, along the relations in
//! the sources' answers.
//!
//! Every related indicator becomes a node. Sources are asked about it only under the rules that an enrichment of it
//! would follow. Every call is paid, and counts against the caller's limit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use super::pipelines::SourceEntry;
use super::plan::Decision;
use super::{Budget, Engine, EnrichRequest};
use crate::error::Error;
use crate::fetch::LookupRequest;
use crate::finding::{Disposition, MAX_RELATIONS, NotAsked, Outcome, OutcomeBody, Relation, RelationName};
use crate::indicator::Indicator;
use crate::source::{Lookup, RelationsWanted};
use crate::store::{PageLimit, VerdictFilter};
use crate::verdict::{Policy, fuse_without_analysis};

/// Maximum of indicators in a graph.
const MAX_NODES: usize = 500;
/// Maximum of relations in a graph.
const MAX_EDGES: usize = 2_000;

/// Indicators and how they are related.
#[derive(Clone, Debug, Default)]
pub struct RelationGraph {
    /// Each indicator once; the first is the one that was looked up.
    pub nodes: Vec<RelationNode>,
    /// Each relation once.
    pub edges: Vec<RelationEdge>,
    /// Calls that were made for the graph.
    pub calls: u32,
    /// Why the graph may be incomplete.
    pub notes: Vec<String>,
}

/// An indicator of a graph.
#[derive(Clone, Debug)]
pub struct RelationNode {
    /// The indicator.
    pub indicator: Indicator,
    /// Distance from the first indicator.
    pub depth: u32,
    /// The disposition of its newest stored verdict; without one, that of the answers which the walk used.
    pub disposition: Disposition,
    /// The identifier of the stored verdict.
    pub verdict: Option<String>,
    /// Whether a source has answered what it is related to.
    pub expanded: bool,
    /// Why a source was not asked about it, if one was not.
    pub not_expanded: Option<NotAsked>,
}

/// How two indicators of a graph are related.
#[derive(Clone, Debug)]
pub struct RelationEdge {
    /// Position of the node at which the relation starts.
    pub from: usize,
    /// Position of the node at which it ends.
    pub to: usize,
    /// How the start relates to the end.
    pub name: RelationName,
    /// The sources that report the relation.
    pub sources: Vec<String>,
    /// The sources' own names for the relation.
    pub source_names: Vec<String>,
}

/// The limits of a walk.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Maximum distance from the first indicator, 1 to 3.
    pub depth: u32,
    /// Maximum of calls.
    pub max_calls: u32,
    /// How many of these calls were already made, for further pages.
    pub made: u32,
}

impl Engine {
    /// Walks from the request's indicator. `outcomes` are those of its enrichment; without them, the walk starts from
    /// cached answers.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown source. The failure of a source is not an error but a note in the graph.
    pub async fn explore(
        &self,
        request: &EnrichRequest,
        budget: Budget,
        walk: Walk,
        outcomes: Option<&[Arc<Outcome>]>,
    ) -> Result<RelationGraph, Error> {
        let policy = self.policy(request.policy.as_deref())?;
        let pipelines = self.pipelines.current();
        let chosen = self.named(&pipelines.entries, &request.sources)?;
        let wanted = request.relations.names.iter().cloned().collect();
        let mut graph = Building { wanted, calls: walk.made, ..Building::default() };
        graph.node(&request.indicator, 0);
        match outcomes {
            Some(outcomes) => outcomes.iter().for_each(|outcome| graph.add(0, &outcome.source, outcome)),
            None => {
                for entry in &chosen {
                    self.add_cached(&mut graph, entry, request).await;
                }
            }
        }
        let mut next = 1;
        while let Some(node) = graph.nodes.get(next).filter(|node| node.depth < walk.depth) {
            let indicator = node.indicator.clone();
            // The remaining calls are spent on further nodes, not on further pages.
            let relations = RelationsWanted { max_calls: 0, ..request.relations.clone() };
            let about = EnrichRequest { indicator, relations, ..request.clone() };
            for entry in chosen.iter().filter(|entry| entry.leads_on(&about)) {
                self.expand(&mut graph, next, entry, &about, budget, walk).await;
            }
            next += 1;
        }
        graph.judge(&policy.policy, self.clock.now());
        let mut graph = graph.finish(walk.made);
        self.add_stored_verdicts(&mut graph, budget).await;
        Ok(graph)
    }

    /// How many of the chosen sources may be asked for relations of the indicator: they share the calls that a request allows.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown source.
    pub fn relation_sources(&self, request: &EnrichRequest) -> Result<u32, Error> {
        let pipelines = self.pipelines.current();
        let chosen = self.named(&pipelines.entries, &request.sources)?;
        Ok(u32::try_from(chosen.iter().filter(|entry| entry.leads_on(request)).count()).unwrap_or(u32::MAX))
    }

    async fn add_cached(&self, graph: &mut Building, entry: &SourceEntry, request: &EnrichRequest) {
        let lookup = entry.normalize(&request.lookup());
        if let Ok(pipeline) = &entry.pipeline
            && let Some(fetched) = pipeline.cached(&lookup, None).await
        {
            graph.add(0, entry.name(), &fetched.outcome);
        }
    }

    /// Asks one source about a node, if that is allowed, and adds the related indicators.
    async fn expand(
        &self,
        graph: &mut Building,
        node: usize,
        entry: &SourceEntry,
        request: &EnrichRequest,
        budget: Budget,
        walk: Walk,
    ) {
        let lookup = entry.normalize(&Lookup { first_only: true, ..request.lookup() });
        let pipeline = match self.decide(entry, &lookup, request).await {
            Decision::Ask(pipeline) => pipeline,
            Decision::Cached(fetched) => return graph.add(node, entry.name(), &fetched.outcome),
            Decision::NotAsked(not_asked) => return graph.refuse(node, not_asked),
        };
        let lookup = &lookup;
        if let Some(fetched) = pipeline.cached(lookup, request.max_age).await {
            return graph.add(node, entry.name(), &fetched.outcome);
        }
        let most = entry.source.source.max_questions(lookup);
        if graph.calls.saturating_add(most) > walk.max_calls {
            return graph.note_limit(walk.max_calls);
        }
        let left = budget.fetch_until.since(self.clock.monotonic());
        if left.is_zero() {
            return graph.note("the time was over before every related indicator was asked about");
        }
        let lookup_request = LookupRequest {
            lookup: lookup.clone(),
            deadline: budget.fetch_until,
            max_age: request.max_age,
            max_units: Some(walk.max_calls.saturating_sub(graph.calls)),
            priority: request.priority,
            caller: request.caller.clone(),
            tlp: request.tlp,
        };
        let Some(fetched) = self.clock.timeout(left, pipeline.look_up(lookup_request)).await else {
            // The call may have been made, so it counts.
            graph.calls += most;
            return graph.note("the time was over before every related indicator was asked about");
        };
        graph.calls += fetched.receipt.units.max(u32::from(fetched.receipt.called));
        match &fetched.outcome.body {
            OutcomeBody::Finding(_) | OutcomeBody::NoRecord => graph.add(node, entry.name(), &fetched.outcome),
            OutcomeBody::NotAsked(not_asked) => graph.refuse(node, not_asked.clone()),
            OutcomeBody::Error(error) => {
                graph.note(&format!("{} failed for a related indicator: {error}", entry.name()));
            }
        }
    }

    /// Adds the disposition of each indicator's newest stored verdict. If the store fails, the graph has no
    /// dispositions.
    async fn add_stored_verdicts(&self, graph: &mut RelationGraph, budget: Budget) {
        for node in &mut graph.nodes {
            let left = budget.deadline.since(self.clock.monotonic());
            let filter = VerdictFilter { indicator: Some(node.indicator.clone()), ..VerdictFilter::default() };
            let found = self.clock.timeout(left / 2, self.store.verdicts(filter, PageLimit::rows(1), None)).await;
            match found {
                Some(Ok(found)) => {
                    if let Some(record) = found.rows.first() {
                        node.disposition = record.verdict.disposition;
                        node.verdict = Some(record.id.clone());
                    }
                }
                Some(Err(_)) | None => {
                    graph.notes.push("stored verdicts could not be read for every indicator".to_owned());
                    return;
                }
            }
        }
    }
}

/// A graph under construction.
#[derive(Default)]
struct Building {
    nodes: Vec<RelationNode>,
    edges: Vec<RelationEdge>,
    calls: u32,
    notes: Vec<String>,
    /// The sources' names of the wanted relations; empty: all.
    wanted: HashSet<String>,
    positions: HashMap<Indicator, usize>,
    edge_positions: HashMap<(usize, usize, RelationName), usize>,
    /// What sources said of each node beyond the first.
    outcomes: HashMap<usize, Vec<Arc<Outcome>>>,
}

impl Building {
    /// The position of an indicator. A new one is added unless the graph is full.
    fn node(&mut self, indicator: &Indicator, depth: u32) -> Option<usize> {
        if let Some(position) = self.positions.get(indicator) {
            return Some(*position);
        }
        if self.nodes.len() >= MAX_NODES {
            self.note(&format!("there are more related indicators than the {MAX_NODES} that a graph holds"));
            return None;
        }
        let position = self.nodes.len();
        self.positions.insert(indicator.clone(), position);
        self.nodes.push(RelationNode {
            indicator: indicator.clone(),
            depth,
            disposition: Disposition::Unknown,
            verdict: None,
            expanded: depth == 0,
            not_expanded: None,
        });
        Some(position)
    }

    /// Adds the relations in a source's outcome about the node at this position.
    fn add(&mut self, node: usize, source: &str, outcome: &Outcome) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.expanded |= outcome.body.is_answer();
        }
        if node > 0 {
            self.outcomes.entry(node).or_default().push(Arc::new(outcome.clone()));
        }
        let depth = self.nodes.get(node).map_or(0, |node| node.depth) + 1;
        let relations = outcome.body.finding().map_or(&[][..], |finding| &finding.relations);
        if relations.len() >= MAX_RELATIONS {
            self.note(&format!(
                "{source} may know more relations of one indicator than the {MAX_RELATIONS} that it can name"
            ));
        }
        for relation in relations {
            if !self.wanted.is_empty() && !self.wanted.contains(&relation.source_name) {
                continue;
            }
            if let Some(other) = self.node(&relation.indicator, depth) {
                self.edge(node, other, relation, source);
            }
        }
    }

    fn edge(&mut self, from: usize, to: usize, relation: &Relation, source: &str) {
        let (key, turned) = ((from, to, relation.name), (to, from, relation.name.reverse()));
        let known = self.edge_positions.get(&key).or_else(|| self.edge_positions.get(&turned)).copied();
        let position = match known {
            Some(position) => position,
            None if self.edges.len() >= MAX_EDGES => {
                return self.note(&format!("there are more relations than the {MAX_EDGES} that a graph holds"));
            }
            None => {
                self.edge_positions.insert(key, self.edges.len());
                let (sources, source_names) = Default::default();
                self.edges.push(RelationEdge { from, to, name: relation.name, sources, source_names });
                self.edges.len() - 1
            }
        };
        let Some(edge) = self.edges.get_mut(position) else { return };
        for (list, word) in [(&mut edge.sources, source), (&mut edge.source_names, relation.source_name.as_str())] {
            if !list.iter().any(|known| known == word) {
                list.push(word.to_owned());
            }
        }
    }

    /// Judges each node by what the sources said of it.
    fn judge(&mut self, policy: &Policy, at: SystemTime) {
        for (place, outcomes) in std::mem::take(&mut self.outcomes) {
            if let Some(node) = self.nodes.get_mut(place) {
                node.disposition = fuse_without_analysis(policy, &node.indicator, at, outcomes).disposition;
            }
        }
    }

    fn refuse(&mut self, node: usize, not_asked: NotAsked) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.not_expanded.get_or_insert(not_asked);
        }
    }

    fn note_limit(&mut self, max_calls: u32) {
        self.note(&format!(
            "not every related indicator was asked about: {max_calls} calls were allowed and {} made",
            self.calls
        ));
    }

    fn note(&mut self, note: &str) {
        if !self.notes.iter().any(|known| known == note) {
            self.notes.push(note.to_owned());
        }
    }

    /// The finished graph. Its calls exclude those `made` before the walk.
    fn finish(self, made: u32) -> RelationGraph {
        let calls = self.calls.saturating_sub(made);
        RelationGraph { nodes: self.nodes, edges: self.edges, calls, notes: self.notes }
    }
}
