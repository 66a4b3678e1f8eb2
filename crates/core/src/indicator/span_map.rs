//! A text being edited, with the place in the original text that each of its bytes came from.

use std::borrow::Cow;
use std::ops::Range;

/// A replacement of a byte range of the current text.
pub(super) type Edit = (Range<usize>, &'static str);

/// The current text, and for each of its bytes the range of the original that it stands for.
pub(super) struct SpanMap<'a> {
    text: Cow<'a, str>,
    /// What was replaced, in order. All between is as it was.
    replaced: Vec<Replaced>,
}

/// A range of the current text of which each byte stands for the whole of a range of the original.
struct Replaced {
    current: Range<usize>,
    original: Range<usize>,
}

impl<'a> SpanMap<'a> {
    /// The original text, not edited yet.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text: text.into(), replaced: Vec::new() }
    }

    /// The current text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The current text, without the map.
    pub(super) fn into_text(self) -> String {
        self.text.into_owned()
    }

    /// Applies edits, which must be in order and not overlap.
    pub(super) fn apply(&mut self, edits: &[Edit]) {
        if edits.is_empty() {
            return;
        }
        let mut text = String::with_capacity(self.text.len());
        let mut replaced = Vec::with_capacity(self.replaced.len() + edits.len());
        let mut at = 0;
        for (range, replacement) in edits {
            self.copy(at..range.start, &mut text, &mut replaced);
            let current = text.len()..text.len() + replacement.len();
            text.push_str(replacement);
            replaced.push(Replaced { current, original: self.original(range.clone()) });
            at = range.end;
        }
        self.copy(at..self.text.len(), &mut text, &mut replaced);
        *self = Self { text: text.into(), replaced };
    }

    /// The range of the original that a range of the current text came from.
    pub(super) fn original(&self, range: Range<usize>) -> Range<usize> {
        let byte = |at: usize| (at < self.text.len()).then(|| self.original_of_byte(at));
        let (start, end) = (byte(range.start), range.end.checked_sub(1).and_then(byte));
        start.unwrap_or_default().start..end.unwrap_or_default().end
    }

    fn original_of_byte(&self, at: usize) -> Range<usize> {
        let after = self.replaced.partition_point(|replaced| replaced.current.start <= at);
        let Some(last) = after.checked_sub(1).and_then(|last| self.replaced.get(last)) else { return at..at + 1 };
        match at.checked_sub(last.current.end) {
            None => last.original.clone(),
            Some(behind) => last.original.end + behind..last.original.end + behind + 1,
        }
    }

    /// Copies a range of the current text, with what was replaced in it, to the end of another.
    fn copy(&self, range: Range<usize>, text: &mut String, replaced: &mut Vec<Replaced>) {
        let moved = |at: usize| text.len() + at.clamp(range.start, range.end) - range.start;
        let first = self.replaced.partition_point(|replaced| replaced.current.end < range.start);
        let within = self.replaced.iter().skip(first).take_while(|replaced| replaced.current.start <= range.end);
        for Replaced { current, original } in within {
            let kept = moved(current.start)..moved(current.end);
            // What was taken out still parts the bytes beside it; what only touches the range does not.
            if !kept.is_empty() || current.is_empty() {
                replaced.push(Replaced { current: kept, original: original.clone() });
            }
        }
        text.push_str(self.text.get(range).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// The plain way: each byte with its range.
    fn apply_to_bytes(bytes: &[(u8, Range<usize>)], edits: &[Edit]) -> Vec<(u8, Range<usize>)> {
        let mut edited = Vec::new();
        let mut at = 0;
        for (range, replacement) in edits {
            edited.extend_from_slice(&bytes[at..range.start]);
            let original = bytes[range.start].1.start..bytes[range.end - 1].1.end;
            edited.extend(replacement.bytes().map(|byte| (byte, original.clone())));
            at = range.end;
        }
        edited.extend_from_slice(&bytes[at..]);
        edited
    }

    proptest! {
        #[test]
        fn every_byte_has_the_place_that_a_map_of_bytes_gives_it(
            length in 0..30_usize,
            rounds in prop::collection::vec(prop::collection::vec((0..6_usize, 1..4_usize, 0..4_usize), 0..6), 1..4),
        ) {
            let text: String = ('a'..='z').cycle().take(length).collect();
            let mut map = SpanMap::new(&text);
            let mut bytes: Vec<_> = text.bytes().enumerate().map(|(at, byte)| (byte, at..at + 1)).collect();
            for round in rounds {
                let mut edits: Vec<Edit> = Vec::new();
                let mut at = 0;
                for (gap, taken, replacement) in round {
                    let start = at + gap;
                    at = start + taken;
                    if at <= bytes.len() {
                        edits.push((start..at, ["", "X", "YY", "ZZZ"][replacement]));
                    }
                }
                map.apply(&edits);
                bytes = apply_to_bytes(&bytes, &edits);
                prop_assert_eq!(map.text().as_bytes(), bytes.iter().map(|(byte, _)| *byte).collect::<Vec<_>>());
                for (at, (_, original)) in bytes.iter().enumerate() {
                    prop_assert_eq!(&map.original(at..at + 1), original);
                }
            }
        }
    }
}
