//! Whom to ask next, and when to stop: sources that cost something are asked in waves, the most useful for their price
//! first. Pure; `ask.rs` does it. Formulas and reasons: `docs/planning.md`.

use std::cmp::Reverse;
use std::time::Duration;

use crate::verdict::{PendingSource, Prospect};

/// This wave asks all who are left, so that an enrichment takes no longer than this many times the slowest source.
pub const LAST_WAVE: u32 = 3;
/// Assumed duration of a look-up in a source that was never asked.
const UNKNOWN_LATENCY: Duration = Duration::from_millis(500);
/// A look-up of this duration doubles the cost of a source.
const DOUBLING_LATENCY: Duration = Duration::from_secs(1);

/// What asking a source costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Minimum of quota units, without retries.
    pub units: u32,
    /// Maximum of quota units, without retries.
    pub max_units: u32,
    /// Share of the tightest quota window that is left, 0 to 1; 1 without windows. 0: the source would not be asked now.
    pub left: f64,
    /// Expected duration; `None`: never measured.
    pub latency: Option<Duration>,
}

impl Price {
    /// The price of a local look-up.
    pub const FREE: Self = Self { units: 0, max_units: 0, left: 1.0, latency: None };

    /// The expected duration of the look-up.
    pub fn expected_latency(&self) -> Duration {
        self.latency.unwrap_or(UNKNOWN_LATENCY)
    }

    fn is_available(&self) -> bool {
        self.left > 0.0
    }

    /// Units, dearer the less of them is left and the longer the answer takes.
    fn cost(&self) -> f64 {
        let units = f64::from(self.units + self.max_units) / 2.0;
        let slowness = 1.0 + self.expected_latency().as_secs_f64() / DOUBLING_LATENCY.as_secs_f64();
        units * slowness / self.left
    }
}

/// A source that could be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The source.
    pub source: PendingSource,
    /// What asking it costs.
    pub price: Price,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask these candidates at once.
    Ask(Vec<Asked>),
    /// Ask nobody any more.
    Stop(StopReason),
}

/// A candidate that is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its place among the candidates.
    pub candidate: usize,
    /// Maximum of quota units that it may cost, retries included; `None`: no limit.
    pub max_units: Option<u32>,
}

/// Why nobody is asked any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// No answer of the candidates can change the disposition.
    Settled,
    /// The budget does not allow any of them.
    Budget,
}

/// Whom to ask in this wave, counted from 1. `awaited` were asked and have not answered; `left` is what is left of a budget.
pub fn next_wave(
    prospect: &Prospect<'_>,
    wave: u32,
    candidates: &[Candidate],
    awaited: &[PendingSource],
    left: Option<u32>,
) -> Step {
    let pending: Vec<_> = candidates.iter().map(|candidate| &candidate.source).chain(awaited).collect();
    if prospect.is_settled(&pending) {
        return Step::Stop(StopReason::Settled);
    }
    let ranked = ranked(prospect, candidates);
    let affordable = affordable(candidates, &ranked, left);
    if affordable.is_empty() {
        return Step::Stop(StopReason::Budget);
    }
    let is_asked = |asked: &[Asked], place: usize| asked.iter().any(|asked| asked.candidate == place);
    let could_settle = |asked: &[Asked]| {
        let sources: Vec<_> = asked.iter().filter_map(|asked| candidates.get(asked.candidate)).collect();
        let sources: Vec<_> = sources.into_iter().map(|candidate| &candidate.source).collect();
        // A source that cannot be asked now is expected to stay silent.
        let rest = candidates.iter().enumerate();
        let rest = rest.filter(|(place, candidate)| candidate.price.is_available() && !is_asked(asked, *place));
        let rest: Vec<_> = rest.map(|(_, candidate)| &candidate.source).chain(awaited).collect();
        prospect.could_settle(&sources, &rest)
    };
    let size = if wave >= LAST_WAVE {
        affordable.len()
    } else {
        let is_enough = |size: &usize| affordable.get(..*size).is_some_and(could_settle);
        (1..affordable.len()).find(is_enough).unwrap_or(affordable.len())
    };
    Step::Ask(affordable.into_iter().take(size).collect())
}

/// The places of the candidates that are worth asking, by swing over cost, of equals the first by name. Those that cannot
/// be asked now come into question once nobody else is left, and likewise those without swing.
fn ranked(prospect: &Prospect<'_>, candidates: &[Candidate]) -> Vec<usize> {
    let mut ranked: Vec<(usize, &Candidate, i64)> = candidates
        .iter()
        .enumerate()
        .map(|(place, candidate)| (place, candidate, prospect.swing(&candidate.source)))
        .collect();
    let matters = |(_, candidate, swing): &(usize, &Candidate, i64)| {
        candidate.price.is_available() && (*swing > 0 || prospect.counts_answers())
    };
    if ranked.iter().any(matters) {
        ranked.retain(matters);
    }
    let value = |candidate: &Candidate, swing: i64| swing as f64 / candidate.price.cost();
    ranked.sort_by(|(_, left, left_swing), (_, right, right_swing)| {
        let by_value = value(right, *right_swing).total_cmp(&value(left, *left_swing));
        by_value.then_with(|| left.source.name.cmp(&right.source.name))
    });
    ranked.into_iter().map(|(place, _, _)| place).collect()
}

/// Those that a budget allows all together, in the order given: first those that fit whole, then those that are cut short by
/// what is left, so that a dear source does not use up what several cheaper ones would need.
fn affordable(candidates: &[Candidate], ranked: &[usize], left: Option<u32>) -> Vec<Asked> {
    let Some(mut left) = left else {
        return ranked.iter().map(|place| Asked { candidate: *place, max_units: None }).collect();
    };
    let prices = ranked.iter().filter_map(|place| Some((*place, candidates.get(*place)?.price)));
    let mut affordable = Vec::with_capacity(ranked.len());
    let mut cut_short = Vec::new();
    for (place, price) in prices {
        if price.max_units > left {
            cut_short.push((place, price));
            continue;
        }
        left -= price.max_units;
        affordable.push(Asked { candidate: place, max_units: Some(price.max_units) });
    }
    for (place, price) in cut_short {
        let most = price.max_units.min(left);
        if most > 0 && price.units <= most {
            left -= most;
            affordable.push(Asked { candidate: place, max_units: Some(most) });
        }
    }
    affordable
}

/// The waves as they are expected if nobody asked has a record: the places of the candidates, and why the rest is not asked.
/// `awaited` are sources that are asked in any case.
pub fn expected_waves(
    prospect: &Prospect<'_>,
    candidates: &[Candidate],
    awaited: &[PendingSource],
    mut left: Option<u32>,
) -> (Vec<Vec<usize>>, Option<StopReason>) {
    let mut waves: Vec<Vec<usize>> = Vec::new();
    let mut places: Vec<usize> = (0..candidates.len()).collect();
    let mut rest = candidates.to_vec();
    let mut wave = 1;
    while !rest.is_empty() {
        match next_wave(prospect, wave, &rest, awaited, left) {
            Step::Stop(reason) => return (waves, Some(reason)),
            Step::Ask(mut asked) => {
                asked.sort_by_key(|asked| Reverse(asked.candidate));
                let mut asked_places = Vec::with_capacity(asked.len());
                for Asked { candidate, max_units } in asked {
                    left = left.map(|left| left.saturating_sub(max_units.unwrap_or_default()));
                    rest.remove(candidate);
                    asked_places.push(places.remove(candidate));
                }
                waves.push(asked_places);
                wave += 1;
            }
        }
    }
    (waves, None)
}
