//! Lays a change over a policy, field by field.

use super::PolicyFields;
use super::fields::{is_within, lay_over};
use crate::error::{Reason, Violation};
use crate::settings::nearest;

/// The fields with the change. Where a mask names a path, everything at and below it is what the change sets there, or else
/// what `defaults` have; without a mask every field that the change sets is written.
/// A path that is no field is a violation and changes nothing.
pub(super) fn overlay(
    before: &PolicyFields,
    defaults: &PolicyFields,
    change: &PolicyFields,
    mask: Option<&[String]>,
) -> (PolicyFields, Vec<Violation>) {
    let (mut fields, mut violations) = (before.clone(), Vec::new());
    let Some(mask) = mask else {
        lay_over(&mut fields, change.iter());
        return (fields, violations);
    };
    for path in mask.iter().filter(|path| *path != "name") {
        let is_known =
            [before, defaults, change].iter().any(|fields| fields.keys().any(|field| is_within(field, path)));
        // A policy need not have rows of sources.
        if !is_known && path != "weighted.sources" {
            violations.push(unknown(path, [before, defaults]));
            continue;
        }
        fields.retain(|field, _| !is_within(field, path));
        for above in [defaults, change] {
            lay_over(&mut fields, above.iter().filter(|(field, _)| is_within(field, path)));
        }
    }
    (fields, violations)
}

fn unknown(path: &str, known: [&PolicyFields; 2]) -> Violation {
    let names: Vec<&str> = known.into_iter().flat_map(|fields| fields.keys()).map(String::as_str).collect();
    let hint = nearest(path, &names).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Violation::new("update_mask", Reason::MaskInvalid, format!("{path:?} is no field that can be written{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::policies::FieldValue;

    fn fields(entries: &[(&str, f64)]) -> PolicyFields {
        entries.iter().map(|(path, number)| ((*path).to_owned(), FieldValue::Number(*number))).collect()
    }

    fn good(fields: PolicyFields) -> (PolicyFields, Vec<Violation>) {
        (fields, Vec::new())
    }

    #[test]
    fn a_field_in_the_mask_that_is_not_set_takes_its_default_and_a_row_without_one_goes() {
        let before =
            fields(&[("a.x", 1.0), ("a.y", 2.0), ("ab", 3.0), ("weighted.sources.vt.coverage.if_benign", 0.5)]);
        let defaults = fields(&[("a.x", 10.0), ("a.y", 20.0), ("ab", 30.0)]);
        let change = fields(&[("a.x", 7.0), ("ab", 9.0)]);
        let mask = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            overlay(&before, &defaults, &change, Some(&paths))
        };
        let row = ("weighted.sources.vt.coverage.if_benign", 0.5);
        assert_eq!(mask(&["a"]), good(fields(&[("a.x", 7.0), ("a.y", 20.0), ("ab", 3.0), row])));
        assert_eq!(mask(&["weighted.sources.vt", "name"]), good(fields(&[("a.x", 1.0), ("a.y", 2.0), ("ab", 3.0)])));
        assert_eq!(
            overlay(&before, &defaults, &change, None),
            good(fields(&[("a.x", 7.0), ("a.y", 2.0), ("ab", 9.0), row]))
        );
        assert_eq!(mask(&["weighted.sources"]).0.len(), 3);
        let refused = mask(&["ba", "b"]).1;
        assert_eq!(refused.len(), 2);
        assert_eq!(refused[0].reason, Reason::MaskInvalid);
    }

    #[test]
    fn another_mode_of_decay_takes_the_place_of_the_one_that_is_there() {
        let before =
            fields(&[("weighted.ip.decay.half_life.grace", 1.0), ("weighted.ip.decay.half_life.half_life", 2.0)]);
        let change =
            fields(&[("weighted.ip.decay.polynomial.lifetime", 3.0), ("weighted.ip.decay.polynomial.speed", 4.0)]);
        for mask in [None, Some(vec!["weighted.ip.decay".to_owned()])] {
            assert_eq!(overlay(&before, &before, &change, mask.as_deref()), good(change.clone()));
        }
    }
}
