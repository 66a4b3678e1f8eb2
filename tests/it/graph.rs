//! `concord graph` as it is typed: what it writes, where, and what it refuses.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Replay, TestServer, malicious_virustotal, virustotal_at};
use crate::relations::web;

async fn graph(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
    command.env_clear().env("HOME", folder).arg("--data-directory").arg(folder.join("data"));
    command.current_dir(folder).arg("graph").args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_indicator_without_relations_is_drawn_alone_in_every_form() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    let folder = server.folder.path();
    for (arguments, part) in [
        (&["198.51.100[.]7", "-o", "svg"][..], "<title>Relations of 198.51.100.7</title>"),
        (&["198.51.100.7", "-o", "dot"], "digraph"),
        (&["198.51.100.7", "-o", "mermaid"], "flowchart LR"),
        (&["198.51.100.7", "-o", "json"], "\"disposition\": \"DISPOSITION_"),
        (&["198.51.100.7"], "<svg"),
    ] {
        let output = graph(folder, arguments).await;
        let (shown, said) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{said}");
        assert!(shown.contains(part) && shown.contains("198.51.100.7"), "{part} is missing in\n{shown}");
        assert!(said.contains("concord: "), "{said}");
    }
    assert_eq!(virustotal.calls(), 1, "the others come from cache");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sources_relate_an_indicator_to_is_drawn_as_far_as_asked() {
    let source = Replay::start(Box::new(web)).await;
    let server = TestServer::listen(&virustotal_at(source.address)).await;
    let folder = server.folder.path();
    let near = graph(folder, &["example[.]com", "-o", "dot"]).await;
    let shown = text(&near.stdout);
    assert!(shown.contains("n0 -> n1 [label=\"communicated-by\""), "{shown}");
    assert!(shown.contains("(virustotal: communicating_files)") && !shown.contains("203.0.113.9"), "{shown}");
    assert!(text(&near.stderr).contains("4 indicators, 3 relations"), "{}", text(&near.stderr));
    assert_eq!(source.calls(), 1);
    let far = graph(folder, &["example.com", "--depth", "2", "--max-calls", "10"]).await;
    let shown = text(&far.stdout);
    assert!(shown.contains("203.0.113.9: unknown") && shown.contains(">M</text>"), "{shown}");
    assert!(source.calls() > 1);
    let refused = graph(folder, &["example.com", "--relation", "communicating_filez", "-o", "dot"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("communicating_filez"), "{}", text(&refused.stderr));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_the_file_says_what_is_written() {
    let server = TestServer::listen("").await;
    let folder = server.folder.path();
    for (name, start) in [
        ("graph.svg", "<svg "),
        ("graph.dot", "digraph "),
        ("graph.mmd", "flowchart "),
        ("graph.json", "["),
        ("graph", "<svg "),
    ] {
        let output = graph(folder, &["files.example.com", "--out", name]).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "");
        let written = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(written.starts_with(start), "{name}: {written}");
    }
    let output = graph(folder, &["files.example.com", "--out", "graph.svg", "-o", "dot"]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(std::fs::read_to_string(folder.join("graph.svg")).unwrap().starts_with("digraph "));
    let output = graph(folder, &["files.example.com", "--out", "absent/graph.svg"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("absent/graph.svg: "), "{}", text(&output.stderr));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_walked_is_refused_with_its_limit() {
    let server = TestServer::listen("").await;
    let folder = server.folder.path();
    for (arguments, part) in [
        (&["192.0.2.1", "--depth", "4"][..], "1..=3"),
        (&["192.0.2.1", "--max-calls", "101"], "0..=100"),
        (&["192.0.2.1", "-o", "png"], "possible values: svg, dot, mermaid, json"),
        (&[], "<INDICATOR>"),
    ] {
        let output = graph(folder, arguments).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(part), "{part} is missing in\n{}", text(&output.stderr));
    }
    let output = graph(folder, &["no indicator"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    server.stop().await;
}
