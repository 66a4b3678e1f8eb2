//! How long the judge takes for twelve sources, the number that a large installation asks: the verdict in numbers, the same
//! with what would change it, and its sentences.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use concord::finding::{Disposition, Family, Finding, Outcome, OutcomeBody, Reliability, Strength};
use concord::indicator::Indicator;
use concord::verdict::{Policy, Verdict, fuse, fuse_without_analysis, sentence, summary};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use strum::VariantArray;

/// Twelve claims of every letter and side, four of them in one family, some old.
fn outcomes(now: SystemTime) -> Vec<Outcome> {
    let letters = Reliability::VARIANTS.iter().cycle();
    let claims = Disposition::VARIANTS.iter().cycle();
    (0..12_u32)
        .zip(letters.zip(claims))
        .map(|(number, (letter, claim))| {
            let source = format!("source-{number:02}");
            let strength = Strength::clamped(0.5 + 0.04 * f64::from(number));
            let mut finding = Finding::new(*claim, Some(strength), "12 of 94 engines malicious, threshold 10");
            finding.observed_time = Some(now - Duration::from_secs(86_400 * 5 * u64::from(number)));
            let family = if number % 3 == 0 { "mirror".to_owned() } else { source.clone() };
            Outcome {
                kind: "bench".into(),
                reliability: *letter,
                family: Family::declared(family, &source),
                time: now,
                body: OutcomeBody::Finding(finding),
                source,
            }
        })
        .collect()
}

type Judge = fn(&Policy, &Indicator, SystemTime, Vec<Outcome>) -> Verdict;

fn fuse_twelve(criterion: &mut Criterion) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_748_779_200);
    let indicator = Indicator::parse("192.0.2.1").expect("a documentation address").indicator;
    let outcomes = outcomes(now);
    for policy in Policy::built_in() {
        let mut bench = |what: &str, judge: Judge| {
            criterion.bench_function(&format!("fuse/12/{}/{what}", policy.name), |bencher| {
                bencher.iter_batched(
                    || outcomes.clone(),
                    |outcomes| black_box(judge(&policy, &indicator, now, outcomes)),
                    BatchSize::SmallInput,
                );
            });
        };
        bench("numbers", fuse_without_analysis);
        bench("analysis", fuse);
    }
    let verdict = fuse(&Policy::built_in()[0], &indicator, now, outcomes);
    criterion.bench_function("fuse/12/sentences", |bencher| {
        bencher.iter(|| {
            let terms: Vec<String> = verdict.contributions.iter().map(|term| sentence(&verdict, term)).collect();
            (summary(black_box(&verdict)), terms)
        });
    });
}

criterion_group!(benches, fuse_twelve);
criterion_main!(benches);
