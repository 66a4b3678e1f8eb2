//! What a look-up may ask beside the report, one question each: comments, resolutions (passive DNS) and the behaviour of a file
//! in sandboxes. Details are facts: they never change the claim, and one that is missing leaves the report as it is.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use strum::VariantArray;

use super::{NOT_FOUND, known_code, related};
use crate::finding::{Fact, Finding, SourceError, SourceErrorKind};
use crate::indicator::IndicatorType;
use crate::source::{Answer, HttpQuestion, Lookup, Question};
use crate::sources::http::{self, Api};
use crate::sources::json::{self, Object};

/// Maximum of resolutions, as many as one page may have.
const MAX_RESOLUTIONS: usize = 40;
/// Maximum of comments.
const MAX_COMMENTS: usize = 20;
/// Maximum of entries in each list of a behaviour.
const MAX_ENTRIES: usize = 25;
/// Maximum length of a comment in bytes.
const MAX_COMMENT_BYTES: usize = 1_024;
/// Maximum length of an entry of a behaviour in bytes.
const MAX_ENTRY_BYTES: usize = 256;

/// A detail that a look-up may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub(super) enum Detail {
    Resolutions,
    Behaviour,
    Comments,
}

/// The details that the key was refused, each until the source is built anew or tested.
#[derive(Debug, Default)]
pub(super) struct RefusedDetails(AtomicU8);

impl RefusedDetails {
    pub(super) fn contains(&self, detail: Detail) -> bool {
        self.0.load(Ordering::Relaxed) & detail.bit() != 0
    }

    pub(super) fn insert(&self, detail: Detail) {
        self.0.fetch_or(detail.bit(), Ordering::Relaxed);
    }

    /// One bit for each that is refused.
    pub(super) fn bits(&self) -> u32 {
        self.0.load(Ordering::Relaxed).into()
    }

    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Detail {
    /// Whether this type of indicator has the detail.
    pub(super) fn applies_to(self, wanted: IndicatorType) -> bool {
        match self {
            Self::Resolutions => matches!(wanted, IndicatorType::Ip | IndicatorType::Domain),
            Self::Behaviour => wanted == IndicatorType::File,
            Self::Comments => true,
        }
    }

    /// The detail that this question asks for.
    pub(super) fn of(question: &Question, api: &Api, lookup: &Lookup) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|detail| detail.question(api, lookup) == *question)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn name(self) -> &'static str {
        match self {
            Self::Resolutions => "resolutions",
            Self::Behaviour => "behaviour",
            Self::Comments => "comments",
        }
    }

    fn question(self, api: &Api, lookup: &Lookup) -> Question {
        let (path, limit) = match self {
            Self::Resolutions => ("resolutions", Some(MAX_RESOLUTIONS)),
            Self::Behaviour => ("behaviour_summary", None),
            Self::Comments => ("comments", Some(MAX_COMMENTS)),
        };
        let mut question = related(api, lookup, &[path]);
        if let (Question::Http(HttpQuestion { url, .. }), Some(limit)) = (&mut question, limit) {
            url.query_pairs_mut().append_pair("limit", &limit.to_string());
        }
        question
    }

    /// The facts of an answer; none if VirusTotal has nothing.
    fn read(self, lookup: &Lookup, answer: &Answer) -> Result<Vec<Fact>, SourceError> {
        if answer.http()?.0 == 404 && known_code(answer) == Some(NOT_FOUND) {
            return Ok(Vec::new());
        }
        let document = json::parse(http::success(answer)?)?;
        let record = Object::root(&document)?;
        if record.members().get("data").is_none() {
            return Err(record.missing("data"));
        }
        Ok(match self {
            Self::Resolutions => resolutions(&record, lookup.indicator.indicator_type()).into_iter().collect(),
            Self::Behaviour => behaviour(&record.need_object("data")?),
            Self::Comments => comments(&record).into_iter().collect(),
        })
    }
}

/// Adds the details to the finding, each from its answer. Returns the question about the first one without an answer.
pub(super) fn add<'a>(
    wanted: impl Iterator<Item = Detail>,
    (api, lookup): (&Api, &Lookup),
    mut answers: impl Iterator<Item = &'a Answer>,
    finding: &mut Finding,
) -> Option<Question> {
    for detail in wanted {
        let Some(answer) = answers.next() else { return Some(detail.question(api, lookup)) };
        match detail.read(lookup, answer) {
            Ok(facts) => finding.facts.extend(facts),
            Err(error) => finding.reasons.push(match error.kind {
                SourceErrorKind::Forbidden => format!(
                    "{}: not asked for, since VirusTotal refused this key; test or change the source to try again",
                    detail.name()
                ),
                _ => format!("{} could not be read: {}", detail.name(), error.detail),
            }),
        }
    }
    None
}

/// Passive DNS: the names that an address had, or the addresses of a name, each with the day of its last resolution.
fn resolutions(record: &Object<'_>, wanted: IndicatorType) -> Option<Fact> {
    let other = if wanted == IndicatorType::Ip { "attributes.host_name" } else { "attributes.ip_address" };
    let resolution = |item: &Object<'_>| {
        let other = item.text_if_any(other)?;
        let day = item.time("attributes.date").ok().flatten().and_then(day);
        Some(day.map_or_else(|| other.to_owned(), |day| format!("{other} ({day})")))
    };
    list("resolutions", record.list_or_one("data").filter_map(|item| resolution(&item)).take(MAX_RESOLUTIONS))
}

