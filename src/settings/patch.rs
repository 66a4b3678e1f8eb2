//! What one layer sets on a source: the file, the environment, or the API. Values are typed as soon as text is read;
//! only options stay as written until their kind is known.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::error::ParseEnumError;
use crate::finding::Reliability;
use crate::indicator::Tlp;
use crate::source::{QuotaWindow, SourceSettings, parse_address, parse_duration};

/// Why a quota of zero is refused.
pub(super) const NO_CALLS: &str = "must be at least 1; to stop asking, disable the source";

/// Declares every field that a layer may set, once: name, type, how it is written, and the settings that it sets.
macro_rules! source_fields {
    ($($(#[$attribute:meta])* $field:ident: $type:ty => $($setting:ident).+;)*) => {
        /// What one layer sets on a source; unset fields are left to the layer below. Written as in the configuration
        /// file.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct SourcePatch {
            /// Its kind.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub kind: Option<String>,
            $($(#[$attribute])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
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
            $($(#[$attribute])* $field: Option<$type>,)*
            options: BTreeMap<String, Value>,
        }

        impl SourceInFile {
            pub(super) fn into_patch(self) -> SourcePatch {
                SourcePatch { kind: self.kind, $($field: self.$field,)* options: self.options }
            }
        }

        /// Paths of the fields, except `kind`, which never changes, and the options, which have one path each.
        pub(super) const FIELDS: &[&str] = &[$(stringify!($field)),*];

        impl SourcePatch {
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

source_fields! {
    /// Whether it is asked.
    enabled: bool => enabled;
    /// Letter.
    #[serde(with = "text")]
    reliability: Reliability => reliability;
    /// Where questions go.
    #[serde(with = "text")]
    base_url: Url => base_url;
    /// Family; none: its kind's.
    #[serde(with = "text")]
    family: Clearable<String> => family;
    /// Tier.
    tier: String => tier;
    /// Its quota, shortest window first.
    #[serde(with = "quota")]
    quota: Vec<QuotaWindow> => quota;
    /// Time for one attempt.
    #[serde(with = "text")]
    timeout: Duration => timeout;
    /// How long a finding is cached.
    #[serde(with = "text")]
    finding_ttl: Duration => cache_ttl.finding;
    /// How long "no record" is cached.
    #[serde(with = "text")]
    no_record_ttl: Duration => cache_ttl.no_record;
    /// Highest TLP.
    #[serde(with = "text")]
    max_tlp: Tlp => max_tlp;
    /// Proxy; none: directly.
    #[serde(with = "text")]
    proxy: Clearable<Url> => proxy;
    /// PEM of authorities; none: the system's.
    #[serde(with = "text")]
    ca_pem: Clearable<String> => ca_pem;
}

/// A field that a layer can also clear: `None` restores the value that holds without any layer.
type Clearable<T> = Option<T>;

impl SourcePatch {
    /// The paths that a mask may name; an option's path is `options.NAME`.
    pub(super) fn is_path(path: &str) -> bool {
        FIELDS.contains(&path) || path == "options" || path.starts_with("options.")
    }

    /// The paths of the fields that this layer sets, except `kind`.
    pub(super) fn paths(&self) -> Vec<String> {
        let fields = FIELDS.iter().filter(|path| self.is_set(path)).map(|path| (*path).to_owned());
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
    pub(super) fn overlaid_with(&self, above: &Self) -> Self {
        let mut both = self.clone();
        for path in above.paths() {
            both.copy(&path, above);
        }
        both.kind = above.kind.clone().or(both.kind);
        both
    }
}

/// A value that file and store hold as text.
trait Text: Sized {
    /// Reads it; `None` where the text sets nothing.
    fn parse(text: &str) -> Result<Option<Self>, String>;

    fn write(&self) -> String;
}

impl Text for Reliability {
    fn parse(text: &str) -> Result<Option<Self>, String> {
        text.parse().map(Some).map_err(|error: ParseEnumError| error.to_string())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Text for Tlp {
    fn parse(text: &str) -> Result<Option<Self>, String> {
        text.parse().map(Some).map_err(|error: ParseEnumError| error.to_string())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Text for Duration {
    fn parse(text: &str) -> Result<Option<Self>, String> {
        parse_duration(text).map(Some)
    }

    fn write(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl Text for Url {
    fn parse(text: &str) -> Result<Option<Self>, String> {
        Some(text.trim()).filter(|text| !text.is_empty()).map(parse_address).transpose()
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Text for String {
    fn parse(text: &str) -> Result<Option<Self>, String> {
        Ok(Some(text.to_owned()))
    }

    fn write(&self) -> String {
        self.clone()
    }
}

impl<T: Text> Text for Clearable<T> {
    fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.trim().is_empty() { Ok(Some(None)) } else { Ok(Some(T::parse(text)?)) }
    }

    fn write(&self) -> String {
        self.as_ref().map(T::write).unwrap_or_default()
    }
}

/// Serde for [`Text`].
mod text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Text;

    pub(super) fn serialize<T: Text, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(T::write).serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        T::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Serde for quotas: calls by window, `minute`, `day`, `month`.
mod quota {
    use std::collections::BTreeMap;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::NO_CALLS;
    use crate::error::ParseEnumError;
    use crate::source::{QuotaPer, QuotaWindow};

    /// At least one call.
    struct Limit(u64);

    impl<'de> Deserialize<'de> for Limit {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match u64::deserialize(deserializer)? {
                0 => Err(D::Error::custom(NO_CALLS)),
                limit => Ok(Self(limit)),
            }
        }
    }

    pub(super) fn serialize<S: Serializer>(
        windows: &Option<Vec<QuotaWindow>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let windows = windows.iter().flatten().map(|window| (window.per.as_str(), window.limit));
        windows.collect::<BTreeMap<_, _>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<QuotaWindow>>, D::Error> {
        // Names are checked after all limits, so that a wrong limit is reported under its own path.
        let limits = BTreeMap::<String, Limit>::deserialize(deserializer)?;
        let window = |(per, Limit(limit)): (String, Limit)| {
            let per = per.parse().map_err(|error: ParseEnumError| D::Error::custom(error))?;
            Ok(QuotaWindow { per, limit })
        };
        let mut windows = limits.into_iter().map(window).collect::<Result<Vec<_>, D::Error>>()?;
        windows.sort_by_key(|window: &QuotaWindow| -> QuotaPer { window.per });
        Ok(Some(windows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_written_as_it_is_read() {
        let text = r#"{"kind":"virustotal","enabled":false,"reliability":"A+","base_url":"https://example.com/api","family":"","tier":"free","quota":{"day":9,"minute":4},"timeout":"3s","max_tlp":"AMBER+STRICT","proxy":"","options":{"preferred_threshold":3}}"#;
        let patch: SourcePatch = serde_json::from_str(text).unwrap();
        assert_eq!((patch.family.clone(), patch.proxy.clone()), (Some(None), Some(None)));
        assert_eq!(serde_json::to_string(&patch).unwrap(), text);
        let paths = ["enabled", "reliability", "base_url", "family", "tier", "quota", "timeout", "max_tlp", "proxy"];
        assert_eq!(patch.paths()[..9], paths);
    }
}
