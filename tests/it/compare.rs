//! What the history says of the sources, over the API and as it is typed: a generated history whose truth is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use concord::clock::{Clock, ManualClock, SystemClock};
use concord::finding::{Disposition, Outcome, Reliability};
use concord::indicator::Tlp;
use concord::pb;
use concord::pb::compare_sources_response::Event as CompareEvent;
use concord::pb::fit_calibration_response::Event as FitEvent;
use concord::pb::history_service_client::HistoryServiceClient;
use concord::pb::replay_verdicts_response::Event as ReplayEvent;
use concord::pb::suggest_reliability_response::Event as SuggestEvent;
use concord::store::{DataDirectory, Durability, Store, VerdictRecord, open};
use concord::verdict::{AnalystJudgement, Feedback, Policy, Retraction, Verdict, fuse_without_analysis};
use futures_util::future::join_all;
use tempfile::TempDir;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

use crate::harness::{PATIENCE, TestServer, violated};
use crate::statistics::sources::{world, world_of_lists};
use crate::statistics::world::{Actor, day, items, verdicts};
use crate::verdict_diff::concord;

/// What each source cost in each verdict.
const UNITS: u32 = 3;
/// Verdicts in the history.
const VERDICTS: usize = 1_500;
/// Those that an analyst has judged.
const LABELLED: usize = 300;

/// A server whose history was generated, and that history.
struct Generated {
    server: TestServer,
    verdicts: Vec<Verdict>,
}

/// Starts a server on the history of these sources, the first of whose indicators are labelled.
async fn generated(actors: &[Actor], count: usize, labelled: usize, listens: bool) -> Generated {
    generated_by(actors, count, labelled, listens, |_| {}).await
}

/// As [`generated`], each verdict changed before it is stored.
async fn generated_by(
    actors: &[Actor],
    count: usize,
    labelled: usize,
    listens: bool,
    change: impl FnMut(&mut Verdict),
) -> Generated {
    let items = items(actors, count, 1);
    let mut verdicts = verdicts(actors, &items);
    verdicts.iter_mut().for_each(change);
    let lists = actors
        .iter()
        .map(|actor| format!("[sources.{}]\nkind = \"list\"\noptions.path = \"/lists/{}\"\n", actor.name, actor.name));
    let truths = items.iter().take(labelled).map(|item| item.is_malicious);
    let server = serve(&verdicts, truths, &lists.collect::<String>(), listens).await;
    Generated { server, verdicts }
}

/// Starts a server on these verdicts, of which the first have labels by these truths, and the next one's was taken back.
pub async fn serve(
    verdicts: &[Verdict],
    truths: impl Iterator<Item = bool>,
    configuration: &str,
    listens: bool,
) -> TestServer {
    let fill = async |store: &dyn Store| fill(store, verdicts, truths).await;
    serve_filled(fill, configuration, listens).await
}

/// Starts a server on a store that was filled so.
pub async fn serve_filled(fill: impl AsyncFnOnce(&dyn Store), configuration: &str, listens: bool) -> TestServer {
    let folder = Arc::new(TempDir::new().unwrap());
    let directory = DataDirectory::open(&folder.path().join("data")).unwrap();
    let store = open(&directory.database_path(), Durability::Normal).unwrap();
    fill(&*store).await;
    store.close().await.unwrap();
    drop((store, directory));
    let clock = Arc::new(ManualClock::new(day(45)));
    match listens {
        false => TestServer::start_on(folder, clock, configuration).await,
        true => TestServer::listen_on(folder, clock, configuration).await,
    }
}

/// Whether what they cost was recorded with the verdict of this number.
fn has_units(number: usize) -> bool {
    !number.is_multiple_of(3)
}

