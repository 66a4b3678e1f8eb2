//! What the history says of the engines inside a source.

use std::collections::BTreeMap;

use tokio::sync::mpsc::Sender;
use tonic::Status;

use super::{FINISH_BYTES, HistoryRpc, write_progress};
use crate::convert::Violations;
use crate::convert::engines::{write_engine_comparison, write_preferred_vendors};
use crate::convert::history::{count, read_source};
use crate::engine::{EngineCollection, EngineCoverage, EngineQuestion, HistoryFilter};
use crate::error::{Error, Reason, Violation};
use crate::offload::offload;
use crate::pb;
use crate::settings::{Change, SourcePatch};
use crate::sources::{ALL_ENGINES_OPTION, has_engines};
use crate::statistics::{LEAST_OF_EACH_SIDE, NoSuggestion};

impl HistoryRpc {
    /// The source whose engines are meant; empty: the only one that has any.
    pub(super) async fn engine_question(
        &self,
        source: &str,
        with_silent: bool,
        mut violations: Violations,
    ) -> Result<EngineQuestion, Error> {
        let name = match source {
            "" => violations.resolve("source", self.only_source_with_engines()),
            named => read_source(named, &mut violations).and_then(|name| self.with_engines(name, &mut violations)),
        };
        let name = violations.finish(name)?;
        let options = BTreeMap::from([(ALL_ENGINES_OPTION.to_owned(), serde_json::Value::from(true))]);
        let patch = SourcePatch { options, ..SourcePatch::default() };
        let resolved = self.registry.effective(&Change { name: name.clone(), patch, ..Change::default() }).await?;
        Ok(EngineQuestion { source: name, reader: resolved.source, with_silent })
    }

    fn with_engines(&self, name: String, violations: &mut Violations) -> Option<String> {
        let resolved = violations.resolve("source", self.registry.get(&name))?;
        if has_engines(&resolved.kind.about().kind) {
            return Some(name);
        }
        let message = format!("is of the kind {}, which has no engines", resolved.kind.about().kind);
        violations.add(Violation::invalid("source", message));
        None
    }

    fn only_source_with_engines(&self) -> Result<String, Error> {
        let snapshot = self.registry.snapshot();
        let with_engines = snapshot.iter().filter(|source| has_engines(&source.kind.about().kind));
        let names: Vec<&str> = with_engines.map(|source| source.settings.name.as_str()).collect();
        match names.as_slice() {
            [only] => Ok((*only).to_owned()),
            [] => {
                let message = "no source of the kind virustotal is declared, and no other kind has engines";
                Err(Error::NotReady { reason: Reason::NotReady, subject: "sources".into(), message: message.into() })
            }
            several => {
                let message = format!("several sources have engines, name one of them: {}", several.join(", "));
                Err(Error::invalid("source", Reason::FieldRequired, message))
            }
        }
    }

    /// Collects what the engines add, and sends how far it has come.
    pub(super) async fn collect_engines<T: Send>(
        &self,
        filter: HistoryFilter,
        question: EngineQuestion,
        sender: &Sender<Result<T, Status>>,
        message: fn(pb::HistoryProgress) -> T,
    ) -> Result<EngineCollection, Error> {
        let _turn = self.turn(sender, message).await;
        let mut analysis = self.engine.history().analyze_engines(filter, question).await?;
        while let Some(progress) = analysis.advance().await? {
            // A reader that is slow misses some of it; one that has left ends this task.
            let _ = sender.try_send(Ok(message(write_progress(progress))));
        }
        analysis.finish()
    }
}

/// What was collected, as a comparison of the engines.
pub(super) async fn compare(source: String, collected: EngineCollection) -> pb::EngineComparison {
    let coverage = write_coverage(&collected);
    let finish = move || write_engine_comparison(&source, coverage, &collected.statistics.comparison());
    offload(FINISH_BYTES, finish).await
}

/// What was collected, as a list of preferred vendors.
pub(super) async fn suggest(
    rpc: &HistoryRpc,
    source: String,
    collected: EngineCollection,
) -> Result<pb::PreferredVendorsSuggestion, Error> {
    let coverage = write_coverage(&collected);
    let found = offload(FINISH_BYTES, move || collected.statistics.preferred_vendors()).await;
    let suggestion = found.map_err(|why| no_suggestion(&source, why))?;
    let history = rpc.engine.history();
    let missed = history.indicators(&suggestion.missed.examples).await?;
    let raised = history.indicators(&suggestion.raised.examples).await?;
    Ok(write_preferred_vendors(&source, coverage, &suggestion, &missed, &raised))
}

fn no_suggestion(source: &str, why: NoSuggestion) -> Error {
    let message = match why {
        NoSuggestion::NotEnough { malicious, other } => format!(
            "not enough data: {malicious} malicious and {other} other verdicts hold what the engines say; \
             {LEAST_OF_EACH_SIDE} of each are needed"
        ),
        NoSuggestion::NothingToLearn => {
            "no list of engines keeps more of the verdicts than one that never says malicious".to_owned()
        }
    };
    Error::NotReady { reason: Reason::NotReady, subject: format!("sources/{source}"), message }
}

fn write_coverage(collected: &EngineCollection) -> pb::EngineCoverage {
    let EngineCoverage { verdicts, findings, left_out, read_again, pruned, unreadable } = collected.coverage;
    pb::EngineCoverage {
        verdicts: count(verdicts),
        findings: count(findings),
        with_all_engines: count(collected.statistics.with_all()),
        with_hits_only: count(collected.statistics.with_hits_only()),
        left_out: count(left_out),
        read_again: count(read_again),
        pruned: count(pruned),
        unreadable: count(unreadable),
    }
}
