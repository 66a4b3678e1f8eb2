//! The tables `[policies.NAME]` of the configuration file.

use toml::{Table, Value};

use super::fields::{build, built_in, by_path, is_optional_table, lay_over};
use super::{FieldValue, PolicyFields};
use crate::error::{Violation, parse_enum};
use crate::settings::name::check_name;
use crate::verdict::{Policy, RuleKind};

/// What one table says.
#[derive(Debug, Default)]
pub struct FlatTable {
    /// The policy that it starts from, as it is written.
    pub base: Option<String>,
    /// The rules that it has a table of.
    pub rules: Vec<RuleKind>,
    /// Its fields.
    pub fields: PolicyFields,
}

/// Reads a table: the values in it by their paths, apart from `base`.
///
/// # Errors
/// Every value of a type that no field has.
pub fn flatten(table: &Table) -> Result<FlatTable, Vec<Violation>> {
    let (mut flat, mut violations) = (FlatTable::default(), Vec::new());
    for (name, value) in table {
        match value {
            Value::String(base) if name == "base" => flat.base = Some(base.clone()),
            _ if name == "base" => violations.push(Violation::invalid("base", "must be the name of a policy")),
            value => add(name, value, &mut flat.fields, &mut violations),
        }
        flat.rules.extend(parse_enum::<RuleKind>(name, "rule"));
    }
    if violations.is_empty() { Ok(flat) } else { Err(violations) }
}

fn add(path: &str, value: &Value, fields: &mut PolicyFields, violations: &mut Vec<Violation>) {
    let value = match value {
        Value::Table(table) if table.is_empty() && !is_optional_table(path) => FieldValue::Flag(true),
        Value::Table(table) => {
            table.iter().for_each(|(name, value)| add(&format!("{path}.{name}"), value, fields, violations));
            return;
        }
        Value::Integer(number) => FieldValue::Number(*number as f64),
        Value::Float(number) => FieldValue::Number(*number),
        Value::String(text) => FieldValue::Text(text.clone()),
        Value::Boolean(flag) => FieldValue::Flag(*flag),
        Value::Array(_) | Value::Datetime(_) => {
            violations.push(Violation::invalid(path, "must be a number, a text or a table"));
            return;
        }
    };
    fields.insert(path.to_owned(), value);
}

/// The policy that a table of the file declares, of revision 1. It starts from a policy that is built in.
///
/// # Errors
/// Everything that is wrong with it, with paths below the table.
pub(in crate::settings) fn read_declared(name: &str, table: &Table) -> Result<Policy, Vec<Violation>> {
    let mut violations = Vec::new();
    let own = Policy::built_in();
    if let Err(message) = check_name("policy", name) {
        violations.push(Violation::invalid("", message));
    } else if own.iter().any(|policy| policy.name == name) {
        let message = format!("is built in and never changes: declare another name with base = \"{name}\"");
        violations.push(Violation::invalid("", message));
    }
    let flat = match flatten(table) {
        Ok(flat) => flat,
        Err(wrong) => {
            violations.extend(wrong);
            return Err(violations);
        }
    };
    let base = match &flat.base {
        None => built_in(flat.rules.first().copied().unwrap_or(RuleKind::Weighted)),
        Some(base) => {
            let wanted = base.trim_start_matches("policies/");
            let Some(base) = own.iter().find(|policy| policy.name == wanted) else {
                let names: Vec<_> = own.iter().map(|policy| policy.name.as_str()).collect();
                let message = format!("{base:?} is no policy that is built in; use one of {}", names.join(", "));
                violations.push(Violation::invalid("base", message));
                return Err(violations);
            };
            base.clone()
        }
    };
    let mut fields = by_path(&Policy { summary: String::new(), ..base.clone() });
    lay_over(&mut fields, flat.fields.iter());
    match build(name, base.rule.kind(), &fields) {
        Ok(policy) if violations.is_empty() => Ok(Policy { revision: 1, ..policy }),
        built => {
            violations.extend(built.err().into_iter().flatten());
            Err(violations)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::verdict::{Decay, Rule};

    fn read(text: &str) -> Result<Policy, Vec<String>> {
        let wrong = |violations: Vec<Violation>| violations.iter().map(ToString::to_string).collect();
        read_declared("strict", &text.parse().unwrap()).map_err(wrong)
    }

    #[test]
    fn what_a_table_leaves_out_is_that_of_the_built_in_policy_of_its_rule() {
        let strict = read("summary = \"S\"\nminimum_coverage = 1\nweighted.thresholds.malicious = 0.9").unwrap();
        let Rule::Weighted(rule) = strict.rule else { panic!() };
        assert_eq!((strict.summary.as_str(), strict.minimum_coverage, strict.revision), ("S", 1.0, 1));
        assert_eq!((rule.thresholds.malicious, rule.thresholds.benign), (0.9, 0.10));
        let aged = read("weighted.ip.decay.half_life.grace = \"3d\"").unwrap();
        let Rule::Weighted(rule) = aged.rule else { panic!() };
        let days = |days: u64| Duration::from_secs(days * 86_400);
        assert_eq!(rule.ip.decay, Some(Decay::HalfLife { grace: days(3), half_life: days(30) }));
        assert_eq!(read("mean.malicious = 0.8").unwrap().rule.kind(), RuleKind::Mean);
        assert_eq!(read("base = \"policies/worst\"").unwrap().rule, Rule::Worst);
        assert_eq!(read("majority = {}").unwrap().rule, Rule::Majority);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let wrong =
            read("minimum_coverage = 2\n[weighted]\nfamily_correlation = -0.1\nsources.vt = {}\nip.prior = 0.5");
        let fields: Vec<_> = wrong.unwrap_err().iter().map(|text| text.split(':').next().unwrap().to_owned()).collect();
        assert_eq!(
            fields,
            ["minimum_coverage", "weighted.sources.vt", "weighted.family_correlation", "weighted.ip.prior"]
        );
        assert_eq!(
            read("base = \"strictest\"").unwrap_err(),
            ["base: \"strictest\" is no policy that is built in; use one of weighted, xsoar, worst, majority, mean"]
        );
        assert_eq!(
            read("weighted.ip.prior = [1]").unwrap_err(),
            ["weighted.ip.prior: must be a number, a text or a table"]
        );
        let own = read_declared("worst", &Table::new()).unwrap_err();
        assert!(own[0].message.contains("base = \"worst\""), "{own:?}");
    }
}
