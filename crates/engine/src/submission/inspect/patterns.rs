//! What is looked for in text, and the scanner that looks for it in a stream.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use aho_corasick::{AhoCorasick, BuildError};
use regex::bytes::RegexSet;

use crate::store::HoldReasonCode;

/// Bytes in front of new ones that are scanned with them, so that a match on the border is found. No match is longer,
/// except private keys, whose first line is enough.
const OVERLAP: usize = 1024;
/// Most bytes that are scanned at once.
const WINDOW: usize = 64 * 1024;

/// Patterns that are the same everywhere: what it is, the detail, and the expression.
const FIXED: [(HoldReasonCode, &str, &str); 19] = [
    (HoldReasonCode::PrivateKey, "a private key in PEM", r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
    (HoldReasonCode::PrivateKey, "a private key of PuTTY", r"PuTTY-User-Key-File-[0-9]:"),
    (HoldReasonCode::Credential, "an access key of AWS", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    (HoldReasonCode::Credential, "a token of GitHub", r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22})"),
    (HoldReasonCode::Credential, "a token of GitLab", r"\bglpat-[A-Za-z0-9_-]{20}"),
    (HoldReasonCode::Credential, "a token of Slack", r"\bxox[abeoprs]-[A-Za-z0-9-]{10}"),
    (HoldReasonCode::Credential, "an API key of Google", r"\bAIza[0-9A-Za-z_-]{35}"),
    (HoldReasonCode::Credential, "a secret key of Stripe", r"\b[rs]k_live_[0-9A-Za-z]{24}"),
    (HoldReasonCode::Credential, "an account key of Azure", r"AccountKey=[A-Za-z0-9+/]{86}=="),
    (HoldReasonCode::Credential, "a JSON web token", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8}"),
    (
        HoldReasonCode::Credential,
        "a URL with user and password",
        r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,100}:[^\s/:@]{1,100}@",
    ),
    (HoldReasonCode::SensitivityLabel, "a sensitivity label of Microsoft Purview", r"MSIP_Label_[0-9a-fA-F-]{36}"),
    (HoldReasonCode::Marking, "TLP:RED", r"(?i)\bTLP\s?:\s?RED\b"),
    (HoldReasonCode::Marking, "TLP:AMBER", r"(?i)\bTLP\s?:\s?AMBER"),
    (HoldReasonCode::Marking, "TLP:GREEN", r"(?i)\bTLP\s?:\s?GREEN\b"),
    (HoldReasonCode::Marking, "TOP SECRET", r"\bTOP SECRET\b"),
    (
        HoldReasonCode::Marking,
        "CONFIDENTIAL",
        r"(?:\bCONFIDENTIAL\b|(?i)\b(?:strictly|company|business) confidential\b)",
    ),
    (HoldReasonCode::Marking, "for internal use only", r"(?i)\b(?:for )?(?:internal|official) use only\b"),
    (
        HoldReasonCode::Marking,
        "a national or alliance marking",
        r"(?:\bVS-NUR F|\bVS-NfD\b|\bNATO (?:RESTRICTED|CONFIDENTIAL|SECRET)\b|\bEU RESTRICTED\b|\bSTRENG VERTRAULICH\b|\bVERTRAULICH\b)",
    ),
];

/// Every expression, bytes as they are.
static EXPRESSIONS: LazyLock<RegexSet> = LazyLock::new(|| {
    let expressions = FIXED.iter().map(|(_, _, expression)| format!("(?-u){expression}"));
    // That all of them compile is tested.
    RegexSet::new(expressions).unwrap_or_else(|_| RegexSet::empty())
});

/// What is looked for: the fixed expressions, and the words of the configuration.
pub struct Patterns {
    words: AhoCorasick,
    /// What each word is and says.
    meanings: Vec<(HoldReasonCode, String)>,
    /// The word of each pattern: a word has one for each way to write it.
    word_of: Vec<usize>,
}

