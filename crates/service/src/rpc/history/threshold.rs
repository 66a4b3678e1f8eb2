//! `SuggestThreshold`: which threshold of which source is tried, and what it would have said at each value.

use tokio::sync::mpsc::Sender;
use tonic::Status;

use super::{FINISH_BYTES, HistoryRpc, write_progress};
use crate::convert::history::count;
use crate::convert::history_threshold::write_curve;
use crate::convert::{Violations, read_name};
use crate::engine::{HistoryFilter, ThresholdTrial};
use crate::error::{Error, Reason, Violation};
use crate::offload::offload;
use crate::pb;
use crate::pb::suggest_threshold_response::Event;
use crate::settings::{ResolvedSource, State, nearest};
use crate::source::{About, OptionSpec, OptionType, OptionValue, SourceSettings, SourceView, TransportKind};
use crate::statistics::threshold_values;

impl HistoryRpc {
    /// The source and the threshold that a request names; `None` where one of them is refused.
    pub(super) fn threshold_of(
        &self,
        source: &str,
        option: &str,
        violations: &mut Violations,
    ) -> Option<(ResolvedSource, Threshold)> {
        let name = violations.check(read_name(source, "sources", "source"))?;
        let resolved = violations.resolve("source", self.registry.get(&name))?;
        if let State::NotConfigured(missing) = &resolved.state {
            violations.add(Violation::invalid("source", format!("it is not configured: {missing}")));
            return None;
        }
        let threshold = violations.check(Threshold::find(resolved.source.about(), option))?;
        Some((resolved, threshold))
    }

    /// Tries the values, and sends how far it has come.
    pub(super) async fn try_threshold(
        &self,
        filter: HistoryFilter,
        source: ResolvedSource,
        threshold: Threshold,
        sender: &Sender<Result<pb::SuggestThresholdResponse, Status>>,
    ) -> Result<pb::SuggestThresholdResponse, Error> {
        let message = |event| pb::SuggestThresholdResponse { event: Some(event) };
        let _turn = self.turn(sender, |progress| message(Event::Progress(progress))).await;
        let (name, option) = (source.settings.name.clone(), threshold.name.clone());
        let trial = offload(FINISH_BYTES, move || threshold.trial(&source)).await;
        let present = trial.present;
        let mut scan = self.engine.history().try_threshold(filter, trial).await?;
        while let Some(progress) = scan.advance().await? {
            // A reader that is slow misses some of it; one that has left ends this task.
            let _ = sender.try_send(Ok(message(Event::Progress(write_progress(progress)))));
        }
        let report = scan.finish()?;
        let mut curve = write_curve(&report.curve);
        curve.source = format!("sources/{name}");
        curve.option = option;
        curve.present = count(present);
        curve.pruned = count(report.pruned);
        curve.unreadable = count(report.unreadable);
        Ok(message(Event::Curve(curve)))
    }
}

/// A threshold of a kind.
pub(super) struct Threshold {
    name: String,
    least: u64,
    greatest: u64,
    default: Option<OptionValue>,
}

impl Threshold {
    /// # Errors
    /// Where the kind has no such option, or it is no threshold.
    fn find(about: &About, option: &str) -> Result<Self, Violation> {
        let thresholds: Vec<&str> =
            about.options.iter().filter(|spec| spec.is_threshold).map(|spec| spec.name.as_str()).collect();
        let refused = |why: &str| {
            let hint = match (nearest(option, &thresholds), thresholds.is_empty()) {
                (Some(near), _) => format!("did you mean {near}?"),
                (None, true) => format!("{} has no thresholds", about.kind),
                (None, false) => format!("use one of {}", thresholds.join(", ")),
            };
            Violation::invalid("option", format!("{why}; {hint}"))
        };
        if option.is_empty() {
            let message = format!("a threshold is needed: {}", thresholds.join(", "));
            return Err(Violation::new("option", Reason::FieldRequired, message));
        }
        let spec = about.options.iter().find(|spec| spec.name == option);
        let spec = spec.ok_or_else(|| refused(&format!("{} has no such option", about.kind)))?;
        match (&spec.value_type, about.transport) {
            (OptionType::Integer { min, max }, TransportKind::Http) if spec.is_threshold => {
                Ok(Self::new(spec, *min, *max))
            }
            (_, _) => Err(refused("it is no threshold of which other values can be tried")),
        }
    }

    fn new(spec: &OptionSpec, min: i64, max: i64) -> Self {
        let limit = |limit: i64| u64::try_from(limit).unwrap_or_default();
        Self { name: spec.name.clone(), least: limit(min), greatest: limit(max), default: spec.default.clone() }
    }

    /// The source at each value with which its kind can be built: one threshold may bound another.
    fn trial(&self, source: &ResolvedSource) -> ThresholdTrial {
        let value = source.settings.options.get(&self.name).or(self.default.as_ref());
        let present = match value {
            Some(OptionValue::Integer(value)) => u64::try_from(*value).unwrap_or(self.least),
            Some(_) | None => self.least,
        };
        let with = |value: u64| {
            let mut settings = SourceSettings::clone(&source.settings);
            let number = i64::try_from(value).ok()?;
            settings.options.insert(self.name.clone(), OptionValue::Integer(number));
            source.kind.build(&SourceView::new(&settings)).ok().map(|built| (value, built))
        };
        ThresholdTrial {
            source: source.settings.name.clone(),
            present,
            variants: threshold_values(self.least, self.greatest, present).into_iter().filter_map(with).collect(),
        }
    }
}
