//! What thirteen public test suites expect of indicator parsing and extraction, against our decisions.
//!
//! Wherever we differ, the line stands in a golden list under the decision that makes the difference. The suites' own
//! texts are not part of the project (`recordings.rs`). Cases of our own stand in `tests/fixtures/indicators/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use concord::indicator::{ExtractOptions, Extracted, Form, Indicator, extract, refang};
use serde_json::Value;
use strum::VariantArray;

use crate::recordings;

/// The lines of one suite file, or nothing where the fixtures are not at hand.
fn suite(test: &str, name: &str) -> Option<Vec<Value>> {
    let file = recordings::folder_for(test)?.join("indicators").join(name);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// The lines where we mean to differ, each with the decision that makes the difference.
fn golden(name: &str) -> BTreeMap<usize, String> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/indicators").join(name);
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let entries: Vec<_> = lines
        .map(|line| {
            let (number, decision) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?} names no decision"));
            (number.parse().unwrap_or_else(|_| panic!("{line:?} begins with no line number")), decision.to_owned())
        })
        .collect();
    let map: BTreeMap<_, _> = entries.iter().cloned().collect();
    assert_eq!(map.len(), entries.len(), "{name} lists a line twice");
    map
}

/// Fails on a difference that no decision explains, and on a decision that explains nothing any more.
fn hold_against(name: &str, differences: &BTreeMap<usize, String>) {
    let golden = golden(name);
    let unexplained: Vec<_> = differences
        .iter()
        .filter(|(line, _)| !golden.contains_key(line))
        .map(|(line, why)| format!("{line} {why}"))
        .collect();
    let outdated: Vec<_> = golden.keys().filter(|line| !differences.contains_key(line)).collect();
    assert!(unexplained.is_empty(), "{} unlisted differences:\n{}", unexplained.len(), unexplained.join("\n"));
    assert!(outdated.is_empty(), "listed in {name}, but no difference any more: {outdated:?}");
}

fn share(name: &str, agreed: usize, all: usize) -> f64 {
    let share = agreed as f64 / all as f64;
    println!("{name}: {agreed} of {all} lines as stated ({:.1} %)", share * 100.0);
    share
}

fn text_of<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_default()
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn form(name: &str) -> Option<Form> {
    name.parse().ok()
}

/// A word that a refusal of this kind of thing contains.
fn kind_word(kind: &str) -> &'static str {
    match kind {
        "other:email" => "e-mail",
        "other:cidr" => "network",
        "other:asn" => "AS number",
        "other:filename" => "file",
        other => panic!("the suites have no {other:?}"),
    }
}

/// Why a line of `single.jsonl` does not come out as stated.
fn single_difference(line: &Value) -> Option<String> {
    let (text, stated) = (text_of(line, "in"), text_of(line, "type"));
    let read = Indicator::parse(text);
    let parsed = match &read {
        Ok(read) => format!("{text:?}: {:?}, stated {stated} {}", read.indicator, line["norm"]),
        Err(refusal) => format!("{text:?}: {refusal}, stated {stated} {}", line["norm"]),
    };
    let agrees = match (form(stated), read) {
        (Some(form), Ok(read)) => {
            let norm = line["norm"].as_str().unwrap_or(text);
            read.indicator.form() == form && Indicator::parse(norm).is_ok_and(|norm| norm.indicator == read.indicator)
        }
        (Some(_), Err(_)) => false,
        (None, Ok(read)) => {
            let refused = words(&line["not"]);
            stated == "invalid" && !refused.contains(&"*") && !refused.contains(&read.indicator.form().as_str())
        }
        (None, Err(refusal)) => stated == "invalid" || refusal.message.contains(kind_word(stated)),
    };
    (!agrees).then_some(parsed)
}

#[test]
fn single_values_are_read_as_the_public_suites_read_them() {
    let Some(lines) = suite("single_values_are_read_as_the_public_suites_read_them", "single.jsonl") else { return };
    let mut differences = BTreeMap::new();
    let (mut agreed, mut sure) = (0, 0);
    for (number, line) in (1..).zip(&lines) {
        let weak = line.get("disagree").is_some() || line.get("heuristic").is_some();
        sure += usize::from(!weak);
        match single_difference(line) {
            Some(why) => drop(differences.insert(number, why)),
            None => agreed += usize::from(!weak),
        }
    }
    hold_against("single.txt", &differences);
    assert!(share("single.jsonl, without weak lines", agreed, sure) >= 0.9);
}

