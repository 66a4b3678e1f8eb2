//! Extracts indicators from free text, in order of first appearance, each value once.

use std::collections::HashSet;
use std::ops::Range;

use super::prefilter::Word;
use super::scan::{self, Candidate, Kind};
use super::span_map::SpanMap;
use super::{Host, Indicator, IndicatorType, address, domain, hash, label, refang, script};

/// What else is extracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Also the host of each URL.
    pub url_hosts: bool,
    /// Also the domain or address of each e-mail address.
    pub email_domains: bool,
}

/// An indicator found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// The indicator.
    pub indicator: Indicator,
    /// The part of the given text that it was parsed from, with its defang markers.
    pub text: String,
    /// The byte range of that part in the given text.
    pub span: Range<usize>,
    /// How the text was understood, one sentence each.
    pub notes: Vec<String>,
}

/// A hash in a text that is passed over, since its label says that it is none of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedHash {
    /// The hash as written.
    pub text: String,
    /// The byte range of the hash in the given text.
    pub span: Range<usize>,
    /// What the label says, in lower case: `imphash`, `ja3`.
    pub kind: String,
}

/// Every indicator in the text. Time grows linearly with its length.
pub fn extract(text: &str, options: &ExtractOptions) -> Vec<Extracted> {
    extract_with_skipped(text, options).0
}

/// Every indicator in the text, and the hashes that were passed over.
pub fn extract_with_skipped(text: &str, options: &ExtractOptions) -> (Vec<Extracted>, Vec<SkippedHash>) {
    extract_from_words(text, options, scan::next_word)
}

/// `next` finds the next word that may have an indicator.
fn extract_from_words(
    text: &str,
    options: &ExtractOptions,
    next: impl Fn(&str, usize) -> Option<Word>,
) -> (Vec<Extracted>, Vec<SkippedHash>) {
    let map = refang::refang_mapped(text, false);
    let (seen, found, skipped) = (HashSet::new(), Vec::new(), Vec::new());
    let mut extractor = Extractor { given: text, map: &map, options: *options, seen, found, skipped, skipped_to: 0 };
    let (mut at, mut seen) = (0, None);
    loop {
        // Each word is looked for once, however many candidates it has.
        if seen.is_none_or(|seen| at > seen) {
            let Some(word) = next(map.text(), at) else { break };
            (at, seen) = (word.start, Some(word.seen));
        }
        let Some(candidate) = scan::next_candidate(map.text(), at) else { break };
        at = extractor.extract(&candidate).max(at + 1);
    }
    (extractor.found, extractor.skipped)
}

struct Extractor<'a> {
    given: &'a str,
    map: &'a SpanMap<'a>,
    options: ExtractOptions,
    seen: HashSet<Indicator>,
    found: Vec<Extracted>,
    skipped: Vec<SkippedHash>,
    /// Where the last of them ends in the refanged text: its label counts for further hashes on the line.
    skipped_to: usize,
}

impl<'a> Extractor<'a> {
    /// Adds the indicators of a candidate. Returns where to continue.
    fn extract(&mut self, candidate: &Candidate) -> usize {
        let range = candidate.range.clone();
        match candidate.kind {
            Kind::Url => self.extract_url(range),
            Kind::EncodedUrl => {
                let range = range.start..scan::url_end(self.map.text(), range.start, Some(range.end));
                self.add_parsed(&range, IndicatorType::Url);
                range.end
            }
            Kind::OtherScheme => self.extract_other_scheme(range),
            Kind::Path => self.skip_path(range),
            Kind::Ipv6 => self.extract_ipv6(range),
            Kind::Email => self.extract_email(range),
            Kind::Name => self.extract_name(range),
        }
    }

