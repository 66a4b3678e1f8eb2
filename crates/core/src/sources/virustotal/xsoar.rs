//! The rating `xsoar`: what Cortex XSOAR's integration computes from a report, defects included, so that those who migrate
//! can compare. `docs/virustotal.md` names the defects.
//!
//! It reads values as that integration's language does: a missing member is nothing, a flag is a number, and a member of an
//! unexpected type ends the calculation, which makes no score.

use super::options::Options;
use crate::finding::{Disposition, XsoarClaim};
use crate::indicator::IndicatorType;
use crate::sources::document::{Members, Value};
use crate::sources::http::Thresholds;

/// How many engines of a report that integration looks at for preferred vendors.
const RECENT: usize = 20;

/// A calculation, or why it ends without a score.
type Computed<T> = Result<T, String>;

/// The claim that the integration would make of this answer, and why.
///
/// # Errors
/// Why it would make none.
pub(super) fn rate(wanted: IndicatorType, answer: Members<'_>, options: &Options) -> Computed<XsoarClaim> {
    let (claim, reason) = match wanted {
        IndicatorType::File => file(answer, options)?,
        IndicatorType::Ip | IndicatorType::Domain | IndicatorType::Url => network(wanted, answer, options)?,
    };
    check_output(answer)?;
    Ok(XsoarClaim { claim, reason })
}

fn network(wanted: IndicatorType, answer: Members<'_>, options: &Options) -> Computed<(Disposition, String)> {
    let attributes = member_or_empty(member_or_empty(answer, "data")?, "attributes")?;
    let ranks = attributes.get("popularity_ranks").filter(|ranks| is_true(*ranks));
    if let Some(ranks) = ranks {
        let ranks = object(ranks, "popularity_ranks")?;
        let mut sum = 0.0;
        for (_, rank) in ranks.iter() {
            sum += match object(rank, "an entry of popularity_ranks")?.get("rank") {
                Some(rank) => number(rank, "rank")?,
                None => 0.0,
            };
        }
        let average = sum / ranks.len() as f64;
        if average <= options.popularity_threshold as f64 {
            let threshold = options.popularity_threshold;
            return Ok((Disposition::Benign, format!("average popularity rank {average:.0} (threshold {threshold})")));
        }
    }
    let results = attributes.get("last_analysis_results").unwrap_or(Value::Null);
    if let Some(reason) = preferred_reason(object(results, "last_analysis_results")?, options)? {
        return Ok((Disposition::Malicious, reason));
    }
    let stats = attributes.get("last_analysis_stats").unwrap_or(Value::Null);
    by_threshold(object(stats, "last_analysis_stats")?, options.thresholds(wanted))
}

fn file(answer: Members<'_>, options: &Options) -> Computed<(Disposition, String)> {
    let data = member_or_empty(answer, "data")?;
    let attributes = member_or_empty(data, "attributes")?;
    let results = member_or_empty(attributes, "last_analysis_results")?;
    if let Some(reason) = preferred_reason(results, options)? {
        return Ok((Disposition::Malicious, reason));
    }
    let stats = member_or_empty(attributes, "last_analysis_stats")?;
    let (claim, reason) = by_threshold(stats, &options.file)?;
    if claim == Disposition::Malicious {
        return Ok((claim, reason));
    }
    Ok(match rules_hit(data, options)? {
        Some(rules) if claim == Disposition::Suspicious => (Disposition::Malicious, format!("{reason}; {rules}")),
        Some(rules) => (Disposition::Suspicious, rules),
        None => (claim, reason),
    })
}

/// The preferred vendors, by their exact names, among the first engines of the report.
fn preferred_reason(results: Members<'_>, options: &Options) -> Computed<Option<String>> {
    let mut malicious = 0_u64;
    for (_, result) in results.iter().take(RECENT).filter(|(name, _)| options.vendors.contains_exactly(name)) {
        let category = object(result, "an engine's result")?.get("category");
        malicious += u64::from(category.and_then(Value::as_text) == Some("malicious"));
    }
    let threshold = options.preferred_threshold;
    let reason = format!("{malicious} preferred vendors among the first {RECENT} engines (threshold {threshold})");
    Ok((malicious >= threshold).then_some(reason))
}

