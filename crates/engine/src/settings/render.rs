//! The configuration in effect as TOML, secrets masked, for `--print-config`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::form::duration;
use super::{Config, FieldValue, fields};
use crate::source::CallerBudgets;

impl Config {
    /// The configuration in effect as TOML, every secret shown as `***`.
    pub fn render_masked(&self) -> String {
        let mut text = String::new();
        let out = &mut text;
        line(out, "listen", quoted(self.listen));
        line(out, "insecure_listen", self.insecure_listen);
        line(out, "data_directory", quoted(self.data_directory.display()));
        line(out, "default_deadline", quoted(duration(self.default_deadline)));
        line(out, "default_policy", quoted(&self.default_policy));
        line(out, "durability", quoted(<&str>::from(self.durability)));
        line(out, "cors_origins", list(&self.cors_origins));
        line(out, "host_names", list(&self.host_names));
        line(out, "never_send", list(&self.never_send.rules()));
        line(out, "internal_suffixes", list(&self.internal_suffixes));
        line(out, "list_folders", list(&self.list_folders.iter().map(|folder| folder.display()).collect::<Vec<_>>()));
        line(out, "allowed_networks", list(&self.allowed_networks));
        if let Some(tls) = &self.tls {
            out.push_str("\n[tls]\n");
            line(out, "certificate", quoted(tls.certificate.display()));
            line(out, "key", quoted(tls.key.display()));
            if let Some(client_ca) = &tls.client_ca {
                line(out, "client_ca", quoted(client_ca.display()));
            }
        }
        if !self.tokens.is_empty() {
            out.push_str("\n[tokens]\n");
            self.tokens.iter().for_each(|token| line(out, &token.name, quoted("***")));
        }
        out.push_str("\n[log]\n");
        line(out, "format", quoted(<&str>::from(self.log.format)));
        line(out, "filter", quoted(&self.log.filter));
        out.push_str("\n[limits]\n");
        line(out, "max_in_flight", self.limits.max_in_flight);
        line(out, "max_connections", self.limits.max_connections);
        line(out, "max_connections_without_credential", self.limits.max_connections_without_credential);
        line(out, "credential_timeout", quoted(duration(self.limits.credential_timeout)));
        line(out, "max_calls_per_connection", self.limits.max_calls_per_connection);
        line(out, "max_health_watches", self.limits.max_health_watches);
        line(out, "send_timeout", quoted(duration(self.limits.send_timeout)));
        line(out, "max_message_bytes", self.limits.max_message_bytes);
        out.push_str("\n[retention]\n");
        line(out, "answers_age", quoted(duration(self.retention.answers_age)));
        line(out, "answers_bytes", self.retention.answers_bytes);
        line(out, "verdicts_age", quoted(duration(self.retention.verdicts_age)));
        line(out, "disclosures_age", quoted(duration(self.retention.disclosures_age)));
        line(out, "store_bytes", self.retention.store_bytes);
        let rules = &self.submissions;
        out.push_str("\n[submissions]\n");
        line(out, "submitters", list(&rules.submitters));
        line(out, "approvers", list(&rules.approvers));
        line(out, "max_file_bytes", rules.max_file_bytes);
        line(out, "spool_bytes", rules.spool_bytes);
        line(out, "expiry", quoted(duration(rules.expiry)));
        line(out, "sensitive_words", list(&rules.sensitive_words));
        line(out, "own_names", list(&rules.own_names));
        for (name, source) in &rules.sources {
            let _ = write!(out, "\n[submissions.sources.{name}]\n");
            if let Some(max_tlp) = source.public {
                line(out, "enabled", true);
                line(out, "max_tlp", quoted(max_tlp));
            }
            if let Some(max_tlp) = source.private {
                line(out, "private_enabled", true);
                line(out, "private_max_tlp", quoted(max_tlp));
            }
        }
        let budgets = &self.caller_budgets;
        if *budgets != CallerBudgets::default() {
            out.push_str("\n[caller_budget]\n");
            budgets.default.into_iter().for_each(|units| line(out, "units_per_day", units));
            for (name, units) in &budgets.callers {
                line(out, &format!("callers.{}", quoted(name)), units);
            }
        }
        for super::DeclaredPolicy { policy, file } in &self.policies {
            let _ = write!(out, "\n# declared by {}\n[policies.{}]\n", file.display(), policy.name);
            line(out, "base", quoted(policy.rule.kind().as_str()));
            for field in fields(policy) {
                let written = field.value.written();
                let is_bare = matches!(field.value, FieldValue::Number(_) | FieldValue::Flag(_));
                line(out, &field.path, if is_bare { written } else { quoted(written) });
            }
        }
        for source in &self.sources {
            let _ = write!(out, "\n# declared by {}\n{}", source.origin, declared(source));
        }
        text
    }
}

/// The source as its table in the file. A patch is plain data: texts, numbers, flags, lists and tables all have a TOML form.
fn declared(source: &super::Declared) -> String {
    let document = serde_json::to_value(&source.patch).unwrap_or_default();
    let Ok(toml::Value::Table(mut table)) = toml::Value::try_from(&document) else { return String::new() };
    table.remove("ca_pem");
    table.retain(|_, value| value.as_table().is_none_or(|table| !table.is_empty()));
    if let Some(file) = &source.ca_file {
        table.insert("ca_file".into(), file.as_str().into());
    }
    if source.credential.is_some() {
        table.insert("credential".into(), "***".into());
    }
    let named = BTreeMap::from([(&source.name, table)]);
    toml::to_string(&BTreeMap::from([("sources", named)])).unwrap_or_default()
}

fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{name} = {value}");
}

/// A TOML text.
fn quoted(text: impl std::fmt::Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}
