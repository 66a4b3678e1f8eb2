//! The engines of VirusTotal by name: how names are compared, and which are known.

use std::collections::BTreeSet;
use std::sync::LazyLock;

/// How many similar names a warning proposes.
const PROPOSALS: usize = 3;
/// How alike names must be to be proposed, 0 to 1.
const LIKENESS: f64 = 0.85;

/// The engines that reports of recent years name. New ones appear now and then, so that an unknown name is no mistake for
/// sure.
const KNOWN: &[&str] = &[
    "0xSI_f33d",
    "Abusix",
    "Acronis",
    "Ad-Aware",
    "ADMINUSLabs",
    "AegisLab WebGuard",
    "AhnLab-V3",
    "AICC (MONITORAPP)",
    "Alibaba",
    "AlienVault",
    "alphaMountain.ai",
    "AlphaSOC",
    "ALYac",
    "Antiy-AVL",
    "APEX",
    "Arcabit",
    "ArcSight Threat Intelligence",
    "Armis",
    "Artists Against 419",
    "AutoShun",
    "Avast",
    "Avast-Mobile",
    "AVG",
    "Avira",
    "BADWARE.INFO",
    "Baidu",
    "Baidu-International",
    "benkow.cc",
    "Bfore.Ai PreCrime",
    "BitDefender",
    "BitDefenderFalx",
    "BitDefenderTheta",
    "Bkav",
    "BlockList",
    "Blueliv",
    "CAT-QuickHeal",
    "Certego",
    "ChainPatrol",
    "Chong Lua Dao",
    "CINS Army",
    "ClamAV",
    "Cluster25",
    "CMC",
    "CMC Threat Intelligence",
    "Comodo",
    "Comodo Valkyrie Verdict",
    "CRDF",
    "Criminal IP",
    "CrowdStrike",
    "CTX",
    "Cyan",
    "CyberCrime",
    "Cybereason",
    "Cyble",
    "Cylance",
    "Cynet",
    "CyRadar",
    "Cyren",
    "DeepInstinct",
    "desenmascara.me",
    "DNS8",
    "Dr.Web",
    "DrWeb",
    "eGambit",
    "Elastic",
    "EmergingThreats",
    "Emsisoft",
    "EonScope",
    "Ermes",
    "ESET",
    "ESET-NOD32",
    "ESTsecurity-Threat Inside",
    "F-Secure",
    "Feodo Tracker",
    "FireEye",
    "Forcepoint ThreatSeeker",
    "Fortinet",
    "FraudScore",
    "G-Data",
    "GCP Abuse Intelligence",
    "GData",
    "Google",
    "Google Safebrowsing",
    "GreenSnow",
    "Gridinsoft",
    "Heimdal Security",
    "Hoplite Industries",
    "huorong",
    "Ikarus",
    "IPsum",
    "Jiangmin",
    "Juniper Networks",
    "K7AntiVirus",
    "K7GW",
    "Kaspersky",
    "Kingsoft",
    "LevelBlue",
    "Lionic",
    "Lumu",
    "MalBeacon",
    "MalSilo",
    "Malwarebytes",
    "Malwared",
    "MalwareDomainList",
    "MalwarePatrol",
    "malwares.com URL checker",
    "MalwareURL",
    "MAX",
    "MaxSecure",
    "McAfee",
    "McAfee-GW-Edition",
    "McAfeeD",
    "Microsoft",
    "MicroWorld-eScan",
    "NANO-Antivirus",
    "Netcraft",
    "NotMining",
    "Nucleon",
    "OpenPhish",
    "Paloalto",
    "Panda",
    "Phishing Database",
    "PhishLabs",
    "Phishtank",
    "PREBYTES",
    "PrecisionSec",
    "Quick Heal",
    "Quttera",
    "Rising",
    "SafeToOpen",
    "Sangfor",
    "Sansec eComscan",
    "Scantitan",
    "SCUMWARE.org",
    "Seclookup",
    "SecureAge",
    "SecureBrain",
    "securolytics",
    "Segasec",
    "SentinelOne",
    "Skyhigh (SWG)",
    "Snort IP sample list",
    "SOCRadar",
    "Sophos",
    "Spam404",
    "Spamhaus",
    "StopBadware",
    "StopForumSpam",
    "Sucuri SiteCheck",
    "SUPERAntiSpyware",
    "Symantec",
    "SymantecMobileInsight",
    "TACHYON",
    "tehtris",
    "Tencent",
    "ThreatHive",
    "Threatsourcing",
    "Trapmine",
    "TrellixENS",
    "TrendMicro",
    "TrendMicro-HouseCall",
    "Trustlook",
    "Trustwave",
    "Underworld",
    "URLhaus",
    "URLQuery",
    "Varist",
    "VBA32",
    "Viettel Threat Intelligence",
    "VIPRE",
    "ViriBack",
    "VirIT",
    "ViRobot",
    "Virusdie External Site Scan",
    "VX Vault",
    "Web Security Guard",
    "Webroot",
    "WithSecure",
    "Xcitium",
    "Xcitium Verdict Cloud",
    "Yandex",
    "Yandex Safebrowsing",
    "ZeroCERT",
    "Zillya",
    "ZoneAlarm",
    "Zoner",
    "zvelo",
];

