//! The rating `documented`: what Cortex XSOAR's integration documents, without its defects. Pure; the first line that fits
//! decides. `docs/virustotal.md` has the lines as a table.

use super::options::Options;
use super::report::{GtiVerdict, Report};
use crate::finding::{Disposition, Finding, Strength, counted};
use crate::indicator::IndicatorType;

/// The least strength of what preferred vendors say.
const BY_VENDORS: f64 = 0.95;

/// The claim, its strength and its reasons.
pub(super) fn rate(wanted: IndicatorType, report: &Report<'_>, options: &Options) -> Finding {
    let (counts, thresholds) = (&report.counts, options.thresholds(wanted));
    let (m, both) = (counts.malicious, counts.objecting());
    let preferred = report.malicious_engines().filter(|engine| options.vendors.contains(engine)).count() as u64;
    let has_vendors = !options.vendors.names().is_empty();
    let by_vendors = has_vendors && preferred >= options.preferred_threshold;
    let rules = rules_hits(report, options);

    let of_engines = |count: u64| {
        let say = if count == 1 { "says" } else { "say" };
        format!("{count} of {} {say}", counted(counts.engines(), "engine"))
    };
    let malicious_reason = || format!("{} malicious (threshold {})", of_engines(m), thresholds.malicious);
    let both_reason = || format!("{} malicious or suspicious (threshold {})", of_engines(both), thresholds.suspicious);
    let vendors_reason = || {
        let say = if preferred == 1 { "says" } else { "say" };
        let of = counted(options.vendors.names().len() as u64, "preferred vendor");
        format!("{preferred} of {of} {say} malicious (threshold {})", options.preferred_threshold)
    };
    let gti = report.gti.filter(|_| options.gti);

    let (claim, strength, mut reasons) = if gti == Some(GtiVerdict::Malicious) {
        let strength = if m >= thresholds.malicious { Strength::over(m, thresholds.malicious) } else { Strength::FULL };
        let reason = "Google Threat Intelligence says malicious".to_owned();
        (Disposition::Malicious, Some(strength), vec![reason, malicious_reason()])
    } else if m >= thresholds.malicious {
        (Disposition::Malicious, Some(Strength::over(m, thresholds.malicious)), vec![malicious_reason()])
    } else if by_vendors {
        (Disposition::Malicious, Some(Strength::clamped(BY_VENDORS)), vec![])
    } else if both >= thresholds.suspicious {
        let claim = if rules.is_empty() { Disposition::Suspicious } else { Disposition::Malicious };
        (claim, Some(Strength::FULL), vec![both_reason()])
    } else if !rules.is_empty() {
        (Disposition::Suspicious, Some(Strength::FULL), vec![])
    } else if gti == Some(GtiVerdict::Suspicious) {
        let reason = "Google Threat Intelligence says suspicious".to_owned();
        (Disposition::Suspicious, Some(Strength::FULL), vec![reason, both_reason()])
    } else if let Some(reason) = harmless_reason(wanted, report, options) {
        (Disposition::Benign, Some(Strength::FULL), vec![reason, both_reason()])
    } else {
        let few = format!("{}; few or none are no evidence of innocence", both_reason());
        (Disposition::Unknown, None, vec![few])
    };
    if by_vendors || (has_vendors && preferred > 0) {
        let place = if reasons.is_empty() { 0 } else { 1 };
        reasons.insert(place, vendors_reason());
    }
    let strength = match claim {
        Disposition::Malicious if by_vendors => strength.map(|strength| strength.at_least(BY_VENDORS)),
        _ => strength,
    };
    reasons.extend(rules);
    let mut finding = Finding::new(claim, strength, String::new());
    finding.reasons = reasons;
    finding
}

/// The crowdsourced rules that reach their thresholds, one reason each. Only files have any.
fn rules_hits(report: &Report<'_>, options: &Options) -> Vec<String> {
    let hit = |is_on: bool, count: u64, threshold: u64, what: &str| {
        let matches = if count == 1 { "matches" } else { "match" };
        let reason = || format!("{} {matches} (threshold {threshold})", what.replace('#', &counted(count, "rule")));
        (is_on && count >= threshold).then(reason)
    };
    let severe = options.sigma_ids_threshold;
    let hits = [
        hit(options.yara, report.yara, options.yara_threshold, "YARA: #"),
        hit(options.sigma, report.sigma, severe, "Sigma: # of high or critical severity"),
        hit(options.ids, report.ids, severe, "IDS: # of high or critical severity"),
    ];
    hits.into_iter().flatten().collect()
}

/// Positive evidence of harmlessness: a popular domain, a file that somebody calls goodware and nobody objects to.
fn harmless_reason(wanted: IndicatorType, report: &Report<'_>, options: &Options) -> Option<String> {
    match wanted {
        IndicatorType::Domain => {
            let threshold = options.popularity_threshold;
            let rank = report.average_rank.filter(|rank| *rank <= threshold as f64)?;
            Some(format!("its average popularity rank is {rank:.0} (threshold {threshold})"))
        }
        IndicatorType::File if report.counts.objecting() == 0 => report.goodware.clone(),
        IndicatorType::File | IndicatorType::Ip | IndicatorType::Url => None,
    }
}
