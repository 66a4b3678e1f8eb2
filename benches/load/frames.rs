//! A client that costs next to nothing: its requests are written as HTTP/2 frames beforehand and leave all at once, and of what
//! comes back only the heads of frames are read. What is late here is late by the server.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use concord::pb;

use super::attacks::framed;

/// Connections that the callers share, each with a thread that reads.
const CONNECTIONS: usize = 16;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frame types and flags of RFC 9113.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// The next unused indicator.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// What came back and when, counted from the moment at which all requests left.
#[derive(Default)]
pub struct Report {
    answered: Vec<Duration>,
    refused: Vec<Duration>,
    /// Nothing, or a reset.
    unanswered: usize,
    deadline: Duration,
}

/// So many callers at the same moment, each about another indicator.
pub fn at_once(address: &str, callers: usize, deadline: Duration) -> Report {
    let address = address.trim_start_matches("http://");
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let calls = callers / CONNECTIONS + usize::from(number < callers % CONNECTIONS);
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            stream.write_all(&hello()).expect("the preface");
            (stream, requests(calls, deadline), calls)
        })
        .collect();
    // Time for the server to take the connections.
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    let threads: Vec<_> = threads
        .into_iter()
        .map(|(mut stream, bytes, calls)| {
            std::thread::spawn(move || {
                stream.write_all(&bytes).expect("written");
                let mut report = Report::default();
                // What is not there by then does not come any more.
                stream.set_read_timeout(Some(deadline + Duration::from_secs(1))).expect("a socket");
                let ended = read_answers(&mut stream, begun, calls, &mut report);
                report.unanswered += if ended.is_ok() { 0 } else { calls - report.ended() };
                report
            })
        })
        .collect();
    let mut all = Report { deadline, ..Report::default() };
    for report in threads.into_iter().map(|thread| thread.join().expect("a report")) {
        all.answered.extend(report.answered);
        all.refused.extend(report.refused);
        all.unanswered += report.unanswered;
    }
    all.answered.sort_unstable();
    all.refused.sort_unstable();
    all
}

impl Report {
    fn ended(&self) -> usize {
        self.answered.len() + self.refused.len() + self.unanswered
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |times: &[Duration], share: usize| {
            times.get((times.len() * share / 100).min(times.len().saturating_sub(1))).map_or(0, Duration::as_millis)
        };
        let late = self.answered.iter().chain(&self.refused).filter(|time| **time > self.deadline).count();
        write!(
            f,
            "{} answered (p50 {} ms, last {} ms), {} refused (p50 {} ms, p99 {} ms), {late} of these late, {} without end",
            self.answered.len(),
            at(&self.answered, 50),
            at(&self.answered, 100),
            self.refused.len(),
            at(&self.refused, 50),
            at(&self.refused, 99),
            self.unanswered,
        )
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The preface, with a window for everything.
fn hello() -> Vec<u8> {
    let widest = (i32::MAX as u32 - 65_535).to_be_bytes();
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[]), frame(WINDOW_UPDATE, 0, 0, &widest)].concat()
}

fn requests(calls: usize, deadline: Duration) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    // HPACK: names of the static table by number, all else as literals that are not indexed.
    let mut head = vec![0x83, 0x86, 0x04];
    head.extend(text("/concord.v1.EnrichmentService/Enrich"));
    head.push(0x01);
    head.extend(text("localhost"));
    for (name, value) in [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", format!("{}m", deadline.as_millis()).as_str()),
    ] {
        head.push(0x00);
        head.extend(text(name));
        head.extend(text(value));
    }
    let mut bytes = Vec::new();
    for number in 0..calls {
        let stream = u32::try_from(2 * number + 1).expect("a stream");
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let value = format!("2001:db8:f::{:x}:{:x}", next >> 16, next & 0xffff);
        let indicator = Some(pb::Indicator { r#type: 0, value });
        let request = framed(&pb::EnrichRequest { indicator, ..Default::default() });
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &head));
        bytes.extend(frame(DATA, END_STREAM, stream, &request));
    }
    bytes
}

/// Reads until every call has ended.
fn read_answers(stream: &mut TcpStream, begun: Instant, calls: usize, report: &mut Report) -> io::Result<()> {
    // Streams of which a part of the answer is there.
    let mut has_data = std::collections::HashSet::new();
    let (mut buffer, mut bytes) = (vec![0; 256 * 1024], Vec::new());
    while report.ended() < calls {
        let count = stream.read(&mut buffer)?;
        let time = begun.elapsed();
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..count]);
        let mut rest = bytes.as_slice();
        while let Some((head, after)) = rest.split_at_checked(9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some(next) = after.get(length..) else { break };
            let (kind, flags) = (head[3], head[4]);
            let number = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match kind {
                SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
                RESET => report.unanswered += 1,
                DATA => drop(has_data.insert(number)),
                HEADERS if flags & END_STREAM != 0 && has_data.contains(&number) => report.answered.push(time),
                HEADERS if flags & END_STREAM != 0 => report.refused.push(time),
                _ => {}
            }
            rest = next;
        }
        bytes = rest.to_vec();
    }
    Ok(())
}
