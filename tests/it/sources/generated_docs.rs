//! The page on the kinds, written from what they say of themselves. `UPDATE_GOLDEN=1` writes it anew.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use concord::source::{About, OptionSpec, OptionType, OptionValue, Tier};
use concord::sources;
use url::Url;

const HEAD: &str = "# Sources

What each kind of source knows, asks and costs. Written from the kinds' own descriptions; do not edit by hand.

A question leaves only when its TLP is at most the source's highest, and only while the quota allows it. Every value
below is a default: the settings of a source can change it.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for kind in sources::all() {
        page.push_str(&section(kind.about()));
    }
    page
}

fn section(about: &About) -> String {
    let forms: Vec<_> = about.forms.iter().map(|form| form.as_str()).collect();
    let rows = [
        ("looks up", forms.join(", ")),
        ("asks over", about.transport.as_str().to_owned()),
        ("base address", about.base_url.as_ref().map_or("-", Url::as_str).to_owned()),
        ("credential", about.credential.as_str().to_owned()),
        ("reliability", about.reliability.to_string()),
        ("highest TLP", format!("{:?}", about.max_tlp).to_uppercase()),
        ("timeout", duration(about.timeout)),
        ("caches a finding for", duration(about.cache_ttl.finding)),
        ("caches \"no record\" for", duration(about.cache_ttl.no_record)),
        ("republishes", about.family.clone().unwrap_or_else(|| "-".to_owned())),
        ("home page", about.home_page.clone()),
    ];
    let mut text = format!("\n## {}: `{}`\n\n{}\n\n{}\n\n", about.title, about.kind, about.summary, about.terms);
    text.push_str("| | default |\n|---|---|\n");
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text.push_str("\n| tier | what it is | quota |\n|---|---|---|\n");
    for tier in &about.tiers {
        let _ = writeln!(text, "| {} | {} | {} |", tier.name, tier.help, quota(tier));
    }
    if !about.options.is_empty() {
        text.push_str("\n| option | type | default | meaning |\n|---|---|---|---|\n");
    }
    for spec in &about.options {
        let _ =
            writeln!(text, "| `{}` | {} | {} | {} |", spec.name, limits(&spec.value_type), default(spec), spec.help);
    }
    text
}

fn duration(time: Duration) -> String {
    if time.is_zero() { "not cached".to_owned() } else { humantime::format_duration(time).to_string() }
}

fn quota(tier: &Tier) -> String {
    let windows: Vec<_> =
        tier.quota.iter().map(|window| format!("{} per {}", window.limit, window.per.as_str())).collect();
    if windows.is_empty() { "none".to_owned() } else { windows.join(", ") }
}

fn limits(value_type: &OptionType) -> String {
    match value_type {
        OptionType::Integer { min, max } => format!("integer, {min} to {max}"),
        OptionType::Number { min, max } => format!("number, {min} to {max}"),
        OptionType::Duration { min, max } => {
            let shown = humantime::format_duration;
            format!("duration, {} to {}", shown(*min), shown(*max))
        }
        OptionType::Choice(words) => words.join(", "),
        OptionType::Flag
        | OptionType::Text
        | OptionType::TextList
        | OptionType::TextTable
        | OptionType::Address
        | OptionType::Path
        | OptionType::Resolver => value_type.as_str().to_owned(),
    }
}

fn default(spec: &OptionSpec) -> String {
    match (&spec.default, spec.required) {
        (None, true) => "required".to_owned(),
        (None, false) => "unset".to_owned(),
        (Some(value), _) => shown(value),
    }
}

fn shown(value: &OptionValue) -> String {
    match value {
        OptionValue::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        other => other.to_string(),
    }
}

#[test]
fn the_page_on_the_kinds_says_what_they_say_of_themselves() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sources.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, page()).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, page(), "docs/sources.md is not what the kinds say; UPDATE_GOLDEN=1 writes it anew");
}
