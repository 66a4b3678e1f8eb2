//! Extracts indicators from free text, in order of first appearance, each value once.

use std::collections::HashSet;
use std::ops::Range;

use super::scan::{self, Candidate, Kind};
use super::span_map::SpanMap;
use super::{Host, Indicator, IndicatorType, domain, hash, parse, refang};

/// No IPv6 address is longer, and searching longer runs again from each colon would be slow.
const LONGEST_IPV6: usize = 64;

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

/// Every indicator in the text. Time grows linearly with its length.
pub fn extract(text: &str, options: &ExtractOptions) -> Vec<Extracted> {
    let map = refang::refang_mapped(text);
    let mut extractor =
        Extractor { given: text, map: &map, options: *options, seen: HashSet::new(), found: Vec::new() };
    let mut at = 0;
    while let Some(candidate) = scan::next_candidate(map.text(), at) {
        at = extractor.extract(&candidate).max(at + 1);
    }
    extractor.found
}

struct Extractor<'a> {
    given: &'a str,
    map: &'a SpanMap,
    options: ExtractOptions,
    seen: HashSet<Indicator>,
    found: Vec<Extracted>,
}

impl<'a> Extractor<'a> {
    /// Adds the indicators of a candidate. Returns where to continue.
    fn extract(&mut self, candidate: &Candidate) -> usize {
        let range = candidate.range.clone();
        match candidate.kind {
            Kind::Url => self.extract_url(range),
            Kind::EncodedUrl => {
                self.add_parsed(&range, IndicatorType::Url);
                range.end
            }
            Kind::Ipv6 => self.extract_ipv6(range),
            Kind::Email => self.extract_email(range),
            Kind::Name => self.extract_name(range),
        }
    }

    fn slice(&self, range: Range<usize>) -> &'a str {
        self.map.text().get(range).unwrap_or_default()
    }

    fn extract_url(&mut self, range: Range<usize>) -> usize {
        let text = self.map.text();
        let length = scan::url_length(text, range.clone());
        let range = range.start..range.start + length;
        if let Ok(read) = Indicator::parse_as(self.slice(range.clone()), IndicatorType::Url) {
            // A host that is no address and that nobody can register is an example in prose.
            let known = match read.indicator.host() {
                Some(Host::Name(name)) => domain::has_public_suffix(&name),
                Some(Host::Ip(_)) => true,
                None => false,
            };
            if known {
                self.add_url(read.indicator, &range, read.notes);
            }
        }
        range.end
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
        let digits = kept.bytes().any(|byte| byte.is_ascii_digit());
        if alone && digits && self.add_parsed(&inner, IndicatorType::Ip) {
            return inner.end;
        }
        let first = found.find(':').unwrap_or_default();
        if found.len() > LONGEST_IPV6 {
            return range.end;
        }
        if first > 0 && !scan::follows_word(text, range.start) {
            self.extract_word(range.start..range.start + first, None);
        }
        range.start + first + 1
    }

    fn extract_email(&mut self, range: Range<usize>) -> usize {
        let at = self.slice(range.clone()).rfind('@').map_or(range.end, |at| range.start + at + 1);
        if self.options.email_domains {
            let host = at..range.end;
            if parse::is_ipv4(self.slice(host.clone())) {
                self.add_parsed(&host, IndicatorType::Ip);
            } else if self.has_public_suffix(&host) {
                self.add_parsed(&host, IndicatorType::Domain);
            }
        }
        range.end
    }

    /// A name is a domain, an IPv4 address, a hash, the host of a URL without scheme, or prose.
    fn extract_name(&mut self, range: Range<usize>) -> usize {
        let text = self.map.text();
        if let Some(scheme) = scan::glued_scheme(text, &range) {
            return scheme;
        }
        let range = scan::without_percent_code(text, range);
        let (host, port) = self.without_port(range.clone());
        let path = port.unwrap_or(host.end);
        let is_ipv4 = parse::is_ipv4(self.slice(host.clone()));
        let is_host = is_ipv4 || self.slice(host.clone()).starts_with('[') || self.is_domain_like(&host);
        if !is_host || scan::path_end(text, path) == path {
            self.extract_word(host, port);
            return path;
        }
        let path_end = scan::path_end(text, path);
        if scan::follows_scheme(text, host.start) {
            self.extract_word(host, port);
            return path_end;
        }
        self.with_path(host, path..path_end, is_ipv4)
    }

    /// `host/path`, a network, or a pair of addresses.
    fn with_path(&mut self, host: Range<usize>, path: Range<usize>, is_ipv4: bool) -> usize {
        let text = self.map.text();
        let whole = host.start..host.start + scan::url_length(text, host.start..path.end);
        if is_ipv4 && parse::is_network(self.slice(whole.clone())) {
            return path.end;
        }
        let pair = is_ipv4 && parse::is_ipv4(self.slice(path.start + 1..whole.end));
        if !pair && whole.end > path.start && scan::stands_alone(text, &whole) {
            self.add_parsed(&whole, IndicatorType::Url);
            return whole.end;
        }
        self.extract_word(host, Some(path.start));
        path.start + 1
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
        if hash::form_of(text).is_some() {
            self.add_parsed(&range, IndicatorType::File);
        } else if parse::is_ipv4(text) || text.starts_with('[') {
            self.add_parsed(&with_port, IndicatorType::Ip);
        } else if scan::stands_alone(self.map.text(), &range) && self.is_domain_like(&range) {
            self.add_parsed(&with_port, IndicatorType::Domain);
        }
    }

    fn has_public_suffix(&self, range: &Range<usize>) -> bool {
        domain::normalize(self.slice(range.clone())).is_ok_and(|name| domain::has_public_suffix(&name))
    }

    /// Whether a name is more likely a domain than a file name. A defanged name and the host of a URL always are.
    fn is_domain_like(&self, range: &Range<usize>) -> bool {
        let text = self.slice(range.clone());
        let sure = self.given.get(self.map.original(range.clone())) != Some(text)
            || scan::follows_scheme(self.map.text(), range.start);
        domain::normalize(text)
            .is_ok_and(|name| domain::has_public_suffix(&name) && (sure || !domain::looks_like_file_name(&name)))
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
