//! Where everything stands: indicators in columns by their distance from the one that was looked up, from left to right.
//!
//! Indicators that have the same relations share a frame, with one arrow for all of them. dagre finds the places of single
//! indicators, frames and labels, and ways between them; everything else follows from those.

use std::collections::BTreeMap;

use dagre::graph::{Graph, GraphOptions};
use dagre::layout::types::LabelPos;
use dagre::{EdgeLabel, LayoutOptions, NodeLabel, RankDir};

use super::picture::{Edge, Picture, shortened};

/// Width of a character of a label.
pub(super) const CHAR_WIDTH: f64 = 7.3;
/// Width of a character of a relation.
const RELATION_CHAR_WIDTH: f64 = 6.4;
const NODE_HEIGHT: f64 = 28.0;
/// Room of a node beside its label: the mark of the disposition and the sides of the shape.
const NODE_SIDES: f64 = 46.0;
const LABEL_HEIGHT: f64 = 16.0;
/// Room between nodes, and between a frame and its nodes.
const GAP: f64 = 10.0;
const RANK_GAP: f64 = 76.0;
/// From this number on indicators that have the same relations share a frame.
const FRAMED: usize = 4;
const MOST_COLUMNS: usize = 6;
/// Most links that dagre finds a way for, beside those that hold the picture together: its time grows with their square.
/// Others are drawn across.
const ROUTED_LINKS: usize = 200;
/// Most characters of a relation.
const LONGEST_RELATION: usize = 48;

/// A picture's geometry, in pixels from its top left corner.
pub(super) struct Layout {
    pub(super) width: f64,
    pub(super) height: f64,
    /// One for each node of the picture.
    pub(super) nodes: Vec<Rect>,
    pub(super) frames: Vec<Rect>,
    pub(super) links: Vec<Link>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Rect {
    pub(super) fn right(&self) -> f64 {
        self.x + self.width
    }

    pub(super) fn middle(&self) -> f64 {
        self.y + self.height / 2.0
    }
}

/// One arrow, for one relation or for all those of a frame.
pub(super) struct Link {
    /// Positions of the relations in the picture.
    pub(super) edges: Vec<usize>,
    /// From tail to head.
    pub(super) path: Vec<Point>,
    pub(super) label: String,
    /// Middle of the label.
    pub(super) label_at: Point,
}

/// A single indicator, or those of a frame.
struct Block {
    nodes: Vec<usize>,
    columns: usize,
    node_width: f64,
    is_frame: bool,
}

impl Block {
    fn new(mut nodes: Vec<usize>, is_frame: bool, picture: &Picture) -> Self {
        nodes.sort_by_key(|place| {
            picture
                .nodes
                .get(*place)
                .map(|node| (std::cmp::Reverse(node.disposition), node.indicator_type, &node.value))
        });
        let width = |place: &usize| picture.nodes.get(*place).map_or(0, |node| node.label().chars().count());
        let chars = nodes.iter().map(width).max().unwrap_or_default();
        let node_width = as_f64(chars) * CHAR_WIDTH + NODE_SIDES;
        // About twice as wide as high, as far as a page shows it.
        let fair = (2.0 * as_f64(nodes.len()) * (NODE_HEIGHT + GAP) / (node_width + GAP)).sqrt().round();
        let columns = (1..=MOST_COLUMNS).rev().find(|columns| as_f64(*columns) <= fair).unwrap_or(1);
        Self { nodes, columns, node_width, is_frame }
    }

    fn size(&self) -> (f64, f64) {
        if !self.is_frame {
            return (self.node_width, NODE_HEIGHT);
        }
        let rows = self.nodes.len().div_ceil(self.columns);
        (as_f64(self.columns) * (self.node_width + GAP) + GAP, as_f64(rows) * (NODE_HEIGHT + GAP) + GAP)
    }

