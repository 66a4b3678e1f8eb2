//! What the replay answers, in the documented form of each source. The addresses are those reserved for documentation.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

/// The list of the demonstration: one indicator a line.
pub(super) const LIST: &str = "# indicators of our own cases\n198.51.100.7\nfiles.example.com\n";

/// SHA-256 of the demonstration's malicious file.
pub(super) const BAD_FILE: &str = "5f1c0de0000000000000000000000000000000000000000000000000000bad01";
/// MD5 of a file that a vendor ships.
pub(super) const KNOWN_FILE: &str = "900150983cd24fb0d6963f7d28e17f72";

const DAY: u64 = 86_400;

/// What was asked over HTTP.
pub(super) struct Question<'a> {
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) form: &'a str,
}

/// What is answered.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) slow: bool,
}

impl Reply {
    fn new(status: u16, body: Value) -> Self {
        Self { status, body, slow: false }
    }
}

/// The answer of the source whose name begins the path.
pub(super) fn reply(question: &Question<'_>, now: SystemTime) -> Reply {
    let mut parts = question.path.trim_start_matches('/').splitn(2, '/');
    let source = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    let asked = rest.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default();
    match source {
        "virustotal" => virustotal(asked, now),
        "abuseipdb" => abuseipdb(value_of(question.query, "ipAddress").as_deref().unwrap_or_default(), now),
        "urlhaus" => urlhaus(question.form, now),
        "greynoise" => greynoise(asked, now),
        "hashlookup" => hashlookup(asked),
        _ => Reply::new(404, json!({ "error": "no such source in the replay" })),
    }
}

/// The address that the zone lists this name under, if it does.
pub(super) fn listed(name: &str) -> Option<Ipv4Addr> {
    match name.trim_end_matches('.') {
        "7.100.51.198.zen.spamhaus.org" => Some(Ipv4Addr::new(127, 0, 0, 4)),
        "2.0.0.127.zen.spamhaus.org" => Some(Ipv4Addr::new(127, 0, 0, 2)),
        _ => None,
    }
}

