//! The policies in effect: those built in, those that the configuration file declares, and those made over the API.
//!
//! `fields.rs` names every number of a policy by its path, `declared.rs` reads the tables of the file, `stored.rs` the form
//! in the store, `change.rs` lays a change over a policy, and `registry.rs` holds the policies in effect. A revision is never
//! rewritten: every change that is one makes the next.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::verdict::{Policy, RuleKind};

mod change;
mod declared;
mod fields;
mod registry;
mod stored;

pub(super) use declared::read_declared;
pub use declared::{FlatTable, flatten};
pub use fields::{FieldValue, PolicyField, PolicyFields, Unit, fields};
pub use fields::{in_order, is_optional_table};
pub use registry::PolicyRegistry;

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyOrigin {
    /// Every installation has it.
    BuiltIn,
    /// This file declares it.
    File(PathBuf),
    /// It was made over the API.
    Api,
}

/// A revision of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedPolicy {
    /// The policy.
    pub policy: Policy,
    /// Where it comes from.
    pub origin: PolicyOrigin,
    /// Changes with every change.
    pub etag: String,
    /// When this revision was made; `None` for a policy that is built in.
    pub create_time: Option<SystemTime>,
}

/// A request to make or change a policy.
#[derive(Clone, Debug, Default)]
pub struct PolicyChange {
    /// Its name, without `policies/`.
    pub name: String,
    /// The fields to write.
    pub fields: PolicyFields,
    /// The rule that the request names.
    pub rule: Option<RuleKind>,
    /// The policy that a new one starts from, without `policies/`; `None`: the built-in one of its rule.
    pub base: Option<String>,
    /// Paths to write; `None`: every field that is set.
    pub mask: Option<Vec<String>>,
    /// Whether a policy that does not exist is made.
    pub allow_missing: bool,
    /// The etag that the caller saw; empty: whatever it is.
    pub etag: String,
}
