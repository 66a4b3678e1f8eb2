//! The short way to a list: no cache, and nothing is disclosed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use concord::clock::{Clock, ManualClock};
use concord::fetch::{Fetched, ListPipeline, ListReader, LookupRequest, SourceCounters, SourcePipeline};
use concord::finding::{Disposition, Family, Finding, NotAskedReason, OutcomeBody, SourceError, SourceErrorKind};
use concord::indicator::{Form, Indicator, Tlp};
use concord::source::{
    About, Answer, AnswerBody, EgressRules, ListAnswer, ListIndex, ListIndexBuilder, ListLocation, ListQuestion,
    Lookup, Priority, Probe, Question, Reading, Source, TransportKind,
};
use tempfile::NamedTempFile;
use tokio_util::task::TaskTracker;

use super::{SECOND, about, error, finding, not_asked, settings};

/// A kind whose lists have one address a line.
struct Addresses {
    about: About,
    path: PathBuf,
}

impl Source for Addresses {
    fn about(&self) -> &About {
        &self.about
    }

    fn ask(&self, lookup: &Lookup) -> Result<Question, SourceError> {
        Ok(Question::List(ListQuestion { indicator: lookup.indicator.clone() }))
    }

    fn read(&self, _: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
        match answers.last().map(|answer| &answer.body) {
            Some(AnswerBody::List(ListAnswer::Listed { .. })) => {
                Ok(Reading::Found(Finding::new(Disposition::Malicious, None, "listed".to_owned())))
            }
            Some(AnswerBody::List(ListAnswer::NotListed { .. })) => Ok(Reading::NoRecord),
            Some(AnswerBody::List(ListAnswer::NeverLoaded(why))) => Err(SourceError::unavailable(why.clone())),
            Some(AnswerBody::Http { .. } | AnswerBody::Dns(_) | AnswerBody::Failed(_)) | None => {
                Err(SourceError::malformed("no list"))
            }
        }
    }

    fn probe(&self) -> Vec<Question> {
        vec![Question::List(ListQuestion { indicator: address("192.0.2.1") })]
    }

    fn read_probe(&self, answers: &[Result<Answer, SourceError>]) -> Probe {
        let connectivity = answers.iter().try_for_each(|answer| answer.clone().map(|_| ()));
        Probe::new(connectivity, None, String::new())
    }

    fn list_location(&self) -> Option<ListLocation> {
        Some(ListLocation::File(self.path.clone()))
    }

    fn index(&self, file: &[u8]) -> Result<ListIndex, SourceError> {
        let mut index = ListIndexBuilder::with_capacity(file.len());
        for line in String::from_utf8_lossy(file).lines() {
            index.value(&address(line), "")?;
        }
        Ok(index.build())
    }
}

fn address(text: &str) -> Indicator {
    Indicator::from_normal(Form::Ipv4, text).unwrap()
}

struct Bed {
    file: NamedTempFile,
    clock: ManualClock,
    counters: Arc<SourceCounters>,
    pipeline: SourcePipeline,
}

fn list(text: &str) -> Bed {
    let (file, clock) = (NamedTempFile::new().unwrap(), ManualClock::following_tokio(SystemTime::UNIX_EPOCH));
    std::fs::write(file.path(), text).unwrap();
    let about = About { transport: TransportKind::List, ..about() };
    let settings = Arc::new(settings(&about));
    let source: Arc<dyn Source> = Arc::new(Addresses { about, path: file.path().to_owned() });
    let (shared, counters) = (Arc::new(clock.clone()), Arc::new(SourceCounters::new("word")));
    let (rules, tracker) = (EgressRules::default(), TaskTracker::new());
    let reader = ListReader::new(source.clone(), settings.clone(), rules, shared.clone(), tracker).unwrap();
    let family = Family::same_kind("word");
    let pipeline = ListPipeline::new(source, settings, family, Arc::new(reader), shared, counters.clone());
    Bed { file, clock, counters, pipeline: SourcePipeline::List(Arc::new(pipeline)) }
}

impl Bed {
    async fn look_up(&self, text: &str, time: Duration) -> Fetched {
        let lookup = Lookup::new(address(text));
        let deadline = self.clock.monotonic() + time;
        let request = LookupRequest {
            lookup,
            deadline,
            max_age: None,
            max_units: None,
            priority: Priority::Interactive,
            caller: "tester".into(),
            tlp: Tlp::Green,
        };
        self.pipeline.look_up(request).await
    }
}

#[tokio::test]
async fn a_list_is_not_cached() {
    let bed = list("192.0.2.1\n192.0.2.2\n");
    let first = bed.look_up("192.0.2.1", SECOND).await;
    assert_eq!(finding(&first.outcome).0, Disposition::Malicious);
    let second = bed.look_up("192.0.2.1", SECOND).await;
    assert!(!second.receipt.from_cache && !second.receipt.called && !second.receipt.shared);
    assert!(bed.pipeline.cached(&Lookup::new(address("192.0.2.1")), None).await.is_none());
    assert_eq!(bed.look_up("192.0.2.9", SECOND).await.outcome.body, OutcomeBody::NoRecord);
    let counters = bed.counters.snapshot();
    assert_eq!((counters.calls, counters.units, counters.cache_hits), (0, 0, 0));
    assert_eq!(bed.pipeline.probe("tester").await.connectivity, Ok(()));
}

#[tokio::test]
async fn a_list_that_is_stale_says_so_in_the_receipt() {
    let bed = list("192.0.2.1\n192.0.2.2\n192.0.2.3\n");
    assert_eq!(bed.look_up("192.0.2.1", SECOND).await.receipt.note, None);
    std::fs::write(bed.file.path(), "192.0.2.1\n").unwrap();
    bed.clock.advance(3 * SECOND);
    // The check is overdue, so it is waited for; silence of the old copy is worth less.
    for address in ["192.0.2.1", "192.0.2.9"] {
        let note = bed.look_up(address, SECOND).await.receipt.note.unwrap();
        assert!(note.contains("not fresh") && note.contains("less than half"), "{note}");
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_an_error_and_a_passed_deadline_asks_nothing() {
    let bed = list("gone");
    std::fs::remove_file(bed.file.path()).unwrap();
    let unavailable = error(&bed.look_up("192.0.2.1", SECOND).await.outcome);
    assert_eq!(unavailable.kind, SourceErrorKind::Unavailable);
    let late = bed.look_up("192.0.2.1", Duration::ZERO).await;
    assert_eq!(not_asked(&late.outcome).reason, NotAskedReason::Deadline);
}
