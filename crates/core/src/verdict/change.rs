//! What would change a verdict, as data. Definitions: `docs/fusion.md`, "What would change it".

use strum::{IntoStaticStr, VariantArray};

use crate::finding::{Disposition, Reliability};

/// What would change a verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Analysis {
    /// The verdict without each source that answered, in order of name.
    pub leave_one_out: Vec<LeaveOneOut>,
    /// The smallest sets of other reports that lead to another disposition, those of the fewest changes first.
    pub flips: Vec<Flip>,
    /// The distance to each other disposition, the nearest first. Empty under a policy without a sum, and where the
    /// disposition is unknown for want of coverage.
    pub margins: Vec<Margin>,
    /// What the answers that are missing could still do.
    pub reach: Reach,
}

/// The verdict as it would be without one source.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaveOneOut {
    /// Name of the source, without `sources/`.
    pub source: String,
    /// What the source changes: the log-odds with it less those without it, in micro-nats. Within a family it differs from
    /// the source's contribution, because without it another member counts more. `None` under a policy without a sum.
    pub micro_nats: Option<i64>,
    /// The disposition without it.
    pub disposition: Disposition,
}

/// Why a report might be another than it is: what a flip assumes of the sources.
#[derive(Clone, Copy, Debug, IntoStaticStr, VariantArray, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[strum(serialize_all = "snake_case")]
pub enum Assumption {
    /// Sources whose answer is missing may still answer: they failed, or could not be asked in quota or time.
    MissingAnswers,
    /// Sources that answered may be wrong.
    WrongAnswers,
}

/// A smallest set of other reports with which the disposition would be another.
#[derive(Clone, Debug, PartialEq)]
pub struct Flip {
    /// The disposition then.
    pub disposition: Disposition,
    /// Why the reports might be others.
    pub assumption: Assumption,
    /// The other reports, in order of the sources' names.
    pub changes: Vec<ReportChange>,
    /// The log-odds then, in micro-nats; `None` under a policy without a sum.
    pub log_odds_micro: Option<i64>,
}

/// Another report of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportChange {
    /// Name of the source, without `sources/`.
    pub source: String,
    /// What it says now; `None` where it said nothing.
    pub from: Option<Disposition>,
    /// What it would say. Unknown: it would take no side.
    pub to: Disposition,
}

/// The distance from the verdict's log-odds to another disposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Margin {
    /// The other disposition.
    pub disposition: Disposition,
    /// The least evidence that must be added to reach it, in micro-nats; negative: that must be taken away.
    pub micro_nats: i64,
    /// Further sources that would bring it about, the least reliable that suffice.
    pub example: Option<Newcomers>,
}

/// Independent sources that have not been asked, all with the same fresh and full claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newcomers {
    /// How many.
    pub count: u32,
    /// Their reliability.
    pub reliability: Reliability,
    /// What they would say.
    pub claim: Disposition,
}

/// What answers that have not come could still change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whether any answers of the sources that are missing could change the disposition.
    pub can_change: bool,
    /// Those of them whose answer alone could, in order of name. Empty although `can_change`: only several together could.
    pub sources: Vec<String>,
}
