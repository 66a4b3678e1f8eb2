//! What one layer sets on a source: the file, the environment, or the API. Values are typed as soon as text is read;
//! only options stay as written until their kind is known.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::form::{self, Clearable, Syntax, Written};
use crate::finding::Reliability;
use crate::indicator::Tlp;
use crate::source::{Proxy, QuotaWindow, QuotaZone, SourceSettings};

/// Every field of a source that a layer may set, once: what it means (also the help of its flag), its name, its type, and
/// the setting that it sets. File, store, protocol and command line are derived from these lines; `$declare` is given them.
#[doc(hidden)]
#[macro_export]
macro_rules! with_source_fields {
    ($declare:ident) => {
        $declare! {
            /// Whether it is asked
            enabled: bool => enabled;
            /// How far you trust it: A+, A, B, C, D, E or F
            reliability: Reliability => reliability;
            /// Where questions go
            base_url: Url => base_url;
            /// Sources of one family share data and count as nearly one opinion; empty: its kind's family
            family: Clearable<String> => family;
            /// Tier of service
            tier: String => tier;
            /// Calls that each window (minute, hour, day, week, month) allows
            quota: Vec<QuotaWindow> => quota;
            /// Time zone in which the windows of its quota begin, by its name in the IANA database
            quota_time_zone: QuotaZone => quota_zone;
            /// Percentage of each window that only interactive requests may spend, 0 to 100
            quota_reserve: u32 => quota_reserve;
            /// Whether background requests are spread over the day
            quota_pacing: bool => quota_pacing;
            /// Maximum of calls to it at once, 1 to 1000
            max_concurrency: u32 => max_concurrency;
            /// Time for one attempt
            timeout: Duration => timeout;
            /// How long a finding is cached
            finding_ttl: Duration => cache_ttl.finding;
            /// How long "no record" is cached
            no_record_ttl: Duration => cache_ttl.no_record;
            /// How long after its time a finding is still used while the source is asked again in the background
            stale_while_revalidate: Duration => cache_ttl.stale_while_revalidate;
            /// How long after its time a finding is still used if the source cannot be asked or fails
            stale_if_error: Duration => cache_ttl.stale_if_error;
            /// Highest TLP that it may see
            max_tlp: Tlp => max_tlp;
            /// Proxy for its requests (http, https, socks5), or environment (HTTPS_PROXY, NO_PROXY); empty: none
            proxy: Clearable<Proxy> => proxy;
            /// PEM of the authorities to trust for it; empty: the system's
            ca_pem: Clearable<String> => ca_pem;
        }
    };
}