async fn fill(store: &dyn Store, verdicts: &[Verdict], truths: impl Iterator<Item = bool>) {
    let records = verdicts.iter().enumerate().map(|(number, verdict)| VerdictRecord {
        id: format!("{number:05}"),
        create_time: verdict.judged_time,
        caller: "soar".into(),
        tlp: Tlp::Amber,
        verdict: verdict.clone(),
        answers: Vec::new(),
        units: has_units(number)
            .then(|| verdict.outcomes.iter().map(|outcome| (outcome.source.clone(), UNITS)).collect()),
    });
    let appended = join_all(records.map(|record| store.append(Arc::new(record)))).await;
    assert!(appended.into_iter().all(|appended| appended.is_ok()));
    let mut labelled = 0;
    for is_malicious in truths {
        let judgement = if is_malicious { AnalystJudgement::TruePositive } else { AnalystJudgement::Benign };
        record(store, &verdicts[labelled], labelled, judgement, false).await;
        labelled += 1;
    }
    // It was taken back, so it is no label.
    record(store, &verdicts[labelled], labelled, AnalystJudgement::TruePositive, true).await;
}

async fn record(store: &dyn Store, verdict: &Verdict, number: usize, judgement: AnalystJudgement, retracted: bool) {
    let feedback = Feedback {
        id: format!("f{number:05}"),
        indicator: verdict.indicator.clone(),
        judgement,
        author: "alice".into(),
        reason: "seen in an incident".into(),
        pin: false,
        create_time: day(44),
        expire_time: None,
        verdict: Some(format!("{number:05}")),
        caller: "soar".into(),
        retraction: None,
    };
    let id = feedback.id.clone();
    store.record_feedback(feedback).await.unwrap();
    if retracted {
        let retraction =
            Retraction { author: "bob".into(), caller: "soar".into(), reason: "a mistake".into(), time: day(44) };
        store.retract_feedback(&id, retraction).await.unwrap();
    }
}

pub async fn compare(server: &TestServer, request: pb::CompareSourcesRequest) -> pb::SourceComparison {
    let mut stream = server.history().compare_sources(request).await.unwrap().into_inner();
    let (mut progress, mut comparison) = (Vec::new(), None);
    while let Some(message) = stream.message().await.unwrap() {
        assert!(comparison.is_none(), "the comparison is the last message");
        match message.event.unwrap() {
            CompareEvent::Progress(made) => progress.push(made),
            CompareEvent::Comparison(made) => comparison = Some(made),
        }
    }
    progress.retain(|progress: &pb::HistoryProgress| !progress.is_waiting);
    let total = progress.last().expect("there is progress").total;
    assert!(progress.is_sorted_by_key(|progress| progress.read));
    assert_eq!(progress.last().map(|progress| progress.read), Some(total));
    comparison.expect("there is a comparison")
}

pub async fn suggest(server: &TestServer, request: pb::SuggestReliabilityRequest) -> pb::ReliabilitySuggestions {
    let mut stream = server.history().suggest_reliability(request).await.unwrap().into_inner();
    loop {
        match stream.message().await.unwrap().expect("suggestions come").event.unwrap() {
            SuggestEvent::Progress(_) => {}
            SuggestEvent::Suggestions(suggestions) => return suggestions,
        }
    }
}

async fn replay(server: &TestServer, request: pb::ReplayVerdictsRequest) -> (Vec<pb::ReplayedFlip>, pb::ReplaySummary) {
    let mut stream = server.history().replay_verdicts(request).await.unwrap().into_inner();
    let mut flips = Vec::new();
    loop {
        match stream.message().await.unwrap().expect("a summary comes").event.unwrap() {
            ReplayEvent::Progress(_) => {}
            ReplayEvent::Flip(flip) => flips.push(flip),
            ReplayEvent::Summary(summary) => return (flips, summary),
        }
    }
}

