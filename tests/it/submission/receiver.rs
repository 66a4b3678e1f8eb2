//! A VirusTotal on loopback that takes files and URLs, and what is sent to it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use concord::indicator::hex;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::report;

/// How the receiver takes what is submitted.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// Answers every submission with this status, and takes nothing.
    pub refuses: Option<u16>,
    /// How many times it refuses before it takes something; 0: always.
    pub refusals: usize,
    /// Takes what is submitted and never answers.
    pub is_silent: bool,
    /// The address that it names for large files; empty: its own.
    pub upload_address: String,
    /// Never ends an analysis.
    pub never_ends: bool,
    /// Never answers a question whose path contains this; empty: answers all.
    pub hangs_on: &'static str,
    /// Knows no analysis any more.
    pub forgets: bool,
    /// When its reports are from, in seconds since 1970; 0: from the usual time.
    pub analysed_at: u64,
    /// Reads no more than the beginning of what is submitted.
    pub stops_reading: bool,
}

#[derive(Default)]
struct State {
    behaviour: Behaviour,
    /// Bodies of uploads and URL forms.
    submitted: Vec<(String, Vec<u8>)>,
    /// Paths of all other questions, but for those about the key.
    asked: Vec<String>,
    known: BTreeSet<String>,
    known_privately: BTreeSet<String>,
    polls: usize,
    refused: usize,
}

/// The receiver.
pub struct Receiver {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    arrivals: watch::Sender<usize>,
    questions: watch::Sender<usize>,
    stop: CancellationToken,
}