    fn slice(&self, range: Range<usize>) -> &'a str {
        self.map.text().get(range).unwrap_or_default()
    }

    fn extract_url(&mut self, scheme: Range<usize>) -> usize {
        let text = self.map.text();
        let range = scheme.start..scan::url_end(text, scheme.start, Some(scheme.end));
        if let Ok(read) = Indicator::parse_as(self.slice(range.clone()), IndicatorType::Url) {
            // A single word for a host is an example in prose. Any other needs no public suffix beside a scheme.
            let known = match read.indicator.host() {
                Some(Host::Name(name)) => name.contains('.'),
                Some(Host::Ip(_)) => true,
                None => false,
            };
            if known {
                self.add_url(read.indicator, &range, read.notes);
            }
        }
        range.end
    }

    /// The host of a URL with another scheme; or a supported scheme glued to a word: `seehttp://…`.
    fn extract_other_scheme(&mut self, range: Range<usize>) -> usize {
        let text = self.map.text();
        if let Some(scheme) = scan::glued_scheme(text, &(range.start..range.end - 3)) {
            return scheme;
        }
        let end = scan::url_end(text, range.start, Some(range.end));
        let url = self.slice(range.end..end);
        if self.slice(range.start..range.end - 3).eq_ignore_ascii_case("file") {
            return end;
        }
        let authority = url.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let host = authority.rfind('@').map_or(0, |at| at + 1);
        let (start, authority_end) = (range.end + host, range.end + authority.len());
        let (host, port) = self.without_port(start..authority_end);
        self.extract_word(host, port);
        end
    }

    /// Skips the path of a file, in which names are no domains. Hashes are found there.
    fn skip_path(&mut self, range: Range<usize>) -> usize {
        let text = self.map.text();
        let found = self.slice(range.clone());
        let before = scan::chars_before(text, range.start).next();
        let beside_word = before.is_some_and(|c| c.is_alphanumeric() || matches!(c, ')' | ']'));
        // `//host/share` and `\\\\host\share` name a host; `a/b` is a list, or the path of a host that was read already.
        let double = matches!(found, "/" | "\\") && self.slice(range.end..range.end + 1) == found;
        if double || found.ends_with('/') && beside_word && found != "~/" {
            return range.end + usize::from(double);
        }
        let end = scan::file_path_end(text, range.end);
        let mut at = range.end;
        for part in self.slice(range.end..end).split(['/', '\\']) {
            let part_range = at..at + part.len();
            at = part_range.end + 1;
            let hash = hash::in_file_name(part).unwrap_or(part);
            if hash::form_of(hash).is_some() {
                self.add_hash(part_range.start..part_range.start + hash.len());
            }
        }
        end
    }

    fn add_url(&mut self, url: Indicator, range: &Range<usize>, notes: Vec<String>) {
        let host = url.host();
        self.add(url, range, notes);
        if !self.options.url_hosts {
            return;
        }
        let host = match host {
            Some(Host::Name(name)) => Indicator::parse_as(&name, IndicatorType::Domain),
            Some(Host::Ip(ip)) => Indicator::parse_as(&ip.to_string(), IndicatorType::Ip),
            None => return,
        };
        if let Ok(read) = host {
            self.add(read.indicator, range, read.notes);
        }
    }

    /// A run of hexadecimal digits and colons is an address as a whole or not at all.
    fn extract_ipv6(&mut self, range: Range<usize>) -> usize {
        let text = self.map.text();
        let found = self.slice(range.clone());
        // `label:2001:db8::1`
        let after_label = found.starts_with(':') && !found.starts_with("::") && scan::follows_word(text, range.start);
        let start = range.start + usize::from(after_label);
        let kept = found.trim_end_matches('.');
        let kept = if kept.ends_with("::") { kept } else { kept.trim_end_matches(':') };
        let inner = start..range.start + kept.len();
        let alone = (after_label || !scan::follows_word(text, inner.start)) && !scan::continues_word(text, range.end);
        let address = self.slice(inner.clone());
        let digits = address.bytes().any(|byte| byte.is_ascii_digit());
        // Eight pairs of digits are a serial number or a hardware address.
        let pairs = address.split(':').all(|group| group.len() == 2);
        if alone && digits && !pairs && address.parse::<std::net::Ipv6Addr>().is_ok() {
            return self.add_with_prefix(inner);
        }
        // `time:203.0.113.9`, `name:hash:size`
        let mut at = range.start;
        for part in found.split(':') {
            let part_range = at..at + part.trim_end_matches('.').len();
            at += part.len() + 1;
            if address::is_ipv4(self.slice(part_range.clone()))
                || hash::form_of(self.slice(part_range.clone())).is_some()
            {
                let cut = part_range.end == range.end && scan::continues_word(text, range.end)
                    || part_range.start == range.start && scan::follows_word(text, range.start);
                if !cut {
                    self.extract_word(part_range, None);
                }
            }
        }
        let word_begins = found.rfind(':').filter(|_| scan::continues_name(text, range.end));
        word_begins.map_or(range.end, |colon| range.start + colon + 1)
    }

    /// Adds an address, unless a prefix length makes it a network. Returns the end of both.
    fn add_with_prefix(&mut self, address: Range<usize>) -> usize {
        let prefix = scan::prefix_length(self.map.text(), address.end).unwrap_or_default();
        let whole = address.start..address.end + prefix;
        if address::is_network(self.slice(whole.clone())) {
            return whole.end;
        }
        let single = address::without_full_prefix(self.slice(whole.clone())).is_some();
        let range = if single { whole } else { address };
        self.add_parsed(&range, IndicatorType::Ip);
        range.end
    }

    fn extract_email(&mut self, range: Range<usize>) -> usize {
        let at = self.slice(range.clone()).rfind('@').map_or(range.end, |at| range.start + at + 1);
        self.extract_email_host(at..range.end)
    }

    fn extract_email_host(&mut self, range: Range<usize>) -> usize {
        let end = script::change(self.slice(range.clone())).map_or(range.end, |change| range.start + change);
        if self.options.email_domains {
            // `user@[192.0.2.1]`
            let brackets = usize::from(self.slice(range.start..range.start + 1) == "[");
            let host = range.start + brackets..end - brackets;
            if address::is_ipv4(self.slice(host.clone())) {
                self.add_parsed(&host, IndicatorType::Ip);
            } else if self.has_public_suffix(&host) {
                self.add_parsed(&host, IndicatorType::Domain);
            }
        }
        end
    }

    /// A name is a domain, an IPv4 address, a hash, the host of a URL without scheme, or prose.
    fn extract_name(&mut self, range: Range<usize>) -> usize {
        let text = self.map.text();
        if let Some(scheme) = scan::glued_scheme(text, &range) {
            return scheme;
        }
        // An e-mail address whose local part is none in ASCII.
        let mut before = scan::chars_before(text, range.start);
        if before.next() == Some('@') && before.next().is_some_and(char::is_alphanumeric) {
            return self.extract_email_host(range);
        }
        let range = scan::without_percent_code(text, range);
        let whole_end = range.end;
        let mut range = range;
        while let Some(address) = script::ipv4_between_letters(self.slice(range.clone())) {
            let address = range.start + address.start..range.start + address.end;
            self.extract_pieces(range.start..address.start);
            self.extract_word(address.clone(), None);
            range.start = address.end;
        }
        let last = self.extract_pieces(range.clone());
        let range = self.without_emphasis(last..range.end);
        if let Some((first, last)) = self.ipv4_range(&range) {
            self.extract_word(first, None);
            self.extract_word(last, None);
            return range.end;
        }
        let (host, port) = self.without_port(range.clone());
        let path = port.unwrap_or(host.end);
        let name = self.slice(host.clone());
        let is_ipv4 = address::is_ipv4(name);
        let is_host = is_ipv4 || name.starts_with('[') || self.is_domain_like(&host);
        if is_ipv4 && scan::follows_product(text, host.start) {
            return path;
        }
        if !is_host || !self.slice(path..path + 1).starts_with('/') {
            self.extract_word(host, port);
            return if range.end == whole_end { path } else { whole_end };
        }
        if let Some(protocol) = scan::protocol_length(text, path) {
            self.extract_word(host, port);
            return path + protocol;
        }
        if is_ipv4 && port.is_none() && scan::prefix_length(text, path).is_some() {
            return self.add_with_prefix(host);
        }
        let path_end = scan::url_end(text, path, None);
        if scan::follows_scheme(text, host.start) {
            self.extract_word(host, port);
            return path_end;
        }
        self.with_path(host, path..path_end, is_ipv4)
    }

    /// Adds the pieces of a name that scripts without spaces have glued together, and returns where the last begins.
    fn extract_pieces(&mut self, range: Range<usize>) -> usize {
        let mut at = range.start;
        while let Some(change) = script::change(self.slice(at..range.end)) {
            let piece = self.without_emphasis(at..at + change);
            self.extract_word(piece, None);
            at += change;
        }
        at
    }

    /// The name without the underscores of emphasis: `_name_`.
    fn without_emphasis(&self, range: Range<usize>) -> Range<usize> {
        let text = self.slice(range.clone());
        let opened = text.len() - text.trim_start_matches('_').len();
        let closed = text.len() - text.trim_end_matches('_').len();
        let marks = opened.min(closed);
        if 2 * marks < text.len() { range.start + marks..range.end - marks } else { range }
    }

    /// Both ends of a range of IPv4 addresses.
    fn ipv4_range(&self, range: &Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
        let text = self.slice(range.clone());
        let (first, last) = text.split_once('-').or_else(|| text.split_once(".."))?;
        let both = address::is_ipv4(first) && address::is_ipv4(last);
        both.then(|| (range.start..range.start + first.len(), range.end - last.len()..range.end))
    }

    /// `host/path`, or a pair of addresses.
    fn with_path(&mut self, host: Range<usize>, path: Range<usize>, is_ipv4: bool) -> usize {
        let text = self.map.text();
        let whole = host.start..path.end;
        let pair = is_ipv4 && address::is_ipv4(self.slice(path.start + 1..whole.end));
        if !pair && whole.end > path.start && scan::stands_alone(text, &whole) {
            self.add_parsed(&whole, IndicatorType::Url);
            return whole.end;
        }
        self.extract_word(host, Some(path.start));
        // A pair of addresses, or a name within a path.
        if pair { path.start + 1 } else { path.end.max(path.start + 1) }
    }

    /// The range without a port, and the end of the port: `name:80`, but not `label:203.0.113.1` or `md5:00…`.
    fn without_port(&self, range: Range<usize>) -> (Range<usize>, Option<usize>) {
        let text = self.slice(range.clone());
        match text.rfind(':').filter(|_| !text.ends_with(']')) {
            Some(colon) => {
                let host = range.start..range.start + colon;
                let cut = scan::continues_word(self.map.text(), range.end)
                    || scan::continues_after_dot(self.map.text(), range.end);
                (host, (!cut).then_some(range.end))
            }
            None => (range, None),
        }
    }

    /// Adds a word without path; `port` is the end of its port.
    fn extract_word(&mut self, range: Range<usize>, port: Option<usize>) {
        let text = self.slice(range.clone());
        let with_port = range.start..port.unwrap_or(range.end);
        let in_name = hash::in_file_name(text).filter(|_| !self.is_domain_like(&range));
        if let Some(hash) = in_name.or_else(|| hash::form_of(text).map(|_| text)) {
            self.add_hash(range.start..range.start + hash.len());
        } else if address::is_ipv4(text) || text.starts_with('[') {
            self.add_parsed(&with_port, IndicatorType::Ip);
        } else if scan::stands_alone(self.map.text(), &range) && self.is_domain_like(&range) {
            self.add_parsed(&with_port, IndicatorType::Domain);
        }
    }

    /// Adds a hash, unless its label says that it is none of a file.
    fn add_hash(&mut self, range: Range<usize>) {
        let text = self.map.text();
        let between = self.slice(self.skipped_to..range.start);
        let listed = self.skipped_to > 0
            && !between.is_empty()
            && between.len() < 16
            && between.chars().all(|c| matches!(c, ' ' | ',' | ';' | '"' | '\'' | '`'));
        let (before, after) = (text.get(..range.start).unwrap_or_default(), text.get(range.end..).unwrap_or_default());
        let kind =
            if listed { self.skipped.last().map(|last| last.kind.clone()) } else { label::other_hash(before, after) };
        let Some(kind) = kind else {
            self.add_parsed(&range, IndicatorType::File);
            return;
        };
        self.skipped_to = range.end;
        let span = self.map.original(range);
        let text = self.given.get(span.clone()).unwrap_or_default().to_owned();
        self.skipped.push(SkippedHash { text, span, kind });
    }

    fn has_public_suffix(&self, range: &Range<usize>) -> bool {
        domain::known(self.slice(range.clone())).is_some()
    }

    /// Whether a name is more likely a domain than a file name. A defanged name and the host of a URL always are.
    fn is_domain_like(&self, range: &Range<usize>) -> bool {
        let text = self.slice(range.clone());
        let is_sure = || {
            self.given.get(self.map.original(range.clone())) != Some(text)
                || scan::follows_scheme(self.map.text(), range.start)
        };
        domain::known(text).is_some_and(|name| !domain::looks_like_file_name(&name) || is_sure())
    }

    fn add_parsed(&mut self, range: &Range<usize>, wanted: IndicatorType) -> bool {
        let read = Indicator::parse_as(self.slice(range.clone()), wanted);
        match read {
            Ok(read) if wanted == IndicatorType::Url => self.add_url(read.indicator, range, read.notes),
            Ok(read) => self.add(read.indicator, range, read.notes),
            Err(_) => return false,
        }
        true
    }

    fn add(&mut self, indicator: Indicator, range: &Range<usize>, notes: Vec<String>) {
        if self.seen.insert(indicator.clone()) {
            let span = self.map.original(range.clone());
            let text = self.given.get(span.clone()).unwrap_or_default().to_owned();
            self.found.push(Extracted { indicator, text, span, notes });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts of pieces that indicators and prose are made of.
    fn any_text() -> impl Strategy<Value = String> {
        let pieces = " | | |\n|\t|a|and|word|.|:|/|\\|@|%|~|-|_|,|;|(|)|[|]|\"|example.com|sub.example.net|co.uk|com|\
             192.0.2.1|192.0.2.0/24|2001:db8::1|::|http://|https://example.org/a|hxxp://|[.]|ftp|://|%3A%2F%2F|\
             %2F|user@|C:\\|../|imphash: |md5:|44d88612fea8a8f36de82e1278abb02f|\
             da39a3ee5e6b4b0d3255bfef95601890afd80709|deadbeef|:80|1|file.exe|é|пример.рф|あ|\u{a0}|–|end.|e.g.";
        let piece = prop::sample::select(pieces.split('|').collect::<Vec<_>>());
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn words_that_are_passed_over_have_no_indicators(text in any_text(), url_hosts: bool, email_domains: bool) {
            let options = ExtractOptions { url_hosts, email_domains };
            let every_word = |text: &str, at| (at < text.len()).then_some(Word { start: at, seen: text.len() });
            let all = extract_from_words(&text, &options, every_word);
            prop_assert_eq!(extract_with_skipped(&text, &options), all);
        }
    }

    #[test]
    fn a_text_made_to_be_slow_takes_work_that_grows_with_its_length() {
        // Each would take long if every piece were looked at again from each of its places.
        let pieces = "a:|a/|(|[.|1.[1|)|a.|http://|http://a.com/)|%2F|@|a@| dot |./a.com/|\\a.com/|a.a+|あa|a@b.cあ|и1.1.1.1|\
                      1.1.1.1/24,|http://a.b!|1:|__|h[|[/|a\\.|م\u{200c}|http:|http：|http://a,|a👻|~/a|&amp;|x/1.1.1.1|12:30:a.|\
                      imphash: 44d88612fea8a8f36de82e1278abb02f,";
        for piece in pieces.split('|') {
            let text = piece.repeat(40_000 / piece.len());
            scan::LOOKED_AT.set(0);
            assert!(extract(&text, &ExtractOptions::default()).len() <= 1, "{piece}");
            assert!(scan::LOOKED_AT.get() < 10 * text.len(), "{piece}: {} characters", scan::LOOKED_AT.get());
        }
    }

    #[test]
    fn a_value_made_to_be_slow_takes_work_that_grows_with_its_length() {
        for piece in [".)", "x.)", ")]", "a.b>", "a.a+"] {
            let text = format!("http://example.com/{}", piece.repeat(8_000 / piece.len()));
            scan::LOOKED_AT.set(0);
            // Whether it can be read does not matter here.
            let _ = Indicator::parse(&text);
            assert!(scan::LOOKED_AT.get() < 20 * text.len(), "{piece}: {} characters", scan::LOOKED_AT.get());
        }
    }
}