#[tokio::test]
async fn the_sources_of_a_history_are_compared_and_who_copies_is_named() {
    let Generated { server, verdicts } = generated(&world(), VERDICTS, LABELLED, false).await;
    let comparison = compare(&server, pb::CompareSourcesRequest::default()).await;
    assert_eq!(comparison.verdicts, VERDICTS as i64);
    let labelled = comparison.labelled_malicious + comparison.labelled_benign;
    assert_eq!(labelled, LABELLED as i64, "each label once, and none that was taken back");
    let names: Vec<&str> = comparison.sources.iter().map(|source| source.source.as_str()).collect();
    assert_eq!(names[..3], ["sources/alpha", "sources/bravo", "sources/charlie"]);
    assert_eq!(comparison.pairs.len(), names.len() * (names.len() - 1) / 2);
    let families: Vec<&[String]> = comparison.suggested_families.iter().map(|family| &family.sources[..]).collect();
    assert_eq!(families, [["sources/bravo", "sources/copycat"]]);
    let alpha = &comparison.sources[0];
    let claims = |claim| {
        let says = |verdict: &&Verdict| verdict.outcomes[0].body.claim() == Some(claim);
        verdicts.iter().filter(says).count() as i64
    };
    assert_eq!((alpha.malicious, alpha.benign), (claims(Disposition::Malicious), claims(Disposition::Benign)));
    assert_eq!(alpha.asked, VERDICTS as i64);
    let with_units =
        || verdicts.iter().enumerate().filter(|(number, _)| has_units(*number)).map(|(_, verdict)| verdict);
    let units = i64::from(UNITS) * with_units().count() as i64;
    assert_eq!((comparison.verdicts_with_units, alpha.units), (with_units().count() as i64, units));
    let is_decisive = |verdict: &&Verdict| {
        let mut without = verdict.analysis.leave_one_out.iter().filter(|without| without.source == "alpha");
        without.any(|without| without.disposition != verdict.sources_disposition)
    };
    let decisive = with_units().filter(is_decisive).count();
    assert!(decisive > 0 && alpha.decisive > decisive as i64);
    assert_eq!(alpha.units_per_decisive, Some(units as f64 / decisive as f64));
    assert!(alpha.performance.as_ref().unwrap().balanced_accuracy.unwrap() > 0.75);
    assert!(comparison.alpha_ordinal.unwrap() > 0.1 && comparison.ac1.unwrap() > 0.1);

    let some = pb::CompareSourcesRequest {
        sources: vec!["sources/alpha".into(), "sources/liar".into()],
        filter: Some(pb::HistoryFilter { from_time: Some(day(20).into()), ..Default::default() }),
    };
    let some = compare(&server, some).await;
    assert_eq!(some.sources.len(), 2);
    let later = verdicts.iter().filter(|verdict| verdict.judged_time >= day(20)).count();
    assert_eq!(some.verdicts, later as i64);
    server.stop().await;
}

#[tokio::test]
async fn letters_are_suggested_from_labels_and_without_and_nothing_is_applied() {
    let Generated { server, .. } = generated(&world(), VERDICTS, LABELLED, false).await;
    let suggestions = suggest(&server, pb::SuggestReliabilityRequest::default()).await;
    assert_eq!(suggestions.labels, LABELLED as i64);
    let of = |name: &str| {
        let matches = |each: &&pb::ReliabilitySuggestion| each.source == name && each.indicator_type == 0;
        suggestions.suggestions.iter().find(matches).unwrap_or_else(|| panic!("no suggestion for {name}"))
    };
    let liar = of("sources/liar");
    assert!(liar.is_inverted && liar.from_labels);
    assert_eq!(liar.behaves_like(), pb::Reliability::F);
    assert!(liar.sentence.starts_with("liar, rated C, says the opposite of the truth, n = "), "{}", liar.sentence);
    assert!(!of("sources/alpha").is_inverted);
    let domains = pb::IndicatorType::Domain;
    let of_type = suggestions.suggestions.iter().filter(|each| each.indicator_type() == domains).count();
    assert_eq!(of_type, world().len(), "each has fifty labels of the type");

    let without = pb::SuggestReliabilityRequest { without_labels: true, ..Default::default() };
    let without = suggest(&server, without).await.suggestions;
    assert!(without.iter().all(|suggestion| !suggestion.from_labels));
    let inverted = without.iter().filter(|suggestion| suggestion.is_inverted);
    assert_eq!(inverted.map(|suggestion| suggestion.source.as_str()).collect::<Vec<_>>(), ["sources/liar"]);
    let sources = server.sources().list_sources(pb::ListSourcesRequest::default()).await.unwrap().into_inner();
    assert!(sources.sources.iter().all(|source| source.reliability() == sources.sources[0].reliability()));
    server.stop().await;
}

