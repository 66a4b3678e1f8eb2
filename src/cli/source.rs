//! `concord source`.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use comfy_table::Cell;
use serde_json::Value;

use super::args::{Client, ListOutput, Source, SourceSet};
use super::connect::Connection;
use super::enrich::full_name;
use super::json::print_messages;
use super::{Failure, import_xsoar, print, table};
use crate::convert::Violations;
use crate::convert::source::{read_patch, value_to_json, write_patch};
use crate::pb;
use crate::settings::{Clearable, SOURCE_FIELDS, SourcePatch, nearest};

pub(super) async fn run(client: &Client, command: Source) -> Result<ExitCode, Failure> {
    match command {
        Source::List { output } => Connection::with(client, async |to| list(to, output).await).await,
        Source::Kinds { kind, output } => {
            Connection::with(client, async |to| kinds(to, kind.as_deref(), output).await).await
        }
        Source::Set(set) => {
            let request = configure(*set)?;
            Connection::with(client, async |to| self::set(to, request).await).await
        }
        Source::Get { name, output } => Connection::with(client, async |to| get(to, &name, output).await).await,
        Source::Test { name } => Connection::with(client, async |to| test(to, &name).await).await,
        Source::Delete { name } => Connection::with(client, async |to| delete(to, &name).await).await,
        Source::ImportXsoar { file, name } => import_xsoar::run(&file, &name),
    }
}

async fn list(connection: &Connection, output: ListOutput) -> Result<ExitCode, Failure> {
    let mut page = pb::ListSourcesResponse::default();
    let mut sources = Vec::new();
    loop {
        let request = pb::ListSourcesRequest { page_size: 1000, page_token: page.next_page_token };
        page = connection.sources().list_sources(request).await?.into_inner();
        sources.append(&mut page.sources);
        if page.next_page_token.is_empty() {
            break;
        }
    }
    if sources.is_empty() && output == ListOutput::Table {
        print(&format!("{}\n", page.hint))?;
        return Ok(ExitCode::SUCCESS);
    }
    print_messages(output, "Source", &sources, sources_table)?;
    Ok(ExitCode::SUCCESS)
}

fn sources_table(sources: &[pb::Source]) -> String {
    let mut rows = table::plain(&["NAME", "KIND", "LETTER", "STATE", "TIER", "QUOTA", "MAX TLP", "DECLARED", "DETAIL"]);
    for source in sources {
        rows.add_row(table::row([
            table::source_id(&source.name).to_owned(),
            source.kind.clone(),
            table::letter(source.reliability),
            table::words(source.state().as_str_name(), "SOURCE_STATE_"),
            source.tier.clone(),
            quota(&source.quota),
            table::tlp(source.max_tlp()),
            table::words(source.origin().as_str_name(), "SOURCE_ORIGIN_"),
            detail(source),
        ]));
    }
    table::fitted(rows, Some(8))
}

fn quota(windows: &[pb::QuotaWindow]) -> String {
    let windows = windows.iter().map(|window| {
        let period = table::words(window.period().as_str_name(), "QUOTA_PERIOD_");
        format!("{}/{period}", window.limit)
    });
    windows.collect::<Vec<_>>().join(" ")
}