/// The values of one form among what was found.
fn values(found: &[Extracted], form: Form) -> BTreeSet<&str> {
    found.iter().map(|found| &found.indicator).filter(|found| found.form() == form).map(Indicator::value).collect()
}

/// What the line expects of one form, in our normal form.
fn expected(line: &Value, form: Form) -> Result<BTreeSet<String>, String> {
    let stated = words(&line["expect"][form.as_str()]);
    let read = stated.into_iter().map(|text| match Indicator::parse_as(text, form.indicator_type()) {
        Ok(read) => Ok(read.indicator.value().to_owned()),
        Err(refusal) => Err(format!("expects what we refuse: {refusal}")),
    });
    read.collect()
}

/// Why what was found is not what the line asks for.
fn found_difference(line: &Value, found: &[Extracted]) -> Result<(), String> {
    let exact = words(&line["exact"]);
    for &form in Form::VARIANTS {
        let (found, expected) = (values(found, form), expected(line, form)?);
        let expected: BTreeSet<_> = expected.iter().map(String::as_str).collect();
        let missing: Vec<_> = expected.difference(&found).collect();
        let surplus: Vec<_> = found.difference(&expected).filter(|_| exact.contains(&form.as_str())).collect();
        if !missing.is_empty() || !surplus.is_empty() {
            return Err(format!("{}: missing {missing:?}, surplus {surplus:?}", form.as_str()));
        }
        let number = |key: &str| line[key][form.as_str()].as_u64().and_then(|number| usize::try_from(number).ok());
        if number("count").is_some_and(|count| count != found.len()) {
            return Err(format!("{}: counts {}, found {found:?}", form.as_str(), line["count"]));
        }
        if number("min").is_some_and(|min| found.len() < min) {
            return Err(format!("{}: at least {}, found {found:?}", form.as_str(), line["min"]));
        }
    }
    Ok(())
}

/// E-mail addresses are none of our types, but each that a suite finds must give its domain or address on request.
fn mail_difference(line: &Value, found: &[Extracted]) -> Result<(), String> {
    let hosts: BTreeSet<_> = found.iter().map(|found| found.indicator.value()).collect();
    for mail in words(&line["expect"]["other:email"]) {
        let host = mail.rsplit('@').next().unwrap_or_default();
        let host =
            Indicator::parse(host).map_err(|refusal| format!("expects an e-mail of what we refuse: {refusal}"))?;
        if !hosts.contains(host.indicator.value()) {
            return Err(format!("the domain of {mail} is not found"));
        }
    }
    let counted = ["count", "min"].iter().any(|key| line[key]["other:email"].as_u64().is_some_and(|number| number > 0));
    if counted && hosts.is_empty() {
        return Err("the domain of the e-mail address is not found".into());
    }
    Ok(())
}

/// What a suite counts as found beside what stands there by itself: three also take hosts of URLs and domains of e-mails.
fn options(line: &Value) -> ExtractOptions {
    let takes_hosts = ["CybercentreCanada/Multidecoder", "assafmo/xioc", "microsoft/msticpy"];
    let both = takes_hosts.iter().any(|suite| text_of(line, "from").starts_with(suite));
    ExtractOptions { url_hosts: both, email_domains: both }
}

/// Why a line of `text.jsonl` does not come out as stated.
fn text_difference(line: &Value) -> Option<String> {
    let text = text_of(line, "text");
    if let Some(refanged) = line["refanged"].as_str() {
        let ours = refang(text);
        return (ours != refanged).then(|| format!("{text:?}: refanged {ours:?}, stated {refanged:?}"));
    }
    let found = found_difference(line, &extract(text, &options(line)));
    let mails = mail_difference(line, &extract(text, &ExtractOptions { url_hosts: true, email_domains: true }));
    found.and(mails).err().map(|why| format!("{text:?}: {why}"))
}

#[test]
fn free_texts_yield_what_the_public_suites_find() {
    let Some(lines) = suite("free_texts_yield_what_the_public_suites_find", "text.jsonl") else { return };
    let mut differences = BTreeMap::new();
    for (number, line) in (1..).zip(&lines) {
        if let Some(why) = text_difference(line) {
            differences.insert(number, why);
        }
    }
    hold_against("text.txt", &differences);
    assert!(share("text.jsonl", lines.len() - differences.len(), lines.len()) >= 2.0 / 3.0);
}