/// The newest comments, each with its day.
fn comments(record: &Object<'_>) -> Option<Fact> {
    let comment = |item: &Object<'_>| {
        let text = shortened(item.text_if_any("attributes.text")?, MAX_COMMENT_BYTES);
        let day = item.time("attributes.date").ok().flatten().and_then(day);
        Some(day.map_or_else(|| text.clone(), |day| format!("{day}: {text}")))
    };
    list("comments", record.list_or_one("data").filter_map(|item| comment(&item)).take(MAX_COMMENTS))
}

/// What all sandboxes together saw the file do.
fn behaviour(summary: &Object<'_>) -> Vec<Fact> {
    const LISTS: [(&str, &[&str]); 10] = [
        ("behaviour_verdicts", &["verdicts"]),
        ("behaviour_tags", &["tags"]),
        ("behaviour_processes", &["processes_created"]),
        ("behaviour_commands", &["command_executions"]),
        ("behaviour_files_written", &["files_written", "files_dropped.path"]),
        ("behaviour_files_deleted", &["files_deleted"]),
        ("behaviour_registry_keys", &["registry_keys_set.key"]),
        ("behaviour_services", &["services_created", "services_started"]),
        ("behaviour_mutexes", &["mutexes_created"]),
        ("behaviour_dns_lookups", &["dns_lookups.hostname"]),
    ];
    let technique = |item: &Object<'_>| {
        let id = item.text_if_any("id")?;
        let what = item.text_if_any("signature_description");
        Some(what.map_or_else(|| id.to_owned(), |what| format!("{id}: {what}")))
    };
    let connection = |item: &Object<'_>| {
        let address = item.text_if_any("destination_ip")?;
        let port = item.count("destination_port").ok().flatten().map(|port| format!(" port {port}"));
        let protocol = item.text_if_any("transport_layer_protocol").map(|protocol| format!(" {protocol}"));
        Some(format!("{address}{}{}", port.unwrap_or_default(), protocol.unwrap_or_default()))
    };
    let request = |item: &Object<'_>| {
        let method = item.text_if_any("request_method").map(|method| format!("{method} "));
        Some(format!("{}{}", method.unwrap_or_default(), item.text_if_any("url")?))
    };
    let lists = LISTS.into_iter().map(|(name, paths)| (name, summary.texts(paths)));
    let objects = |path: &str, text: &dyn Fn(&Object<'_>) -> Option<String>| -> Vec<String> {
        summary.list_or_one(path).filter_map(|item| text(&item)).collect()
    };
    let further = [
        ("behaviour_techniques", objects("mitre_attack_techniques", &technique)),
        ("behaviour_connections", objects("ip_traffic", &connection)),
        ("behaviour_requests", objects("http_conversations", &request)),
    ];
    let fact = |(name, texts): (&str, Vec<String>)| {
        list(name, texts.iter().take(MAX_ENTRIES).map(|text| shortened(text, MAX_ENTRY_BYTES)))
    };
    lists.chain(further).filter_map(fact).collect()
}

fn list(name: &str, texts: impl Iterator<Item = String>) -> Option<Fact> {
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| Fact::new(name, texts))
}

fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most { text.to_owned() } else { format!("{}…", &text[..text.floor_char_boundary(most)]) }
}

fn day(time: SystemTime) -> Option<String> {
    Some(jiff::Timestamp::try_from(time).ok()?.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(facts: &[Fact]) -> Vec<String> {
        facts.iter().map(|fact| format!("{} {:?}", fact.name, fact.value)).collect()
    }

    #[test]
    fn a_behaviour_is_read_as_far_as_it_can_be() {
        let body = json!({
            "tags": ["PERSISTENCE"], "verdicts": [], "processes_created": ["a.exe", "a.exe", 7],
            "files_written": ["c:\\x"], "files_dropped": [{"path": "c:\\y", "sha256": "ab"}],
            "registry_keys_set": [{"key": "HKLM\\Run", "value": "1"}], "dns_lookups": {"hostname": "example.com"},
            "mitre_attack_techniques": [{"id": "T1055", "signature_description": "injects"}, {"id": "T1012"}, {}],
            "ip_traffic": [{"destination_ip": "192.0.2.1", "destination_port": 443, "transport_layer_protocol": "TCP"}],
            "http_conversations": [{"url": "http://example.com/a", "request_method": "GET"}, "x"],
            "mutexes_created": "m".repeat(300), "services_created": null,
        });
        let body = body.to_string();
        let document = json::parse(body.as_bytes()).expect("JSON");
        let mut facts = shown(&behaviour(&Object::root(&document).expect("an object")));
        assert_eq!(facts.remove(4).len(), "behaviour_mutexes List([\"…\"])".len() + MAX_ENTRY_BYTES);
        let wanted = [
            r#"behaviour_tags List(["PERSISTENCE"])"#,
            r#"behaviour_processes List(["a.exe"])"#,
            r#"behaviour_files_written List(["c:\\x", "c:\\y"])"#,
            r#"behaviour_registry_keys List(["HKLM\\Run"])"#,
            r#"behaviour_dns_lookups List(["example.com"])"#,
            r#"behaviour_techniques List(["T1055: injects", "T1012"])"#,
            r#"behaviour_connections List(["192.0.2.1 port 443 TCP"])"#,
            r#"behaviour_requests List(["GET http://example.com/a"])"#,
        ];
        assert_eq!(facts, wanted);
    }
}
