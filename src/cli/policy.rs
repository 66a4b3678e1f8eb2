//! `concord policy`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use super::args::{Client, ListOutput, Policy, PolicySet};
use super::connect::Connection;
use super::enrich::full_name;
use super::json::print_messages;
use super::{Failure, print, table};
use crate::convert::Violations;
use crate::convert::policy::{read_fields, read_rule, write_fields, write_rule};
use crate::error::Violation;
use crate::pb;
use crate::settings::{FieldValue, PolicyField, PolicyFields, flatten, in_order};

pub(super) async fn run(client: &Client, command: Policy) -> Result<ExitCode, Failure> {
    match command {
        Policy::List { output } => Connection::with(client, async |to| list(to, output).await).await,
        Policy::Show { name, revision, output } => {
            let wanted = Wanted::read(&name, revision)?;
            Connection::with(client, async |to| show(to, &wanted, output).await).await
        }
        Policy::Set(set) => {
            let request = configure(*set)?;
            Connection::with(client, async |to| self::set(to, request).await).await
        }
        Policy::Delete { name, etag } => Connection::with(client, async |to| delete(to, &name, etag).await).await,
        Policy::Diff { left, right } => {
            let (left, right) = (Wanted::read(&left, None)?, Wanted::read(&right, None)?);
            Connection::with(client, async |to| diff(to, &left, &right).await).await
        }
    }
}

/// A policy as the arguments name it: `NAME`, or `NAME@REVISION`.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) name: String,
    /// 0: as it is now.
    pub(super) revision: u32,
}

impl Wanted {
    pub(super) fn read(text: &str, revision: Option<u32>) -> Result<Self, Failure> {
        let (name, written) = text.split_once('@').map_or((text, None), |(name, written)| (name, Some(written)));
        let unread = |written: &str| Failure::new(format!("{text}: {written:?} is no revision; write NAME@3"));
        let written = written.map(|written| written.parse::<u32>().map_err(|_| unread(written))).transpose()?;
        Ok(Self { name: full_name(name, "policies"), revision: revision.or(written).unwrap_or(0) })
    }
}

async fn get(connection: &Connection, wanted: &Wanted) -> Result<pb::Policy, Failure> {
    let request = pb::GetPolicyRequest { name: wanted.name.clone(), revision: wanted.revision };
    Ok(connection.policies().get_policy(request).await?.into_inner().policy.unwrap_or_default())
}

async fn list(connection: &Connection, output: ListOutput) -> Result<ExitCode, Failure> {
    let mut page = pb::ListPoliciesResponse::default();
    let mut policies = Vec::new();
    loop {
        let request = pb::ListPoliciesRequest { page_size: 1000, page_token: page.next_page_token };
        page = connection.policies().list_policies(request).await?.into_inner();
        policies.append(&mut page.policies);
        if page.next_page_token.is_empty() {
            break;
        }
    }
    print_messages(output, "Policy", &policies, |policies| policies_table(policies, &page.default_policy))?;
    Ok(ExitCode::SUCCESS)
}

fn policies_table(policies: &[pb::Policy], default_policy: &str) -> String {
    let header = ["NAME", "RULE", "REVISION", "DEFAULT", "MIN COVERAGE", "DECLARED", "SUMMARY"];
    let mut rows = table::plain(&header);
    for policy in policies {
        rows.add_row(table::row([
            short_name(policy).to_owned(),
            rule(policy).to_owned(),
            policy.revision.to_string(),
            if policy.name == default_policy { "yes" } else { "" }.to_owned(),
            policy.minimum_coverage.unwrap_or_default().to_string(),
            table::words(policy.origin().as_str_name(), "POLICY_ORIGIN_"),
            policy.summary.clone(),
        ]));
    }
    table::fitted(rows, Some(6))
}

async fn show(connection: &Connection, wanted: &Wanted, output: ListOutput) -> Result<ExitCode, Failure> {
    let policy = get(connection, wanted).await?;
    print_messages(output, "Policy", &[policy], |policies| policies.iter().map(policy_table).collect())?;
    Ok(ExitCode::SUCCESS)
}

