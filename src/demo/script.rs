//! The lookups of the demonstration, and what each shows.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use super::history::connect;
use super::{DemoError, Renderers, answers, failed};
use crate::pb;
use crate::pb::enrichment_service_client::EnrichmentServiceClient;
use crate::pb::source_service_client::SourceServiceClient;
use crate::pb::submission_service_client::SubmissionServiceClient;
use crate::pb::submit_file_request::Part;
use crate::server::Running;

const VIRUSTOTAL: &str = "sources/virustotal";

/// One lookup and what it shows.
struct Scene {
    shows: &'static str,
    value: &'static str,
    policy: &'static str,
    tlp: pb::Tlp,
}

const fn scene(shows: &'static str, value: &'static str) -> Scene {
    Scene { shows, value, policy: "", tlp: pb::Tlp::Unspecified }
}

const SCENES: [Scene; 13] = [
    scene("agreement: every source that knows it says malicious", "198.51.100[.]7"),
    scene("disagreement: engines say malicious, two sources know the service behind it", "203.0.113.5"),
    Scene {
        policy: "policies/xsoar",
        ..scene("the same under the policy in which the most reliable source decides", "203.0.113.5")
    },
    scene("nothing known: nobody has anything against it, and that is not benign", "192.0.2.44"),
    scene("a source times out: the others give the verdict, which says that it is partial", "198.51.100.23"),
    scene("positive evidence of harmlessness", "203.0.113.80"),
    scene("a defanged URL", "hxxp://files[.]example[.]com/invoice.exe"),
    scene("its domain", "files.example.com"),
    scene("a file by its SHA-256", answers::BAD_FILE),
    scene("a file that a vendor ships, by its MD5", answers::KNOWN_FILE),
    scene("a private address: nothing is disclosed outside", "10.20.30.40"),
    Scene { tlp: pb::Tlp::Red, ..scene("TLP:RED: only the local list is asked", "203.0.113.99") },
    scene("quota spent: the tenth question within a minute is not asked", "198.51.100.200"),
];

/// Plays all scenes through the server.
pub(super) async fn play(
    running: &Running,
    server: SocketAddr,
    renderers: &Renderers,
    graph_file: &Path,
    out: &mut (dyn Write + Send),
) -> Result<(), DemoError> {
    let endpoint = Endpoint::from_shared(format!("http://{server}")).map_err(failed)?;
    let channel = endpoint.connect().await.map_err(failed)?;
    for (place, scene) in SCENES.iter().enumerate() {
        let answer = look_up(&channel, scene).await?;
        let verdict = answer.decode_verdict().map_err(failed)?;
        let text = (renderers.verdict)(&verdict, Some(&answer.decode_receipt().map_err(failed)?));
        writeln!(out, "{}. {}\n{text}", place + 1, scene.shows)?;
    }
    let again = look_up(&channel, &SCENES[0]).await?;
    // A verdict with a list in it is cached for a second only, so that each source may answer from its own cache.
    let from_cache = again.decode_receipt().map_err(failed)?.sources.iter().all(|source| !source.called);
    writeln!(out, "The first one again: from cache: {}.\n", if from_cache { "yes, nobody was asked" } else { "no" })?;
    explained_scene(&channel, renderers, out).await?;
    premium_scene(&channel, renderers, out).await?;
    graph_scene(&channel, out, renderers, graph_file).await?;
    submission_scene(running, renderers, out).await?;
    let usage = SourceServiceClient::new(channel).get_usage(pb::GetUsageRequest::default()).await;
    let usage = usage.map_err(|status| failed(status.message()))?.into_inner().usage;
    Ok(write!(out, "{}", (renderers.usage)(&usage))?)
}

/// The disagreement in full, and what five policies make of it.
async fn explained_scene(
    channel: &Channel,
    renderers: &Renderers,
    out: &mut (dyn Write + Send),
) -> Result<(), DemoError> {
    let policies = ["weighted", "xsoar", "worst", "majority", "mean"];
    let compare_policies = policies.map(|name| format!("policies/{name}")).into();
    let options = pb::EnrichOptions { compare_policies, ..Default::default() };
    let answer = enrich(channel, "203.0.113.5", options).await?;
    let verdict = answer.decode_verdict().map_err(failed)?;
    let text = (renderers.explained)(&verdict, Some(&answer.decode_receipt().map_err(failed)?));
    let compared = (renderers.comparisons)(&answer.comparisons, &verdict);
    Ok(writeln!(out, "the disagreement explained, and five policies side by side\n{text}{compared}")?)
}