#[tokio::test]
async fn the_calibration_of_a_policy_is_held_against_labels_and_fitted() {
    let Generated { server, .. } = generated(&world(), VERDICTS, LABELLED, false).await;
    let mut stream = server.history().fit_calibration(pb::FitCalibrationRequest::default()).await.unwrap().into_inner();
    let reports = loop {
        match stream.message().await.unwrap().expect("reports come").event.unwrap() {
            FitEvent::Progress(_) => {}
            FitEvent::Reports(reports) => break reports,
        }
    };
    assert_eq!((reports.policy.as_str(), reports.policy_revision), ("policies/weighted", 2));
    let all = &reports.reports[0];
    assert_eq!((all.labels, all.indicator_type()), (LABELLED as i64, pb::IndicatorType::Unspecified));
    assert_eq!(all.curve.iter().map(|bin| bin.labels).sum::<i64>(), LABELLED as i64);
    let calibration = all.calibration.as_ref().expect("enough labels");
    assert!(calibration.scale.unwrap() > 0.3 && calibration.scale.unwrap() < 3.0, "{calibration:?}");
    assert!(all.fitted_log_loss.unwrap() < all.log_loss.unwrap());
    server.stop().await;
}

/// How many of these verdicts change from one disposition into each other when they are judged so.
fn flips(verdicts: &[Verdict], policy: &Policy, change: impl Fn(&mut Outcome)) -> BTreeMap<(i32, i32), i64> {
    let mut flips = BTreeMap::new();
    for verdict in verdicts {
        let mut outcomes: Vec<Outcome> = verdict.outcomes.iter().map(|outcome| Outcome::clone(outcome)).collect();
        outcomes.iter_mut().for_each(&change);
        let after = fuse_without_analysis(policy, &verdict.indicator, verdict.judged_time, outcomes).disposition;
        let number = |disposition: Disposition| i32::from(disposition.dbot_score()) + 1;
        if after != verdict.disposition {
            *flips.entry((number(verdict.disposition), number(after))).or_default() += 1;
        }
    }
    flips
}

fn flips_of(summary: &pb::ReplaySummary) -> BTreeMap<(i32, i32), i64> {
    let changed = summary.transitions.iter().filter(|transition| transition.before != transition.after);
    changed.map(|transition| ((transition.before, transition.after), transition.count)).collect()
}

fn built_in(name: &str) -> Policy {
    Policy::built_in().into_iter().find(|policy| policy.name == name).unwrap()
}

