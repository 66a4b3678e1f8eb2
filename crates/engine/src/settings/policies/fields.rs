//! Every number of a policy by its path, as in `weighted.thresholds.malicious`: file, store, protocol and command line share
//! these paths, and the violations of a policy name them.
//!
//! [`visit`] is the only place that lists the fields; reading, writing, comparing and building a policy all go through it.

use std::collections::BTreeMap;
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};

use crate::error::{Violation, merge_new};
use crate::finding::Reliability;
use crate::indicator::IndicatorType;
use crate::settings::name::check_name;
use crate::settings::{form, nearest};
use crate::source::parse_duration;
use crate::verdict::{
    Calibration, ClaimShares, ConflictNumbers, Decay, LearnedCoverage, LetterRow, LetterTable, LetterWeights, MeanRule,
    Policy, Rule, RuleKind, SourceRow, Thresholds, TypeNumbers, WeightedRule,
};

const SOURCES: &str = "weighted.sources";

/// The value of one field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// A number.
    Number(f64),
    /// A duration.
    Duration(Duration),
    /// A text.
    Text(String),
    /// That something is so.
    Flag(bool),
    /// As written on a command line and in the store: the field's own type says how it is read.
    Written(String),
}

/// Values by path.
pub type PolicyFields = BTreeMap<String, FieldValue>;

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum Unit {
    /// Nothing: a text or a flag.
    #[strum(serialize = "")]
    None,
    /// A probability, 0 to 1.
    #[strum(serialize = "probability")]
    Probability,
    /// A share, 0 to 1.
    #[strum(serialize = "share")]
    Share,
    /// A correlation, 0 to 1.
    #[strum(serialize = "correlation")]
    Correlation,
    /// Natural logarithms of odds.
    #[strum(serialize = "nats")]
    Nats,
    /// Millionths of a nat.
    #[strum(serialize = "micro-nats")]
    MicroNats,
    /// A factor or an exponent.
    #[strum(serialize = "factor")]
    Factor,
    /// A weight, relative to others.
    #[strum(serialize = "weight")]
    Weight,
    /// A mean of claims, 0 (benign) to 1 (malicious).
    #[strum(serialize = "mean")]
    Mean,
    /// A duration, which is written with its own unit.
    #[strum(serialize = "time")]
    Time,
}

/// One field of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyField {
    /// Its path: `weighted.thresholds.malicious`.
    pub path: String,
    /// Its value.
    pub value: FieldValue,
    /// What the value counts.
    pub unit: Unit,
}

