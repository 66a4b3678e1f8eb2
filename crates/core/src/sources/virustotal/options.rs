//! What the user may set of a VirusTotal source, and what follows from it.

use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};

use super::details::Detail;
use super::relations;
use super::vendors::{self, Vendors};
use crate::indicator::IndicatorType;
use crate::source::{BuildError, Choice, OptionDef, OptionSpec, SourceView};
use crate::sources::http::{ThresholdOptions, Thresholds};

/// The tier of a public key.
pub(super) const FREE: &str = "free";
/// The tier of a paid key.
pub(super) const PREMIUM: &str = "premium";

/// The options of one type of indicator: how many engines must say malicious, and how many malicious or suspicious.
macro_rules! threshold_options {
    ($type:literal) => {
        ThresholdOptions {
            malicious: engines(
                concat!("malicious_threshold_", $type),
                10,
                concat!("Malicious when this many engines say so of a look-up of type ", $type, "."),
            ),
            suspicious: engines(
                concat!("suspicious_threshold_", $type),
                5,
                concat!("Suspicious when this many engines say malicious or suspicious; type ", $type, "."),
            ),
        }
    };
}

const fn engines(name: &'static str, default: u64, help: &'static str) -> OptionDef<u64> {
    OptionDef::threshold(name, 1, 1_000, default, help)
}

const IP: ThresholdOptions = threshold_options!("ip");
const DOMAIN: ThresholdOptions = threshold_options!("domain");
const URL: ThresholdOptions = threshold_options!("url");
const FILE: ThresholdOptions = threshold_options!("file");
const RATING: OptionDef<RatingRule> = OptionDef::choice(
    "rating",
    RatingRule::Documented,
    "Which rules rate a report: documented, or xsoar for exactly what Cortex XSOAR's integration computes.",
);
const PREFERRED_VENDORS: OptionDef<Vec<String>> = OptionDef::list(
    "preferred_vendors",
    "Engines that you trust most, by name; letter case, spaces and punctuation do not count.",
);
const PREFERRED_THRESHOLD: OptionDef<u64> =
    engines("preferred_threshold", 5, "Malicious when this many preferred vendors say so, whatever the rest say.");
const YARA: OptionDef<bool> = OptionDef::flag("yara", true, "Whether crowdsourced YARA rules count for a file.");
const YARA_THRESHOLD: OptionDef<u64> = engines("yara_threshold", 1, "A rules hit when this many YARA rules match.");
const SIGMA: OptionDef<bool> = OptionDef::flag("sigma", true, "Whether Sigma rules count for a file.");
const IDS: OptionDef<bool> = OptionDef::flag("ids", true, "Whether crowdsourced IDS rules count for a file.");
const SIGMA_IDS_THRESHOLD: OptionDef<u64> = engines(
    "sigma_ids_threshold",
    5,
    "A rules hit when this many Sigma rules, or this many IDS rules, of high or critical severity match.",
);
const POPULARITY_THRESHOLD: OptionDef<u64> = OptionDef::threshold(
    "popularity_threshold",
    1,
    100_000_000,
    10_000,
    "A domain is popular when its average popularity rank is this or better; popularity never overrules an objection.",
);
const GTI: OptionDef<bool> =
    OptionDef::flag("gti", false, "Whether the verdict of Google Threat Intelligence decides, where the key shows it.");
const RELATIONSHIP_CHECK: OptionDef<Option<bool>> = OptionDef::optional_flag(
    "relationship_check",
    "Whether related files may make an address, domain or URL worse: up to 3 further calls; premium only, where it is on.",
);
const RELATIONSHIP_MALICIOUS: OptionDef<u64> = engines(
    "relationship_malicious_threshold",
    3,
    "Premium: malicious when this many files of one relationship are malicious.",
);
const RELATIONSHIP_SUSPICIOUS: OptionDef<u64> = engines(
    "relationship_suspicious_threshold",
    2,
    "Premium: suspicious, or malicious where the report is suspicious, when this many files of one relationship are.",
);
/// The option with which facts name every engine.
pub(in crate::sources) const ALL_ENGINES_OPTION: &str = "extended_data";
const EXTENDED_DATA: OptionDef<bool> = OptionDef::flag(
    ALL_ENGINES_OPTION,
    false,
    "Whether facts name every engine with its category, label, method and version, not only those that object.",
);

