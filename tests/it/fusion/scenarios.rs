//! Verdicts as an analyst would write them: `tests/fixtures/verdicts/*.yaml`, see the page there.

use std::path::Path;

use concord::finding::{Disposition, Family, NotAskedReason, Outcome, OutcomeBody, Reliability};
use concord::indicator::IndicatorType;
use concord::verdict::{
    Assumption, Flip, Policy, Verdict, flip_sentence, fuse, margin_sentence, reach_sentence, summary,
};

use super::build::{aged, claim, failed, in_family, indicator, not_asked, now, outcome, policy, strong};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    name: String,
    #[serde(default = "domain", rename = "type")]
    indicator_type: String,
    #[serde(default = "weighted")]
    policy: String,
    #[serde(default)]
    minimum_coverage: f64,
    sources: Vec<String>,
    disposition: String,
    chance: Option<u32>,
    conflict: Option<bool>,
    decides: Option<String>,
    summary: Option<String>,
    flips: Option<Vec<ExpectedFlip>>,
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    never_says: Vec<String>,
}

/// What the verdict would be if these sources, which were wrong or whose answers are missing, had reported something else:
/// `list benign` in each line.
#[derive(serde::Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct ExpectedFlip {
    to: String,
    #[serde(default)]
    wrong: Vec<String>,
    #[serde(default)]
    missing: Vec<String>,
}

impl From<&Flip> for ExpectedFlip {
    fn from(flip: &Flip) -> Self {
        let changes: Vec<_> = flip.changes.iter().map(|change| format!("{} {}", change.source, change.to)).collect();
        let (wrong, missing) = match flip.assumption {
            Assumption::WrongAnswers => (changes, Vec::new()),
            Assumption::MissingAnswers => (Vec::new(), changes),
        };
        Self { to: flip.disposition.to_string(), wrong, missing }
    }
}

fn domain() -> String {
    "domain".into()
}

fn weighted() -> String {
    "weighted".into()
}

/// `virustotal (B) malicious strength 0.9 3 days old family mirror`.
fn source(line: &str) -> Outcome {
    let malformed = || panic!("{line:?} is not `name (letter) report`");
    let (name, rest) = line.split_once(" (").unwrap_or_else(malformed);
    let (letter, rest) = rest.split_once(") ").unwrap_or_else(malformed);
    let letter: Reliability = letter.parse().expect("a letter");
    let (rest, family) = match rest.split_once(" family ") {
        Some((rest, family)) => (rest, Some(family)),
        None => (rest, None),
    };
    let (rest, days) = match rest.strip_suffix(" days old").and_then(|rest| rest.rsplit_once(' ')) {
        Some((rest, days)) => (rest, days.parse().expect("a number of days")),
        None => (rest, 0),
    };
    let (report, strength) = match rest.split_once(" strength ") {
        Some((report, strength)) => (report, Some(strength.parse().expect("a strength"))),
        None => (rest, None),
    };
    let outcome = match report {
        "no record" => outcome(name, letter, OutcomeBody::NoRecord),
        "failed" => failed(name, letter),
        "no quota" => not_asked(name, letter, NotAskedReason::QuotaSpent),
        "withheld" => not_asked(name, letter, NotAskedReason::Tlp),
        claimed => {
            let claimed: Disposition = claimed.parse().expect("a report");
            aged(strong(claim(name, letter, claimed), strength), days)
        }
    };
    match family {
        Some(family) => in_family(outcome, Family::declared(family, name)),
        None => outcome,
    }
}

fn sentences(verdict: &Verdict) -> Vec<String> {
    let analysis = &verdict.analysis;
    let flips = analysis.flips.iter().map(flip_sentence);
    let margins = analysis.margins.iter().map(margin_sentence);
    flips.chain(margins).chain([reach_sentence(verdict)]).collect()
}

fn check(scenario: &Scenario) {
    let Scenario { name, .. } = scenario;
    let indicator_type: IndicatorType = scenario.indicator_type.parse().expect("a type");
    let policy = Policy { minimum_coverage: scenario.minimum_coverage, ..policy(&scenario.policy) };
    let outcomes = scenario.sources.iter().map(|line| source(line)).collect();
    let verdict = fuse(&policy, &indicator(indicator_type), now(), outcomes);
    let shown = summary(&verdict);
    assert_eq!(verdict.disposition.as_str(), scenario.disposition, "{name}: {shown}");
    if let Some(chance) = scenario.chance {
        let got = verdict.probability.map(|probability| (probability * 100.0).round() as u32);
        assert_eq!(got, Some(chance), "{name}: {shown}");
    }
    if let Some(conflict) = scenario.conflict {
        assert_eq!(verdict.conflict.map(|it| it.flagged), Some(conflict), "{name}");
    }
    if let Some(decides) = &scenario.decides {
        assert_eq!(verdict.deciding_source.as_ref(), Some(decides), "{name}");
    }
    if let Some(expected) = &scenario.summary {
        assert_eq!(&shown, expected, "{name}");
    }
    if let Some(expected) = &scenario.flips {
        let flips: Vec<_> = verdict.analysis.flips.iter().map(ExpectedFlip::from).collect();
        assert_eq!(&flips, expected, "{name}");
    }
    let sentences = sentences(&verdict);
    for wanted in &scenario.says {
        assert!(sentences.iter().any(|said| said.starts_with(wanted)), "{name}: {wanted:?} is not in {sentences:#?}");
    }
    for unwanted in &scenario.never_says {
        assert!(!sentences.iter().any(|said| said.contains(unwanted)), "{name}: {unwanted:?} is in {sentences:#?}");
    }
}

#[test]
fn every_scenario_has_the_verdict_that_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/verdicts");
    let (mut played, mut with_flips) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("the scenarios") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a file");
        let scenarios: Vec<Scenario> =
            serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        scenarios.iter().for_each(check);
        played += scenarios.len();
        with_flips += scenarios.iter().filter(|scenario| scenario.flips.is_some()).count();
    }
    assert!(played >= 30 && with_flips >= 10, "{played} scenarios, {with_flips} with flips");
}
