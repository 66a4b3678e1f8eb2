//! What a report says, typed: what the rules of `rating` read, and what the engines that object call the indicator.

use crate::finding::SourceError;
use crate::sources::document::Value;
use crate::sources::json::Object;

/// Tags of a file that say that a distributor or the US National Software Reference Library lists it.
const GOODWARE_TAGS: [&str; 2] = ["known-distributor", "nsrl"];

/// What a report says of an indicator.
#[derive(Clone, Debug, Default)]
pub(super) struct Report<'a> {
    pub(super) counts: Counts,
    /// The engines that say malicious or suspicious, in the report's order.
    pub(super) objections: Vec<Objection<'a>>,
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

/// An engine that says malicious or suspicious.
#[derive(Clone, Copy, Debug)]
pub(super) struct Objection<'a> {
    /// Its name.
    pub(super) engine: &'a str,
    pub(super) is_malicious: bool,
    /// What it calls the indicator, if it says that.
    pub(super) label: Option<&'a str>,
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
    /// The engines that say malicious, by name.
    pub(super) fn malicious_engines(&self) -> impl Iterator<Item = &'a str> {
        self.objections.iter().filter(|objection| objection.is_malicious).map(|objection| objection.engine)
    }

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
            objections: objections(attributes).collect(),
            yara: attributes.list_length("crowdsourced_yara_results")?,
            sigma: severe("sigma_analysis_stats")?,
            ids: severe("crowdsourced_ids_stats")?,
            average_rank: average_rank(attributes)?,
            goodware: goodware(attributes),
            gti: gti(attributes)?,
        })
    }
}

/// The engines that say malicious or suspicious, as far as they can be read.
pub(super) fn objections<'a>(attributes: &Object<'a>) -> impl Iterator<Item = Objection<'a>> + use<'a> {
    results(attributes).filter_map(|(engine, result)| {
        // In one pass, since a report has a hundred of them. The last of equal names counts.
        let (mut category, mut label) = (Value::Null, Value::Null);
        for (name, value) in result.members().iter() {
            match name {
                "category" => category = value,
                "result" => label = value,
                _ => {}
            }
        }
        let category = category.as_non_empty_text()?;
        let is_malicious = category.eq_ignore_ascii_case("malicious");
        let objects = is_malicious || category.eq_ignore_ascii_case("suspicious");
        objects.then(|| Objection { engine, is_malicious, label: label.as_non_empty_text() })
    })
}

/// The results of the engines under their names, as far as they can be read.
pub(super) fn results<'a>(attributes: &Object<'a>) -> impl Iterator<Item = (&'a str, Object<'a>)> + use<'a> {
    let results = attributes.object("last_analysis_results").ok().flatten().unwrap_or_else(Object::empty);
    results.objects_by_name()
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