impl Unit {
    /// The unit in a word; empty where there is none.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl FieldValue {
    /// The value as it is read back from a file or a command line.
    pub fn written(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Duration(duration) => form::duration(*duration),
            Self::Text(text) | Self::Written(text) => text.clone(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

/// Every field of the policy with its value, in the order in which people read them.
pub fn fields(policy: &Policy) -> Vec<PolicyField> {
    let mut fields = Vec::new();
    // The visitor takes places that may be written; here they are only read.
    visit(&mut policy.clone(), &mut |path, unit, place| {
        fields.push(PolicyField { path: path.to_owned(), value: place.value(), unit });
    });
    fields
}

/// These fields in the order of [`fields`], with their units; what is no field of the rule comes last and has none.
pub fn in_order(rule: Option<RuleKind>, fields: PolicyFields) -> Vec<PolicyField> {
    let mut left = fields.clone();
    let mut ordered = Vec::new();
    if let Some(rule) = rule {
        let mut policy = built_in(rule);
        if let Rule::Weighted(rule) = &mut policy.rule {
            make_places(rule, &fields, &mut Vec::new());
        }
        visit(&mut policy, &mut |path, unit, _| {
            let value = left.remove(path);
            ordered.extend(value.map(|value| PolicyField { path: path.to_owned(), value, unit }));
        });
    }
    ordered.extend(left.into_iter().map(|(path, value)| PolicyField { path, value, unit: Unit::None }));
    ordered
}

/// The same by path.
pub(super) fn by_path(policy: &Policy) -> PolicyFields {
    fields(policy).into_iter().map(|field| (field.path, field.value)).collect()
}

/// The policy with these fields; what they leave out is that of the built-in policy of the rule. The revision is the
/// caller's to set.
///
/// # Errors
/// Every field that does not exist, has a value of another type, or contradicts the others.
pub(super) fn build(name: &str, rule: RuleKind, fields: &PolicyFields) -> Result<Policy, Vec<Violation>> {
    let (mut policy, mut violations) = (built_in(rule), Vec::new());
    policy.name = name.to_owned();
    policy.summary = String::new();
    if let Rule::Weighted(rule) = &mut policy.rule {
        make_places(rule, fields, &mut violations);
    }
    let mut left = fields.clone();
    left.retain(|path, _| source_of_row(path).is_none());
    let mut known = Vec::new();
    visit(&mut policy, &mut |path, _, place| {
        if let Some(Err(message)) = left.remove(path).map(|value| place.write(&value)) {
            violations.push(Violation::invalid(path, message));
        }
        known.push(path.to_owned());
    });
    let is_reported = |path: &str| violations.iter().any(|violation| is_within(path, &violation.field));
    let unknown: Vec<_> =
        left.keys().filter(|path| !is_reported(path)).map(|path| unknown(path, rule, &known)).collect();
    violations.extend(unknown);
    merge_new(&mut violations, policy.violations());
    if violations.is_empty() { Ok(policy) } else { Err(violations) }
}

/// The built-in policy of this rule.
pub(super) fn built_in(rule: RuleKind) -> Policy {
    let mut built_in = Policy::built_in().into_iter();
    built_in.find(|policy| policy.rule.kind() == rule).expect("every rule has a policy that is built in")
}

/// Whether the path is this field or lies below it.
pub(super) fn is_within(path: &str, field: &str) -> bool {
    path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Writes values. A mode of decay among them takes the place of another that is there; two that are among them both stay, to
/// be refused.
pub(super) fn lay_over<'a>(
    fields: &mut PolicyFields,
    values: impl Iterator<Item = (&'a String, &'a FieldValue)> + Clone,
) {
    for (decay, mode) in values.clone().filter_map(|(path, _)| decay_of(path)) {
        let of_mode = format!("{decay}.{mode}");
        fields.retain(|other, _| !is_within(other, &decay) || is_within(other, &of_mode));
    }
    fields.extend(values.map(|(path, value)| (path.clone(), value.clone())));
}

/// The source whose whole row the path is: a row that holds nothing stands in the fields by itself, so that it is refused
/// and not overlooked.
pub(super) fn source_of_row(path: &str) -> Option<&str> {
    let name = path.strip_prefix(SOURCES)?.strip_prefix('.')?;
    Some(name).filter(|name| !name.contains('.'))
}

/// Whether a table at this path may be left out where it holds nothing.
pub fn is_optional_table(path: &str) -> bool {
    source_of_row(path).is_none()
}

/// The decay that the path belongs to, and its mode.
fn decay_of(path: &str) -> Option<(String, &str)> {
    let (type_path, rest) = path.split_once(".decay.")?;
    let mode = rest.split('.').next().unwrap_or(rest);
    Some((format!("{type_path}.decay"), mode))
}

fn unknown(path: &str, rule: RuleKind, known: &[String]) -> Violation {
    let top = path.split('.').next().unwrap_or(path);
    let other = RuleKind::VARIANTS.iter().find(|kind| kind.as_str() == top && **kind != rule);
    if other.is_some() {
        return Violation::invalid(path, format!("the policy's rule is {}, which has no {top}", rule.as_str()));
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let hint = nearest(path, &known).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Violation::invalid(path, format!("no such field{hint}"))
}

/// Makes the rows of sources and the modes of decay that the fields name, so that their values have a place. A number that
/// is then left out stays at zero, which the checks refuse wherever zero means nothing.
fn make_places(rule: &mut WeightedRule, fields: &PolicyFields, violations: &mut Vec<Violation>) {
    let none = ClaimShares { benign: 0.0, suspicious: 0.0, malicious: 0.0 };
    let mut rows: BTreeMap<&str, SourceRow> = BTreeMap::new();
    for path in fields.keys() {
        let Some(rest) = path.strip_prefix(SOURCES).and_then(|rest| rest.strip_prefix('.')) else { continue };
        let (source, rest) = rest.split_once('.').unwrap_or((rest, ""));
        let empty = || SourceRow { source: source.to_owned(), claims: None, coverage: None };
        let row = rows.entry(source).or_insert_with(empty);
        if is_within(rest, "claims") {
            row.claims = Some(LetterRow { if_malicious: none, if_benign: none });
        } else if is_within(rest, "coverage") {
            row.coverage = Some(LearnedCoverage { if_malicious: 0.0, if_benign: 0.0 });
        }
    }
    for source in rows.keys() {
        if let Err(message) = check_name("source", source) {
            violations.push(Violation::invalid(format!("{SOURCES}.{source}"), message));
        }
    }
    rule.sources = rows.into_values().collect();
    for (indicator_type, numbers) in types(rule) {
        let path = format!("weighted.{indicator_type}.decay");
        let mut modes: Vec<&str> = fields
            .keys()
            .filter_map(|field| decay_of(field).filter(|(decay, _)| *decay == path))
            .map(|(_, mode)| mode)
            .collect();
        modes.dedup();
        match modes.as_slice() {
            [] => {}
            ["none"] => numbers.decay = None,
            ["half_life"] => {
                numbers.decay = Some(Decay::HalfLife { grace: Duration::ZERO, half_life: Duration::ZERO });
            }
            ["polynomial"] => numbers.decay = Some(Decay::Polynomial { lifetime: Duration::ZERO, speed: 0.0 }),
            _ => {
                let message = "takes exactly one of half_life, polynomial and none";
                violations.push(Violation::invalid(path, message));
            }
        }
    }
}

/// A place that a value is written to.
enum Place<'a> {
    Number(&'a mut f64),
    Whole(&'a mut i64),
    Duration(&'a mut Duration),
    Text(&'a mut String),
    /// Holds where it is there.
    True,
}

impl Place<'_> {
    fn value(&self) -> FieldValue {
        match self {
            Self::Number(number) => FieldValue::Number(**number),
            Self::Whole(number) => FieldValue::Number(**number as f64),
            Self::Duration(duration) => FieldValue::Duration(**duration),
            Self::Text(text) => FieldValue::Text((**text).clone()),
            Self::True => FieldValue::Flag(true),
        }
    }

    fn write(self, value: &FieldValue) -> Result<(), String> {
        use FieldValue::{Duration as Time, Flag, Number, Text, Written};
        match (self, value) {
            (Self::Number(place), Number(number)) => *place = *number,
            (Self::Number(place), Written(text)) => *place = read_number(text)?,
            (Self::Number(_), _) => return Err("must be a number".into()),
            (Self::Whole(place), Number(number)) => *place = whole(*number)?,
            (Self::Whole(place), Written(text)) => *place = whole(read_number(text)?)?,
            (Self::Whole(_), _) => return Err("must be a whole number".into()),
            (Self::Duration(place), Time(duration)) => *place = *duration,
            (Self::Duration(place), Text(text) | Written(text)) => *place = parse_duration(text)?,
            (Self::Duration(_), _) => return Err("must be a duration with its unit: 12h, 30d".into()),
            (Self::Text(place), Text(text) | Written(text)) => place.clone_from(text),
            (Self::Text(_), _) => return Err("must be a text".into()),
            (Self::True, Flag(true)) => {}
            (Self::True, Written(text)) if text.trim() == "true" => {}
            (Self::True, _) => return Err("must be true, or be left out".into()),
        }
        Ok(())
    }
}

fn read_number(text: &str) -> Result<f64, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is no number"))
}

fn whole(number: f64) -> Result<i64, String> {
    // Beyond this, floating point skips whole numbers.
    let is_whole = number.fract() == 0.0 && number.abs() < 9e15;
    if is_whole { Ok(number as i64) } else { Err(format!("must be a whole number, not {number}")) }
}

type Visitor<'a> = dyn FnMut(&str, Unit, Place<'_>) + 'a;

/// Every field of the policy, with its path and unit.
fn visit(policy: &mut Policy, each: &mut Visitor<'_>) {
    let Policy { name: _, summary, revision: _, minimum_coverage, rule } = policy;
    each("summary", Unit::None, Place::Text(summary));
    each("minimum_coverage", Unit::Share, Place::Number(minimum_coverage));
    match rule {
        Rule::Weighted(rule) => visit_weighted(rule, each),
        Rule::Mean(rule) => visit_mean(rule, each),
        Rule::Xsoar | Rule::Worst | Rule::Majority => {}
    }
}

fn visit_weighted(rule: &mut WeightedRule, each: &mut Visitor<'_>) {
    for (indicator_type, numbers) in types(rule) {
        visit_type(&format!("weighted.{indicator_type}"), numbers, each);
    }
    let WeightedRule { letters, sources, family_correlation, thresholds, conflict, calibration, .. } = rule;
    let Thresholds { malicious, suspicious, benign } = thresholds;
    for (name, value) in [("malicious", malicious), ("suspicious", suspicious), ("benign", benign)] {
        each(&format!("weighted.thresholds.{name}"), Unit::Probability, Place::Number(value));
    }
    each("weighted.family_correlation", Unit::Correlation, Place::Number(family_correlation));
    let ConflictNumbers { floor_micro, ratio } = conflict;
    each("weighted.conflict.floor_micro_nats", Unit::MicroNats, Place::Whole(floor_micro));
    each("weighted.conflict.ratio", Unit::Share, Place::Number(ratio));
    let Calibration { shift, scale } = calibration;
    each("weighted.calibration.shift", Unit::Nats, Place::Number(shift));
    each("weighted.calibration.scale", Unit::Factor, Place::Number(scale));
    let LetterTable { a_plus, a, b, c, d, e } = letters;
    for (letter, row) in [
        (Reliability::APlus, a_plus),
        (Reliability::A, a),
        (Reliability::B, b),
        (Reliability::C, c),
        (Reliability::D, d),
        (Reliability::E, e),
    ] {
        visit_row(&format!("weighted.letters.{}", letter.key()), row, each);
    }
    for SourceRow { source, claims, coverage } in sources {
        if let Some(claims) = claims {
            visit_row(&format!("{SOURCES}.{source}.claims"), claims, each);
        }
        if let Some(LearnedCoverage { if_malicious, if_benign }) = coverage {
            each(&format!("{SOURCES}.{source}.coverage.if_malicious"), Unit::Share, Place::Number(if_malicious));
            each(&format!("{SOURCES}.{source}.coverage.if_benign"), Unit::Share, Place::Number(if_benign));
        }
    }
}

fn types(rule: &mut WeightedRule) -> [(&'static str, &mut TypeNumbers); 4] {
    let WeightedRule { ip, domain, url, file, .. } = rule;
    [(IndicatorType::Ip, ip), (IndicatorType::Domain, domain), (IndicatorType::Url, url), (IndicatorType::File, file)]
        .map(|(indicator_type, numbers)| (indicator_type.as_str(), numbers))
}

fn visit_type(path: &str, numbers: &mut TypeNumbers, each: &mut Visitor<'_>) {
    let TypeNumbers { prior, decay } = numbers;
    each(&format!("{path}.prior"), Unit::Probability, Place::Number(prior));
    match decay {
        None => each(&format!("{path}.decay.none"), Unit::None, Place::True),
        Some(Decay::HalfLife { grace, half_life }) => {
            each(&format!("{path}.decay.half_life.grace"), Unit::Time, Place::Duration(grace));
            each(&format!("{path}.decay.half_life.half_life"), Unit::Time, Place::Duration(half_life));
        }
        Some(Decay::Polynomial { lifetime, speed }) => {
            each(&format!("{path}.decay.polynomial.lifetime"), Unit::Time, Place::Duration(lifetime));
            each(&format!("{path}.decay.polynomial.speed"), Unit::Factor, Place::Number(speed));
        }
    }
}

fn visit_row(path: &str, row: &mut LetterRow, each: &mut Visitor<'_>) {
    let LetterRow { if_malicious, if_benign } = row;
    for (side, shares) in [("if_malicious", if_malicious), ("if_benign", if_benign)] {
        let ClaimShares { benign, suspicious, malicious } = shares;
        for (claim, share) in [("benign", benign), ("suspicious", suspicious), ("malicious", malicious)] {
            each(&format!("{path}.{side}.{claim}"), Unit::Share, Place::Number(share));
        }
    }
}

fn visit_mean(rule: &mut MeanRule, each: &mut Visitor<'_>) {
    let MeanRule { weights, malicious, suspicious } = rule;
    each("mean.malicious", Unit::Mean, Place::Number(malicious));
    each("mean.suspicious", Unit::Mean, Place::Number(suspicious));
    let LetterWeights { a_plus, a, b, c, d, e, f } = weights;
    for (letter, weight) in [
        (Reliability::APlus, a_plus),
        (Reliability::A, a),
        (Reliability::B, b),
        (Reliability::C, c),
        (Reliability::D, d),
        (Reliability::E, e),
        (Reliability::F, f),
    ] {
        each(&format!("mean.weights.{}", letter.key()), Unit::Weight, Place::Number(weight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fields: &PolicyFields) -> PolicyFields {
        fields.iter().map(|(path, value)| (path.clone(), FieldValue::Written(value.written()))).collect()
    }

    #[test]
    fn every_policy_that_is_built_in_is_built_again_from_its_fields_as_they_are_and_as_they_are_written() {
        for policy in Policy::built_in() {
            let rule = policy.rule.kind();
            for fields in [by_path(&policy), written(&by_path(&policy))] {
                let built = build(&policy.name, rule, &fields).unwrap();
                assert_eq!(Policy { revision: policy.revision, ..built }, policy);
            }
        }
    }

    #[test]
    fn rows_of_sources_and_both_modes_of_decay_are_built_from_their_fields() {
        let mut policy = built_in(RuleKind::Weighted);
        let Rule::Weighted(rule) = &mut policy.rule else { panic!() };
        rule.ip.decay = Some(Decay::Polynomial { lifetime: Duration::from_secs(120 * 86_400), speed: 2.0 });
        rule.url.decay = None;
        rule.sources = vec![
            SourceRow { source: "a".into(), claims: Some(rule.letters.a), coverage: None },
            SourceRow {
                source: "b-2".into(),
                claims: None,
                coverage: Some(LearnedCoverage { if_malicious: 0.4, if_benign: 0.1 + 0.2 }),
            },
        ];
        let built = build("weighted", RuleKind::Weighted, &written(&by_path(&policy))).unwrap();
        assert_eq!(Policy { revision: policy.revision, ..built }, policy);
    }

    #[test]
    fn a_field_that_does_not_exist_or_has_another_type_is_refused_with_its_path() {
        let refused = |rule, path: &str, value| {
            let mut fields = by_path(&built_in(rule));
            lay_over(&mut fields, PolicyFields::from([(path.to_owned(), value)]).iter());
            let refused = build("x", rule, &fields).unwrap_err();
            let [violation] = refused.as_slice() else { panic!("{refused:?}") };
            violation.to_string()
        };
        let number = FieldValue::Number;
        let weighted = RuleKind::Weighted;
        for (refused, text) in [
            (
                refused(weighted, "weighted.thresholds.malicous", number(0.9)),
                "weighted.thresholds.malicous: no such field; did you mean weighted.thresholds.malicious?",
            ),
            (
                refused(weighted, "mean.malicious", number(0.9)),
                "mean.malicious: the policy's rule is weighted, which has no mean",
            ),
            (refused(weighted, "weighted.letters.g", number(0.9)), "weighted.letters.g: no such field"),
            (
                refused(weighted, "minimum_coverage", FieldValue::Text("half".into())),
                "minimum_coverage: must be a number",
            ),
            (
                refused(weighted, "minimum_coverage", FieldValue::Written("half".into())),
                "minimum_coverage: \"half\" is no number",
            ),
            (
                refused(weighted, "weighted.conflict.floor_micro_nats", number(0.5)),
                "weighted.conflict.floor_micro_nats: must be a whole number, not 0.5",
            ),
            (
                refused(weighted, "weighted.ip.decay.half_life.grace", number(3.0)),
                "weighted.ip.decay.half_life.grace: must be a duration with its unit: 12h, 30d",
            ),
            (
                refused(weighted, "weighted.ip.decay.none", FieldValue::Flag(false)),
                "weighted.ip.decay.none: must be true, or be left out",
            ),
            (
                refused(weighted, "weighted.ip.decay.halflife.grace", number(3.0)),
                "weighted.ip.decay: takes exactly one of half_life, polynomial and none",
            ),
        ] {
            assert_eq!(refused, text);
        }
    }
}