fn value_of(form: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(form.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn ago(now: SystemTime, duration: u64) -> SystemTime {
    now - Duration::from_secs(duration)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// `2026-01-31 12:00:00 UTC`, as URLhaus writes times.
fn abuse_ch(time: SystemTime) -> String {
    rfc3339(time).replace('T', " ").replace('Z', " UTC")
}

fn virustotal(asked: &str, now: SystemTime) -> Reply {
    let url = base64_of("http://files.example.com/invoice.exe");
    let (kind, malicious, suspicious) = match asked {
        "198.51.100.7" => ("ip_address", 60, 2),
        "203.0.113.5" => ("ip_address", 12, 0),
        "198.51.100.23" => ("ip_address", 3, 2),
        "203.0.113.80" => ("ip_address", 0, 0),
        "files.example.com" => ("domain", 14, 1),
        BAD_FILE => ("file", 58, 0),
        KNOWN_FILE => ("file", 0, 0),
        other if other == url => ("url", 21, 3),
        _ => {
            let error = json!({ "error": { "code": "NotFoundError", "message": "not found" } });
            return Reply::new(404, error);
        }
    };
    let rest = 94 - malicious - suspicious;
    let mut results = serde_json::Map::new();
    for nth in 0..malicious {
        results.insert(
            format!("Engine {nth:02}"),
            json!({ "engine_name": format!("Engine {nth:02}"), "category": "malicious", "result": "malware", "method": "blacklist" }),
        );
    }
    let attributes = json!({
        "last_analysis_date": seconds(ago(now, 3600)),
        "last_analysis_stats": {
            "malicious": malicious, "suspicious": suspicious, "harmless": 0, "undetected": rest, "timeout": 0,
        },
        "last_analysis_results": results,
        "reputation": -(malicious as i64),
        "country": "NL",
        "as_owner": "Example Hosting",
        "asn": 64_500,
    });
    Reply::new(200, json!({ "data": { "id": asked, "type": kind, "attributes": attributes } }))
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

fn abuseipdb(ip: &str, now: SystemTime) -> Reply {
    let (score, reports, whitelisted) = match ip {
        "198.51.100.7" => (100, 412, false),
        "203.0.113.5" => (0, 9, true),
        "198.51.100.23" => (31, 4, false),
        _ => (0, 0, false),
    };
    let last = (reports > 0).then(|| rfc3339(ago(now, 7200)).replace('Z', "+00:00"));
    let data = json!({
        "ipAddress": ip, "isPublic": true, "ipVersion": 4, "isWhitelisted": whitelisted, "abuseConfidenceScore": score,
        "countryCode": "NL", "usageType": "Data Center/Web Hosting/Transit", "isp": "Example Hosting",
        "domain": "example.net", "hostnames": [], "isTor": false, "totalReports": reports,
        "numDistinctUsers": reports / 3, "lastReportedAt": last,
    });
    Reply::new(200, json!({ "data": data }))
}

fn urlhaus(form: &str, now: SystemTime) -> Reply {
    let online = json!({
        "id": "1", "url": "http://files.example.com/invoice.exe", "url_status": "online",
        "date_added": abuse_ch(ago(now, 2 * DAY)), "threat": "malware_download", "reporter": "demonstration",
        "larted": "true", "takedown_time_seconds": null, "tags": ["exe"],
    });
    let blacklists = json!({ "spamhaus_dbl": "not listed", "surbl": "not listed" });
    let host = |host: &str| {
        json!({
            "query_status": "ok", "host": host, "firstseen": abuse_ch(ago(now, 9 * DAY)), "url_count": "1",
            "blacklists": blacklists, "urls": [online.clone()],
        })
    };
    let url = || {
        json!({
            "query_status": "ok", "id": "1", "url": "http://files.example.com/invoice.exe", "url_status": "online",
            "host": "files.example.com", "date_added": abuse_ch(ago(now, 2 * DAY)), "last_online": null,
            "threat": "malware_download", "blacklists": blacklists, "reporter": "demonstration", "larted": "true",
            "takedown_time_seconds": null, "tags": ["exe"], "payloads": [],
        })
    };
    let payload = || {
        json!({
            "query_status": "ok", "md5_hash": "0123456789abcdef0123456789abcdef", "sha256_hash": BAD_FILE,
            "file_type": "exe", "file_size": "73802", "signature": "Demonstration", "firstseen": abuse_ch(ago(now, 5 * DAY)),
            "lastseen": abuse_ch(ago(now, DAY)), "url_count": "1", "urls": [],
        })
    };
    let asked = ["host", "url", "sha256_hash", "md5_hash"].into_iter().find_map(|name| value_of(form, name));
    let body = match asked.as_deref() {
        Some(name @ ("198.51.100.7" | "files.example.com")) => host(name),
        Some("http://files.example.com/invoice.exe") => url(),
        Some(BAD_FILE) => payload(),
        _ => json!({ "query_status": "no_results" }),
    };
    Reply::new(200, body)
}

fn greynoise(ip: &str, now: SystemTime) -> Reply {
    let seen = rfc3339(ago(now, DAY)).chars().take(10).collect::<String>();
    let known = |noise: bool, riot: bool, classification: &str, name: &str| {
        json!({
            "ip": ip, "noise": noise, "riot": riot, "classification": classification, "name": name,
            "link": format!("https://viz.greynoise.io/ip/{ip}"), "last_seen": seen, "message": "Success",
        })
    };
    match ip {
        "198.51.100.7" => Reply::new(200, known(true, false, "malicious", "unknown")),
        "203.0.113.5" => Reply::new(200, known(false, true, "benign", "Example Public DNS")),
        "203.0.113.80" => Reply::new(200, known(false, true, "benign", "Example Updates")),
        "198.51.100.23" => Reply { slow: true, ..Reply::new(200, known(true, false, "malicious", "unknown")) },
        _ => Reply::new(
            404,
            json!({ "ip": ip, "noise": false, "riot": false, "message": "IP not observed scanning the internet" }),
        ),
    }
}

fn hashlookup(hash: &str) -> Reply {
    if hash.eq_ignore_ascii_case(KNOWN_FILE) {
        return Reply::new(
            200,
            json!({
                "MD5": KNOWN_FILE.to_uppercase(), "FileName": "abc.dll", "FileSize": "24576", "source": "NSRL",
                "db": "nsrl_modern_rds", "hashlookup:trust": 100, "hashlookup:parent-total": 3,
            }),
        );
    }
    Reply::new(404, json!({ "message": "Non existing SHA-256", "query": hash }))
}
