//! Typed structs for a report of VirusTotal, which borrow from its body.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

/// A report of VirusTotal as a program would read it that wants what a finding has of it.
#[derive(Deserialize)]
#[expect(dead_code, reason = "what counts is that it was read")]
pub struct Typed<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "likewise")]
struct Data<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    attributes: Attributes<'a>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "likewise")]
struct Attributes<'a> {
    #[serde(borrow)]
    last_analysis_stats: HashMap<&'a str, u64>,
    last_analysis_results: HashMap<&'a str, Engine<'a>>,
    last_analysis_date: Option<u64>,
    country: Option<&'a str>,
    asn: Option<u64>,
    as_owner: Option<&'a str>,
    reputation: Option<i64>,
    network: Option<&'a str>,
    tags: Vec<&'a str>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "likewise")]
struct Engine<'a> {
    category: &'a str,
    engine_name: &'a str,
    method: Option<&'a str>,
    result: Option<&'a str>,
}
