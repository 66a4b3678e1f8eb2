//! Reads the options of a source against what its kind declares, and finds the name that was probably meant.

use serde_json::Value;

use crate::error::Violation;
use crate::source::{About, OptionValue};

/// Reads the option of this name.
///
/// # Errors
/// When the kind has no such option, or the value is not what it may hold; the field is the option's name.
pub(super) fn parse(about: &About, name: &str, value: &Value) -> Result<OptionValue, Violation> {
    let spec = about.options.iter().find(|spec| spec.name == name);
    let spec = spec.ok_or_else(|| Violation::invalid(name, unknown(about, name)))?;
    spec.parse(value).map_err(|message| Violation::invalid(name, message))
}

fn unknown(about: &About, name: &str) -> String {
    let names: Vec<_> = about.options.iter().map(|spec| spec.name.as_str()).collect();
    match (nearest(name, &names), names.is_empty()) {
        (Some(near), _) => format!("{} has no such option; did you mean {near}?", about.kind),
        (None, true) => format!("{} has no options", about.kind),
        (None, false) => format!("{} has no such option; it has {}", about.kind, names.join(", ")),
    }
}

/// The name that was probably meant: at most two letters changed, added or left out.
pub fn nearest<'a>(wrong: &str, names: &[&'a str]) -> Option<&'a str> {
    let scored = names.iter().map(|name| (strsim::levenshtein(wrong, name), *name));
    scored.filter(|(distance, _)| *distance <= 2 && *distance * 2 < wrong.chars().count()).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_one_that_was_meant() {
        assert_eq!(nearest("relibility", &["reliability", "timeout"]), Some("reliability"));
        assert_eq!(nearest("colour", &["reliability", "timeout"]), None);
    }
}