/// Names that the user trusts most.
pub(super) struct Vendors {
    names: Vec<String>,
    written: BTreeSet<String>,
    keys: BTreeSet<String>,
}

impl Vendors {
    /// These names as the user wrote them, each once.
    pub(super) fn new(written: Vec<String>) -> Self {
        let written: Vec<_> = written.iter().map(|name| name.trim().to_owned()).collect();
        let (mut names, mut keys) = (Vec::new(), BTreeSet::new());
        for name in &written {
            if !key(name).is_empty() && keys.insert(key(name)) {
                names.push(name.clone());
            }
        }
        Self { names, written: written.into_iter().collect(), keys }
    }

    /// The names, as written.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the user wrote exactly this name; another spelling of a name that counts once is one of them.
    pub(super) fn contains_exactly(&self, engine: &str) -> bool {
        self.written.contains(engine)
    }

    /// Whether this engine is one of them.
    pub(super) fn contains(&self, engine: &str) -> bool {
        self.keys.iter().any(|key| key.chars().eq(key_chars(engine)))
    }
}

/// A name as names are compared: its letters and digits in lower case.
fn key(name: &str) -> String {
    key_chars(name).collect()
}

fn key_chars(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase)
}

/// Says that no report known to us names this engine, with the nearest names; `None` for a known one.
pub(super) fn unknown_warning(name: &str) -> Option<String> {
    static KEYS: LazyLock<BTreeSet<String>> = LazyLock::new(|| KNOWN.iter().map(|name| key(name)).collect());
    let wanted = key(name);
    if KEYS.contains(&wanted) {
        return None;
    }
    let is_near = |known: &&str| {
        let known = key(known);
        let part =
            wanted.len() >= 3 && (known.starts_with(&wanted) || (known.len() >= 3 && wanted.starts_with(&known)));
        part || strsim::jaro_winkler(&known, &wanted) >= LIKENESS
    };
    let mut near: Vec<&str> = KNOWN.iter().copied().filter(is_near).collect();
    near.sort_by(|a, b| {
        let likeness = |name: &str| strsim::jaro_winkler(&key(name), &wanted);
        likeness(b).total_cmp(&likeness(a))
    });
    near.truncate(PROPOSALS);
    let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
    Some(format!("options.preferred_vendors: no engine of VirusTotal is known by the name {name:?}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendors_are_compared_by_their_letters_and_digits_and_each_counts_once() {
        let vendors = Vendors::new(vec![" eset nod32 ".into(), "ESET-NOD32".into(), "Dr.Web".into(), " ".into()]);
        assert_eq!(vendors.names(), ["eset nod32", "Dr.Web"]);
        assert!(vendors.contains("ESET-NOD32") && vendors.contains("DrWeb"));
        assert!(!vendors.contains("ESET"));
        assert!(vendors.contains_exactly("ESET-NOD32") && !vendors.contains_exactly("DrWeb"));
    }

    #[test]
    fn an_unknown_vendor_is_named_with_the_nearest_known_ones() {
        assert_eq!(unknown_warning("kaspersky"), None);
        let warning = unknown_warning("Kasperski").expect("a warning");
        assert!(warning.contains("\"Kasperski\"") && warning.contains("did you mean Kaspersky"), "{warning}");
        let warning = unknown_warning("Nobody at all").expect("a warning");
        assert!(!warning.contains("did you mean"), "{warning}");
    }
}
