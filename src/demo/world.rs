//! The indicators of the demonstration's history, their truth, and what each source knows of them: always the same.

/// Addresses of the history in each of the three networks for documentation.
const ADDRESSES: u64 = 67;
const NETWORKS: [&str; 3] = ["192.0.2", "198.51.100", "203.0.113"];
/// The last byte of the first address, above those of the other scenes.
const FIRST: u64 = 110;
const DOMAINS: u64 = 99;

/// What is true of an indicator, and what each source would say of it.
pub(super) struct Item {
    pub(super) is_malicious: bool,
    /// Engines of VirusTotal that say malicious.
    pub(super) engines: u32,
    /// Score of AbuseIPDB.
    pub(super) score: u32,
    /// Score of the reseller, who mostly hands on what AbuseIPDB says.
    pub(super) resold: u32,
    /// What GreyNoise has observed: an attacker, or a known service.
    pub(super) is_attacker: Option<bool>,
    pub(super) in_zone: bool,
    pub(super) in_urlhaus: bool,
    pub(super) in_our_list: bool,
    pub(super) is_rumoured: bool,
    /// Whether an analyst looked at it.
    pub(super) is_labelled: bool,
}

/// All of them, addresses and domains mixed.
pub(super) fn indicators() -> Vec<String> {
    let addresses = (0..ADDRESSES).flat_map(|nth| NETWORKS.map(|network| format!("{network}.{}", FIRST + nth)));
    let domains = (0..DOMAINS).map(|nth| format!("host-{nth:02}.example.net"));
    let mut all: Vec<String> = addresses.chain(domains).collect();
    all.sort_by_key(|value| Random::new(value, "order").next());
    all
}

/// What is known of one of these indicators; `None` for any other.
pub(super) fn item(value: &str) -> Option<Item> {
    let number = |text: &str, from: u64, count: u64| {
        text.parse::<u64>().is_ok_and(|number| (from..from + count).contains(&number)).then_some(())
    };
    match value.strip_prefix("host-").and_then(|rest| rest.strip_suffix(".example.net")) {
        Some(nth) => number(nth, 0, DOMAINS)?,
        None => {
            let (network, last) = value.rsplit_once('.')?;
            NETWORKS.contains(&network).then_some(())?;
            number(last, FIRST, ADDRESSES)?;
        }
    }
    let mut random = Random::new(value, "item");
    let is_malicious = random.chance(0.36);
    let bad = |if_malicious: f64, if_benign: f64| if is_malicious { if_malicious } else { if_benign };
    let engines = match (is_malicious, random.chance(bad(0.1, 0.6))) {
        (_, true) => 0,
        (true, false) => 3 + (random.share().powi(2) * 37.0) as u32,
        (false, false) => 1 + (random.share().powi(2) * 7.0) as u32,
    };
    let mut score = || match (random.chance(bad(0.8, 0.3)), is_malicious) {
        (false, _) => 0,
        (true, true) => 30 + (random.share() * 70.0) as u32,
        (true, false) => 1 + (random.share().powi(2) * 80.0) as u32,
    };
    let (score, own) = (score(), score());
    let resold = if random.chance(0.93) { score } else { own };
    let is_attacker = match (random.chance(bad(0.5, 0.04)), random.chance(bad(0.02, 0.4))) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    };
    Some(Item {
        is_malicious,
        engines,
        score,
        resold,
        is_attacker,
        in_zone: random.chance(bad(0.45, 0.03)),
        in_urlhaus: random.chance(bad(0.6, 0.02)),
        in_our_list: random.chance(bad(0.15, 0.0)),
        is_rumoured: random.chance(bad(0.2, 0.25)),
        is_labelled: random.chance(0.6),
    })
}

/// Pseudo-random numbers (SplitMix64) that belong to a value.
struct Random(u64);

impl Random {
    fn new(value: &str, purpose: &str) -> Self {
        // FNV-1a: the numbers must be those of every build, which the standard hasher does not promise.
        let bytes = value.bytes().chain([b'/']).chain(purpose.bytes());
        Self(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn chance(&mut self, chance: f64) -> bool {
        self.share() < chance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_of_three_hundred_indicators_that_are_always_the_same() {
        let indicators = indicators();
        assert_eq!(indicators.len(), 300);
        let items: Vec<Item> = indicators.iter().map(|value| item(value).unwrap()).collect();
        let labelled = items.iter().filter(|item| item.is_labelled);
        let malicious = labelled.clone().filter(|item| item.is_malicious).count();
        assert!(malicious >= 50 && labelled.count() - malicious >= 50, "{malicious}");
        for other in ["192.0.2.44", "198.51.100.200", "203.0.113.80", "files.example.com", "host-99.example.net"] {
            assert!(item(other).is_none(), "{other} belongs to another scene");
        }
    }
}
