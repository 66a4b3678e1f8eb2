//! MISP warninglists (`lists/NAME/list.json`): `type` says how a value is compared with the entries, `matching_attributes`
//! which values are. What MISP would not compare with such a list is not looked up in it here either.

use serde::Deserialize;
use serde_json::Value;
use strum::VariantArray;

use super::entry::{Rules, Skipped};
use super::import::{ListImport, Place};
use super::json;
use crate::finding::SourceError;
use crate::indicator::IndicatorType;

/// What we read of a warninglist.
#[derive(Deserialize)]
struct Warninglist {
    #[serde(default)]
    name: String,
    #[serde(rename = "type")]
    comparison: String,
    list: Vec<Value>,
    matching_attributes: Option<Vec<String>>,
}

/// Reads a warninglist into the list.
pub(super) fn fill(list: &mut ListImport<'_>, file: &[u8]) -> Result<(), SourceError> {
    let read: Warninglist = serde_json::from_slice(file).map_err(|error| json::malformed(&error))?;
    list.builder.title(&read.name);
    let attributes = read.matching_attributes.unwrap_or_default();
    // MISP compares every attribute with a list that names none.
    let mut types = match attributes[..] {
        [] => IndicatorType::VARIANTS.to_vec(),
        _ => attributes.iter().flat_map(|attribute| types(attribute)).copied().collect(),
    };
    let comparison = read.comparison.to_ascii_lowercase();
    if types.is_empty() || (comparison == "cidr" && !types.contains(&IndicatorType::Ip)) {
        let why = format!("the list is for {}, and such are not looked up in it", attributes.join(", "));
        return refuse_all(&read.list, &why);
    }
    match comparison.as_str() {
        "string" => {
            let types = if attributes.is_empty() { list.rules.types.clone() } else { types };
            list.rules = Rules { types, subdomains: false, any_name: true };
        }
        "hostname" => {
            // MISP compares the host of a URL, which can be an address.
            let hosts = vec![IndicatorType::Domain, IndicatorType::Ip];
            list.rules = Rules { types: hosts, subdomains: true, any_name: true };
            if list.format.urls_by_host {
                types.push(IndicatorType::Url);
            }
            list.builder.urls_by_host(types.contains(&IndicatorType::Url));
            list.builder.only(types);
        }
        "cidr" => list.rules = Rules { types: vec![IndicatorType::Ip], subdomains: false, any_name: false },
        "substring" => {
            list.builder.only(types);
            return substrings(list, &read.list);
        }
        "regex" => {
            return refuse_all(&read.list, "the list is of type regex, and regular expressions are not looked up");
        }
        other => {
            return Err(SourceError::malformed(format!(
                "member type: no warninglist type is called \"{other}\"; known are string, hostname, cidr, substring and \
                 regex"
            )));
        }
    }
    each(list, &read.list, |list, place, entry| list.add(place, entry, ""))
}

/// The types of indicators that MISP keeps in attributes of this type; none for what is not looked up.
fn types(attribute: &str) -> &'static [IndicatorType] {
    match attribute {
        "ip-src" | "ip-dst" | "ip-src|port" | "ip-dst|port" => &[IndicatorType::Ip],
        "domain" | "hostname" | "hostname|port" => &[IndicatorType::Domain],
        "domain|ip" => &[IndicatorType::Domain, IndicatorType::Ip],
        "url" | "uri" | "link" => &[IndicatorType::Url],
        "md5" | "sha1" | "sha256" | "filename|md5" | "filename|sha1" | "filename|sha256" | "malware-sample" => {
            &[IndicatorType::File]
        }
        _ => &[],
    }
}

/// Does something with each entry that is a text, and skips the others.
fn each<'a>(
    list: &mut ListImport<'_>,
    entries: &'a [Value],
    mut then: impl FnMut(&mut ListImport<'_>, Place, &'a str) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    entries.iter().enumerate().try_for_each(|(number, entry)| {
        let place = Place::Entry(number + 1);
        match entry {
            Value::String(entry) => then(list, place, entry),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                list.skip(place, Skipped::unreadable("this is no text"))
            }
        }
    })
}

/// Refuses a list of which no entry is looked up, unless it is empty.
fn refuse_all(entries: &[Value], why: &str) -> Result<(), SourceError> {
    match entries {
        [] => Ok(()),
        _ => Err(SourceError::malformed(format!("not one entry could be read: {why}"))),
    }
}

/// Adds entries that are looked for within a value.
fn substrings(list: &mut ListImport<'_>, entries: &[Value]) -> Result<(), SourceError> {
    let mut substrings = Vec::new();
    each(list, entries, |list, place, entry| match entry.trim() {
        "" => list.skip(place, Skipped::unreadable("an empty text would name everything")),
        entry => {
            substrings.push(entry);
            Ok(())
        }
    })?;
    list.take_substrings(&substrings)
}
