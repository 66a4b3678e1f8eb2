//! What a report says, typed: what the rules of `rating` read, and nothing else.

use crate::finding::SourceError;
use crate::sources::json::Object;

/// Tags of a file that say that a distributor or the US National Software Reference Library lists it.
const GOODWARE_TAGS: [&str; 2] = ["known-distributor", "nsrl"];

/// What a report says of an indicator.
#[derive(Clone, Debug, Default)]
pub(super) struct Report<'a> {
    pub(super) counts: Counts,
    /// The engines that say malicious, by name, in the report's order.
    pub(super) malicious_engines: Vec<&'a str>,
    /// YARA rules that match.
    pub(super) yara: u64,
    /// Sigma rules of high or critical severity that match.
    pub(super) sigma: u64,
    /// IDS rules of high or critical severity that match.
    pub(super) ids: u64,
    /// Mean of the popularity ranks, 1 for the most popular; `None` without ranks.
    pub(super) average_rank: Option<f64>,
    /// Who says that the file is harmless, with the words for a reason.
    pub(super) goodware: Option<String>,
    /// The verdict of Google Threat Intelligence.
    pub(super) gti: Option<GtiVerdict>,
}

/// What Google Threat Intelligence says, as far as a rule reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GtiVerdict {
    Malicious,
    Suspicious,
    Other,
}

/// How many engines say what.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) malicious: u64,
    pub(super) suspicious: u64,
    pub(super) harmless: u64,
    pub(super) undetected: u64,
}

impl Counts {
    fn read(stats: &Object<'_>) -> Result<Self, SourceError> {
        let count = |name| stats.count(name).map(Option::unwrap_or_default);
        Ok(Self {
            malicious: count("malicious")?,
            suspicious: count("suspicious")?,
            harmless: count("harmless")?,
            undetected: count("undetected")?,
        })
    }

    /// Engines that gave an opinion; those that failed, timed out or do not know the type have none.
    pub(super) fn engines(&self) -> u64 {
        self.objecting().saturating_add(self.harmless).saturating_add(self.undetected)
    }

    /// Engines that say malicious or suspicious.
    pub(super) fn objecting(&self) -> u64 {
        self.malicious.saturating_add(self.suspicious)
    }
}

impl<'a> Report<'a> {
    /// Reads the attributes of an object of VirusTotal.
    ///
    /// # Errors
    /// `Malformed` without counts, or where a member that a rule reads is not of its form.
    pub(super) fn read(attributes: &Object<'a>) -> Result<Self, SourceError> {
        let severe = |stats: &str| match attributes.object(stats)? {
            Some(stats) => {
                let count = |name| stats.count(name).map(Option::unwrap_or_default);
                Ok::<u64, SourceError>(count("high")?.saturating_add(count("critical")?))
            }
            None => Ok(0),
        };
        Ok(Self {
            counts: Counts::read(&attributes.need_object("last_analysis_stats")?)?,
            malicious_engines: malicious_engines(attributes),
            yara: attributes.list_length("crowdsourced_yara_results")?,
            sigma: severe("sigma_analysis_stats")?,
            ids: severe("crowdsourced_ids_stats")?,
            average_rank: average_rank(attributes)?,
            goodware: goodware(attributes),
            gti: gti(attributes)?,
        })
    }
}

/// The engines that say malicious, by name.
fn malicious_engines<'a>(attributes: &Object<'a>) -> Vec<&'a str> {
    let says_malicious = |result: &Object<'_>| says(result, "malicious");
    results(attributes).filter(|(_, result)| says_malicious(result)).map(|(name, _)| name).collect()
}

/// The results of the engines under their names, as far as they can be read.
pub(super) fn results<'a>(attributes: &Object<'a>) -> impl Iterator<Item = (&'a str, Object<'a>)> + use<'a> {
    let results = attributes.object("last_analysis_results").ok().flatten().unwrap_or_else(Object::empty);
    results.objects_by_name()
}

/// Whether the result of an engine is of this category.
pub(super) fn says(result: &Object<'_>, category: &str) -> bool {
    result.text_if_any("category").is_some_and(|said| said.eq_ignore_ascii_case(category))
}

/// A provider without a rank says nothing.
fn average_rank(attributes: &Object<'_>) -> Result<Option<f64>, SourceError> {
    let Some(ranks) = attributes.object("popularity_ranks")? else { return Ok(None) };
    let mut known = Vec::new();
    for (_, entry) in ranks.entries() {
        known.extend(entry?.count("rank")?.map(|rank| rank as f64));
    }
    Ok((!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64))
}

fn goodware(attributes: &Object<'_>) -> Option<String> {
    let verdict = attributes.text_if_any("trusted_verdict.verdict");
    if verdict.is_some_and(|verdict| verdict.eq_ignore_ascii_case("goodware")) {
        let who = attributes.text_if_any("trusted_verdict.organization");
        return Some(format!("{} calls it goodware", who.unwrap_or("a trusted organization")));
    }
    let tags = attributes.texts(&["tags"]);
    let tag = GOODWARE_TAGS.iter().find(|known| tags.iter().any(|tag| tag.eq_ignore_ascii_case(known)))?;
    Some(format!("its tag {tag} says goodware"))
}

fn gti(attributes: &Object<'_>) -> Result<Option<GtiVerdict>, SourceError> {
    Ok(attributes.text("gti_assessment.verdict.value")?.map(|verdict| match verdict {
        "VERDICT_MALICIOUS" => GtiVerdict::Malicious,
        "VERDICT_SUSPICIOUS" => GtiVerdict::Suspicious,
        _ => GtiVerdict::Other,
    }))
}
