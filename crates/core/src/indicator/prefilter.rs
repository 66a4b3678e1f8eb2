//! Passes over the words of a text that certainly hold nothing of interest, at one table look-up a byte.

/// Which words of a text need a closer look. Words are separated by white space in ASCII.
pub(super) struct Prefilter {
    classes: [Class; 256],
    longest: usize,
}

/// What a byte is to a filter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Blank,
    /// Makes its word one that needs a closer look.
    Telling,
    /// The same, unless it is the last of its word, as a full stop is.
    TellingWithin,
}

/// A word that needs a closer look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Where it begins, or where the search began within it.
    pub(super) start: usize,
    /// Where it was found to need the closer look; all of it up to here was seen.
    pub(super) seen: usize,
}

impl Prefilter {
    /// A filter for words with one of these bytes, or one of the others before the last byte, or with more bytes than
    /// `longest`, or with anything but ASCII.
    pub(super) const fn new(telling: &[u8], telling_within: &[u8], longest: usize) -> Self {
        let mut classes = [Class::Plain; 256];
        let mut byte = 0;
        while byte < 256 {
            classes[byte] = match byte as u8 {
                b'\t'..=b'\r' | b' ' => Class::Blank,
                0x80.. => Class::Telling,
                _ => Class::Plain,
            };
            byte += 1;
        }
        let mut at = 0;
        while at < telling.len() {
            classes[telling[at] as usize] = Class::Telling;
            at += 1;
        }
        let mut at = 0;
        while at < telling_within.len() {
            classes[telling_within[at] as usize] = Class::TellingWithin;
            at += 1;
        }
        Self { classes, longest }
    }

    /// The first word at or after a byte position that needs a closer look.
    pub(super) fn next(&self, text: &str, from: usize) -> Option<Word> {
        let class = |byte: u8| self.classes[usize::from(byte)];
        let is_last = |at: usize| text.as_bytes().get(at + 1).is_none_or(|next| class(*next) == Class::Blank);
        let mut start = from;
        for (at, byte) in (from..).zip(text.as_bytes().get(from..)?) {
            let is_telling = match class(*byte) {
                Class::Plain => false,
                Class::Telling => true,
                Class::TellingWithin => !is_last(at),
                Class::Blank if at - start > self.longest => true,
                Class::Blank => {
                    start = at + 1;
                    false
                }
            };
            if is_telling {
                return Some(Word { start, seen: at });
            }
        }
        (text.len() - start > self.longest).then_some(Word { start, seen: text.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_by_a_telling_byte_by_its_length_and_by_other_scripts() {
        let filter = Prefilter::new(b"[", b".", 8);
        let words = |text: &str| {
            let mut found = Vec::new();
            let mut at = 0;
            while let Some(word) = filter.next(text, at) {
                found.push(text[word.start..].split_whitespace().next().unwrap_or_default().to_owned());
                at = text.ceil_char_boundary(word.seen + 1);
            }
            found
        };
        assert_eq!(words("The end. A new one.\nno, none."), [""; 0]);
        assert_eq!(words("at a.b now"), ["a.b"]);
        assert_eq!(words("it [is"), ["[is"]);
        assert_eq!(words("12345678 123456789"), ["123456789"]);
        assert_eq!(words("un été là"), ["été", "té", "là"]);
    }
}
