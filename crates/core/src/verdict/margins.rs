//! The distance from the log-odds to every other disposition.

use super::change::{Margin, Newcomers};
use super::judge::{Judge, Model};
use super::weighted::Weighted;
use crate::finding::{Disposition, Reliability};

/// More sources than this are no help to say.
const MOST_NEWCOMERS: u32 = 3;

/// Letters of the sources that a margin is expressed in, the least reliable first. A+ is the user's own word, and F weighs
/// nothing.
const LETTERS: [Reliability; 5] = [Reliability::E, Reliability::D, Reliability::C, Reliability::B, Reliability::A];

/// The margins of the weighted rule, the nearest first.
pub(super) fn margins(judge: &Judge<'_>) -> Vec<Margin> {
    let Model::Weighted(model) = &judge.model else { return Vec::new() };
    let now = judge.judge();
    if now.lacks_coverage {
        return Vec::new();
    }
    let cuts = model.cuts();
    let others = [Disposition::Malicious, Disposition::Suspicious, Disposition::Unknown, Disposition::Benign];
    let mut margins: Vec<Margin> = others
        .into_iter()
        .filter(|disposition| *disposition != now.disposition)
        .map(|disposition| {
            let interval @ (least, most) = cuts.interval(disposition);
            let micro_nats = if model.log_odds < least { least - model.log_odds } else { most - model.log_odds };
            Margin { disposition, micro_nats, example: newcomers(model, interval, micro_nats > 0) }
        })
        .collect();
    margins.sort_by_key(|margin| margin.micro_nats.unsigned_abs());
    margins
}

/// The fewest and least reliable independent sources that would bring the log-odds into an interval.
fn newcomers(model: &Weighted<'_>, (least, most): (i64, i64), upwards: bool) -> Option<Newcomers> {
    let claims: &[Disposition] =
        if upwards { &[Disposition::Malicious, Disposition::Suspicious] } else { &[Disposition::Benign] };
    (1..=MOST_NEWCOMERS).find_map(|count| {
        claims.iter().find_map(|claim| {
            LETTERS.into_iter().find_map(|reliability| {
                let log_odds = model.log_odds + i64::from(count) * model.term_of_newcomer(reliability, *claim);
                (least <= log_odds && log_odds <= most).then_some(Newcomers { count, reliability, claim: *claim })
            })
        })
    })
}
