//! Who says first that an indicator is malicious, on a sample of the indicators of bounded size.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use super::numeric::{mix, quantile};

/// Indicators that are followed. What is followed is chosen by the indicator alone, so that all its verdicts count.
const MOST_INDICATORS: usize = 20_000;
const DAY: f64 = 86_400.0;

/// When each source first said that an indicator is malicious.
#[derive(Clone, Debug, Default)]
pub struct Timeliness {
    first: BTreeMap<u64, HashMap<u16, SystemTime>>,
}

/// How long before the first of the others a source said it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lead {
    /// Median in days; negative: after.
    pub median_days: f64,
    /// Indicators that the source and another call malicious.
    pub indicators: u64,
}

impl Timeliness {
    /// Notes that a source calls an indicator malicious, and has since this time.
    pub fn add(&mut self, indicator: u64, source: u16, since: SystemTime) {
        let number = mix(indicator);
        let is_full = self.first.len() >= MOST_INDICATORS;
        if is_full && self.first.last_key_value().is_some_and(|(greatest, _)| *greatest < number) {
            return;
        }
        let first = self.first.entry(number).or_default().entry(source).or_insert(since);
        *first = (*first).min(since);
        if self.first.len() > MOST_INDICATORS {
            self.first.pop_last();
        }
    }

    /// The lead of a source over the first of all others.
    pub fn lead(&self, source: u16) -> Option<Lead> {
        self.lead_over(source, |other| other != source)
    }

    /// The lead of a source over one other.
    pub fn lead_of_pair(&self, source: u16, over: u16) -> Option<Lead> {
        self.lead_over(source, |other| other == over)
    }

    fn lead_over(&self, source: u16, is_other: impl Fn(u16) -> bool) -> Option<Lead> {
        let mut leads: Vec<f64> = self
            .first
            .values()
            .filter_map(|times| {
                let own = times.get(&source)?;
                let others = times.iter().filter(|(other, _)| is_other(**other)).map(|(_, time)| *time).min()?;
                Some(days_before(*own, others))
            })
            .collect();
        let median_days = quantile(&mut leads, 0.5)?;
        Some(Lead { median_days, indicators: leads.len() as u64 })
    }
}

fn days_before(first: SystemTime, second: SystemTime) -> f64 {
    let days = |duration: Duration| duration.as_secs_f64() / DAY;
    second.duration_since(first).map_or_else(|error| -days(error.duration()), days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(number * 86_400)
    }

    #[test]
    fn a_lead_counts_from_the_first_word_of_a_source_to_that_of_the_first_other() {
        let mut times = Timeliness::default();
        for (indicator, early, late) in [(1, 10, 13), (2, 20, 21), (3, 30, 39)] {
            times.add(indicator, 0, day(early + 5));
            times.add(indicator, 0, day(early));
            times.add(indicator, 1, day(late));
        }
        times.add(4, 0, day(1));
        assert_eq!(times.lead(0), Some(Lead { median_days: 3.0, indicators: 3 }));
        assert_eq!(times.lead(1), Some(Lead { median_days: -3.0, indicators: 3 }));
        assert_eq!(times.lead_of_pair(1, 0), times.lead(1));
        assert_eq!(times.lead(2), None);
    }

    #[test]
    fn the_indicators_that_are_followed_are_bounded() {
        let mut times = Timeliness::default();
        for indicator in 0..MOST_INDICATORS as u64 + 5_000 {
            times.add(indicator, 0, day(1));
            times.add(indicator, 1, day(2));
        }
        assert_eq!(times.lead(0).map(|lead| lead.indicators), Some(MOST_INDICATORS as u64));
    }
}