    /// The place of each of its nodes, where the block has this place.
    fn places(&self, block: Rect) -> impl Iterator<Item = (usize, Rect)> {
        let rows = self.nodes.len().div_ceil(self.columns);
        let margin = if self.is_frame { GAP } else { 0.0 };
        self.nodes.iter().enumerate().map(move |(place, node)| {
            let (column, row) = (as_f64(place / rows), as_f64(place % rows));
            let x = block.x + margin + column * (self.node_width + GAP);
            let y = block.y + margin + row * (NODE_HEIGHT + GAP);
            (*node, Rect { x, y, width: self.node_width, height: NODE_HEIGHT })
        })
    }
}

/// The relations between two blocks that share an arrow.
struct Joint {
    edges: Vec<usize>,
    /// Blocks, the one nearer to the indicator that was looked up first.
    near: usize,
    far: usize,
    /// Whether the relation is read from the near one to the far one.
    is_outward: bool,
    label: String,
}

impl Layout {
    pub(super) fn new(picture: &Picture) -> Self {
        let blocks = blocks(picture);
        let joints = joints(picture, &blocks);
        place(picture, &blocks, joints)
    }
}

/// The single indicators and the frames, in the order of their first indicator. Indicators share a frame where each of their
/// relations is one of the others too, so that an arrow to the frame holds for each of them.
fn blocks(picture: &Picture) -> Vec<Block> {
    let mut relations: Vec<Vec<(usize, bool, &str)>> = vec![Vec::new(); picture.nodes.len()];
    for edge in &picture.edges {
        for (place, other, is_read_from) in [(edge.from, edge.to, true), (edge.to, edge.from, false)] {
            if let Some(own) = relations.get_mut(place) {
                own.push((other, is_read_from, &edge.relation));
            }
        }
    }
    let mut alike: BTreeMap<Vec<(usize, bool, &str)>, Vec<usize>> = BTreeMap::new();
    for (place, mut own) in relations.into_iter().enumerate().skip(1) {
        own.sort_unstable();
        alike.entry(own).or_default().push(place);
    }
    let is_framed = |own: &[(usize, bool, &str)], places: &[usize]| places.len() >= FRAMED && !own.is_empty();
    let mut all: Vec<(Vec<usize>, bool)> = vec![(vec![0], false)];
    for (own, places) in alike {
        match is_framed(&own, &places) {
            true => all.push((places, true)),
            false => all.extend(places.into_iter().map(|place| (vec![place], false))),
        }
    }
    all.sort();
    all.into_iter().map(|(nodes, is_frame)| Block::new(nodes, is_frame, picture)).collect()
}

fn joints(picture: &Picture, blocks: &[Block]) -> Vec<Joint> {
    let mut block_of = vec![0; picture.nodes.len()];
    for (block, nodes) in blocks.iter().enumerate() {
        for node in &nodes.nodes {
            if let Some(place) = block_of.get_mut(*node) {
                *place = block;
            }
        }
    }
    let block_of = |node: usize| block_of.get(node).copied().unwrap_or_default();
    let depth = |node: usize| picture.nodes.get(node).map(|found| (found.depth, node));
    let mut joined: BTreeMap<(usize, usize), Joint> = BTreeMap::new();
    for (place, edge) in picture.edges.iter().enumerate() {
        let (from, to) = (block_of(edge.from), block_of(edge.to));
        let is_outward = depth(edge.from) <= depth(edge.to);
        let (near, far) = if is_outward { (from, to) } else { (to, from) };
        let joint = joined.entry((from, to)).or_insert_with(|| Joint {
            edges: Vec::new(),
            near,
            far,
            is_outward,
            label: String::new(),
        });
        joint.edges.push(place);
        joint.label = label(edge, joint);
    }
    joined.into_values().collect()
}

/// The relation, which way it is read, and of how many indicators.
fn label(edge: &Edge, joint: &Joint) -> String {
    let count = if joint.edges.len() > 1 { format!(" ({})", joint.edges.len()) } else { String::new() };
    let relation = shortened(&edge.relation, LONGEST_RELATION, 0);
    match joint.is_outward {
        true => format!("{relation}{count} →"),
        false => format!("← {relation}{count}"),
    }
}

/// Which joints dagre finds a way for: the first that leads to each block, and as many others as it has time for.
fn routed(blocks: usize, joints: &[Joint]) -> Vec<bool> {
    let mut is_reached = vec![false; blocks];
    let mut others = 0;
    let is_routed = |joint: &Joint| {
        let is_first = is_reached.get_mut(joint.far).is_some_and(|reached| !std::mem::replace(reached, true));
        others += usize::from(!is_first);
        is_first || others <= ROUTED_LINKS
    };
    joints.iter().map(is_routed).collect()
}

fn route(blocks: &[Block], joints: &[Joint]) -> Graph<NodeLabel, EdgeLabel> {
    let mut graph = Graph::with_options(GraphOptions { directed: true, multigraph: true, compound: false });
    for (place, block) in blocks.iter().enumerate() {
        let (width, height) = block.size();
        graph.set_node(place.to_string(), Some(NodeLabel { width, height, ..NodeLabel::default() }));
    }
    for ((place, joint), is_routed) in joints.iter().enumerate().zip(routed(blocks.len(), joints)) {
        if is_routed {
            let (width, height) = (label_width(&joint.label) + GAP, LABEL_HEIGHT);
            let label = EdgeLabel { width, height, labelpos: LabelPos::Center, ..EdgeLabel::default() };
            graph.set_edge(joint.near.to_string(), joint.far.to_string(), Some(label), Some(&place.to_string()));
        }
    }
    let (nodesep, edgesep, ranksep) = (GAP, GAP, RANK_GAP);
    let options = LayoutOptions { rankdir: RankDir::LR, nodesep, edgesep, ranksep, ..LayoutOptions::default() };
    dagre::layout(&mut graph, Some(options));
    graph
}

/// The widest thing of each column, by the column's middle.
#[derive(Default)]
struct Columns(BTreeMap<i64, f64>);

impl Columns {
    fn widen(&mut self, middle: f64, width: f64) {
        let widest = self.0.entry(Self::name(middle)).or_default();
        *widest = widest.max(width);
    }

