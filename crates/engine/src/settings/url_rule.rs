//! Never-send rules that name URLs by how they begin.
//!
//! Servers, and the proxies before them, differ in how they read a URL, so a rule holds if any way to read it leads to what
//! the rule names. Where both cannot be had, it names too much rather than too little: that costs a look-up, the other
//! discloses what is protected. `docs/decisions/0014` lists what counts as the same.

use std::collections::BTreeSet;

use crate::indicator::{Host, Indicator, UrlParts, addresses, decode_percent};

/// How many ways to read a path are looked at. A path with more is named by every rule for its host.
const MOST_READINGS: usize = 256;
/// How often a query is decoded. One that still changes then is named by every rule for its path.
const MOST_DECODINGS: usize = 8;

/// A rule that names URLs by how they begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UrlRule {
    authority: Authority,
    path: String,
    /// Each begins a parameter of the URL. `None`: the query does not count.
    parameters: Option<BTreeSet<String>>,
    /// Whether it ends with a slash, and so names what is below it, not what only begins like it.
    is_folder: bool,
    text: String,
}

impl UrlRule {
    /// The rule that a URL stands for.
    pub(super) fn new(url: &Indicator) -> Option<Self> {
        let parts = url.url_parts()?;
        let is_folder = parts.query.is_none() && parts.path.ends_with('/');
        let (path, _) = plain(&resolved(&decoded(&parts.path)));
        let parameters = parts.query.as_deref().map(|query| parameters(query).collect());
        Some(Self { authority: Authority::new(&parts), path, parameters, is_folder, text: url.redacted() })
    }

    /// The rule as the configuration shows it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn names(&self, url: &Readings) -> bool {
        let path = url.paths.as_ref().is_none_or(|paths| paths.iter().any(|path| self.names_path(path)));
        let begins = |wanted: &String, given: &BTreeSet<String>| {
            // `debug` and `debug=` are the same parameter.
            given.iter().any(|given| given.starts_with(wanted) || wanted.strip_suffix('=') == Some(given))
        };
        path && match (&self.parameters, &url.parameters) {
            (Some(wanted), Some(given)) => wanted.iter().all(|wanted| begins(wanted, given)),
            (Some(_), None) | (None, _) => true,
        }
    }

    fn names_path(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(self.path.as_str()) else { return false };
        let is_below = rest.is_empty() || rest.starts_with('/');
        match &self.parameters {
            // `find.php/x` is the script `find.php` too.
            Some(_) => {
                rest.is_empty() || is_below && self.path.rsplit('/').next().is_some_and(|last| last.contains('.'))
            }
            None => is_below || !self.is_folder,
        }
    }
}

/// The first of the rules that names a URL.
pub(super) fn find<'a>(rules: &'a [UrlRule], url: &UrlParts) -> Option<&'a UrlRule> {
    let authority = Authority::new(url);
    let mut rules = rules.iter().filter(|rule| rule.authority.is_same(&authority)).peekable();
    rules.peek()?;
    let readings = Readings::new(url);
    rules.find(|rule| rule.names(&readings))
}

/// Who is asked: the host as a name and by each address that it reveals, and the port unless it is usual.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Authority {
    hosts: Vec<Host>,
    port: Option<u16>,
}

impl Authority {
    fn new(url: &UrlParts) -> Self {
        let mut hosts: Vec<Host> = addresses(&url.host).into_iter().map(Host::Ip).collect();
        hosts.push(url.host.clone());
        // The usual ports of all schemes, since the scheme does not count.
        Self { hosts, port: url.port.filter(|port| !matches!(port, 21 | 80 | 443)) }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.port == other.port && self.hosts.iter().any(|host| other.hosts.contains(host))
    }
}

/// The ways to read a URL. `None`: more than are looked at.
struct Readings {
    paths: Option<BTreeSet<String>>,
    parameters: Option<BTreeSet<String>>,
}

impl Readings {
    fn new(url: &UrlParts) -> Self {
        let Some(readings) = path_readings(&url.path) else { return Self { paths: None, parameters: None } };
        let mut paths = BTreeSet::new();
        let mut found = url.query.as_deref().map_or(Some(BTreeSet::new()), query_parameters);
        for reading in &readings {
            let (path, query) = plain(reading);
            paths.insert(path);
            found.iter_mut().for_each(|found| found.extend(parameters(query)));
        }
        Self { paths: Some(paths), parameters: found }
    }
}

/// A path after each of the steps that servers take, in any order and number.
fn path_readings(path: &str) -> Option<BTreeSet<String>> {
    let steps = [decode_percent, resolved, merged, without_parameters];
    let mut readings = BTreeSet::from([path.to_owned()]);
    let mut open = vec![path.to_owned()];
    while let Some(reading) = open.pop() {
        for next in steps.map(|step| step(&reading)) {
            if readings.insert(next.clone()) {
                open.push(next);
            }
        }
        if readings.len() > MOST_READINGS {
            return None;
        }
    }
    Some(readings)
}

/// The parameters of a query, split before or after any number of decodings.
fn query_parameters(query: &str) -> Option<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut query = query.to_owned();
    for _ in 0..MOST_DECODINGS {
        found.extend(parameters(&query));
        let next = decode_percent(&query);
        if next == query {
            return Some(found);
        }
        query = next;
    }
    None
}

/// Each parameter of a query in the form in which it is compared.
fn parameters(query: &str) -> impl Iterator<Item = String> {
    let parameters = query.split(['&', ';', '?', '#']).map(|parameter| folded(decoded(parameter).trim_start()));
    parameters.filter(|parameter| !parameter.is_empty())
}

/// A path in the form in which it is compared, without what ends it, and the query that a server finds in it once it is
/// decoded.
fn plain(path: &str) -> (String, &str) {
    let path = path.split('#').next().unwrap_or_default();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let segments = path.split('/').map(|segment| folded(bare(segment)));
    let named = segments.filter(|segment| !matches!(segment.as_str(), "" | "."));
    (named.map(|segment| format!("/{segment}")).collect(), query)
}

/// Letter case does not count, nor whether a space is written as a plus, nor control characters.
fn folded(text: &str) -> String {
    text.to_lowercase().replace('+', " ").replace(char::is_control, "")
}

fn decoded(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..MOST_DECODINGS {
        text = decode_percent(&text);
    }
    text
}

/// The path without `.`, and without `..` and what it leads out of.
fn resolved(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "." => {}
            ".." if kept.len() > 1 => drop(kept.pop()),
            ".." => {}
            segment => kept.push(segment),
        }
    }
    kept.join("/")
}

/// The path with slashes in a row as one.
fn merged(path: &str) -> String {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.flat_map(|segment| ["/", segment]).collect()
}

fn without_parameters(path: &str) -> String {
    path.split('/').map(bare).collect::<Vec<_>>().join("/")
}

/// A segment without what some servers leave out: path parameters (`;x=1`), what follows a zero, the stream of a file
/// (`::$DATA`), and dots and spaces at its end.
fn bare(segment: &str) -> &str {
    let name = segment.split([';', '\0']).next().unwrap_or_default();
    let name = name.split(":$").next().unwrap_or_default().trim_end_matches([':', ' ']);
    if matches!(name, "." | "..") { name } else { name.trim_end_matches(['.', ' ']) }
}
