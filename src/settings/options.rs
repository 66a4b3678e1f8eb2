//! Checks the value of an option against what its kind declares.

use serde_json::Value;

use super::values::{parse_duration, read_address};
use crate::error::Violation;
use crate::source::{About, OptionSpec, OptionType, OptionValue};

/// Reads the option of this name.
///
/// # Errors
/// When the kind has no such option, or the value is not what it may hold; the field is the option's name.
pub(super) fn read(about: &About, name: &str, value: &Value) -> Result<OptionValue, Violation> {
    let Some(spec) = about.options.iter().find(|spec| spec.name == name) else {
        return Err(Violation::invalid(name, unknown(about, name)));
    };
    read_value(spec, value).map_err(|message| Violation::invalid(name, message))
}

fn unknown(about: &About, name: &str) -> String {
    let names: Vec<_> = about.options.iter().map(|spec| spec.name.as_str()).collect();
    match (nearest(name, &names), names.is_empty()) {
        (Some(near), _) => format!("{} has no such option; did you mean {near}?", about.kind),
        (None, true) => format!("{} has no options", about.kind),
        (None, false) => format!("{} has no such option; it has {}", about.kind, names.join(", ")),
    }
}

fn read_value(spec: &OptionSpec, value: &Value) -> Result<OptionValue, String> {
    match &spec.value_type {
        OptionType::Integer { min, max } => read_integer(value, *min, *max),
        OptionType::Number { min, max } => match value.as_f64().or_else(|| text_number(value)) {
            Some(number) if (*min..=*max).contains(&number) => Ok(OptionValue::Number(number)),
            _ => Err(format!("must be a number from {min} to {max}, not {value}")),
        },
        OptionType::Flag => match (value, value.as_str()) {
            (Value::Bool(flag), _) => Ok(OptionValue::Flag(*flag)),
            (_, Some("true")) => Ok(OptionValue::Flag(true)),
            (_, Some("false")) => Ok(OptionValue::Flag(false)),
            _ => Err(format!("must be true or false, not {value}")),
        },
        // A number that names something, as a column by its place, is as good as its digits.
        OptionType::Text if value.is_number() => Ok(OptionValue::Text(digits(value))),
        OptionType::Text | OptionType::Path | OptionType::Resolver => {
            text(value).map(|text| OptionValue::Text(text.to_owned()))
        }
        OptionType::Choice(allowed) => {
            let chosen = text(value)?;
            let known = allowed.iter().find(|word| word.eq_ignore_ascii_case(chosen));
            let known = known.ok_or_else(|| format!("{chosen:?} is not allowed; use one of {}", allowed.join(", ")))?;
            Ok(OptionValue::Text(known.clone()))
        }
        OptionType::Address => {
            let address = text(value)?;
            read_address(address).map(|_| OptionValue::Text(address.to_owned()))
        }
        OptionType::Duration { min, max } => {
            let duration = text(value)?;
            let long = parse_duration(duration, "").map_err(|violation| violation.message)?;
            if !(*min..=*max).contains(&long) {
                let shown = humantime::format_duration;
                return Err(format!("must be from {} to {}, not {duration}", shown(*min), shown(*max)));
            }
            Ok(OptionValue::Text(duration.to_owned()))
        }
        OptionType::TextList => read_list(value),
        OptionType::TextTable => read_table(value),
    }
}

fn read_integer(value: &Value, min: i64, max: i64) -> Result<OptionValue, String> {
    // A protobuf Struct knows only floating-point numbers: a whole one is an integer.
    let number = value.as_f64().or_else(|| text_number(value));
    let whole = number.filter(|number| number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0);
    match value.as_i64().or_else(|| whole.map(|number| number as i64)) {
        Some(number) if (min..=max).contains(&number) => Ok(OptionValue::Integer(number)),
        _ => Err(format!("must be a whole number from {min} to {max}, not {value}")),
    }
}

/// A number as people write it: protobuf knows only floating point, where 1 is 1.0.
fn digits(value: &Value) -> String {
    let whole = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e15);
    whole.map_or_else(|| value.to_string(), |number| format!("{number:.0}"))
}

fn text_number(value: &Value) -> Option<f64> {
    value.as_str()?.trim().parse().ok()
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty()).ok_or_else(|| format!("must be a text, not {value}"))
}

fn read_list(value: &Value) -> Result<OptionValue, String> {
    let wrong = || format!("must be a list of texts, not {value}");
    let list = value.as_array().ok_or_else(wrong)?;
    let list = list.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong));
    list.collect::<Result<_, _>>().map(OptionValue::List)
}

fn read_table(value: &Value) -> Result<OptionValue, String> {
    let wrong = || format!("must be a table from text to text, not {value}");
    let table = value.as_object().ok_or_else(wrong)?;
    let table = table.iter().map(|(key, one)| one.as_str().map(|one| (key.clone(), one.to_owned())).ok_or_else(wrong));
    table.collect::<Result<_, _>>().map(OptionValue::Table)
}

/// The name that was probably meant: at most two letters changed, added or left out.
pub(super) fn nearest<'a>(wrong: &str, names: &[&'a str]) -> Option<&'a str> {
    let scored = names.iter().map(|name| (distance(wrong, name), *name));
    scored.filter(|(distance, _)| *distance <= 2 && *distance * 2 < wrong.chars().count()).min().map(|(_, name)| name)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (slot, right) in row.iter_mut().skip(1).zip(b.chars()) {
            let best = (diagonal + usize::from(left != right)).min(before + 1).min(*slot + 1);
            diagonal = *slot;
            *slot = best;
            before = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_one_that_was_meant() {
        assert_eq!(nearest("relibility", &["reliability", "timeout"]), Some("reliability"));
        assert_eq!(nearest("colour", &["reliability", "timeout"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn a_text_may_be_written_as_a_number() {
        let spec = OptionSpec::unset("column", OptionType::Text, "");
        for one in [serde_json::json!(1), serde_json::json!(1.0), serde_json::json!("1")] {
            assert_eq!(read_value(&spec, &one), Ok(OptionValue::Text("1".into())));
        }
        assert!(read_value(&spec, &serde_json::json!(true)).is_err());
    }

    #[test]
    fn a_whole_number_may_come_as_floating_point_and_a_fraction_may_not() {
        let spec = OptionSpec::new("n", OptionType::Integer { min: 1, max: 10 }, OptionValue::Integer(5), "");
        assert_eq!(read_value(&spec, &serde_json::json!(7.0)), Ok(OptionValue::Integer(7)));
        assert_eq!(read_value(&spec, &serde_json::json!("7")), Ok(OptionValue::Integer(7)));
        for wrong in [serde_json::json!(7.5), serde_json::json!(0), serde_json::json!(11), serde_json::json!([1])] {
            let refused = read_value(&spec, &wrong).unwrap_err();
            assert!(refused.starts_with("must be a whole number from 1 to 10, not "), "{refused}");
        }
    }
}