const COMMENTS: OptionDef<bool> =
    OptionDef::flag("comments", false, "Whether facts hold the newest comments of the community: one further call.");
const RESOLUTIONS: OptionDef<bool> = OptionDef::flag(
    "resolutions",
    false,
    "Whether facts hold the resolutions of an address or domain (passive DNS): one further call.",
);
const BEHAVIOUR: OptionDef<bool> =
    OptionDef::flag("behaviour", false, "Whether facts hold what sandboxes saw a file do: one further call.");

macro_rules! relation_options {
    ($type:literal) => {
        OptionDef::list(
            concat!("relationships_", $type),
            concat!(
                "Relationships to ask for in a look-up of type ",
                $type,
                ", by VirusTotal's names; none for none. Unset: all that the tier shows."
            ),
        )
    };
}

const RELATIONSHIPS_IP: OptionDef<Vec<String>> = relation_options!("ip");
const RELATIONSHIPS_DOMAIN: OptionDef<Vec<String>> = relation_options!("domain");
const RELATIONSHIPS_URL: OptionDef<Vec<String>> = relation_options!("url");
const RELATIONSHIPS_FILE: OptionDef<Vec<String>> = relation_options!("file");

/// The rules by which a report is rated.
#[derive(Clone, Copy, Debug, EnumString, IntoStaticStr, VariantNames, PartialEq, Eq)]
#[strum(serialize_all = "snake_case")]
pub(super) enum RatingRule {
    /// Ours: what that integration documents, without its defects.
    Documented,
    /// What Cortex XSOAR's integration computes.
    Xsoar,
}

impl Choice for RatingRule {}

/// The options' values.
pub(super) struct Options {
    pub(super) is_premium: bool,
    pub(super) ip: Thresholds,
    pub(super) domain: Thresholds,
    pub(super) url: Thresholds,
    pub(super) file: Thresholds,
    pub(super) rating: RatingRule,
    pub(super) vendors: Vendors,
    pub(super) preferred_threshold: u64,
    pub(super) yara: bool,
    pub(super) yara_threshold: u64,
    pub(super) sigma: bool,
    pub(super) ids: bool,
    pub(super) sigma_ids_threshold: u64,
    pub(super) popularity_threshold: u64,
    pub(super) gti: bool,
    /// Whether related files are asked for: premium, and not switched off.
    pub(super) relationship_check: bool,
    pub(super) relationship_malicious: u64,
    pub(super) relationship_suspicious: u64,
    pub(super) extended_data: bool,
    /// The details to ask for beside a report.
    details: Vec<Detail>,
    /// The relationships wanted per type of indicator, in the order of [`IndicatorType::VARIANTS`].
    relationships: Vec<(IndicatorType, Vec<&'static str>)>,
}

pub(super) fn specs() -> Vec<OptionSpec> {
    let thresholds = [IP, DOMAIN, URL, FILE];
    let mut specs: Vec<OptionSpec> = thresholds.iter().flat_map(ThresholdOptions::specs).collect();
    specs.extend([
        RATING.spec(),
        PREFERRED_VENDORS.spec(),
        PREFERRED_THRESHOLD.spec(),
        YARA.spec(),
        YARA_THRESHOLD.spec(),
        SIGMA.spec(),
        IDS.spec(),
        SIGMA_IDS_THRESHOLD.spec(),
        POPULARITY_THRESHOLD.spec(),
        GTI.spec(),
        RELATIONSHIP_CHECK.spec(),
        RELATIONSHIP_MALICIOUS.spec(),
        RELATIONSHIP_SUSPICIOUS.spec(),
        RELATIONSHIPS_IP.spec(),
        RELATIONSHIPS_DOMAIN.spec(),
        RELATIONSHIPS_URL.spec(),
        RELATIONSHIPS_FILE.spec(),
        EXTENDED_DATA.spec(),
        COMMENTS.spec(),
        RESOLUTIONS.spec(),
        BEHAVIOUR.spec(),
    ]);
    specs
}

impl Options {
    pub(super) fn read(view: &SourceView<'_>) -> Result<Self, BuildError> {
        let is_premium = view.tier() == PREMIUM;
        let relationship_check = view.get(&RELATIONSHIP_CHECK)?;
        if relationship_check == Some(true) && !is_premium {
            let message = "is for a premium key: set tier = \"premium\", or leave it unset";
            return Err(BuildError::invalid(RELATIONSHIP_CHECK.name, message));
        }
        let mut relationships = Vec::new();
        for wanted in IndicatorType::VARIANTS {
            let option = match wanted {
                IndicatorType::Ip => RELATIONSHIPS_IP,
                IndicatorType::Domain => RELATIONSHIPS_DOMAIN,
                IndicatorType::Url => RELATIONSHIPS_URL,
                IndicatorType::File => RELATIONSHIPS_FILE,
            };
            let names = relations::wanted(*wanted, &view.get(&option)?, is_premium)
                .map_err(|message| BuildError::invalid(option.name, message))?;
            relationships.push((*wanted, names));
        }
        let details = [
            (Detail::Resolutions, view.get(&RESOLUTIONS)?),
            (Detail::Behaviour, view.get(&BEHAVIOUR)?),
            (Detail::Comments, view.get(&COMMENTS)?),
        ];
        let details = details.into_iter().filter(|(_, is_wanted)| *is_wanted).map(|(detail, _)| detail).collect();
        Ok(Self {
            is_premium,
            ip: IP.get(view)?,
            domain: DOMAIN.get(view)?,
            url: URL.get(view)?,
            file: FILE.get(view)?,
            rating: view.get(&RATING)?,
            vendors: Vendors::new(view.get(&PREFERRED_VENDORS)?),
            preferred_threshold: view.get(&PREFERRED_THRESHOLD)?,
            yara: view.get(&YARA)?,
            yara_threshold: view.get(&YARA_THRESHOLD)?,
            sigma: view.get(&SIGMA)?,
            ids: view.get(&IDS)?,
            sigma_ids_threshold: view.get(&SIGMA_IDS_THRESHOLD)?,
            popularity_threshold: view.get(&POPULARITY_THRESHOLD)?,
            gti: view.get(&GTI)?,
            relationship_check: is_premium && relationship_check.unwrap_or(true),
            relationship_malicious: view.get(&RELATIONSHIP_MALICIOUS)?,
            relationship_suspicious: view.get(&RELATIONSHIP_SUSPICIOUS)?,
            extended_data: view.get(&EXTENDED_DATA)?,
            details,
            relationships,
        })
    }