#[tokio::test]
async fn a_replay_without_a_difference_flips_nothing_and_one_with_it_flips_what_fusion_would() {
    let Generated { server, verdicts } = generated(&world(), VERDICTS, 0, false).await;
    let same = pb::ReplayVerdictsRequest { policy: "policies/weighted".into(), ..Default::default() };
    let (streamed, summary) = replay(&server, same).await;
    assert_eq!((streamed.len(), summary.replayed, summary.flipped), (0, VERDICTS as i64, 0));

    let xsoar = pb::ReplayVerdictsRequest { policy: "policies/xsoar".into(), ..Default::default() };
    let (streamed, summary) = replay(&server, xsoar).await;
    let expected = flips(&verdicts, &built_in("xsoar"), |_| {});
    assert_eq!(flips_of(&summary), expected);
    assert_eq!((streamed.len() as i64, summary.flipped), (expected.values().sum(), expected.values().sum()));
    assert!(summary.transitions.iter().all(|transition| transition.examples.len() <= 10));

    let letter = pb::ReplayedLetter { source: "sources/liar".into(), reliability: pb::Reliability::F.into() };
    let (streamed, summary) =
        replay(&server, pb::ReplayVerdictsRequest { letters: vec![letter], ..Default::default() }).await;
    let change = |outcome: &mut Outcome| {
        if outcome.source == "liar" {
            outcome.reliability = Reliability::F;
        }
    };
    let expected = flips(&verdicts, &built_in("weighted"), change);
    assert!(!expected.is_empty());
    assert_eq!(flips_of(&summary), expected);
    assert!(streamed.iter().all(|flip| flip.source == "sources/liar"), "nobody else changed");
    let flip = &streamed[0];
    let number: usize = flip.verdict.trim_start_matches("verdicts/").parse().unwrap();
    assert_eq!(flip.indicator.as_ref().unwrap().value, verdicts[number].indicator.value());
    assert_eq!(flip.probability_before, verdicts[number].probability);
    server.stop().await;
}

#[tokio::test]
async fn verdicts_whose_policy_is_no_longer_stored_are_counted_and_can_be_judged_under_another() {
    let Generated { server, verdicts } = generated_by(&world(), 40, 0, false, |verdict| {
        if verdict.judged_time < day(20) {
            verdict.policy.revision = 1;
        }
    })
    .await;
    let gone = verdicts.iter().filter(|verdict| verdict.policy.revision == 1).count() as i64;
    assert!(gone > 0 && gone < 40);
    let letter = pb::ReplayedLetter { source: "sources/liar".into(), reliability: pb::Reliability::F.into() };
    let request = pb::ReplayVerdictsRequest { letters: vec![letter], ..Default::default() };
    let (_, summary) = replay(&server, request.clone()).await;
    assert_eq!((summary.replayed, summary.without_policy), (40 - gone, gone));
    let named = pb::ReplayVerdictsRequest { policy: "policies/weighted".into(), ..request };
    let (_, summary) = replay(&server, named).await;
    assert_eq!((summary.replayed, summary.without_policy), (40, 0));
    server.stop().await;
}

/// The status with which a stream ends.
async fn refusal<M>(stream: &mut Streaming<M>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ends as if it were complete"),
            Err(refused) => return refused,
        }
    }
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_what_is_missing() {
    let Generated { server, .. } = generated(&world(), 30, 0, false).await;
    let mut history = server.history();

    let wrong = pb::ReplayVerdictsRequest {
        filter: Some(pb::HistoryFilter {
            from_time: Some(day(9).into()),
            until_time: Some(day(3).into()),
            indicator_type: 77,
            ..Default::default()
        }),
        policy: "weighted".into(),
        policy_revision: 0,
        letters: vec![
            pb::ReplayedLetter { source: "sources/liar".into(), reliability: 0 },
            pb::ReplayedLetter { source: "sources/nobody".into(), reliability: 2 },
        ],
        sources: Vec::new(),
    };
    let refused = history.replay_verdicts(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let mut fields = violated(&refused);
    fields.sort();
    let expected =
        ["filter.indicator_type", "filter.until_time", "letters[0].reliability", "letters[1].source", "policy"];
    assert_eq!(fields, expected);

    let unknown = pb::CompareSourcesRequest { sources: vec!["sources/alpa".into()], ..Default::default() };
    let refused = history.compare_sources(unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("sources/alpha"), "{}", refused.message());
    let missing = pb::ReplayVerdictsRequest { policy: "policies/strict".into(), ..Default::default() };
    assert_eq!(history.replay_verdicts(missing).await.unwrap_err().code(), Code::NotFound);
    let rule = pb::FitCalibrationRequest { policy: "policies/xsoar".into(), ..Default::default() };
    let refused = history.fit_calibration(rule).await.unwrap_err();
    assert!(refused.message().contains("policy: its rule is xsoar"), "{}", refused.message());

    let empty = pb::HistoryFilter { from_time: Some(day(44).into()), ..Default::default() };
    let empty = pb::CompareSourcesRequest { filter: Some(empty), ..Default::default() };
    let refused = history.compare_sources(empty).await.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("no verdict matches"), "{}", refused.message());
    let files = pb::HistoryFilter { indicator_type: pb::IndicatorType::File.into(), ..Default::default() };
    let files =
        pb::ReplayVerdictsRequest { filter: Some(files), policy: "policies/xsoar".into(), ..Default::default() };
    let refused = refusal(&mut history.replay_verdicts(files).await.unwrap().into_inner()).await;
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("no verdict matches"), "{}", refused.message());

    let mut stream = history.suggest_reliability(pb::SuggestReliabilityRequest::default()).await.unwrap().into_inner();
    let refused = refusal(&mut stream).await;
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("at least one label"), "{}", refused.message());
    server.stop().await;
}