macro_rules! declare_patch {
    ($(#[doc = $help:literal] $field:ident: $type:ty => $($setting:ident).+;)*) => {
        /// What one layer sets on a source; unset fields are left to the layer below. Written as in the configuration
        /// file.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct SourcePatch {
            /// Its kind.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub kind: Option<String>,
            $(
                #[doc = $help]
                #[serde(with = "form", skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
            /// Options by name.
            pub options: BTreeMap<String, Value>,
        }

        /// A source in the file: a patch, and what only the file may set.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        pub(super) struct SourceInFile {
            kind: Option<String>,
            /// A value, `env:NAME` or `file:PATH`.
            pub(super) credential: Option<String>,
            pub(super) ca_file: Option<String>,
            $(#[serde(with = "form")] $field: Option<$type>,)*
            options: BTreeMap<String, Value>,
        }

        impl SourceInFile {
            pub(super) fn into_patch(self) -> SourcePatch {
                SourcePatch { kind: self.kind, $($field: self.$field,)* options: self.options }
            }
        }

        /// The fields, except `kind`, which never changes, and the options, which have one path each.
        pub const SOURCE_FIELDS: &[SourceField] =
            &[$(SourceField { name: stringify!($field), help: $help, syntax: <$type as Written>::SYNTAX }),*];

        impl SourcePatch {
            /// The patch that sets everything to these settings; what is unset there is unset here.
            pub fn from_settings(settings: &SourceSettings) -> Self {
                let options = settings.options.iter().map(|(name, value)| (name.clone(), value.to_json()));
                Self {
                    kind: Some(settings.kind.clone()),
                    $($field: Setting::<$type>::to_patch(&settings.$($setting).+),)*
                    options: options.collect(),
                }
            }

            fn is_set(&self, path: &str) -> bool {
                match path {
                    $(stringify!($field) => self.$field.is_some(),)*
                    _ => false,
                }
            }

            /// Takes the field at `path` from `other`, set or unset; false for an unknown path.
            pub(super) fn copy(&mut self, path: &str, other: &Self) -> bool {
                match path {
                    $(stringify!($field) => self.$field.clone_from(&other.$field),)*
                    "options" => self.options.clone_from(&other.options),
                    _ => return self.copy_option(path, other),
                }
                true
            }

            /// Sets what this layer sets, except the options.
            pub(super) fn apply(&self, settings: &mut SourceSettings) {
                $(if let Some(value) = self.$field.clone() {
                    settings.$($setting).+ = value.into();
                })*
            }
        }
    };
}

with_source_fields!(declare_patch);

/// One field of a [`SourcePatch`], for those who list them.
pub struct SourceField {
    pub name: &'static str,
    /// What it means, in a few words.
    pub help: &'static str,
    pub syntax: Syntax,
}

/// A setting that a field of type `T` sets.
trait Setting<T> {
    /// The field that sets it as it is.
    fn to_patch(&self) -> Option<T>;
}

impl<T: Clone> Setting<T> for T {
    fn to_patch(&self) -> Option<T> {
        Some(self.clone())
    }
}

impl<T: Clone> Setting<T> for Option<T> {
    fn to_patch(&self) -> Option<T> {
        self.clone()
    }
}

impl<T: Clone> Setting<Clearable<T>> for Option<T> {
    fn to_patch(&self) -> Option<Clearable<T>> {
        self.clone().map(Clearable::Set)
    }
}

impl SourcePatch {
    /// The paths that a mask may name; an option's path is `options.NAME`.
    pub(super) fn is_path(path: &str) -> bool {
        SOURCE_FIELDS.iter().any(|field| field.name == path) || path == "options" || path.starts_with("options.")
    }

    /// The paths of the fields that this layer sets, except `kind`.
    pub(super) fn paths(&self) -> Vec<String> {
        let fields = SOURCE_FIELDS.iter().map(|field| field.name).filter(|path| self.is_set(path)).map(str::to_owned);
        fields.chain(self.options.keys().map(|name| format!("options.{name}"))).collect()
    }

    fn copy_option(&mut self, path: &str, other: &Self) -> bool {
        let Some(name) = path.strip_prefix("options.") else { return false };
        match other.options.get(name) {
            Some(value) => self.options.insert(name.to_owned(), value.clone()),
            None => self.options.remove(name),
        };
        true
    }

    /// This layer with `above` laid over it.
    pub fn overlaid_with(&self, above: &Self) -> Self {
        let mut both = self.clone();
        for path in above.paths() {
            both.copy(&path, above);
        }
        both.kind = above.kind.clone().or(both.kind);
        both
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_written_as_it_is_read() {
        let text = r#"{"kind":"virustotal","enabled":false,"reliability":"A+","base_url":"https://example.com/api","family":"","tier":"free","quota":{"day":9,"minute":4},"quota_reserve":30,"max_concurrency":5,"timeout":"3s","max_tlp":"AMBER+STRICT","proxy":"","options":{"preferred_threshold":3}}"#;
        let patch: SourcePatch = serde_json::from_str(text).unwrap();
        assert_eq!((patch.family.clone(), patch.proxy.clone()), (Some(Clearable::Cleared), Some(Clearable::Cleared)));
        assert_eq!(serde_json::to_string(&patch).unwrap(), text);
        let paths = ["enabled", "reliability", "base_url", "family", "tier", "quota"];
        assert_eq!(patch.paths()[..6], paths);
    }
}