/// Every field as it is written in the configuration file, with its unit.
fn policy_table(policy: &pb::Policy) -> String {
    let mut rows = table::plain(&["FIELD", "VALUE", "UNIT"]);
    let origin = table::words(policy.origin().as_str_name(), "POLICY_ORIGIN_");
    for (name, value) in [
        ("name", policy.name.clone()),
        ("revision", policy.revision.to_string()),
        ("rule", rule(policy).to_owned()),
        ("declared", format!("{origin} {}", policy.origin_place).trim().to_owned()),
        ("etag", policy.etag.clone()),
    ] {
        rows.add_row(table::row([name, &value, ""]));
    }
    for field in described(policy) {
        rows.add_row(table::row([field.path.as_str(), &field.value.written(), field.unit.as_str()]));
    }
    table::fitted(rows, Some(1))
}

fn configure(set: PolicySet) -> Result<pb::ConfigurePolicyRequest, Failure> {
    let from_file = set.file.as_deref().map(read_file).transpose()?;
    let (file_base, rules, mut fields) = match from_file {
        Some(flat) => (flat.base, flat.rules, flat.fields),
        None => (None, Vec::new(), PolicyFields::new()),
    };
    for text in &set.set {
        let (path, value) =
            text.split_once('=').ok_or_else(|| Failure::new(format!("--set {text}: write PATH=VALUE")))?;
        fields.insert(path.trim().to_owned(), FieldValue::Written(value.trim().to_owned()));
    }
    fields.extend(set.summary.map(|summary| ("summary".to_owned(), FieldValue::Text(summary))));
    let paths: Vec<String> = fields.keys().chain(&set.reset).cloned().collect();
    let mut policy = write_fields(fields.clone()).map_err(|violations| refused(&violations))?;
    // The message holds one rule, and one mode of decay for each type: of two that are written it keeps one.
    let kept = read_fields(&policy, &mut Violations::default());
    if let Some(lost) = fields.keys().find(|path| *path != "summary" && !kept.contains_key(*path)) {
        let message = "contradicts another field: a policy has one rule, and a type has one mode of decay";
        return Err(Failure::new(format!("{lost}: {message}")));
    }
    if policy.rule.is_none() {
        policy.rule = rules.first().copied().map(write_rule);
    }
    let base = set.base.or(file_base).map(|base| full_name(&base, "policies")).unwrap_or_default();
    Ok(pb::ConfigurePolicyRequest {
        policy: Some(pb::Policy {
            name: full_name(&set.name, "policies"),
            etag: set.etag.unwrap_or_default(),
            ..policy
        }),
        // Only what is taken back needs a mask, which then must name what is set too.
        update_mask: (!set.reset.is_empty()).then_some(prost_types::FieldMask { paths }),
        allow_missing: true,
        validate_only: set.validate_only,
        request_id: String::new(),
        base,
    })
}

/// A file with the content of a table `[policies.NAME]`; `-` is standard input.
fn read_file(path: &Path) -> Result<crate::settings::FlatTable, Failure> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| Failure::io("standard input", &error))?;
        text
    } else {
        std::fs::read_to_string(path).map_err(|error| Failure::io(path.display(), &error))?
    };
    let table: toml::Table = text.parse().map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    flatten(&table).map_err(|violations| refused(&violations))
}

fn refused(violations: &[Violation]) -> Failure {
    let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
    Failure::new(lines.join("\n  "))
}

async fn set(connection: &Connection, request: pb::ConfigurePolicyRequest) -> Result<ExitCode, Failure> {
    let policy = connection.policies().configure_policy(request).await?.into_inner().policy.unwrap_or_default();
    print(&policy_table(&policy))?;
    Ok(ExitCode::SUCCESS)
}

async fn delete(connection: &Connection, name: &str, etag: Option<String>) -> Result<ExitCode, Failure> {
    let name = full_name(name, "policies");
    let etag = etag.unwrap_or_default();
    let request = pb::DeletePolicyRequest { name: name.clone(), etag, ..Default::default() };
    connection.policies().delete_policy(request).await?;
    print(&format!("deleted {name}; its revisions can still be shown\n"))?;
    Ok(ExitCode::SUCCESS)
}

