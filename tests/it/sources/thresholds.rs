//! What every option that is declared a threshold promises.

use concord::source::{OptionType, SourceView};
use serde_json::json;

use super::cases::{case_settings, cases, fixtures, form};
use super::{answer, http_kinds, lookup, outcome, set_option, word};

/// The curve of a threshold is found by bisection, which needs this.
#[test]
fn what_a_report_is_rated_changes_at_most_once_while_a_threshold_grows() {
    let (mut tried, mut changing) = (0, 0);
    for kind in http_kinds() {
        for case in cases(&kind.about().kind) {
            let body = std::fs::read(fixtures(&kind.about().kind).join(&case.file)).expect("a fixture");
            for spec in kind.about().options.iter().filter(|spec| spec.is_threshold) {
                let OptionType::Integer { min, max } = spec.value_type else { panic!("{} is no number", spec.name) };
                let values =
                    (min..=max.min(120)).chain([500, 1_000, 20_000, 5_000_000].into_iter().filter(|v| *v <= max));
                let mut words = Vec::new();
                for value in values {
                    let mut settings = case_settings(&kind, &case);
                    set_option(&mut settings, &kind, &spec.name, &json!(value));
                    // One threshold may bound another.
                    let Ok(source) = kind.build(&SourceView::new(&settings)) else { continue };
                    let lookup = lookup(form(&case.form), &case.indicator);
                    words.push(word(&outcome(source.as_ref(), &lookup, answer(case.status, Vec::new(), body.clone()))));
                }
                tried += 1;
                words.dedup();
                changing += usize::from(words.len() == 2);
                assert!(words.len() <= 2, "{} {} {}: {words:?}", kind.about().kind, case.file, spec.name);
            }
        }
    }
    assert!(tried > 100 && changing > 10, "{tried} {changing}");
}
