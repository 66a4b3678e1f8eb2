//! Every form of the picture: as it was, well-formed whatever the indicators say, and readable at every size.

use std::path::Path;

use proptest::prelude::*;
use roxmltree::{Document, Node as Element};

use super::layout::{Layout, Rect, label_width};
use super::picture::{Picture, shortened};
use super::samples::{edge, hub, node, sample};
use super::{dot, mermaid, svg};
use crate::finding::Disposition;
use crate::indicator::IndicatorType;
use crate::pb;

/// Compares a text with a file of the project, or writes the file anew.
fn assert_golden(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == kept, "{file} differs; UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn a_small_graph_is_drawn_as_it_was() {
    let picture = sample(9);
    assert_golden("tests/golden/graph/small.svg", &svg::write(&picture));
    assert_golden("tests/golden/graph/small.dot", &dot::write(&picture));
    assert_golden("tests/golden/graph/small.mmd", &mermaid::write(&picture));
}

#[test]
fn the_picture_in_the_documentation_is_what_is_drawn() {
    assert_golden("docs/images/graph.svg", &svg::write(&sample(34)));
}

/// Texts that would break out of one grammar or another.
const HOSTILE: [&str; 10] = [
    "http://example.com/\"><script>alert(1)</script>",
    "http://example.com/' onload='alert(1)",
    "]]>-->\"]; end; click n0 href \"http://example.com/\"",
    "ends with a backslash \\",
    "\\\" \\N \\\\\" -> n9 [URL=\"http://example.com/\"",
    "%%{init: {'theme':'x'}}%% #quot; &quot; &#34; |\"| `code`",
    "first\nsecond\r\n\u{0}\u{1b}[31m\u{fffe}\u{ffff}",
    "<img src=http://example.com/ onerror=alert(1)>",
    "\u{202e}gpj.exe \u{2066}\u{1f4a9}漢字",
    "url(http://example.com/) style=\"x\" xlink:href='x'",
];

/// A graph in which every text is this one.
fn graph_of(text: &str) -> Picture {
    let indicator = |kind: i32| Some(pb::Indicator { r#type: kind, value: text.into() });
    let not_asked = pb::NotAsked { reason: 1, detail: text.into(), until: None };
    let nodes = (0..8).map(|place| pb::RelationNode {
        indicator: indicator(place % 6),
        depth: u32::from(place > 0),
        disposition: place,
        not_expanded: Some(not_asked.clone()),
        ..Default::default()
    });
    let edges = (1..8).map(|place| pb::RelationEdge {
        from: place,
        to: 0,
        relation: if place > 5 { text.into() } else { "resolves-to".into() },
        sources: vec![text.into()],
        source_names: vec![text.into()],
        ..Default::default()
    });
    let notes = vec![text.to_owned(), text.repeat(50)];
    super::picture(&pb::RelationGraph { nodes: nodes.collect(), edges: edges.collect(), calls: 1, notes })
}

#[test]
fn svg_is_well_formed_whatever_the_texts_say() {
    for text in HOSTILE {
        let picture = graph_of(text);
        let svg = svg::write(&picture);
        let document = Document::parse(&svg).unwrap_or_else(|error| panic!("{text}: {error}"));
        let titles: Vec<&str> = document.descendants().filter_map(|element| element.text()).collect();
        let value = &picture.nodes[0].value.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
        assert!(titles.iter().any(|title| title.contains(value.as_str())), "{text} is not shown whole");
    }
}

#[test]
fn svg_has_no_script_no_handler_and_no_reference_to_elsewhere() {
    let known = ["svg", "title", "defs", "marker", "path", "rect", "g", "text", "circle"];
    for text in HOSTILE.iter().copied().chain(["files.example.com"]) {
        let svg = svg::write(&graph_of(text));
        let document = Document::parse(&svg).unwrap();
        for element in document.descendants().filter(Element::is_element) {
            assert!(known.contains(&element.tag_name().name()), "{}", element.tag_name().name());
            for attribute in element.attributes() {
                let (name, value) = (attribute.name(), attribute.value());
                assert!(!name.starts_with("on") && !["href", "src", "style"].contains(&name), "{name}={value}");
                assert!(!value.contains("://") && !value.replace("url(#arrow)", "").contains("url("), "{name}={value}");
            }
        }
        assert!(!svg.contains("<script"), "{text}");
    }
}

/// What stands outside double quotes; within them a backslash may take the next character with it.
fn outside_quotes(text: &str, has_escapes: bool) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    let mut is_quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted && has_escapes => drop(chars.next()),
            _ if !is_quoted => out.push(c),
            _ => {}
        }
    }
    assert!(!is_quoted, "a quote is not closed in\n{text}");
    out
}

