//! Where one script ends and another begins: text in scripts without spaces glues words to the names within it.

/// Cyrillic and Greek letters that look like Latin ones. A label of Latin letters and these alone is meant to deceive, and
/// is one name.
const LOOK_ALIKES: &str = "асԁеһіјкорԛѕѵԝхуүοανρτυχικε";

/// Whether a character belongs to a script that is written without spaces, or whose words are glued to foreign names.
/// None of these letters looks like a Latin one.
pub(super) fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0590..=0x139f | 0x1400..=0x1cff | 0x2e80..=0x2fdf | 0x3005..=0x3007 | 0x3031..=0x30fa | 0x30fc..=0xa4cf
        | 0xa960..=0xa97f | 0xaa00..=0xaadf | 0xac00..=0xd7ff | 0xf900..=0xfaff | 0xfb1d..=0xfdff | 0xfe70..=0xfefe
        | 0xff66..=0xffdc | 0x2_0000..=0x3_ffff)
}

/// Whether a character continues a Latin word.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() && !is_unspaced(c)
}

fn is_latin(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(u32::from(c), 0xc0..=0x24f | 0x1e00..=0x1eff)
}

fn is_look_alike_script(c: char) -> bool {
    c.is_alphabetic() && matches!(u32::from(c), 0x370..=0x58f | 0x1f00..=0x1fff)
}

/// The place within a label where a name in one script ends and a word in another begins.
pub(super) fn change(name: &str) -> Option<usize> {
    if name.is_ascii() {
        return None;
    }
    let latin = |c: char| is_latin(c) || c.is_ascii_digit();
    let looks_latin = |c: char| c.to_lowercase().all(|c| LOOK_ALIKES.contains(c));
    let mut before = '.';
    // Whether every letter of the run of Cyrillic or Greek letters up to here looks Latin.
    let mut deceives = true;
    for (at, c) in name.char_indices() {
        let run = || name.get(at..).unwrap_or_default().chars().take(64).take_while(|c| is_look_alike_script(*c));
        let changes = is_unspaced(c) && latin(before)
            || latin(c) && is_unspaced(before)
            || is_look_alike_script(c) && is_latin(before) && !run().all(looks_latin)
            || is_latin(c) && is_look_alike_script(before) && !deceives;
        if changes {
            return Some(at);
        }
        if is_look_alike_script(c) {
            deceives = looks_latin(c) && (deceives || !is_look_alike_script(before));
        }
        before = c;
    }
    None
}

/// The first piece of a name that is four numbers between letters of another script: `адрес203.0.113.9и`.
pub(super) fn ipv4_between_letters(name: &str) -> Option<std::ops::Range<usize>> {
    if name.is_ascii() {
        return None;
    }
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let mut at = 0;
    for piece in name.split(|c: char| !digits(c)) {
        let number = piece.trim_matches('.');
        let start = at + piece.len() - piece.trim_start_matches('.').len();
        let before = name.get(..at).and_then(|text| text.chars().next_back());
        let after = name.get(at + piece.len()..).and_then(|text| text.chars().next());
        let foreign = |c: Option<char>| c.is_none_or(|c| !c.is_ascii());
        if super::address::is_ipv4(number) && foreign(before) && foreign(after) {
            return Some(start..start + number.len());
        }
        at += piece.len() + after.map_or(0, char::len_utf8);
    }
    None
}