/// The reason of its state, where it is declared, and which fields the API patches.
fn detail(source: &pb::Source) -> String {
    let patched = Some(source.patched_fields.join(" ")).filter(|fields| !fields.is_empty());
    let patched = patched.map(|fields| format!("patched over the API: {fields}")).unwrap_or_default();
    let suspended = source.suspended_until_time.as_ref().map(table::suspended).unwrap_or_default();
    let circuit = source.circuit.as_ref().map(table::circuit).unwrap_or_default();
    let parts = [source.state_detail.clone(), suspended, circuit, source.origin_place.clone(), patched];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

async fn kinds(connection: &Connection, wanted: Option<&str>, output: ListOutput) -> Result<ExitCode, Failure> {
    let mut kinds = connection.sources().list_source_kinds(pb::ListSourceKindsRequest {}).await?.into_inner().kinds;
    if let Some(wanted) = wanted {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.kind.as_str()).collect();
        let near = nearest(wanted, &names).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let unknown = format!("no kind {wanted}; `concord source kinds` lists them{near}");
        kinds.retain(|kind| kind.kind == wanted);
        if kinds.is_empty() {
            return Err(Failure::new(unknown));
        }
    }
    print_messages(output, "SourceKind", &kinds, |kinds| match kinds {
        [kind] if wanted.is_some() => kind_table(kind),
        _ => kinds_table(kinds),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn kinds_table(kinds: &[pb::SourceKind]) -> String {
    let mut rows = table::plain(&["KIND", "TITLE", "LETTER", "CREDENTIAL", "LOOKS UP", "SUMMARY"]);
    for kind in kinds {
        let (letter, forms) = (table::letter(kind.reliability), kind.forms.join(" "));
        rows.add_row([&kind.kind, &kind.title, &letter, &kind.credential, &forms, &kind.summary]);
    }
    table::fitted(rows, Some(5))
}

fn kind_table(kind: &pb::SourceKind) -> String {
    let mut rows = table::plain(&["  OPTION", "TYPE", "DEFAULT", "HELP"]);
    for option in &kind.options {
        let default = option.default_value.as_ref().map(|value| value_to_json(value).to_string()).unwrap_or_default();
        let help = if option.required { format!("{} (needed)", option.help) } else { option.help.clone() };
        rows.add_row([format!("  {}", option.name), allowed_values(option), default, help]);
    }
    let tiers = kind.tiers.iter().map(|tier| format!("Tier {}: {} {}\n", tier.name, tier.help, quota(&tier.quota)));
    let options =
        if kind.options.is_empty() { "It has no options.\n".to_owned() } else { table::fitted(rows, Some(3)) };
    format!(
        "{} ({})\n{}\n{}\nTerms: {}\n{}{}\n{options}",
        kind.title,
        kind.kind,
        kind.summary,
        kind.home_page,
        kind.terms,
        if kind.base_url.is_empty() { String::new() } else { format!("Asks: {}\n", kind.base_url) },
        tiers.collect::<String>(),
    )
}

/// An option's type with its limits, or its choices.
fn allowed_values(option: &pb::SourceOption) -> String {
    match (option.min, option.max) {
        _ if !option.choices.is_empty() => option.choices.join(", "),
        (Some(min), Some(max)) if option.r#type == "duration" => format!("duration, {min} to {max} s"),
        (Some(min), Some(max)) => format!("{}, {min} to {max}", option.r#type),
        _ => option.r#type.clone(),
    }
}

fn configure(set: SourceSet) -> Result<pb::ConfigureSourceRequest, Failure> {
    let reset = set.reset.clone();
    let validate_only = set.validate_only;
    Ok(pb::ConfigureSourceRequest {
        source: Some(source_of(set)?),
        update_mask: None,
        allow_missing: true,
        validate_only,
        reset_mask: (!reset.is_empty()).then_some(prost_types::FieldMask { paths: reset }),
        request_id: String::new(),
    })
}

async fn set(connection: &Connection, request: pb::ConfigureSourceRequest) -> Result<ExitCode, Failure> {
    let source = connection.sources().configure_source(request).await?.into_inner().source.unwrap_or_default();
    print(&source_table(&source))?;
    print_warnings(&source);
    Ok(ExitCode::SUCCESS)
}

/// Says beside the settings what in them is probably not meant so.
fn print_warnings(source: &pb::Source) {
    for warning in &source.warnings {
        eprintln!("concord: warning: {}: {warning}", source.name);
    }
}

fn source_of(set: SourceSet) -> Result<pb::Source, Failure> {
    let credential = credential(&set)?;
    let mut patch = SourcePatch { kind: set.kind, ..set.fields.0 };
    if let Some(path) = &set.ca_file {
        let pem = std::fs::read_to_string(path).map_err(|error| Failure::io(path.display(), &error))?;
        patch.ca_pem = Some(if pem.trim().is_empty() { Clearable::Cleared } else { Clearable::Set(pem) });
    }
    patch.options = set.options.iter().map(|option| read_option(option)).collect::<Result<_, _>>()?;
    Ok(pb::Source { name: full_name(&set.name, "sources"), credential, ..write_patch(patch) })
}

/// The credential, never from an argument, where other users could see it.
fn credential(set: &SourceSet) -> Result<String, Failure> {
    let text = match (&set.credential_env, &set.credential_file) {
        (Some(name), _) => {
            read_variable(name).ok_or_else(|| Failure::new(format!("the environment holds no {name}")))?
        }
        (None, Some(path)) if path == Path::new("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| Failure::io("standard input", &error))?;
            text
        }
        (None, Some(path)) => std::fs::read_to_string(path).map_err(|error| Failure::io(path.display(), &error))?,
        (None, None) => return Ok(String::new()),
    };
    match text.trim() {
        "" => Err(Failure::new("the credential is empty; `--reset credential` takes one back")),
        credential => Ok(credential.to_owned()),
    }
}

#[expect(clippy::disallowed_methods, reason = "the command line reads what its own arguments name")]
fn read_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn read_option(text: &str) -> Result<(String, Value), Failure> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| Failure::new(format!("--option {text}: write NAME=VALUE")))?;
    // Numbers, flags, lists and tables as JSON; anything else is a text.
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))))
}

async fn get(connection: &Connection, name: &str, output: ListOutput) -> Result<ExitCode, Failure> {
    let request = pb::GetSourceRequest { name: full_name(name, "sources") };
    let source = connection.sources().get_source(request).await?.into_inner().source.unwrap_or_default();
    print_warnings(&source);
    print_messages(output, "Source", &[source], |sources| sources.iter().map(source_table).collect())?;
    Ok(ExitCode::SUCCESS)
}