/// The same key once free and once premium, which asks for related files.
async fn premium_scene(
    channel: &Channel,
    renderers: &Renderers,
    out: &mut (dyn Write + Send),
) -> Result<(), DemoError> {
    let mut sources = SourceServiceClient::new(channel.clone());
    for (tier, shows) in [
        ("free", "a rating with its reasons: five engines object, which is suspicious"),
        ("premium", "the same with a premium key: two of its downloaded files are bad, which settles it"),
    ] {
        let source = pb::Source {
            name: VIRUSTOTAL.into(),
            tier: tier.into(),
            quota: vec![pb::QuotaWindow { period: pb::QuotaPeriod::Minute.into(), limit: 100 }],
            ..Default::default()
        };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["tier".into(), "quota".into()] });
        let change = pb::ConfigureSourceRequest { source: Some(source), update_mask, ..Default::default() };
        sources.configure_source(change).await.map_err(|status| failed(status.message()))?;
        let options = pb::EnrichOptions { sources: vec![VIRUSTOTAL.into()], ..Default::default() };
        let answer = enrich(channel, answers::SUSPECT, options).await?;
        let verdict = answer.decode_verdict().map_err(failed)?;
        let receipt = answer.decode_receipt().map_err(failed)?;
        let text = (renderers.wide)(&verdict, Some(&receipt));
        let calls: u32 = receipt.sources.iter().map(|source| source.units).sum();
        writeln!(out, "{tier}: {shows}\n{text}  calls to VirusTotal: {calls}\n")?;
    }
    Ok(())
}

/// What an indicator is related to, in words and as a picture.
async fn graph_scene(
    channel: &Channel,
    out: &mut (dyn Write + Send),
    renderers: &Renderers,
    file: &Path,
) -> Result<(), DemoError> {
    let relations = Some(pb::RelationOptions { depth: 2, max_calls: 10, names: Vec::new() });
    let options = pb::EnrichOptions { relations, ..Default::default() };
    let graph = enrich(channel, "files.example.com", options).await?.graph.unwrap_or_default();
    let value = |place: u32| {
        let node = graph.nodes.get(usize::try_from(place).unwrap_or(usize::MAX));
        let indicator = node.and_then(|node| node.indicator.as_ref());
        indicator.map(|indicator| indicator.value.as_str()).unwrap_or_default()
    };
    writeln!(out, "what files.example.com is related to, two steps far:")?;
    for edge in &graph.edges {
        writeln!(out, "  {} {} {}", value(edge.from), edge.relation, value(edge.to))?;
    }
    std::fs::write(file, (renderers.graph)(&graph))?;
    Ok(writeln!(out, "the picture of it: {}\n", file.display())?)
}

/// What the inspection holds, and a clean file that is sent.
async fn submission_scene(
    running: &Running,
    renderers: &Renderers,
    out: &mut (dyn Write + Send),
) -> Result<(), DemoError> {
    let mut client = SubmissionServiceClient::new(connect(running).await?);
    let cases: [(&str, &str, &[u8]); 2] = [
        ("a document of ours for VirusTotal: held before anything leaves", "plan.txt", b"TLP:AMBER\nProject Falcon\n"),
        (
            "a clean file: sent once, under its hash instead of its name",
            "unknown.bin",
            b"a program that nobody knows\n",
        ),
    ];
    for (shows, file_name, content) in cases {
        let header = pb::SubmittedFileHeader {
            source: VIRUSTOTAL.into(),
            file_name: file_name.into(),
            tlp: pb::Tlp::Clear.into(),
            ..Default::default()
        };
        let parts = [Part::Header(header), Part::Content(content.to_vec())];
        let parts = tokio_stream::iter(parts.map(|part| pb::SubmitFileRequest { part: Some(part) }));
        let submitted = client.submit_file(parts).await.map_err(|status| failed(status.message()))?.into_inner();
        let name = submitted.submission.unwrap_or_default().name;
        let watch = client.watch_submission(pb::WatchSubmissionRequest { name }).await;
        let mut states = watch.map_err(|status| failed(status.message()))?.into_inner();
        // The source analyses for a while; that is not waited for here.
        let shown = [pb::SubmissionState::Held, pb::SubmissionState::Analysing];
        let mut last = pb::Submission::default();
        while let Some(message) = states.message().await.map_err(|status| failed(status.message()))? {
            last = message.submission.unwrap_or_default();
            if shown.contains(&last.state()) {
                break;
            }
        }
        writeln!(out, "{shows}\n{}", (renderers.submission)(&last))?;
    }
    Ok(())
}

async fn look_up(channel: &Channel, scene: &Scene) -> Result<pb::EnrichResponse, DemoError> {
    let options = pb::EnrichOptions { policy: scene.policy.to_owned(), tlp: scene.tlp.into(), ..Default::default() };
    enrich(channel, scene.value, options).await
}

async fn enrich(channel: &Channel, value: &str, options: pb::EnrichOptions) -> Result<pb::EnrichResponse, DemoError> {
    let indicator = Some(pb::Indicator { r#type: 0, value: value.to_owned() });
    let mut request = Request::new(pb::EnrichRequest { indicator, options: Some(options) });
    request.set_timeout(Duration::from_secs(5));
    let answer = EnrichmentServiceClient::new(channel.clone()).enrich(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| failed(status.message()))
}
