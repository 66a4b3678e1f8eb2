//! How long it takes to find the indicators of a text: of a report of 10 MB, and of texts made to be slow. For each of these a
//! text of twice the length must take about twice as long.

use std::hint::black_box;
use std::time::Duration;

use concord::clock::{Clock, SystemClock};
use concord::indicator::{ExtractOptions, extract};

const KIB: usize = 1024;
/// How often each time is taken; the median counts.
const ROUNDS: usize = 9;
const REPORT: usize = 10_000_000;

const SENTENCES: [&str; 12] = [
    "The campaign was first seen in spring, when several logistics companies reported odd traffic from their build servers. ",
    "We assess with moderate confidence that one group is behind both waves, since the loaders share code. ",
    "After the initial foothold, the implant waits for thirty to ninety minutes before it contacts its command server. ",
    "It persists by a scheduled task that is named after a well-known updater; the task runs whenever a user logs on. ",
    "The operators move on with stolen credentials (see the appendix), and avoid tools that common detections know. ",
    "It isn’t clear whether the group “bought” the access – both are plausible. ",
    "Version 2.4.1 of the loader checks for virtual machines, e.g. by counting cores and looking for drivers. ",
    "The macro wrote the second stage to C:\\Users\\Public\\update.exe and ran it at once. ",
    "We thank the national team and the hosting provider and/or registrar for their quick response. ",
    "Each beacon is a JSON object with the fields id, os and user; the answer is encrypted with a key of its own. ",
    "Table 3: victims by sector and region, as far as they could be counted at the sinkhole between March and June. ",
    "The technique is known as T1071.001; what is new is how the traffic is blended with that of a chat service. ",
];

const SLOW: [(&str, &str); 14] = [
    ("defanged URLs", "The loader asks hxxps://evil[.]example[.]net/gate.php, then 203.0.113[.]9, and waits.\n"),
    ("relative paths", "./a.com/"),
    ("backslashes", "\\a.com/"),
    ("plus signs", "a.a+"),
    ("colons", "a:"),
    ("two scripts", "あa"),
    ("brackets", "h["),
    ("labelled hashes", "imphash: 44d88612fea8a8f36de82e1278abb02f,"),
    ("schemes", "http://"),
    ("spaced schemes", "hxxp "),
    ("addresses", "1.1.1.1/24,"),
    ("entities", "&amp;"),
    ("joiners", "م\u{200c}"),
    ("commas", "a,"),
];

/// A report with a few indicators in each paragraph, about every third of them defanged.
fn report() -> String {
    let mut text = String::with_capacity(REPORT + KIB);
    let mut number = 0_u64;
    while text.len() < REPORT {
        for _ in 0..6 {
            number += 1;
            text.push_str(
                SENTENCES[usize::try_from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).expect("small") % 12],
            );
            if number.is_multiple_of(2) {
                text.push_str(&sentence_with_indicator(number / 2));
            }
        }
        text.push_str("\n\n");
    }
    text
}

fn sentence_with_indicator(number: u64) -> String {
    let address = [number >> 12 & 15, number >> 8 & 15, number >> 4 & 15, number & 15].map(|part| part + 11);
    let [a, b, c, d] = address;
    match number % 8 {
        0 => format!("The loader asks hxxps://cdn{number}[.]example[.]net/gate/{number}.php. "),
        1 => format!("A second server at {a}.{b}.{c}[.]{d} answers on port 443. "),
        2 => format!("It resolves update{number}.example.com every hour. "),
        3 => format!("The payload (SHA-256: {number:064x}) is packed. "),
        4 => format!("See https://www.example.org/reports/{number}?page=2 for details. "),
        5 => format!("A file with the MD5 {number:032x} was seen too. "),
        6 => format!("Mails came from billing@mail{number}.example.co.uk, among others. "),
        _ => format!("Traffic to {a}.{b}.{c}.{d}:8080 was blocked. "),
    }
}

/// The median time to find all indicators.
fn time(text: &str) -> Duration {
    let mut times = [(); ROUNDS].map(|()| {
        let begun = SystemClock.monotonic();
        black_box(extract(black_box(text), &ExtractOptions::default()));
        SystemClock.monotonic().since(begun)
    });
    times.sort();
    times[ROUNDS / 2]
}

fn megabytes_a_second(text: &str, time: Duration) -> f64 {
    text.len() as f64 / 1e6 / time.as_secs_f64()
}

fn main() {
    let report = report();
    let found = extract(&report, &ExtractOptions::default()).len();
    let took = time(&report);
    println!(
        "report of {} MB: {found} indicators in {took:.1?}, {:.0} MB/s",
        report.len() / 1_000_000,
        megabytes_a_second(&report, took)
    );
    for (name, piece) in SLOW {
        let [text, twice] = [200 * KIB, 400 * KIB].map(|size| piece.repeat(size / piece.len()));
        let (once, double) = (time(&text), time(&twice));
        let ratio = double.as_secs_f64() / once.as_secs_f64();
        println!("{name}: {:.0} MB/s; twice the text takes {ratio:.2} times as long", megabytes_a_second(&text, once));
    }
}
