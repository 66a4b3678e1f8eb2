//! `concord submit` on a terminal: it asks before anything leaves, and shows how far it is.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::receiver::{Behaviour, Receiver};
use super::{PAUSE, RULES, configuration, sha256};
use crate::harness::TestServer;

/// What the program showed, without what controls the terminal, and its exit code.
struct Shown {
    text: String,
    code: Option<i32>,
}

/// Runs the program on a terminal, and types the answer once it asks.
fn on_terminal(arguments: &[&str], folder: &Path, question: &str, answer: &str) -> Shown {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let side = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
    command.env_clear().env("HOME", folder).env("TERM", "xterm").arg("--data-directory").arg(folder.join("data"));
    command.args(arguments).stdin(Stdio::from(side.try_clone().unwrap()));
    let mut child = command.stdout(Stdio::from(side.try_clone().unwrap())).stderr(Stdio::from(side)).spawn().unwrap();
    // The command holds the terminal's other side open.
    drop(command);
    let mut terminal = File::from(terminal);
    let (mut shown, mut has_answered, mut buffer) = (Vec::new(), false, [0; 4096]);
    // Ends with an error once nobody has the other side open.
    while let Ok(count) = terminal.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..count]);
        if !has_answered && String::from_utf8_lossy(&shown).contains(question) {
            has_answered = true;
            terminal.write_all(answer.as_bytes()).unwrap();
        }
    }
    let text = String::from_utf8_lossy(&shown).replace("\r\n", "\n");
    Shown { text, code: child.wait().unwrap().code() }
}

async fn submit(server: &TestServer, arguments: Vec<String>, question: &'static str, answer: String) -> Shown {
    let folder = server.folder.path().to_owned();
    let run = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        on_terminal(&[&["submit"], arguments.as_slice()].concat(), &folder, question, &answer)
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn started() -> (Receiver, TestServer) {
    let receiver = Receiver::start(Behaviour::default()).await;
    let server = TestServer::listen(&configuration(&receiver, RULES)).await;
    server.clock.skip_sleeps(PAUSE);
    (receiver, server)
}

fn file(server: &TestServer, name: &str, content: &[u8]) -> Vec<String> {
    let path = server.folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap();
    ["file", path, "--to", "virustotal", "--tlp", "clear"].map(str::to_owned).to_vec()
}

const DIGITS: &str = "type its first eight hash digits: ";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_once_its_digits_are_typed_and_the_verdict_is_shown() {
    let (receiver, server) = started().await;
    let digits = sha256(b"some content")[..8].to_uppercase() + "\n";
    let shown = submit(&server, file(&server, "a.bin", b"some content"), DIGITS, digits).await;
    assert_eq!(shown.code, Some(0), "{}", shown.text);
    for part in
        ["a.bin (12 bytes)\n", "This makes the file public: every customer", "12 B/12 B", "analysed", "verdicts/"]
    {
        assert!(shown.text.contains(part), "{part} is missing in\n{}", shown.text);
    }
    assert_eq!(receiver.submitted().len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_digits_an_end_of_input_and_a_refusal_send_nothing() {
    let (receiver, server) = started().await;
    let arguments = file(&server, "a.bin", b"some content");
    let end_of_input = "\u{4}";
    for answer in ["wrong\n", "\n", end_of_input] {
        let shown = submit(&server, arguments.clone(), DIGITS, answer.into()).await;
        assert_eq!(shown.code, Some(1), "{}", shown.text);
        assert!(shown.text.contains("\nconcord: nothing was submitted"), "{}", shown.text);
    }
    // Without a label it is above the limit; nobody types digits for what is refused.
    let shown = submit(&server, arguments[..4].to_vec(), DIGITS, "wrong\n".into()).await;
    assert!(shown.text.contains("TLP:AMBER is above TLP:CLEAR") && !shown.text.contains(DIGITS), "{}", shown.text);
    let never = file(&server, "never.bin", super::NEVER[0].0);
    let shown = submit(&server, never, DIGITS, "wrong\n".into()).await;
    assert!(shown.text.contains("it will not be sent: never-send rule"), "{}", shown.text);
    assert!(receiver.asked().is_empty() && receiver.submitted().is_empty());
    assert_eq!(std::fs::read_dir(server.folder.path().join("data/spool")).unwrap().count(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_shown_in_normal_form_with_the_reasons_to_hold_it() {
    let (receiver, server) = started().await;
    let url = "hxxps://Evil[.]example[.]org/?token=s3cret";
    let arguments = ["url", url, "--to", "virustotal", "--tlp", "clear"].map(str::to_owned).to_vec();
    let shown = submit(&server, arguments, "type yes: ", "yes\n".into()).await;
    assert_eq!(shown.code, Some(0), "{}", shown.text);
    for part in ["https://evil.example.org/?token=s3cret\n", "it will be held: a parameter that", "waits for `concord"]
    {
        assert!(shown.text.contains(part), "{part} is missing in\n{}", shown.text);
    }
    assert!(receiver.submitted().is_empty() && receiver.asked().is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_would_control_the_terminal_is_refused_before_it_is_asked_about() {
    let (_receiver, server) = started().await;
    let shown = submit(&server, file(&server, "a\u{1b}[31mb", b"x"), DIGITS, "wrong\n".into()).await;
    assert!(shown.text.contains("header.file_name") && !shown.text.contains("[31mb"), "{}", shown.text);
    server.stop().await;
}