async fn diff(connection: &Connection, left: &Wanted, right: &Wanted) -> Result<ExitCode, Failure> {
    let (left, right) = (get(connection, left).await?, get(connection, right).await?);
    print(&diff_table(&left, &right))?;
    Ok(ExitCode::SUCCESS)
}

/// The fields that differ.
fn diff_table(left: &pb::Policy, right: &pb::Policy) -> String {
    let title = |policy: &pb::Policy| format!("{}@{}", short_name(policy), policy.revision);
    let mut rows = table::plain(&["FIELD", &table::printable(&title(left)), &table::printable(&title(right)), "UNIT"]);
    let mut count = 0;
    let mut row = |path: &str, left: &str, right: &str, unit: &str| {
        if left != right {
            count += 1;
            rows.add_row(table::row([path, left, right, unit]));
        }
    };
    row("rule", rule(left), rule(right), "");
    let (in_left, in_right) = (described(left), described(right));
    let by_path = |fields: &[PolicyField]| -> BTreeMap<String, String> {
        fields.iter().map(|field| (field.path.clone(), field.value.written())).collect()
    };
    let (of_left, of_right) = (by_path(&in_left), by_path(&in_right));
    let only_right = in_right.iter().filter(|field| !of_left.contains_key(&field.path));
    for field in in_left.iter().chain(only_right) {
        let written = |fields: &BTreeMap<String, String>| fields.get(&field.path).cloned().unwrap_or_default();
        row(&field.path, &written(&of_left), &written(&of_right), field.unit.as_str());
    }
    if count == 0 { "no field differs\n".to_owned() } else { table::fitted(rows, None) }
}

/// Every field in the order in which people read them. What a newer server has and this version does not know has no unit.
fn described(policy: &pb::Policy) -> Vec<PolicyField> {
    let fields = read_fields(policy, &mut Violations::default());
    in_order(policy.rule.as_ref().map(read_rule), fields)
}

fn rule(policy: &pb::Policy) -> &'static str {
    policy.rule.as_ref().map_or("", |rule| read_rule(rule).as_str())
}

fn short_name(policy: &pb::Policy) -> &str {
    policy.name.strip_prefix("policies/").unwrap_or(&policy.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(entries: &[(&str, &str)]) -> pb::Policy {
        let fields = entries.iter().map(|(path, text)| ((*path).to_owned(), FieldValue::Written((*text).to_owned())));
        pb::Policy { name: "policies/a".into(), revision: 1, ..write_fields(fields).unwrap() }
    }

    #[test]
    fn only_the_fields_that_differ_are_printed_with_their_unit() {
        let left = policy(&[("weighted.ip.prior", "0.19"), ("weighted.ip.decay.half_life.grace", "14d")]);
        let right = policy(&[
            ("weighted.ip.prior", "0.19"),
            ("weighted.ip.decay.half_life.grace", "7d"),
            ("weighted.sources.vt.coverage.if_benign", "0.5"),
        ]);
        let right = pb::Policy { revision: 2, ..right };
        let shown = diff_table(&left, &right);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["FIELD", "a@1", "a@2", "UNIT"]);
        assert!(lines.contains(&vec!["weighted.ip.decay.half_life.grace", "14d", "7d", "time"]), "{shown}");
        assert!(lines.contains(&vec!["weighted.sources.vt.coverage.if_benign", "0.5", "share"]), "{shown}");
        assert!(!shown.contains("prior"), "{shown}");
        assert_eq!(diff_table(&left, &left), "no field differs\n");
    }

    #[test]
    fn a_revision_is_named_behind_the_policy() {
        let wanted = Wanted::read("strict@3", None).ok().unwrap();
        assert_eq!((wanted.name.as_str(), wanted.revision), ("policies/strict", 3));
        assert_eq!(Wanted::read("policies/strict", Some(2)).ok().unwrap().revision, 2);
        assert!(Wanted::read("strict@last", None).is_err());
    }
}
