//! The kinds: one file each, and the list of all of them. No I/O, no clock, no log: a kind writes the question and reads
//! the answer. The contract stands in `source`, the way a question takes in `fetch`.
//!
//! A new kind is its file, its `mod` line and its line in [`all`].

use std::sync::{Arc, LazyLock};

use crate::source::Source;

mod abuseipdb;
pub mod dnsbl;
mod greynoise;
mod hashlookup;
mod http;
mod json;
pub mod list;
mod urlhaus;
mod virustotal;

static ALL: LazyLock<Vec<Arc<dyn Source>>> = LazyLock::new(|| {
    vec![
        Arc::new(virustotal::VirusTotal::new()),
        Arc::new(abuseipdb::AbuseIpDb::new()),
        Arc::new(urlhaus::UrlHaus::new()),
        Arc::new(greynoise::GreyNoise::new()),
        Arc::new(hashlookup::HashLookup::new()),
        Arc::new(dnsbl::Dnsbl),
        Arc::new(list::List),
    ]
});

/// Every kind, in the order in which they are listed to people.
pub fn all() -> &'static [Arc<dyn Source>] {
    &ALL
}

/// The kind of this name; letter case and outer space aside.
pub fn find(kind: &str) -> Option<Arc<dyn Source>> {
    all().iter().find(|source| source.about().kind.eq_ignore_ascii_case(kind.trim())).cloned()
}