fn source_table(source: &pb::Source) -> String {
    let mut rows = table::plain(&["SETTING", "VALUE"]);
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.add_row([Cell::new(name), table::cell(value)]);
        }
    };
    row("name", source.name.clone());
    row("kind", source.kind.clone());
    row("state", table::words(source.state().as_str_name(), "SOURCE_STATE_"));
    row("", source.state_detail.clone());
    row("", source.suspended_until_time.as_ref().map(table::suspended).unwrap_or_default());
    row("", source.circuit.as_ref().map(table::circuit).unwrap_or_default());
    row("", table::reported(&source.reported_quota));
    row("calls at once", source.concurrency.as_ref().map(calls_at_once).unwrap_or_default());
    row("credential", if source.credential_set { "set" } else { "none" }.to_owned());
    for (name, value) in settings(source) {
        row(&name, value);
    }
    let declared = table::words(source.origin().as_str_name(), "SOURCE_ORIGIN_");
    row("declared", format!("{declared} {}", source.origin_place).trim().to_owned());
    row("patched", source.patched_fields.join(" "));
    row("etag", source.etag.clone());
    table::fitted(rows, Some(1))
}

/// How many calls are under way and may be, and how many wait.
fn calls_at_once(concurrency: &pb::Concurrency) -> String {
    let pb::Concurrency { limit, in_flight, waiting } = concurrency;
    format!("{in_flight} of {limit}, {waiting} waiting")
}

/// Every setting as it is written in the configuration file, but for certificates. What a newer server has and this
/// version cannot read is left out.
fn settings(source: &pb::Source) -> Vec<(String, String)> {
    let patch = SourcePatch { ca_pem: None, ..read_patch(source, &mut Violations::default()) };
    let document = serde_json::to_value(&patch).unwrap_or_default();
    let mut rows = Vec::new();
    for field in SOURCE_FIELDS {
        rows.extend(document.get(field.name).map(|value| (field.name.to_owned(), one_line(value))));
    }
    rows.extend(patch.options.iter().map(|(name, value)| (format!("options.{name}"), value.to_string())));
    rows
}

fn one_line(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    }
}

async fn test(connection: &Connection, name: &str) -> Result<ExitCode, Failure> {
    let request = pb::TestSourceRequest { name: full_name(name, "sources"), source: None, update_mask: None };
    let tested = connection.sources().test_source(request).await?.into_inner();
    print(&format!("reachable: {}\n", reached(&tested)))?;
    if let Some(accepted) = tested.credential_accepted {
        print(&format!("credential accepted: {}\n", if accepted { "yes" } else { "no" }))?;
    }
    if !tested.tier.is_empty() {
        print(&format!("tier: {}\n", table::printable(&tested.tier)))?;
    }
    for window in &tested.quota_left {
        print(&format!("left this {}: {}\n", table::printable(&window.window), window.left))?;
    }
    print(&format!("{}\n", table::printable(&tested.detail)))?;
    let good = tested.reachable && tested.credential_accepted != Some(false);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the source was reached, in words. Something else that answers in its place is reached too.
fn reached(tested: &pb::TestSourceResponse) -> &'static str {
    use pb::SourceErrorKind as Kind;
    match tested.error.as_ref().map(|error| error.kind()) {
        _ if tested.reachable => "yes",
        Some(Kind::QuotaExhausted) => "not tried, or it has enough",
        Some(Kind::Malformed | Kind::TooLarge | Kind::BadQuestion) => "yes, but what answers is not the source",
        Some(_) | None => "no",
    }
}

async fn delete(connection: &Connection, name: &str) -> Result<ExitCode, Failure> {
    let request = pb::DeleteSourceRequest { name: full_name(name, "sources"), ..Default::default() };
    connection.sources().delete_source(request).await?;
    print(&format!("deleted {}\n", full_name(name, "sources")))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_else_that_answers_is_reached_and_is_not_the_source() {
        let tested = |kind: pb::SourceErrorKind| pb::TestSourceResponse {
            error: Some(pb::SourceError { kind: kind.into(), ..Default::default() }),
            ..Default::default()
        };
        let good = pb::TestSourceResponse { reachable: true, ..Default::default() };
        assert_eq!(reached(&good), "yes");
        assert_eq!(reached(&tested(pb::SourceErrorKind::Malformed)), "yes, but what answers is not the source");
        assert_eq!(reached(&tested(pb::SourceErrorKind::QuotaExhausted)), "not tried, or it has enough");
        assert_eq!(reached(&tested(pb::SourceErrorKind::Unavailable)), "no");
        assert_eq!(reached(&pb::TestSourceResponse::default()), "no");
    }
}