#[test]
fn no_text_breaks_out_of_its_quotes_in_dot_and_mermaid() {
    let harmless = graph_of("files.example.com");
    for text in HOSTILE {
        let hostile = graph_of(text);
        let (dot, other) = (dot::write(&hostile), dot::write(&harmless));
        assert_eq!(outside_quotes(&dot, true), outside_quotes(&other, true), "{text}");
        let (mermaid, other) = (mermaid::write(&hostile), mermaid::write(&harmless));
        assert_eq!(outside_quotes(&mermaid, false), outside_quotes(&other, false), "{text}");
        let without_breaks = mermaid.replace("<br>", "");
        for special in ["<", "%%", "`", "&", "\\", "\r"] {
            assert!(!without_breaks.contains(special), "{special} of {text} in\n{mermaid}");
        }
    }
}

fn overlap(one: Rect, other: Rect) -> bool {
    let apart = one.right() <= other.x || other.right() <= one.x;
    !apart && one.y < other.y + other.height && other.y < one.y + one.height
}

/// What overlaps or stands outside of the picture, and must not.
fn layout_faults(picture: &Picture, layout: &Layout) -> Vec<String> {
    let mut wrong = Vec::new();
    for (place, rect) in layout.nodes.iter().enumerate() {
        if rect.x < 0.0 || rect.y < 0.0 || rect.right() > layout.width || rect.y + rect.height > layout.height {
            wrong.push(format!("node {place} is outside"));
        }
        for (other, other_rect) in layout.nodes.iter().enumerate().skip(place + 1) {
            if overlap(*rect, *other_rect) {
                wrong.push(format!("nodes {place} and {other} overlap"));
            }
        }
    }
    let mut drawn: Vec<usize> = layout.links.iter().flat_map(|link| link.edges.iter().copied()).collect();
    drawn.sort_unstable();
    if drawn != (0..picture.edges.len()).collect::<Vec<_>>() {
        wrong.push("not every relation is drawn once".to_owned());
    }
    wrong
}

#[test]
fn nothing_overlaps_at_any_size() {
    for picture in [sample(1), sample(2), sample(5), sample(20), sample(60), sample(200), hub(3), hub(50), hub(499)] {
        let layout = Layout::new(&picture);
        assert_eq!(layout_faults(&picture, &layout), Vec::<String>::new());
        for link in &layout.links {
            let (width, at) = (label_width(&link.label), link.label_at);
            let label = Rect { x: at.x - width / 2.0, y: at.y - 8.0, width, height: 16.0 };
            let hidden = layout.nodes.iter().find(|rect| overlap(label, **rect));
            assert_eq!(hidden, None, "{} lies on a node", link.label);
        }
    }
}

#[test]
fn sixty_indicators_fit_on_a_page_that_is_wider_than_high() {
    for picture in [sample(60), hub(59)] {
        let layout = Layout::new(&picture);
        assert!(layout.width < 2200.0 && layout.height < 1500.0, "{} by {}", layout.width, layout.height);
    }
}

