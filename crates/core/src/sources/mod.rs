//! The kinds: one file each, and the list of all of them. No I/O, no clock, no log: a kind writes the question and
//! reads the answer. The contract is in `source`, the pipeline of a question in `fetch`.
//!
//! A new kind is its file, its `mod` line, its line in [`all`] and its fixtures. Most ask one question over HTTP and read one
//! JSON object: `abuseipdb` shows how, over the helpers in `http` and `json`.

use std::sync::{Arc, LazyLock};

use crate::source::{About, BuildResult, Kind, SourceView};

mod abuseipdb;
mod dnsbl;
mod document;
mod greynoise;
mod hashlookup;
mod http;
mod json;
mod list;
mod urlhaus;
mod virustotal;

pub use virustotal::engine_report;

/// A kind that is compiled in.
struct BuiltIn {
    about: &'static LazyLock<About>,
    build: fn(&SourceView<'_>) -> BuildResult,
}

impl Kind for BuiltIn {
    fn about(&self) -> &About {
        self.about
    }

    fn build(&self, view: &SourceView<'_>) -> BuildResult {
        (self.build)(view)
    }
}

static ALL: LazyLock<Vec<Arc<dyn Kind>>> = LazyLock::new(|| {
    vec![
        Arc::new(BuiltIn { about: &virustotal::ABOUT, build: virustotal::build }),
        Arc::new(BuiltIn { about: &abuseipdb::ABOUT, build: abuseipdb::build }),
        Arc::new(BuiltIn { about: &urlhaus::ABOUT, build: urlhaus::build }),
        Arc::new(BuiltIn { about: &greynoise::ABOUT, build: greynoise::build }),
        Arc::new(BuiltIn { about: &hashlookup::ABOUT, build: hashlookup::build }),
        Arc::new(BuiltIn { about: &dnsbl::ABOUT, build: dnsbl::build }),
        Arc::new(BuiltIn { about: &list::ABOUT, build: list::build }),
    ]
});

/// Every kind, in the order in which they are listed to people.
pub fn all() -> &'static [Arc<dyn Kind>] {
    &ALL
}

/// The kind of this name; letter case and outer space aside.
pub fn find(name: &str) -> Option<Arc<dyn Kind>> {
    all().iter().find(|kind| kind.about().kind.eq_ignore_ascii_case(name.trim())).cloned()
}

/// Whether findings of this kind hold what the engines inside the source say, as [`engine_report`] reads it.
pub fn has_engines(kind: &str) -> bool {
    kind == virustotal::ABOUT.kind
}

/// The option of such a kind with which findings name every engine.
pub const ALL_ENGINES_OPTION: &str = virustotal::ALL_ENGINES_OPTION;