fn by_threshold(stats: Members<'_>, thresholds: &Thresholds) -> Computed<(Disposition, String)> {
    let count = |name: &str| stats.get(name).map_or(Ok(0.0), |count| number(count, name));
    let malicious = count("malicious")?;
    if malicious >= thresholds.malicious as f64 {
        let reason = format!("{malicious} engines malicious (threshold {})", thresholds.malicious);
        return Ok((Disposition::Malicious, reason));
    }
    let both = malicious + count("suspicious")?;
    let reason = format!("{both} engines malicious or suspicious (threshold {})", thresholds.suspicious);
    let is_suspicious = both >= thresholds.suspicious as f64;
    Ok((if is_suspicious { Disposition::Suspicious } else { Disposition::Benign }, reason))
}

/// The rules, read beside the attributes, where no report has them.
fn rules_hit(data: Members<'_>, options: &Options) -> Computed<Option<String>> {
    // One switch turns all three rule checks off there; here it is off where all three are.
    if !(options.yara || options.sigma || options.ids) {
        return Ok(None);
    }
    let yara = match data.get("crowdsourced_yara_results") {
        None => 0,
        Some(Value::List(rules)) => rules.len(),
        Some(Value::Object(rules)) => rules.len(),
        Some(Value::Text(text)) => text.chars().count(),
        Some(Value::Null | Value::Flag(_) | Value::Number(_)) => {
            return Err("crowdsourced_yara_results has no length".to_owned());
        }
    };
    if yara as u64 >= options.yara_threshold {
        return Ok(Some(format!("{yara} YARA rules (threshold {})", options.yara_threshold)));
    }
    let threshold = options.sigma_ids_threshold as f64;
    if let Some(stats) = data.get("sigma_analysis_stats").filter(|stats| is_true(*stats)) {
        let stats = object(stats, "sigma_analysis_stats")?;
        let count = |name: &str| stats.get(name).map_or(Ok(0.0), |count| number(count, name));
        if count("high")? + count("critical")? >= threshold {
            return Ok(Some(format!("Sigma rules (threshold {threshold})")));
        }
    }
    if let Some(stats) = data.get("crowdsourced_ids_stats").filter(|stats| is_true(*stats)) {
        let stats = object(stats, "crowdsourced_ids_stats")?;
        let count = |name: &str| number(stats.get(name).unwrap_or(Value::Null), name);
        if count("high")? + count("critical")? >= threshold {
            return Ok(Some(format!("IDS rules (threshold {threshold})")));
        }
    }
    Ok(None)
}

/// What ends the calculation when its result is written out: an engine that says malicious without name or label.
fn check_output(answer: Members<'_>) -> Computed<()> {
    let attributes = member_or_empty(member_or_empty(answer, "data")?, "attributes")?;
    for (_, result) in member_or_empty(attributes, "last_analysis_results")?.iter() {
        let Some(result) = result.as_object() else { continue };
        let is_malicious = result.get("category").and_then(Value::as_text) == Some("malicious");
        if is_malicious && !(result.get("engine_name").is_some() && result.get("result").is_some()) {
            return Err("an engine that says malicious has no engine_name or no result".to_owned());
        }
    }
    Ok(())
}

/// A member object; an empty one where it is missing.
fn member_or_empty<'a>(members: Members<'a>, name: &str) -> Computed<Members<'a>> {
    members.get(name).map_or_else(|| Ok(Members::none()), |member| object(member, name))
}

fn object<'a>(value: Value<'a>, what: &str) -> Computed<Members<'a>> {
    value.as_object().ok_or_else(|| format!("{what} is missing or no object"))
}

/// A number of that language, where a flag is 0 or 1.
fn number(value: Value<'_>, what: &str) -> Computed<f64> {
    let number = match value {
        Value::Flag(flag) => Some(f64::from(u8::from(flag))),
        Value::Number(number) => number.as_f64(),
        Value::Null | Value::Text(_) | Value::List(_) | Value::Object(_) => None,
    };
    number.ok_or_else(|| format!("{what} is missing or no number"))
}

/// Whether that language takes the value for true.
fn is_true(value: Value<'_>) -> bool {
    match value {
        Value::Null => false,
        Value::Flag(flag) => flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Text(text) => !text.is_empty(),
        Value::List(entries) => entries.len() > 0,
        Value::Object(members) => members.len() > 0,
    }
}