#[test]
fn the_largest_graph_is_drawn() {
    let nodes = (0..500).map(|place| {
        node(&format!("host-{place}.example.net"), IndicatorType::Domain, Disposition::Unknown, u32::from(place > 0))
    });
    let relations = ["resolves-to", "redirects-to", "links-to"];
    let edges = (0..2000).map(|place| edge(place % 500, (place * 7 + 3) % 500, relations[place % 3]));
    let picture = Picture::new(nodes.collect(), edges.collect(), Vec::new());
    assert_eq!(layout_faults(&picture, &Layout::new(&picture)), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_graph_is_drawn_without_overlap(
        size in 1_usize..40,
        pairs in prop::collection::vec((0_usize..45, 0_usize..45, 0_u32..4), 0..90),
        depths in prop::collection::vec(0_u32..5, 40),
    ) {
        let nodes = (0..size).map(|place| {
            node(&format!("192.0.2.{place}"), IndicatorType::Ip, Disposition::Unknown, depths[place])
        });
        let edges = pairs.iter().map(|(from, to, kind)| edge(*from, *to, &format!("relation-{kind}")));
        let picture = Picture::new(nodes.collect(), edges.collect(), Vec::new());
        prop_assert_eq!(layout_faults(&picture, &Layout::new(&picture)), Vec::<String>::new());
        let svg = svg::write(&picture);
        prop_assert!(Document::parse(&svg).is_ok());
        prop_assert_eq!(svg, svg::write(&picture));
    }
}

#[test]
fn a_disposition_has_a_letter_and_a_type_a_shape_beside_the_colour() {
    let mut marks: Vec<char> = Vec::new();
    let mut shapes: Vec<String> = Vec::new();
    for (kind, disposition) in [
        (IndicatorType::Ip, Disposition::Unknown),
        (IndicatorType::Domain, Disposition::Benign),
        (IndicatorType::Url, Disposition::Suspicious),
        (IndicatorType::File, Disposition::Malicious),
    ] {
        let picture = Picture::new(vec![node("192.0.2.1", kind, disposition, 0)], Vec::new(), Vec::new());
        let svg = svg::write(&picture);
        let document = Document::parse(&svg).unwrap();
        let drawn = document.descendants().rfind(|element| element.has_tag_name("g")).unwrap();
        let texts: Vec<&str> =
            drawn.descendants().filter(|e| e.has_tag_name("text")).filter_map(|e| e.text()).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        marks.extend(texts[0].chars());
        shapes.push(drawn.descendants().find_map(|element| element.attribute("d")).unwrap().to_owned());
    }
    assert_eq!(marks, ['?', 'B', 'S', 'M']);
    shapes.sort();
    shapes.dedup();
    assert_eq!(shapes.len(), 4, "{shapes:?}");
}

#[test]
fn a_long_text_keeps_its_beginning_and_its_end() {
    assert_eq!(shortened("192.0.2.1", 32, 10), "192.0.2.1");
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(shortened(hash, 32, 10), "ba7816bf8f01cfea41414…61f20015ad");
    assert_eq!(shortened("äöüäöü", 4, 1), "äö…ü");
}

#[test]
fn relations_between_the_same_two_share_an_arrow_and_those_of_nobody_have_none() {
    let nodes = ["a", "b"].map(|value| node(value, IndicatorType::Domain, Disposition::Unknown, 0));
    let edges = vec![
        edge(0, 1, "links-to"),
        edge(0, 1, "redirects-to"),
        edge(0, 1, "links-to"),
        edge(1, 0, "links-to"),
        edge(1, 1, "links-to"),
        edge(0, 2, "links-to"),
        edge(usize::MAX, 0, "links-to"),
    ];
    let picture = Picture::new(nodes.to_vec(), edges, Vec::new());
    let sentences: Vec<String> = picture.edges.iter().map(|edge| picture.sentence(edge)).collect();
    assert_eq!(sentences, ["a links-to, redirects-to b (virustotal)", "b links-to a (virustotal)"]);
}
