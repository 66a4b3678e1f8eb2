//! `concord source import-xsoar`: the settings of Cortex XSOAR's VirusTotal integration as a source of ours.
//!
//! Asks nobody and changes nothing: it prints what belongs into `concord.toml`, and says on standard error what has no
//! counterpart. `docs/virustotal.md` lists each parameter.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::{Failure, print};
use crate::indicator::IndicatorType;
use crate::source::OptionType;
use crate::sources;

/// Largest file that is read: an instance is a few kilobytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Parameters that are numbers, the option of each, and what that integration takes where it is empty.
const NUMBERS: [(&str, &str, i64); 14] = [
    ("fileThreshold", "malicious_threshold_file", 10),
    ("fileSuspiciousThreshold", "suspicious_threshold_file", 5),
    ("ipThreshold", "malicious_threshold_ip", 10),
    ("ipSuspiciousThreshold", "suspicious_threshold_ip", 5),
    ("urlThreshold", "malicious_threshold_url", 10),
    ("urlSuspiciousThreshold", "suspicious_threshold_url", 5),
    ("domainThreshold", "malicious_threshold_domain", 10),
    ("domainSuspiciousThreshold", "suspicious_threshold_domain", 5),
    ("preferredVendorsThreshold", "preferred_threshold", 5),
    ("yaraRulesThreshold", "yara_threshold", 1),
    ("SigmaIDSThreshold", "sigma_ids_threshold", 5),
    ("domain_popularity_ranking", "popularity_threshold", 10_000),
    ("relationship_threshold", "relationship_malicious_threshold", 3),
    ("relationship_suspicious_threshold", "relationship_suspicious_threshold", 2),
];

/// Parameters that are lists of relationships.
const RELATIONSHIPS: [(&str, &str, IndicatorType); 4] = [
    ("ip_relationships", "relationships_ip", IndicatorType::Ip),
    ("domain_relationships", "relationships_domain", IndicatorType::Domain),
    ("url_relationships", "relationships_url", IndicatorType::Url),
    ("file_relationships", "relationships_file", IndicatorType::File),
];

