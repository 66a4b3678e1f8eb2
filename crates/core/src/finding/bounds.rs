//! Bounds on what one source can make us store, show and keep in memory, whatever its kind reads out of an answer.

use super::{Fact, FactValue, Finding, counted};

const MOST_REASONS: usize = 32;
const MOST_FACTS: usize = 128;
/// Texts in one fact: engines, names, file types.
const MOST_LISTED: usize = 128;
/// Relations that one finding holds.
pub const MAX_RELATIONS: usize = 256;
const MOST_TAGS: usize = 128;
/// Bytes of one text: longer than any name, shorter than any page.
const LONGEST_TEXT: usize = 4 * 1024;
/// Bytes of a whole finding: a thousand of them fit into memory many times.
const MOST_BYTES: usize = 64 * 1024;
/// What an entry takes beside its text, so that empty ones count too.
const ENTRY_BYTES: usize = 16;

impl Finding {
    /// The finding without what goes beyond the bounds. A reason at its end says how much was left out.
    pub fn bounded(mut self) -> Self {
        let mut bounds = Bounds { bytes_left: MOST_BYTES, left_out: Vec::new(), shortened: 0 };
        let facts = &mut self.facts;
        let texts = self.reasons.iter_mut().chain(&mut self.tags).chain(facts.iter_mut().flat_map(texts_of));
        texts.for_each(|text| bounds.shorten(text));
        // What decides the claim comes first, and what only describes the indicator last.
        bounds.keep(&mut self.reasons, MOST_REASONS, "reason", |reason| reason.len());
        self.permalink = self.permalink.filter(|link| link.len() <= LONGEST_TEXT);
        for fact in &mut self.facts {
            let Fact { name, value: FactValue::List(texts) } = fact else { continue };
            let before = texts.len();
            texts.truncate(MOST_LISTED);
            bounds.note(before - texts.len(), "text", &format!(" of {name:.64}"));
        }
        bounds.keep(&mut self.facts, MOST_FACTS, "fact", fact_bytes);
        bounds.keep(&mut self.relations, MAX_RELATIONS, "relation", |relation| {
            relation.source_name.len() + relation.indicator.value().len()
        });
        bounds.keep(&mut self.tags, MOST_TAGS, "tag", |tag| tag.len());
        if bounds.shortened > 0 {
            bounds.left_out.push(format!("the ends of {}", counted(bounds.shortened as u64, "text")));
        }
        if !bounds.left_out.is_empty() {
            self.reasons.push(format!("left out of a large answer: {}", bounds.left_out.join(", ")));
        }
        self
    }
}

/// What is left of the bounds, and what did not fit.
struct Bounds {
    bytes_left: usize,
    left_out: Vec<String>,
    shortened: usize,
}

impl Bounds {
    fn shorten(&mut self, text: &mut String) {
        if text.len() > LONGEST_TEXT {
            text.truncate(text.floor_char_boundary(LONGEST_TEXT));
            text.push('…');
            self.shortened += 1;
        }
    }

    /// Keeps the first entries that fit.
    fn keep<T>(&mut self, entries: &mut Vec<T>, most: usize, noun: &str, bytes: impl Fn(&T) -> usize) {
        let (before, mut kept) = (entries.len(), 0);
        entries.retain(|entry| {
            let bytes = bytes(entry) + ENTRY_BYTES;
            let fits = kept < most && bytes <= self.bytes_left;
            if fits {
                kept += 1;
                self.bytes_left -= bytes;
            }
            fits
        });
        self.note(before - kept, noun, "");
    }

    fn note(&mut self, count: usize, noun: &str, of_what: &str) {
        // Names of facts can be the source's own: only the first are named.
        if count > 0 && self.left_out.len() < 8 {
            self.left_out.push(format!("{}{of_what}", counted(count as u64, noun)));
        }
    }
}

fn texts_of(fact: &mut Fact) -> &mut [String] {
    match &mut fact.value {
        FactValue::Text(text) => std::slice::from_mut(text),
        FactValue::List(texts) => texts,
        FactValue::Integer(_) | FactValue::Number(_) | FactValue::Flag(_) | FactValue::Time(_) => &mut [],
    }
}

fn fact_bytes(fact: &Fact) -> usize {
    let value = match &fact.value {
        FactValue::Text(text) => text.len(),
        FactValue::List(texts) => texts.iter().map(|text| text.len() + ENTRY_BYTES).sum(),
        FactValue::Integer(_) | FactValue::Number(_) | FactValue::Flag(_) | FactValue::Time(_) => ENTRY_BYTES,
    };
    fact.name.len() + value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::finding::{Disposition, Relation, RelationName};
    use crate::indicator::Indicator;

    fn finding() -> Finding {
        Finding::new(Disposition::Malicious, None, "because")
    }

    fn last_reason(finding: &Finding) -> &str {
        finding.reasons.last().map(String::as_str).unwrap_or_default()
    }

    #[test]
    fn a_finding_within_the_bounds_is_left_as_it_is() {
        let engines = (0..90).map(|number| format!("engine {number}")).collect::<Vec<_>>();
        let facts = vec![Fact::new("engines_malicious", engines), Fact::new("malicious", 90_u64)];
        let usual = Finding { facts, tags: vec!["botnet".into(); 100], ..finding() };
        assert_eq!(usual.clone().bounded(), usual);
    }

    #[test]
    fn what_is_left_out_is_counted_by_what_it_is() {
        let indicator = Indicator::parse("192.0.2.1").expect("an address").indicator;
        let large = Finding {
            tags: vec!["tag".into(); 1_000],
            facts: vec![Fact::new("engines", vec!["engine".to_owned(); 130])],
            relations: vec![Relation { name: RelationName::Hosts, source_name: "urls".into(), indicator }; 257],
            ..finding()
        };
        let bounded = large.bounded();
        assert_eq!((bounded.tags.len(), bounded.relations.len()), (MOST_TAGS, MAX_RELATIONS));
        let note = "left out of a large answer: 2 texts of engines, 1 relation, 872 tags";
        assert_eq!(bounded.reasons, ["because", note]);
    }

    #[test]
    fn a_long_text_is_shortened_and_the_claim_stays_explained() {
        let mut large = Finding { facts: vec![Fact::new("banner", "é".repeat(1 << 20)); 40], ..finding() };
        large.reasons.push("x".repeat(1 << 20));
        let bounded = large.bounded();
        assert_eq!(bounded.reasons.first().map(String::as_str), Some("because"));
        assert_eq!(bounded.reasons.get(1).map(String::len), Some(LONGEST_TEXT + "…".len()));
        assert!(last_reason(&bounded).contains("the ends of 41 texts"), "{}", last_reason(&bounded));
        assert!(last_reason(&bounded).contains("facts, "), "{}", last_reason(&bounded));
    }

    proptest! {
        #[test]
        fn no_finding_takes_more_bytes_than_the_bound(
            reasons: Vec<String>, tags in prop::collection::vec(".{0,200}", 0..400), name in ".{0,300}", texts: Vec<String>,
        ) {
            let facts = vec![Fact::new(name, texts); 40];
            let bounded = Finding { reasons, tags, facts, ..finding() }.bounded();
            let texts = bounded.reasons.iter().chain(&bounded.tags).map(String::len).sum::<usize>();
            let facts = bounded.facts.iter().map(fact_bytes).sum::<usize>();
            prop_assert!(texts + facts <= MOST_BYTES + 1024);
            prop_assert!(bounded.reasons.len() <= MOST_REASONS + 1);
        }
    }
}