impl Receiver {
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { behaviour, ..State::default() }));
        let (arrivals, questions) = (watch::Sender::new(0), watch::Sender::new(0));
        let stop = CancellationToken::new();
        let (of_router, arrived, asked) = (state.clone(), arrivals.clone(), questions.clone());
        let router = Router::new().layer(DefaultBodyLimit::disable()).fallback(
            move |method: Method, uri: Uri, body: axum::body::Body| {
                let (state, arrived, asked) = (of_router.clone(), arrived.clone(), asked.clone());
                async move {
                    if method == Method::POST && state.lock().unwrap().behaviour.stops_reading {
                        let mut body = body.into_data_stream();
                        body.next().await;
                        arrived.send_modify(|count| *count += 1);
                        return std::future::pending().await;
                    }
                    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
                    let answer = answer(&state, address, &method, uri.path(), &body);
                    let counter = if method == Method::POST { &arrived } else { &asked };
                    counter.send_modify(|count| *count += 1);
                    match answer {
                        Some(answer) => answer,
                        None => std::future::pending().await,
                    }
                }
            },
        );
        let stopped = stop.clone();
        TaskTracker::new().spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                _ = axum::serve(listener, router).into_future() => {}
            }
        });
        Self { address, state, arrivals, questions, stop }
    }

    /// Resolves once so much was submitted, also what was refused.
    pub async fn received(&self, times: usize) {
        self.arrivals.subscribe().wait_for(|count| *count >= times).await.unwrap();
    }

    /// Resolves once it was asked a question whose path contains this.
    pub async fn was_asked(&self, part: &str) {
        let is_asked = |_: &usize| self.asked().iter().any(|path| path.contains(part));
        self.questions.subscribe().wait_for(is_asked).await.unwrap();
    }

    /// Resolves once it was asked so many questions.
    pub async fn asked_times(&self, times: usize) {
        self.questions.subscribe().wait_for(|_| self.asked().len() >= times).await.unwrap();
    }

    /// What it took: the path, and the body.
    pub fn submitted(&self) -> Vec<(String, Vec<u8>)> {
        self.state.lock().unwrap().submitted.clone()
    }

    /// What it was asked beside that: the paths.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    pub fn behave(&self, behaviour: Behaviour) {
        self.state.lock().unwrap().behaviour = behaviour;
    }

    /// Knows this hash or URL from now on, as if somebody else had submitted it.
    pub fn learn(&self, id: &str) {
        self.state.lock().unwrap().known.insert(id.to_owned());
    }

    /// Has a private report on this hash or URL from now on.
    pub fn learn_privately(&self, id: &str) {
        self.state.lock().unwrap().known_privately.insert(id.to_owned());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn reply(status: u16, body: &Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

/// `None`: no answer.
fn answer(state: &Mutex<State>, address: SocketAddr, method: &Method, path: &str, body: &Bytes) -> Option<Response> {
    let mut state = state.lock().unwrap();
    let last = path.rsplit('/').next().unwrap_or_default().to_owned();
    if method == Method::POST {
        let behaviour = state.behaviour.clone();
        if let Some(status) = behaviour.refuses
            && (behaviour.refusals == 0 || state.refused < behaviour.refusals)
        {
            state.refused += 1;
            return Some(reply(status, &json!({ "error": { "code": "TooManyRequestsError" } })));
        }
        state.submitted.push((path.to_owned(), body.to_vec()));
        let id = if path.ends_with("/urls") { url_id(body) } else { file_hash(body) };
        let known = if path.contains("private") { &mut state.known_privately } else { &mut state.known };
        known.insert(id);
        state.polls = 0;
        return (!behaviour.is_silent).then(|| reply(200, &json!({ "data": { "type": "analysis", "id": "an-1" } })));
    }
    if path.contains("/overall_quotas") {
        return Some(reply(200, &json!({ "data": {} })));
    }
    state.asked.push(path.to_owned());
    let hangs_on = state.behaviour.hangs_on;
    if !hangs_on.is_empty() && path.contains(hangs_on) {
        return None;
    }
    let is_private = path.starts_with("/private/");
    Some(if path.ends_with("/upload_url") {
        let own = format!("http://{address}/upload/{}", if is_private { "private" } else { "here" });
        let named = Some(state.behaviour.upload_address.clone()).filter(|named| !named.is_empty()).unwrap_or(own);
        reply(200, &json!({ "data": named }))
    } else if path.contains("/analyses/") && state.behaviour.forgets {
        reply(404, &json!({ "error": { "code": "NotFoundError" } }))
    } else if path.contains("/analyses/") {
        state.polls += 1;
        let status = match state.polls {
            _ if state.behaviour.never_ends => "queued",
            1 => "queued",
            2 => "in-progress",
            _ => "completed",
        };
        reply(200, &json!({ "data": { "id": last, "attributes": { "status": status } } }))
    } else if is_private && state.known_privately.contains(&last) {
        let attributes = json!({ "threat_verdict": "VERDICT_SUSPICIOUS", "sha256": last });
        reply(200, &json!({ "data": { "id": last, "type": "private_file", "attributes": attributes } }))
    } else if !is_private && state.known.contains(&last) {
        let mut report = report(60, 0);
        report["data"]["id"] = json!(last);
        if state.behaviour.analysed_at != 0 {
            report["data"]["attributes"]["last_analysis_date"] = json!(state.behaviour.analysed_at);
        }
        reply(200, &report)
    } else {
        reply(404, &json!({ "error": { "code": "NotFoundError", "message": "-" } }))
    })
}

/// The file in a form with one file.
pub fn file_of(body: &[u8]) -> &[u8] {
    let start = body.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |place| place + 4);
    let boundary = body.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let end = [b"\r\n".as_slice(), boundary].concat();
    let file = &body[start..];
    let length = file.windows(end.len()).position(|window| window == end).unwrap_or(file.len());
    &file[..length]
}

fn file_hash(body: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, file_of(body)).as_ref())
}

fn url_id(body: &[u8]) -> String {
    use base64::Engine;
    let form = url::form_urlencoded::parse(body).find(|(name, _)| name == "url");
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(form.map(|(_, url)| url.into_owned()).unwrap_or_default())
}