pub(super) fn run(file: &Path, name: &str) -> Result<ExitCode, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(MAX_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(MAX_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::io(file.display(), &error))?;
    let imported = import(&text, name).map_err(|why| Failure::new(format!("{}: {why}", file.display())))?;
    print(&imported.toml)?;
    for warning in &imported.warnings {
        eprintln!("concord: warning: {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What an instance becomes.
#[derive(Debug, Default)]
struct Imported {
    toml: String,
    warnings: Vec<String>,
}

fn import(text: &str, name: &str) -> Result<Imported, String> {
    // What the parser says of the text could quote a key.
    let value: Value = serde_json::from_str(text)
        .map_err(|error| format!("is no JSON (line {}, column {})", error.line(), error.column()))?;
    let parameters = parameters(&value).ok_or("is no exported instance: it has no list `data` of names and values")?;
    let brand = value.get("brand").and_then(Value::as_str).unwrap_or("VirusTotal (API v3)");
    if !brand.contains("VirusTotal") {
        return Err(format!("is an instance of {brand:?}, and only VirusTotal (API v3) can be read"));
    }
    let mut import = Import { parameters, options: Vec::new(), warnings: Vec::new() };
    let is_premium = import.flag("is_premium_api").unwrap_or(false);
    if is_premium {
        import.warn(
            "is_premium_api: a premium source also checks related files, up to 3 further calls for an address, domain or \
             URL, as that integration documents and does not do; options.relationship_check = false turns it off",
        );
    }
    let reliability = import.reliability();
    import.options.push("rating = \"documented\"".to_owned());
    for (parameter, option, default) in NUMBERS {
        import.number(parameter, option, default);
    }
    import.vendors();
    if import.flag("crowdsourced_yara_rules_enabled") == Some(false) {
        import.options.extend(["yara", "sigma", "ids"].map(|option| format!("{option} = false")));
    }
    for (parameter, option, of) in RELATIONSHIPS {
        import.relationships(parameter, option, of, is_premium);
    }
    let proxy = import.flag("proxy").unwrap_or(false);
    if import.flag("insecure") == Some(true) {
        import
            .warn("insecure has no counterpart: a certificate is always checked; set ca_file to trust one of your own");
    }
    if import.flag("disable_private_ip_lookup") == Some(false) {
        import.warn("disable_private_ip_lookup has no counterpart: private addresses are never sent to VirusTotal");
    }
    import.take("credentials");
    import.warn("the API key is not taken over: set VIRUSTOTAL_API_KEY in the server's environment");
    let unknown: Vec<String> = import.parameters.keys().cloned().collect();
    for parameter in unknown {
        import.warn(&format!("{parameter:?} has no counterpart and is left out"));
    }
    let mut toml = format!("[sources.{name}]\nkind = \"virustotal\"\ncredential = \"env:VIRUSTOTAL_API_KEY\"\n");
    let _ = writeln!(toml, "reliability = \"{reliability}\"");
    let _ = writeln!(toml, "tier = \"{}\"", if is_premium { "premium" } else { "free" });
    if proxy {
        toml.push_str("proxy = \"environment\"\n");
    }
    for option in &import.options {
        let _ = writeln!(toml, "options.{option}");
    }
    Ok(Imported { toml, warnings: import.warnings })
}

/// The parameters of an exported instance: a list of names and values, or an object.
fn parameters(value: &Value) -> Option<BTreeMap<String, Value>> {
    // Values of these members may be the instance itself or its parameters.
    let inner = ["instance", "integration"].iter().find_map(|name| value.get(name)).unwrap_or(value);
    for name in ["data", "configuration"] {
        if let Some(Value::Array(items)) = inner.get(name) {
            let pair = |item: &Value| {
                Some((item.get("name")?.as_str()?.to_owned(), item.get("value").cloned().unwrap_or_default()))
            };
            return Some(items.iter().filter_map(pair).collect());
        }
    }
    let object = ["params", "configvalues", "data"].iter().find_map(|name| inner.get(name)?.as_object())?;
    Some(object.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

struct Import {
    /// Those that are not read yet.
    parameters: BTreeMap<String, Value>,
    options: Vec<String>,
    warnings: Vec<String>,
}

impl Import {
    fn take(&mut self, name: &str) -> Option<Value> {
        self.parameters.remove(name).filter(|value| !value.is_null())
    }

    fn warn(&mut self, warning: &str) {
        self.warnings.push(warning.to_owned());
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(flag) => Some(flag),
            Value::String(text) => match text.to_lowercase().as_str() {
                "true" | "yes" => Some(true),
                "false" | "no" => Some(false),
                _ => {
                    self.warn(&format!("{name} is neither true nor false and is left out"));
                    None
                }
            },
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.warn(&format!("{name} is neither true nor false and is left out"));
                None
            }
        }
    }

    /// A number as that integration reads it: a text with a fraction is cut.
    fn number(&mut self, name: &str, option: &str, default: i64) {
        let Some(value) = self.take(name) else { return };
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
            Value::String(text) if text.trim().is_empty() => return,
            Value::String(text) => text.trim().parse::<f64>().ok().filter(|number| number.is_finite()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        let most = greatest(option);
        match number.map(f64::trunc) {
            Some(number) if number > most => {
                self.warn(&format!(
                    "{name} is {number}, above {most}, the most that {option} may be, so {most} is set"
                ));
                self.options.push(format!("{option} = {most}"));
            }
            Some(number) if number >= 1.0 => self.options.push(format!("{option} = {number}")),
            Some(number) => {
                self.warn(&format!("{name} is {number}: at least 1 is needed here, so {default}, the default, holds"));
            }
            None => self.warn(&format!("{name} is no number, so {default}, the default, holds")),
        }
    }

    /// The letter in front of the words of that product.
    fn reliability(&mut self) -> String {
        let label = self.take("feedReliability");
        let label = label.as_ref().and_then(Value::as_str).unwrap_or("C - Fairly reliable");
        let letter = label.split([' ', '-']).next().unwrap_or_default();
        if letter.parse::<crate::finding::Reliability>().is_ok() {
            return letter.to_owned();
        }
        self.warn("feedReliability is no known label, so C holds, the default of that integration");
        "C".to_owned()
    }

    /// A list as that integration reads it: a list, a JSON list in a text, or names with commas between.
    fn list(&mut self, name: &str) -> Option<Vec<String>> {
        let texts = |items: &[Value]| items.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        let list = match self.take(name)? {
            Value::Array(items) => texts(&items),
            Value::String(text) if text.starts_with('[') && text.ends_with(']') => {
                match serde_json::from_str::<Vec<Value>>(&text) {
                    Ok(items) => texts(&items),
                    Err(_) => {
                        self.warn(&format!("{name} is no list and is left out"));
                        return None;
                    }
                }
            }
            Value::String(text) => text.split(',').map(str::to_owned).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                self.warn(&format!("{name} is no list and is left out"));
                return None;
            }
        };
        Some(list.iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
    }

    fn vendors(&mut self) {
        let Some(vendors) = self.list("preferredVendors").filter(|vendors| !vendors.is_empty()) else { return };
        self.options.push(format!("preferred_vendors = {}", toml::Value::from(vendors)));
    }

    fn relationships(&mut self, name: &str, option: &str, of: IndicatorType, is_premium: bool) {
        let Some(list) = self.list(name) else { return };
        let kind = sources::find("virustotal");
        let known: Vec<_> = kind.iter().flat_map(|kind| kind.about().relationships).copied().collect();
        let known: Vec<_> = known.into_iter().filter(|known| known.indicator_type == of).collect();
        let (mut names, mut all_shown) = (Vec::new(), true);
        for shown in &list {
            let wanted = shown.replace("* ", "").trim_start_matches('*').trim().replace(' ', "_");
            match known.iter().find(|known| known.name == wanted) {
                Some(known) if known.is_premium && !is_premium => {}
                Some(known) => names.push(known.name.to_owned()),
                None => self.warn(&format!("{name}: VirusTotal has no relationship {wanted:?}; it is left out")),
            }
        }
        for relationship in known.iter().filter(|known| is_premium || !known.is_premium) {
            all_shown &= names.iter().any(|name| name == relationship.name);
        }
        match names.as_slice() {
            // The default, which later versions may extend.
            _ if all_shown => {}
            [] => self.options.push(format!("{option} = [\"none\"]")),
            _ => self.options.push(format!("{option} = {}", toml::Value::from(names))),
        }
    }
}

/// The greatest value of a numeric option.
fn greatest(option: &str) -> f64 {
    let kind = sources::find("virustotal");
    let spec = kind.iter().flat_map(|kind| &kind.about().options).find(|spec| spec.name == option);
    match spec.map(|spec| &spec.value_type) {
        Some(OptionType::Integer { max, .. }) => *max as f64,
        _ => f64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(parameters: &[(&str, Value)]) -> String {
        let data: Vec<_> =
            parameters.iter().map(|(name, value)| serde_json::json!({"name": name, "value": value})).collect();
        serde_json::json!({"brand": "VirusTotal (API v3)", "data": data}).to_string()
    }

    #[test]
    fn the_settings_of_an_instance_become_a_source_and_the_key_is_never_shown() {
        let text = instance(&[
            ("credentials", serde_json::json!({"password": "s3cret"})),
            ("feedReliability", "B - Usually reliable".into()),
            ("is_premium_api", "true".into()),
            ("fileThreshold", "10.9".into()),
            ("ipThreshold", 7.into()),
            ("preferredVendors", "Kaspersky, BitDefender ,,".into()),
            ("preferredVendorsThreshold", "2".into()),
            ("crowdsourced_yara_rules_enabled", false.into()),
            ("ip_relationships", serde_json::json!(["communicating files", "* urls"])),
            ("proxy", true.into()),
        ]);
        let imported = import(&text, "virustotal").expect("an instance");
        let expected = "[sources.virustotal]\nkind = \"virustotal\"\ncredential = \"env:VIRUSTOTAL_API_KEY\"\nreliability = \"B\"\n\
            tier = \"premium\"\nproxy = \"environment\"\noptions.rating = \"documented\"\noptions.malicious_threshold_file = 10\n\
            options.malicious_threshold_ip = 7\noptions.preferred_threshold = 2\n\
            options.preferred_vendors = [\"Kaspersky\", \"BitDefender\"]\noptions.yara = false\noptions.sigma = false\n\
            options.ids = false\noptions.relationships_ip = [\"communicating_files\", \"urls\"]\n";
        assert_eq!(imported.toml, expected);
        assert!(!imported.warnings.iter().any(|warning| warning.contains("s3cret")));
        assert!(imported.warnings.iter().any(|warning| warning.contains("options.relationship_check = false")));
    }

    #[test]
    fn what_has_no_counterpart_is_named() {
        let text = instance(&[
            ("insecure", true.into()),
            ("disable_private_ip_lookup", false.into()),
            ("fileThreshold", "0".into()),
            ("urlThreshold", "many".into()),
            ("ipThreshold", 100_000.into()),
            ("feedReliability", "Z".into()),
            ("url_relationships", serde_json::json!(["nothing here"])),
            ("incidentType", "x".into()),
        ]);
        let imported = import(&text, "virustotal").expect("an instance");
        let warnings = imported.warnings.join("\n");
        for part in ["insecure", "disable_private_ip_lookup", "fileThreshold is 0", "urlThreshold is no number"] {
            assert!(warnings.contains(part), "{part}: {warnings}");
        }
        for part in ["feedReliability", "\"nothing_here\"", "\"incidentType\"", "VIRUSTOTAL_API_KEY"] {
            assert!(warnings.contains(part), "{part}: {warnings}");
        }
        assert!(warnings.contains("ipThreshold is 100000, above 1000"), "{warnings}");
        assert!(imported.toml.contains("options.malicious_threshold_ip = 1000\n"), "{}", imported.toml);
        assert!(imported.toml.contains("reliability = \"C\""));
        assert!(imported.toml.contains("relationships_url = [\"none\"]"));
    }

    #[test]
    fn what_is_no_instance_is_refused_without_quoting_it() {
        for text in ["{", "[]", "{\"data\": 3}", "{\"apikey\": \"s3cret\""] {
            let refused = import(text, "virustotal").expect_err(text);
            assert!(!refused.contains("s3cret"), "{refused}");
        }
        let other = "{\"brand\": \"Other\", \"data\": []}";
        assert!(import(other, "virustotal").expect_err("another brand").contains("only VirusTotal"));
    }
}
