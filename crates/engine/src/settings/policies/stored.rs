//! The form of a policy in the store: its rule, and every field as text, so that numbers come back exactly.
//!
//! Reading is strict: a revision that does not hold every field, or one more, would judge by other numbers than those it was
//! made with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::FieldValue;
use super::fields::{build, by_path};
use crate::error::parse_enum;
use crate::store::StoreError;
use crate::verdict::{Policy, RuleKind};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    rule: String,
    fields: BTreeMap<String, String>,
}

/// The document of a policy. Equal policies have equal documents, whatever their names and revisions.
pub(super) fn write(policy: &Policy) -> Result<String, StoreError> {
    let fields = by_path(policy).into_iter().map(|(path, value)| (path, value.written())).collect();
    let document = Document { rule: policy.rule.kind().as_str().to_owned(), fields };
    serde_json::to_string(&document).map_err(|error| StoreError::rejected(format!("policy {}: {error}", policy.name)))
}

/// Reads a document back.
///
/// # Errors
/// Why it is not a policy that this version can judge by.
pub(super) fn read(name: &str, revision: u32, document: &str) -> Result<Policy, String> {
    let document: Document = serde_json::from_str(document).map_err(|error| error.to_string())?;
    let rule: RuleKind = parse_enum(&document.rule, "rule").map_err(|error| error.to_string())?;
    let fields = document.fields.into_iter().map(|(path, text)| (path, FieldValue::Written(text))).collect();
    let all = |violations: Vec<_>| violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let policy = Policy { revision, ..build(name, rule, &fields).map_err(all)? };
    if let Some(absent) = by_path(&policy).into_keys().find(|path| !fields.contains_key(path)) {
        return Err(format!("{absent}: is missing"));
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_comes_back_exactly() {
        for policy in Policy::built_in() {
            let document = write(&policy).unwrap();
            assert_eq!(read(&policy.name, policy.revision, &document), Ok(policy));
        }
    }

    #[test]
    fn a_document_that_lacks_a_field_or_has_another_is_refused() {
        let document = write(&Policy::built_in()[0]).unwrap();
        let refused = |from: &str, to: &str| {
            assert!(document.contains(from), "{from}");
            read("weighted", 1, &document.replacen(from, to, 1)).unwrap_err()
        };
        let prior = "\"weighted.ip.prior\":\"0.19\",";
        assert_eq!(refused(prior, ""), "weighted.ip.prior: is missing");
        let refused_prior = refused(prior, "\"weighted.ip.prior\":\"0.9\",");
        assert!(refused_prior.contains("must lie above"), "{refused_prior}");
        assert!(refused("weighted.ip.prior", "weighted.ipv7.prior").contains("no such field"));
        assert!(refused("\"weighted\"", "\"oracle\"").contains("is no rule"));
        assert!(refused("{", "{\"more\":1,").contains("unknown field"));
    }
}
