//! Pulls indicators out of free text, in order of first appearance, each value once.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::Host;
use super::Indicator;
use super::IndicatorType;
use super::domain;
use super::hash;
use super::parse;
use super::refang::refang;

/// What is pulled out beside what stands there by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Also the host of each URL.
    pub url_hosts: bool,
    /// Also the domain of each e-mail address.
    pub email_domains: bool,
}

/// An indicator found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// The indicator.
    pub indicator: Indicator,
    /// The text that it was read from.
    pub text: String,
    /// Where that text stands, in bytes.
    pub span: Range<usize>,
    /// How it was understood.
    pub notes: Vec<String>,
}

/// A piece of text without spaces; marks with single spaces around them stay within.
static PIECE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)[^\s<>|]+(?:\s[\[\(\{](?:\.|dot)[\]\)\}]\s?[^\s<>|]+)*").ok());
/// What can be an indicator within an undone piece: a URL, an address, a name with an optional path, a hash.
static CANDIDATE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?x)
        (?P<url>\b(?:https?|ftp)://[^\s"'<>`{}|^]+)
        |(?P<ipv6>\[?[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?)
        |(?P<mail>[\w.+-]+@[\w.-]+\.\w+)
        |(?P<name>[\p{L}\p{N}_](?:[\p{L}\p{N}_.-]*[\p{L}\p{N}_])?(?::\d{1,5})?(?P<path>/[^\s"'<>`{}|^,;]*)?)
        "#,
    )
    .ok()
});

/// Every indicator in the text.
pub fn extract(text: &str, options: &ExtractOptions) -> Vec<Extracted> {
    let mut found = Found { options: *options, seen: HashSet::new(), list: Vec::new() };
    let (Some(piece), Some(candidate)) = (PIECE.as_ref(), CANDIDATE.as_ref()) else { return found.list };
    for part in piece.find_iter(text) {
        let undone = refang(part.as_str());
        let defanged = undone != part.as_str();
        for captures in candidate.captures_iter(&undone) {
            found.take(&captures, part.as_str(), part.range(), defanged);
        }
    }
    found.list
}

struct Found {
    options: ExtractOptions,
    seen: HashSet<Indicator>,
    list: Vec<Extracted>,
}

impl Found {
    fn take(&mut self, captures: &regex::Captures<'_>, text: &str, span: Range<usize>, defanged: bool) {
        if let Some(url) = captures.name("url") {
            self.url(trim_url(url.as_str()), text, span);
        } else if let Some(ipv6) = captures.name("ipv6") {
            self.parsed(ipv6.as_str().trim_end_matches('.'), IndicatorType::Ip, text, span);
        } else if let Some(mail) = captures.name("mail") {
            if self.options.email_domains {
                let name = mail.as_str().rsplit('@').next().unwrap_or_default();
                self.name(name, text, span, true);
            }
        } else if let Some(name) = captures.name("name") {
            match captures.name("path") {
                Some(path) => {
                    let host = name.as_str().get(..name.len() - path.len()).unwrap_or_default();
                    self.with_path(name.as_str(), host, text, span, defanged);
                }
                None => self.bare(name.as_str(), text, span, defanged),
            }
        }
    }

    fn url(&mut self, url: &str, text: &str, span: Range<usize>) {
        let Ok(read) = Indicator::parse_as(url, IndicatorType::Url) else { return };
        // A host that nobody can register, and that is no address, is an example in prose.
        let host = read.indicator.host();
        let known = match &host {
            Some(Host::Name(name)) => domain::has_public_suffix(name),
            Some(Host::Ip(_)) => true,
            None => false,
        };
        if !known {
            return;
        }
        self.add(read.indicator, text, span.clone(), read.notes);
        if self.options.url_hosts {
            match host {
                Some(Host::Name(name)) => self.name(&name, text, span, true),
                Some(Host::Ip(ip)) => self.parsed(&ip.to_string(), IndicatorType::Ip, text, span),
                None => {}
            }
        }
    }

    /// `host/path` is a URL where the host is sure; `word/word` is prose.
    fn with_path(&mut self, whole: &str, host: &str, text: &str, span: Range<usize>, defanged: bool) {
        let bare = host.split(':').next().unwrap_or_default();
        let network = whole
            .rsplit('/')
            .next()
            .is_some_and(|rest| !rest.is_empty() && rest.len() <= 3 && rest.bytes().all(|byte| byte.is_ascii_digit()));
        if is_ipv4(bare) {
            if !network {
                self.parsed(bare, IndicatorType::Ip, text, span);
            }
            return;
        }
        if domain_like(bare, defanged) {
            if let Ok(read) = Indicator::parse(trim_url(whole)) {
                self.add(read.indicator, text, span, read.notes);
            }
            return;
        }
        for word in whole.split('/') {
            self.bare(word, text, span.clone(), defanged);
        }
    }

    fn bare(&mut self, word: &str, text: &str, span: Range<usize>, defanged: bool) {
        let host = word.split(':').next().unwrap_or_default();
        if hash::form_of(word).is_some() {
            self.parsed(word, IndicatorType::File, text, span);
        } else if is_ipv4(host) {
            self.parsed(word, IndicatorType::Ip, text, span);
        } else {
            self.name(host, text, span, defanged);
        }
    }

    fn name(&mut self, name: &str, text: &str, span: Range<usize>, sure: bool) {
        if domain_like(name, sure) {
            self.parsed(name, IndicatorType::Domain, text, span);
        }
    }

    fn parsed(&mut self, value: &str, wanted: IndicatorType, text: &str, span: Range<usize>) {
        if let Ok(read) = Indicator::parse_as(value, wanted) {
            self.add(read.indicator, text, span, read.notes);
        }
    }

    fn add(&mut self, indicator: Indicator, text: &str, span: Range<usize>, notes: Vec<String>) {
        if self.seen.insert(indicator.clone()) {
            self.list.push(Extracted { indicator, text: text.to_owned(), span, notes });
        }
    }
}

/// Four numbers by themselves, not within a longer dotted run.
fn is_ipv4(text: &str) -> bool {
    text.parse::<std::net::Ipv4Addr>().is_ok()
}

fn domain_like(name: &str, sure: bool) -> bool {
    domain::normal(&parse::clean(name))
        .is_ok_and(|name| domain::has_public_suffix(&name) && (sure || !domain::looks_like_file(&name)))
}

/// A URL in prose without the punctuation that follows it; a closing bracket stays where one was opened.
fn trim_url(url: &str) -> &str {
    let mut url = url;
    loop {
        let before = url;
        url = url.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '"', '*', '_']);
        for (open, close) in [('(', ')'), ('[', ']')] {
            if url.ends_with(close) && url.matches(open).count() < url.matches(close).count() {
                url = url.strip_suffix(close).unwrap_or(url);
            }
        }
        if url == before {
            return url;
        }
    }
}