impl Patterns {
    /// The patterns of a configuration with these sensitive words and own names.
    ///
    /// # Errors
    /// If they are too many to be looked for at once.
    pub fn new(sensitive_words: &[String], own_names: &[String]) -> Result<Self, BuildError> {
        let words = sensitive_words.iter().map(|word| (HoldReasonCode::SensitiveWord, word));
        let names = own_names.iter().map(|name| (HoldReasonCode::OwnName, name));
        let meanings: Vec<_> = words.chain(names).map(|(code, word)| (code, word.clone())).collect();
        let written = meanings.iter().enumerate();
        let written =
            written.flat_map(|(number, (_, word))| encodings(word).into_iter().map(move |text| (number, text)));
        let (word_of, patterns): (Vec<_>, Vec<_>) = written.unzip();
        let words = AhoCorasick::builder().ascii_case_insensitive(true).build(patterns)?;
        Ok(Self { words, meanings, word_of })
    }

    /// What is found in these bytes: what it is, and its detail.
    pub fn find(&self, bytes: &[u8]) -> Vec<(HoldReasonCode, String)> {
        let fixed = EXPRESSIONS.matches(bytes).into_iter().filter_map(|place| FIXED.get(place));
        let mut found: Vec<_> = fixed.map(|(code, detail, _)| (*code, (*detail).to_owned())).collect();
        let words: BTreeSet<_> = self
            .words
            .find_overlapping_iter(bytes)
            .filter_map(|found| self.word_of.get(found.pattern().as_usize()))
            .collect();
        found.extend(words.into_iter().filter_map(|number| self.meanings.get(*number)).map(|(code, word)| {
            let detail = match code {
                HoldReasonCode::OwnName => format!("the own name {word}"),
                _ => format!("the listed word {word}"),
            };
            (*code, detail)
        }));
        found
    }
}

/// The ways to write a word. Of ASCII letters the case is ignored, and UTF-16 is read without its NUL bytes; other letters are
/// looked for in each case, in UTF-8, Latin-1 and UTF-16.
fn encodings(word: &str) -> BTreeSet<Vec<u8>> {
    if word.is_ascii() {
        return BTreeSet::from([word.as_bytes().to_vec()]);
    }
    let cases = [word.to_owned(), word.to_lowercase(), word.to_uppercase()];
    let written = cases.iter().flat_map(|word| {
        let latin: Option<Vec<u8>> = word.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let wide = |bytes: fn(u16) -> [u8; 2]| word.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        [Some(word.as_bytes().to_vec()), latin, Some(wide(u16::to_le_bytes)), Some(wide(u16::to_be_bytes))]
    });
    written.flatten().collect()
}

/// Scans a stream piece by piece, as bytes and, where it has NUL bytes, also without them, as UTF-16 text is written.
pub(super) struct Scanner {
    patterns: Arc<Patterns>,
    window: Vec<u8>,
    found: BTreeSet<(HoldReasonCode, String)>,
}

impl Scanner {
    pub(super) fn new(patterns: &Arc<Patterns>) -> Self {
        Self { patterns: patterns.clone(), window: Vec::new(), found: BTreeSet::new() }
    }

    /// Adds the next bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(WINDOW) {
            self.window.extend_from_slice(piece);
            if self.window.len() >= WINDOW {
                self.scan();
                self.window.drain(..self.window.len().saturating_sub(OVERLAP));
            }
        }
    }

    fn scan(&mut self) {
        self.found.extend(self.patterns.find(&self.window));
        if self.window.contains(&0) {
            let text: Vec<u8> = self.window.iter().copied().filter(|byte| *byte != 0).collect();
            self.found.extend(self.patterns.find(&text));
        }
    }

    /// Everything that was found, each once.
    pub(super) fn finish(&mut self) -> BTreeSet<(HoldReasonCode, String)> {
        self.scan();
        std::mem::take(&mut self.found)
    }
}
