//! The smallest list of engines, with its threshold, that says malicious where the merged verdicts do.
//!
//! A rule is a list and a threshold: it says malicious where at least that many engines of the list do. It keeps a verdict
//! where it says malicious and the verdict does, or where neither does. Searched is the rule with the greatest
//! `kept - price * engines`: an engine more must keep at least `price` verdicts more. For each threshold the list grows by the
//! engine that keeps most, and is then thinned out.

/// Most engines: the bits of a pattern.
pub(super) const MOST_PATTERN_BITS: usize = 128;
/// Greatest threshold that is tried.
const MOST_THRESHOLD: u32 = 10;
/// Most engines of a list.
const MOST_VENDORS: u32 = 24;
/// So many engines may be added without a better list, since several are needed to reach a higher threshold once more.
const LOOKAHEAD: u32 = 4;

/// Verdicts on which the same engines say malicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The engines, by bits.
    pub(super) hits: u128,
    /// Whether the merged verdict is malicious.
    pub(super) is_malicious: bool,
    /// Verdicts.
    pub(super) count: u64,
}

/// A list with its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VendorRule {
    /// The engines, by bits.
    pub(super) vendors: u128,
    /// So many of them must say malicious.
    pub(super) threshold: u32,
}

impl VendorRule {
    /// Whether it says malicious where these engines do.
    pub(super) fn says_malicious(&self, hits: u128) -> bool {
        (hits & self.vendors).count_ones() >= self.threshold
    }

    /// Verdicts that it keeps.
    pub(super) fn kept(&self, patterns: &[Pattern]) -> u64 {
        let is_kept = |pattern: &&Pattern| self.says_malicious(pattern.hits) == pattern.is_malicious;
        patterns.iter().filter(is_kept).map(|pattern| pattern.count).sum()
    }

    fn score(&self, patterns: &[Pattern], price: u64) -> i64 {
        signed(self.kept(patterns)) - signed(price) * i64::from(self.vendors.count_ones())
    }
}

/// The best rule that is found; `None` where none is worth more than one that never says malicious. Of equally good ones the
/// shorter, and then the one with the lower threshold. Of equally good engines the one with the lower bit.
pub(super) fn best_rule(patterns: &[Pattern], price: u64) -> Option<VendorRule> {
    let seen = patterns.iter().fold(0, |seen, pattern| seen | pattern.hits);
    let never = VendorRule { vendors: 0, threshold: 1 }.kept(patterns);
    let mut best: Option<(i64, VendorRule)> = None;
    for threshold in 1..=MOST_THRESHOLD.min(seen.count_ones()) {
        let Some(rule) = grow(patterns, seen, threshold, price) else { continue };
        let rule = thin_out(patterns, rule, price);
        let score = rule.score(patterns, price);
        let is_better =
            best.is_none_or(|(most, known)| (score, known.vendors.count_ones()) > (most, rule.vendors.count_ones()));
        if score > signed(never) && is_better {
            best = Some((score, rule));
        }
    }
    best.map(|(_, rule)| rule)
}

/// Adds the engine that keeps most, again and again; of these lists the best.
fn grow(patterns: &[Pattern], seen: u128, threshold: u32, price: u64) -> Option<VendorRule> {
    let mut rule = VendorRule { vendors: 0, threshold };
    let mut best: Option<(i64, VendorRule)> = None;
    let mut without_gain = 0;
    while without_gain < LOOKAHEAD && rule.vendors.count_ones() < MOST_VENDORS {
        let gains = gains(patterns, &rule);
        let candidates = bits(seen & !rule.vendors);
        let Some(engine) = candidates.rev().max_by_key(|engine| gains.get(*engine).copied().unwrap_or_default()) else {
            break;
        };
        rule.vendors |= 1 << engine;
        if rule.vendors.count_ones() < threshold {
            continue;
        }
        let score = rule.score(patterns, price);
        if best.is_none_or(|(most, _)| score > most) {
            (best, without_gain) = (Some((score, rule)), 0);
        } else {
            without_gain += 1;
        }
    }
    best.map(|(_, rule)| rule)
}

/// What each engine would add: verdicts kept, and among equals how much nearer it brings the rule to what the verdicts say where
/// engines are still lacking.
fn gains(patterns: &[Pattern], rule: &VendorRule) -> Vec<(i64, i64)> {
    let mut gains = vec![(0, 0); MOST_PATTERN_BITS];
    for pattern in patterns {
        let hits = (pattern.hits & rule.vendors).count_ones();
        if hits >= rule.threshold {
            continue;
        }
        let worth = if pattern.is_malicious { signed(pattern.count) } else { -signed(pattern.count) };
        let decides = hits + 1 == rule.threshold;
        for engine in bits(pattern.hits & !rule.vendors) {
            if let Some((kept, nearer)) = gains.get_mut(engine) {
                *kept += if decides { worth } else { 0 };
                *nearer += worth;
            }
        }
    }
    gains
}

/// Removes the engine that is worth least, as long as it is not worth its price.
fn thin_out(patterns: &[Pattern], mut rule: VendorRule, price: u64) -> VendorRule {
    while rule.vendors.count_ones() > rule.threshold {
        let without = bits(rule.vendors).map(|engine| VendorRule { vendors: rule.vendors & !(1 << engine), ..rule });
        let Some(shorter) = without.max_by_key(|shorter| shorter.kept(patterns)) else { break };
        if shorter.score(patterns, price) < rule.score(patterns, price) {
            break;
        }
        rule = shorter;
    }
    rule
}

/// The places of the bits that are set, from the lowest.
pub(super) fn bits(mask: u128) -> impl DoubleEndedIterator<Item = usize> {
    (0..MOST_PATTERN_BITS).filter(move |place| mask >> place & 1 == 1)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(engines: &[usize], is_malicious: bool, count: u64) -> Pattern {
        let hits = engines.iter().fold(0, |hits, engine| hits | 1 << engine);
        Pattern { hits, is_malicious, count }
    }

    #[test]
    fn one_engine_that_is_always_right_is_the_list() {
        let patterns = [
            pattern(&[0, 1, 2], true, 50),
            pattern(&[1], true, 20),
            pattern(&[0, 2], false, 10),
            pattern(&[], false, 90),
        ];
        assert_eq!(best_rule(&patterns, 1), Some(VendorRule { vendors: 0b010, threshold: 1 }));
    }

    #[test]
    fn two_of_three_are_found_although_no_engine_of_them_is_right_alone() {
        let mut patterns = vec![pattern(&[], false, 300)];
        for (engine, others) in [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])] {
            patterns.push(pattern(&others, true, 40));
            patterns.push(pattern(&[engine], false, 40));
        }
        let rule = best_rule(&patterns, 1);
        assert_eq!(rule, Some(VendorRule { vendors: 0b111, threshold: 2 }));
        assert_eq!(rule.map(|rule| rule.kept(&patterns)), Some(540));
    }

    #[test]
    fn an_engine_that_keeps_less_than_its_price_is_left_out() {
        let patterns = [pattern(&[0], true, 500), pattern(&[1], true, 3), pattern(&[], false, 500)];
        let best = |price| best_rule(&patterns, price).map(|rule| rule.vendors);
        assert_eq!(best(4), Some(0b01));
        assert_eq!(best(2), Some(0b11));
    }

    #[test]
    fn engines_that_are_wrong_more_often_than_right_make_no_list() {
        assert_eq!(best_rule(&[pattern(&[0, 1], false, 50), pattern(&[0], true, 20)], 1), None);
        assert_eq!(best_rule(&[], 1), None);
    }
}
