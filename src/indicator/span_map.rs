//! A text being edited, with the place in the original text that each of its bytes came from.

use std::ops::Range;

/// A replacement of a byte range of the current text.
pub(super) type Edit = (Range<usize>, &'static str);

/// The current text, and for each of its bytes the range of the original that it stands for.
pub(super) struct SpanMap {
    text: String,
    starts: Vec<usize>,
    ends: Vec<usize>,
}

impl SpanMap {
    /// The original text, not edited yet.
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), starts: (0..text.len()).collect(), ends: (1..=text.len()).collect() }
    }

    /// The current text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The current text, without the map.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Applies edits, which must be in order and not overlap.
    pub(super) fn apply(&mut self, edits: &[Edit]) {
        if edits.is_empty() {
            return;
        }
        let mut next = Self { text: String::new(), starts: Vec::new(), ends: Vec::new() };
        let mut at = 0;
        for (range, replacement) in edits {
            next.copy(self, at..range.start);
            next.replace(replacement, self.original(range.clone()));
            at = range.end;
        }
        next.copy(self, at..self.text.len());
        *self = next;
    }

    /// The range of the original that a range of the current text came from.
    pub(super) fn original(&self, range: Range<usize>) -> Range<usize> {
        let start = self.starts.get(range.start).copied();
        let end = range.end.checked_sub(1).and_then(|last| self.ends.get(last)).copied();
        start.unwrap_or_default()..end.unwrap_or_default()
    }

    fn copy(&mut self, from: &Self, range: Range<usize>) {
        self.text.push_str(from.text.get(range.clone()).unwrap_or_default());
        self.starts.extend_from_slice(from.starts.get(range.clone()).unwrap_or_default());
        self.ends.extend_from_slice(from.ends.get(range).unwrap_or_default());
    }

    fn replace(&mut self, replacement: &str, original: Range<usize>) {
        self.text.push_str(replacement);
        self.starts.extend(replacement.bytes().map(|_| original.start));
        self.ends.extend(replacement.bytes().map(|_| original.end));
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