    fn half(&self, middle: f64) -> f64 {
        self.0.get(&Self::name(middle)).copied().unwrap_or_default() / 2.0
    }

    fn name(middle: f64) -> i64 {
        middle.round() as i64
    }
}

fn place(picture: &Picture, blocks: &[Block], joints: Vec<Joint>) -> Layout {
    let graph = route(blocks, &joints);
    let routes: Vec<Option<&EdgeLabel>> = joints
        .iter()
        .enumerate()
        .map(|(place, joint)| graph.edge(&joint.near.to_string(), &joint.far.to_string(), Some(&place.to_string())))
        .collect();
    let centres: Vec<Point> = (0..blocks.len())
        .map(|place| graph.node(&place.to_string()).and_then(|label| Some(Point { x: label.x?, y: label.y? })))
        .map(Option::unwrap_or_default)
        .collect();
    let mut columns = Columns::default();
    blocks.iter().zip(&centres).for_each(|(block, centre)| columns.widen(centre.x, block.size().0));
    routes.iter().flatten().for_each(|label| columns.widen(label.x.unwrap_or_default(), label.width));

    let rects: Vec<Rect> = blocks
        .iter()
        .zip(&centres)
        .map(|(block, centre)| {
            let (width, height) = block.size();
            Rect { x: centre.x - columns.half(centre.x), y: centre.y - height / 2.0, width, height }
        })
        .collect();
    let at = |block: usize| {
        let (rect, centre) = (rects.get(block).copied(), centres.get(block).copied());
        (rect.unwrap_or_default(), centre.unwrap_or_default())
    };
    let links = joints.into_iter().zip(routes).map(|(joint, route)| {
        let ((near, near_centre), (far, far_centre)) = (at(joint.near), at(joint.far));
        // Level as far as the column is wide, so that the line crosses nothing that stands in it.
        let mut path = vec![Point { x: near.right(), y: near.middle() }];
        path.push(Point { x: near_centre.x + columns.half(near_centre.x), y: near.middle() });
        let points = route.map(|label| label.points.as_slice()).unwrap_or_default();
        for point in points.iter().skip(1).take(points.len().saturating_sub(2)) {
            let half = columns.half(point.x);
            path.extend([point.x - half, point.x + half].map(|x| Point { x, y: point.y }));
        }
        path.push(Point { x: far_centre.x - columns.half(far_centre.x), y: far.middle() });
        path.push(Point { x: far.x, y: far.middle() });
        let middle = |a: f64, b: f64| a + (b - a) / 2.0;
        let across = Point { x: middle(near.right(), far.x), y: middle(near.middle(), far.middle()) };
        let label_at = route.and_then(|label| Some(Point { x: label.x?, y: label.y? })).unwrap_or(across);
        if !joint.is_outward {
            path.reverse();
        }
        path.dedup();
        Link { edges: joint.edges, path, label: joint.label, label_at }
    });
    let links = links.collect();
    let mut nodes = vec![Rect::default(); picture.nodes.len()];
    for (block, rect) in blocks.iter().zip(&rects) {
        for (node, place) in block.places(*rect) {
            if let Some(node) = nodes.get_mut(node) {
                *node = place;
            }
        }
    }
    let frames = blocks.iter().zip(&rects).filter(|(block, _)| block.is_frame).map(|(_, rect)| *rect).collect();
    let width = rects.iter().map(Rect::right).fold(0.0, f64::max);
    let height = rects.iter().map(|rect| rect.y + rect.height).fold(0.0, f64::max);
    Layout { width, height, nodes, frames, links }
}

/// Width of the label of a link.
pub(super) fn label_width(label: &str) -> f64 {
    as_f64(label.chars().count()) * RELATION_CHAR_WIDTH
}

pub(super) fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
