//! A text being refanged, which remembers where each of its bytes came from in the text that was given.

use std::ops::Range;

/// A replacement: these bytes of the text as it stands, by this.
pub(super) type Edit = (Range<usize>, &'static str);

/// A text, changed step by step, each byte with the range of the original that it stands for.
pub(super) struct SpanMap {
    text: String,
    starts: Vec<usize>,
    ends: Vec<usize>,
}

impl SpanMap {
    /// The text as it was given.
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), starts: (0..text.len()).collect(), ends: (1..=text.len()).collect() }
    }

    /// The text as it stands.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The text as it stands, for good.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Makes edits that are in order and do not overlap.
    pub(super) fn apply(&mut self, edits: &[Edit]) {
        if edits.is_empty() {
            return;
        }
        let mut next = Self { text: String::new(), starts: Vec::new(), ends: Vec::new() };
        let mut at = 0;
        for (range, meant) in edits {
            next.keep(self, at..range.start);
            next.put(meant, self.original(range.clone()));
            at = range.end;
        }
        next.keep(self, at..self.text.len());
        *self = next;
    }

    /// Where bytes of the text as it stands came from.
    pub(super) fn original(&self, range: Range<usize>) -> Range<usize> {
        let start = self.starts.get(range.start).copied();
        let end = range.end.checked_sub(1).and_then(|last| self.ends.get(last)).copied();
        start.unwrap_or_default()..end.unwrap_or_default()
    }

    fn keep(&mut self, from: &Self, range: Range<usize>) {
        self.text.push_str(from.text.get(range.clone()).unwrap_or_default());
        self.starts.extend_from_slice(from.starts.get(range.clone()).unwrap_or_default());
        self.ends.extend_from_slice(from.ends.get(range).unwrap_or_default());
    }

    fn put(&mut self, meant: &str, original: Range<usize>) {
        self.text.push_str(meant);
        self.starts.extend(meant.bytes().map(|_| original.start));
        self.ends.extend(meant.bytes().map(|_| original.end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_knows_where_it_came_from_after_several_steps() {
        let mut map = SpanMap::new("a [dot] b hxxp c");
        map.apply(&[(2..7, "[.]"), (10..14, "http")]);
        assert_eq!(map.text(), "a [.] b http c");
        map.apply(&[(1..6, ".")]);
        assert_eq!(map.text(), "a.b http c");
        assert_eq!(map.original(0..3), 0..9);
        assert_eq!(map.original(4..8), 10..14);
        assert_eq!(map.original(9..10), 15..16);
    }
}