/// What a command prints that succeeds.
async fn shown(server: &TestServer, arguments: &[&str]) -> String {
    let output = concord(server, arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_show_what_the_history_says() {
    let Generated { server, .. } = generated(&world(), VERDICTS, LABELLED, true).await;
    let shown = async |arguments: &[&str]| shown(&server, arguments).await;
    let text = shown(&["compare", "sources"]).await;
    for part in [
        "1500 verdicts, 300 labelled",
        "UNITS/DECISIVE",
        "Units are known of 1000 of 1500 verdicts",
        "PRECISION",
        "bravo - copycat",
        "Share data, and should be one family: bravo, copycat",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let picture = server.folder.path().join("sources.svg").display().to_string();
    shown(&["compare", "sources", "--plot", &picture]).await;
    let drawn = std::fs::read_to_string(&picture).unwrap();
    let parsed = roxmltree::Document::parse(&drawn).unwrap();
    let texts: Vec<&str> = parsed.descendants().filter_map(|node| node.text()).map(str::trim).collect();
    for part in ["bravo", "copycat", "coverage", "decisive", "share data"] {
        assert!(texts.contains(&part), "{part} is missing in the picture: {texts:?}");
    }
    shown(&["compare", "calibration", "--plot", &picture]).await;
    assert!(std::fs::read_to_string(&picture).unwrap().contains("share that is malicious"));
    let text = shown(&["compare", "letters"]).await;
    assert!(text.contains("says the opposite of the truth"), "{text}");
    assert!(text.contains("Learned from what analysts said."), "{text}");
    for line in text.lines().filter(|line| line.contains("another letter")) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        assert!(columns[2] < columns[4] || columns[2] > columns[6], "rated within the range: {line}");
    }
    let text = shown(&["compare", "letters", "--without-labels"]).await;
    assert!(text.contains("This is weaker than labels alone"), "{text}");
    let text = shown(&["compare", "calibration"]).await;
    for part in ["policies/weighted, revision 2", "ARE MALICIOUS", "PRIOR", "20.0 %", "chose to label"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let text = shown(&["replay", "--policy", "xsoar"]).await;
    assert!(text.contains("1500 verdicts judged again") && text.contains("At most ten examples"), "{text}");
    let output = concord(&server, &["replay", "--letter", "liar=F", "-o", "jsonl"]).await;
    let (lines, notes) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["source"], "sources/liar");
    assert!(notes.contains("concord: 1500 verdicts judged again"), "{notes}");
    let output = concord(&server, &["replay", "--letter", "liar=Z"]).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("is no reliability letter"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn block_lists_are_shown_by_what_they_share_and_letters_only_where_the_present_one_is_out_of_range() {
    let mut actors = world_of_lists();
    actors.push(Actor::rated("misrated", Reliability::A, Reliability::E));
    let Generated { server, .. } = generated(&actors, VERDICTS, 1_000, true).await;
    let shown = async |arguments: &[&str]| shown(&server, arguments).await;
    let text = shown(&["compare", "sources"]).await;
    for part in [
        "list - list-copy ",
        "Share data, and should be one family: list, list-copy",
        "Days early: of each source from the day of listing",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let text = shown(&["compare", "letters"]).await;
    let mut notes = 0;
    for line in text.lines().skip(1).filter(|line| !line.starts_with("Learned from")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (rated, best, worst) = (words[2], words[4], words[6]);
        let is_another = line.contains("another letter");
        assert_eq!(is_another, !(best..=worst).contains(&rated), "{line}");
        notes += usize::from(is_another);
        assert!(!words[0].starts_with("list") || !is_another || words[3] < words[2], "no list is marked down: {line}");
    }
    assert!(notes > 0 && text.contains("misrated"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn a_reader_who_leaves_frees_the_history_for_the_next() {
    let Generated { server, .. } = generated(&world(), VERDICTS, 0, false).await;
    for _ in 0..3 {
        let stream = server.history().compare_sources(pb::CompareSourcesRequest::default()).await.unwrap();
        drop(stream);
    }
    let comparison = compare(&server, pb::CompareSourcesRequest::default()).await;
    assert_eq!(comparison.verdicts, VERDICTS as i64);
    server.clock.advance(Duration::from_secs(1));
    server.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_a_slow_reader_who_misses_nothing() {
    let items = items(&world(), 2 * VERDICTS, 1);
    let verdicts = verdicts(&world(), &items);
    let flipped: i64 = flips(&verdicts, &built_in("xsoar"), |_| {}).values().sum();
    // Nobody is sent away for reading nothing.
    let server = serve(&verdicts, std::iter::empty(), "[limits]\nsend_timeout = \"10m\"\n", true).await;
    // With so small a window the messages wait in the server.
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
    let channel = endpoint.initial_stream_window_size(1_024).connect().await.unwrap();
    let request = pb::ReplayVerdictsRequest { policy: "policies/xsoar".into(), ..Default::default() };
    let mut slow = HistoryServiceClient::new(channel).replay_verdicts(request).await.unwrap().into_inner();
    slow.message().await.unwrap().expect("it has begun");

    let clock: &dyn Clock = &SystemClock;
    let comparison = clock.timeout(PATIENCE, compare(&server, pb::CompareSourcesRequest::default())).await;
    assert_eq!(comparison.expect("nobody waits").verdicts, 2 * VERDICTS as i64);

    let mut read = 1;
    let summary = loop {
        match slow.message().await.unwrap().expect("a summary comes").event.unwrap() {
            ReplayEvent::Progress(_) => {}
            ReplayEvent::Flip(_) => read += 1,
            ReplayEvent::Summary(summary) => break summary,
        }
    };
    assert_eq!((read, summary.flipped), (flipped, flipped));
    server.stop().await;
}

#[tokio::test]
async fn who_has_to_wait_for_another_history_is_sent_so() {
    let Generated { server, .. } = generated(&world(), VERDICTS, 0, false).await;
    let mut client = server.history();
    let mut first = client.compare_sources(pb::CompareSourcesRequest::default()).await.unwrap().into_inner();
    let mut second = client.compare_sources(pb::CompareSourcesRequest::default()).await.unwrap().into_inner();
    let began = second.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(began, CompareEvent::Progress(progress) if progress.is_waiting && progress.total == 0));
    for stream in [&mut first, &mut second] {
        let mut last = None;
        while let Some(message) = stream.message().await.unwrap() {
            last = message.event;
        }
        assert!(matches!(last, Some(CompareEvent::Comparison(_))), "each has its comparison");
    }
    server.stop().await;
}
