//! The numbers by which outcomes become a verdict.

/// The rules by which outcomes become a verdict. A changed policy has a new revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Name without `policies/`.
    pub name: String,
    /// One line on what it does.
    pub summary: String,
    /// Revision, from 1.
    pub revision: u32,
    /// How it judges.
    pub rule: Rule,
}

/// How a policy judges.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Log-odds fusion.
    Weighted(WeightedRule),
    /// The most reliable source wins, a tie goes to the worse claim.
    Xsoar,
}

/// The numbers of log-odds fusion.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedRule {}

impl Policy {
    /// The policies that are built in, the default (`weighted`) first.
    pub fn built_in() -> Vec<Self> {
        vec![
            Self {
                name: "weighted".into(),
                summary: String::new(),
                revision: 1,
                rule: Rule::Weighted(WeightedRule {}),
            },
            Self { name: "xsoar".into(), summary: String::new(), revision: 1, rule: Rule::Xsoar },
        ]
    }
}
