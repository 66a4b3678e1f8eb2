//! A trace of requests whose indicators follow Zipf's law, and the calls that each mode makes for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use concord::engine::waves::{Candidate, Price, Step, next_wave};
use concord::finding::{Disposition, Family, Finding, Outcome, OutcomeBody, Reliability, Strength};
use concord::indicator::Indicator;
use concord::verdict::{PendingSource, Policy, Prospect, fuse_without_analysis};

const LETTERS: [Reliability; 6] =
    [Reliability::A, Reliability::B, Reliability::B, Reliability::C, Reliability::C, Reliability::D];
/// Shares of "benign" and "suspicious" by letter (the rest is "malicious"), for a malicious and for a benign indicator: the
/// letters' own rows in `docs/fusion.md`.
const ROWS: [[(f64, f64); 2]; 6] = [
    [(0.12, 0.08), (0.946, 0.030)],
    [(0.23, 0.12), (0.910, 0.060)],
    [(0.23, 0.12), (0.910, 0.060)],
    [(0.32, 0.16), (0.820, 0.100)],
    [(0.32, 0.16), (0.820, 0.100)],
    [(0.40, 0.20), (0.660, 0.160)],
];
/// Share of malicious indicators.
const PREVALENCE: f64 = 0.2;
const EXPONENT: f64 = 1.1;
/// Time between two requests, and for which answers are cached.
const PACE: Duration = Duration::from_millis(864);
const CACHE_TTL: Duration = Duration::from_secs(6 * 3600);

/// Deterministic numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What one run counted.
#[derive(Debug)]
pub struct Counts {
    /// Calls if every source is asked for every request.
    pub without_cache: usize,
    /// Calls of the mode complete.
    pub complete: usize,
    /// Calls of the mode decisive.
    pub decisive: usize,
    /// Waves of the mode decisive, over all requests that made a call.
    pub waves: usize,
    /// Requests of the mode decisive that made a call.
    pub asking: usize,
    /// Requests with the same disposition in both modes, whose answers are equal.
    pub identical: usize,
}

/// Runs a day of requests. `coverage` is the share of indicators that a source has a record of, `greatest` the strength that
/// every source declares as its greatest.
pub fn run(requests: usize, indicators: usize, coverage: f64, greatest: Strength) -> Counts {
    let mut random = Random(18);
    let policy = Policy::built_in().into_iter().find(|policy| policy.name == "weighted").expect("it is built in");
    let indicator = Indicator::parse("www.example.com").expect("a documentation name").indicator;
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let answers: Vec<Vec<Arc<Outcome>>> = (0..indicators).map(|_| answers(&mut random, coverage, now)).collect();
    let weights: Vec<f64> = (1..=indicators)
        .scan(0.0, |sum, rank| {
            *sum += (rank as f64).powf(-EXPONENT);
            Some(*sum)
        })
        .collect();
    let all = weights.last().copied().unwrap_or_default();
    let mut counts =
        Counts { without_cache: requests * LETTERS.len(), complete: 0, decisive: 0, waves: 0, asking: 0, identical: 0 };
    let (mut cached_complete, mut cached_decisive) = (HashMap::new(), HashMap::new());
    for request in 0..requests {
        let at = PACE * u32::try_from(request).unwrap_or(u32::MAX);
        let wanted = random.share() * all;
        let rank = weights.partition_point(|sum| *sum < wanted).min(indicators - 1);
        let answers = &answers[rank];
        let is_kept = |kept: &HashMap<(usize, usize), Duration>, source| {
            kept.get(&(rank, source)).is_some_and(|asked: &Duration| at - *asked < CACHE_TTL)
        };
        for source in 0..LETTERS.len() {
            if !is_kept(&cached_complete, source) {
                cached_complete.insert((rank, source), at);
                counts.complete += 1;
            }
        }
        let (mut known, mut rest): (Vec<usize>, Vec<usize>) =
            (0..LETTERS.len()).partition(|source| is_kept(&cached_decisive, *source));
        let mut wave = 0;
        let judged = loop {
            let policies = [&policy];
            let outcomes = known.iter().map(|source| answers[*source].clone());
            let prospect = Prospect::new(&policies, indicator.indicator_type(), now, outcomes);
            let candidates: Vec<_> = rest.iter().map(|source| candidate(&answers[*source], greatest)).collect();
            let asked = match next_wave(&prospect, wave + 1, &candidates, &[], None) {
                Step::Ask(asked) => asked,
                Step::Stop(_) => break prospect.disposition(),
            };
            wave += 1;
            let asked: Vec<usize> = asked.iter().map(|asked| rest[asked.candidate]).collect();
            for source in &asked {
                cached_decisive.insert((rank, *source), at);
            }
            counts.decisive += asked.len();
            rest.retain(|source| !asked.contains(source));
            known.extend(asked);
        };
        counts.waves += usize::try_from(wave).unwrap_or_default();
        counts.asking += usize::from(wave > 0);
        let complete = fuse_without_analysis(&policy, &indicator, now, answers.clone());
        counts.identical += usize::from(complete.disposition == judged);
    }
    counts
}

fn answers(random: &mut Random, coverage: f64, at: SystemTime) -> Vec<Arc<Outcome>> {
    let truth = usize::from(random.share() >= PREVALENCE);
    LETTERS
        .iter()
        .zip(ROWS)
        .enumerate()
        .map(|(number, (reliability, rows))| {
            let (is_covered, drawn, (benign, suspicious)) = (random.share() < coverage, random.share(), rows[truth]);
            let claim = match drawn {
                drawn if drawn < benign => Disposition::Benign,
                drawn if drawn < benign + suspicious => Disposition::Suspicious,
                _ => Disposition::Malicious,
            };
            let finding = OutcomeBody::Finding(Finding::new(claim, None, ""));
            let source = format!("source-{number}");
            Arc::new(Outcome {
                kind: "bench".into(),
                reliability: *reliability,
                family: Family::same_kind(source.clone()),
                time: at,
                body: if is_covered { finding } else { OutcomeBody::NoRecord },
                source,
            })
        })
        .collect()
}

fn candidate(outcome: &Outcome, greatest_strength: Strength) -> Candidate {
    let price = Price { units: 1, max_units: 1, left: 1.0, latency: Some(Duration::from_millis(200)) };
    let (name, family) = (outcome.source.clone(), outcome.family.clone());
    Candidate { source: PendingSource { name, reliability: outcome.reliability, greatest_strength, family }, price }
}
