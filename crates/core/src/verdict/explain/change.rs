//! The sentences on what would change a verdict.

use super::{joined, signed};
use crate::finding::Disposition;
use crate::verdict::{Assumption, Flip, Margin, Newcomers, Reach, ReportChange, Verdict};

/// A flip in one sentence.
pub fn flip_sentence(flip: &Flip) -> String {
    let then = flip.disposition;
    // Most sets change all sources to the same.
    let same = match flip.changes.as_slice() {
        [first, rest @ ..] if rest.iter().all(|change| change.to == first.to) => Some(first.to),
        _ => None,
    };
    let names: Vec<String> = flip.changes.iter().map(|change| change.source.clone()).collect();
    match flip.assumption {
        Assumption::MissingAnswers => {
            let missing = if names.len() == 1 { "whose answer is missing" } else { "whose answers are missing" };
            let what = match same {
                Some(to) => format!("{}, {missing}, {}", joined(&names), said(to, names.len())),
                None => format!("of those {missing} {}", each(&flip.changes)),
            };
            format!("It would be {then} if {what}.")
        }
        Assumption::WrongAnswers => {
            let what = match same {
                Some(to) => format!("{} {}", joined(&names), said(to, names.len())),
                None => each(&flip.changes),
            };
            format!("It would be {then} if {what}{}.", instead(&flip.changes))
        }
    }
}

fn each(changes: &[ReportChange]) -> String {
    let changes: Vec<String> =
        changes.iter().map(|change| format!("{} {}", change.source, said(change.to, 1))).collect();
    joined(&changes)
}

fn said(to: Disposition, count: usize) -> String {
    match (to, count) {
        (Disposition::Unknown, _) => "took no side".to_owned(),
        (_, 1) => format!("said {to}"),
        (_, 2) => format!("both said {to}"),
        _ => format!("all said {to}"),
    }
}

/// What they say now, where that is the same for all.
fn instead(changes: &[ReportChange]) -> String {
    let first = changes.first().map(|change| change.from);
    match first {
        Some(Some(from)) if changes.iter().all(|change| change.from == Some(from)) && from != Disposition::Unknown => {
            format!(" instead of {from}")
        }
        _ => String::new(),
    }
}

/// A margin in one sentence.
pub fn margin_sentence(margin: &Margin) -> String {
    let Margin { disposition, micro_nats, example } = margin;
    let distance = signed(*micro_nats);
    match example {
        Some(Newcomers { count: 1, reliability, claim }) => {
            format!("One more {reliability} source saying {claim} would make it {disposition} ({distance}).")
        }
        Some(Newcomers { count, reliability, claim }) => {
            format!("{count} more {reliability} sources saying {claim} would make it {disposition} ({distance}).")
        }
        None => format!("It is {distance} from being {disposition}."),
    }
}

/// Whether answers that are still to come could change a disposition, in one sentence; empty where none is awaited.
pub fn pending_sentence(reach: &Reach, waiting: usize, disposition: Disposition) -> String {
    if waiting == 0 {
        String::new()
    } else if !reach.can_change {
        format!("No answer still to come can change it: it stays {disposition}.")
    } else if reach.sources.is_empty() {
        "The answers still to come together could change it, none of them alone.".to_owned()
    } else {
        format!("{} could still change it.", joined(&reach.sources))
    }
}

/// Whether missing answers could still change the verdict, in one sentence; empty where no answer is missing.
pub fn reach_sentence(verdict: &Verdict) -> String {
    let Reach { can_change, sources } = &verdict.analysis.reach;
    if !verdict.partial {
        String::new()
    } else if !can_change {
        format!("No missing answer can change it: it stays {}.", verdict.disposition)
    } else if sources.is_empty() {
        "The missing answers together could still change it, none of them alone.".to_owned()
    } else {
        format!("{} could still change it.", joined(sources))
    }
}
