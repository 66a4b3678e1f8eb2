//! Golden vectors of policy revision 2, computed by an implementation in another language: every term must be equal, and so
//! must what each source changes.

use std::path::Path;
use std::time::Duration;

use concord::finding::{Disposition, Family, Outcome};
use concord::indicator::IndicatorType;
use concord::verdict::{Calibration, Decay, Policy, Term, TypeNumbers, Verdict, fuse};
use serde_json::Value;

use super::build::{DAY, aged, changed, claim, in_family, indicator, now, strong};

#[test]
fn every_vector_is_equal_in_every_term() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fusion-vectors.json");
    let text = std::fs::read_to_string(path).expect("the vectors can be read");
    let vectors: Vec<Value> = serde_json::from_str(&text).expect("the vectors are JSON");
    assert_eq!(vectors.len(), 78);
    for vector in &vectors {
        check(vector);
    }
}

fn check(vector: &Value) {
    let name = text(vector, "name");
    let indicator_type = indicator_type(text(vector, "type"));
    let outcomes = vector["observations"].as_array().expect("observations");
    let outcomes = outcomes.iter().map(|observation| observed(vector, observation)).collect();
    let verdict = fuse(&policy_of(vector), &indicator(indicator_type), now(), outcomes);

    assert_eq!(verdict.log_odds_micro, vector["log_odds_micro"].as_i64(), "{name}: log-odds");
    assert_eq!(verdict.disposition.as_str(), text(vector, "disposition"), "{name}: disposition");
    close(verdict.probability, &vector["probability"], name);
    let conflict = verdict.conflict.expect("the weighted rule measures conflict");
    close(Some(conflict.mass), &vector["conflict_mass"], name);
    assert_eq!(Some(conflict.flagged), vector["conflict"].as_bool(), "{name}: conflict");
    check_terms(&verdict, vector, name);
    check_leave_one_out(&verdict, vector, name);
}

fn check_leave_one_out(verdict: &Verdict, vector: &Value, name: &str) {
    let expected = vector["leave_one_out_micro"].as_object().expect("leave-one-out");
    let got = &verdict.analysis.leave_one_out;
    assert_eq!(got.len(), expected.len(), "{name}: sources left out");
    for left_out in got {
        assert_eq!(left_out.micro_nats, expected[&left_out.source].as_i64(), "{name}: without {}", left_out.source);
    }
}

fn check_terms(verdict: &Verdict, vector: &Value, name: &str) {
    let expected = vector["terms_micro"].as_object().expect("terms");
    assert_eq!(verdict.contributions.len(), expected.len(), "{name}: number of terms");
    for contribution in &verdict.contributions {
        let key = match &contribution.term {
            Term::Prior => "prior",
            Term::Calibration => "calibration",
            Term::Source(source) => source,
        };
        assert_eq!(Some(contribution.micro_nats), expected[key].as_i64(), "{name}: {key}");
    }
}

/// Types that we do not look up stand in for domains, with the numbers that the vectors were made with.
fn policy_of(vector: &Value) -> Policy {
    changed(|rule| {
        if text(vector, "type") == "other" {
            let (grace, half_life) = (Duration::from_secs(14 * DAY), Duration::from_secs(45 * DAY));
            rule.domain = TypeNumbers { prior: 0.20, decay: Some(Decay::HalfLife { grace, half_life }) };
        }
        if let Some([shift, scale]) = vector["calibration"].as_array().map(Vec::as_slice) {
            let number = |value: &Value| value.as_f64().expect("a number");
            rule.calibration = Calibration { shift: number(shift), scale: number(scale) };
        }
    })
}

fn observed(vector: &Value, observation: &Value) -> Outcome {
    let source = text(observation, "source");
    let letter = text(observation, "letter").parse().expect("a letter");
    let disposition: Disposition = text(observation, "report").parse().expect("a disposition");
    let outcome = claim(source, letter, disposition);
    let outcome = strong(outcome, observation["strength"].as_f64());
    let outcome = aged(outcome, observation["age_days"].as_i64().expect("an age"));
    match observation["family"].as_str() {
        None => in_family(outcome, Family::same_kind(format!("alone-{source}"))),
        Some(family) if vector["family_rho"][family].as_f64() == Some(1.0) => {
            in_family(outcome, Family::same_kind(family))
        }
        Some(family) => in_family(outcome, Family::declared(family, source)),
    }
}

fn indicator_type(word: &str) -> IndicatorType {
    match word {
        "ip" => IndicatorType::Ip,
        "url" => IndicatorType::Url,
        "file" => IndicatorType::File,
        _ => IndicatorType::Domain,
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is a text in {value}"))
}

fn close(got: Option<f64>, expected: &Value, name: &str) {
    let (got, expected) = (got.expect("a number"), expected.as_f64().expect("a number"));
    assert!((got - expected).abs() <= 5.1e-10, "{name}: {got} and {expected}");
}