    /// The thresholds of a type of indicator.
    pub(super) fn thresholds(&self, wanted: IndicatorType) -> &Thresholds {
        match wanted {
            IndicatorType::Ip => &self.ip,
            IndicatorType::Domain => &self.domain,
            IndicatorType::Url => &self.url,
            IndicatorType::File => &self.file,
        }
    }

    /// The relationships to ask for with a report on this type of indicator.
    pub(super) fn relationships(&self, wanted: IndicatorType) -> &[&'static str] {
        let found = self.relationships.iter().find(|(known, _)| *known == wanted);
        found.map_or(&[], |(_, names)| names)
    }

    /// The details to ask for with a report on this type of indicator.
    pub(super) fn details(&self, wanted: IndicatorType) -> impl Iterator<Item = Detail> {
        self.details.iter().copied().filter(move |detail| detail.applies_to(wanted))
    }

    /// What is probably not meant so, one sentence each.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for wanted in IndicatorType::VARIANTS {
            let Thresholds { malicious, suspicious } = self.thresholds(*wanted);
            if suspicious > malicious {
                let name = wanted.as_str();
                warnings.push(format!(
                    "options.suspicious_threshold_{name} ({suspicious}) is above malicious_threshold_{name} \
                     ({malicious}): engines that say malicious are rated malicious before they are suspicious"
                ));
            }
        }
        let (preferred, threshold) = (self.vendors.names(), self.preferred_threshold);
        if !preferred.is_empty() && threshold > preferred.len() as u64 {
            warnings.push(format!(
                "options.preferred_threshold ({threshold}) is above the number of preferred_vendors ({}), so it can \
                 never be reached",
                preferred.len()
            ));
        }
        warnings.extend(preferred.iter().filter_map(|name| vendors::unknown_warning(name)));
        warnings
    }
}
