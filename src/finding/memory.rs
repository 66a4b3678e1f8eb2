//! How much memory a finding takes, for caches that are bounded by bytes.

use super::{Fact, FactValue, Finding, Relation};

/// What an allocation takes beside what was asked for, on average.
const ALLOCATION: usize = 16;

impl Finding {
    /// Bytes that it takes beside itself, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        let links = self.permalink.iter().chain(self.xsoar.iter().map(|xsoar| &xsoar.reason));
        let facts = self.facts.iter().map(|fact| size_of::<Fact>() + text(&fact.name) + value(&fact.value));
        let relations = self.relations.iter().map(|relation| {
            size_of::<Relation>() + text(&relation.source_name) + relation.indicator.value().len() + 2 * ALLOCATION
        });
        texts(&self.reasons) + texts(&self.tags) + facts.chain(relations).chain(links.map(text)).sum::<usize>()
    }
}

fn value(value: &FactValue) -> usize {
    match value {
        FactValue::Text(value) => text(value),
        FactValue::List(values) => texts(values),
        FactValue::Integer(_) | FactValue::Number(_) | FactValue::Flag(_) | FactValue::Time(_) => 0,
    }
}

fn texts(texts: &[String]) -> usize {
    ALLOCATION + texts.iter().map(|value| size_of::<String>() + text(value)).sum::<usize>()
}

fn text(text: impl AsRef<str>) -> usize {
    text.as_ref().len() + ALLOCATION
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Disposition;

    #[test]
    fn everything_that_grows_counts() {
        let plain = Finding::new(Disposition::Malicious, None, "because");
        let before = plain.heap_bytes();
        let grown = Finding {
            tags: vec!["t".repeat(1_000)],
            facts: vec![Fact::new("engines", vec!["e".repeat(1_000); 3])],
            permalink: Some("p".repeat(1_000)),
            ..plain
        };
        assert!((5_000..6_000).contains(&(grown.heap_bytes() - before)), "{}", grown.heap_bytes());
    }
}
