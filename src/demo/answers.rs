//! What the replay answers, in the documented form of each source. The addresses are those reserved for documentation.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::world::{self, Item};
use crate::indicator::hex;

/// The list of the demonstration: one indicator a line.
const LIST: &str = "# indicators of our own cases\n198.51.100.7\nfiles.example.com\n";

/// SHA-256 of the demonstration's malicious file.
pub(super) const BAD_FILE: &str = "5f1c0de0000000000000000000000000000000000000000000000000000bad01";
const BAD_FILE_MD5: &str = "0123456789abcdef0123456789abcdef";
/// The address whose related files make it malicious.
pub(super) const SUSPECT: &str = "198.51.100.60";
const BAD_URL: &str = "http://files.example.com/invoice.exe";
/// MD5 of a file that a vendor ships.
pub(super) const KNOWN_FILE: &str = "900150983cd24fb0d6963f7d28e17f72";
const KNOWN_FILE_SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// What Spamhaus ZEN answers for an address with an open proxy, and for its test point.
const PROXY: [Ipv4Addr; 1] = [Ipv4Addr::new(127, 0, 0, 4)];
const TEST_POINT: [Ipv4Addr; 3] =
    [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 4), Ipv4Addr::new(127, 0, 0, 10)];

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

/// The list of our own cases, with those of the history.
pub(super) fn list() -> String {
    LIST.to_owned() + &listed_in_history(|item| item.in_our_list)
}

/// A list that says much and knows little.
pub(super) fn rumours() -> String {
    "# heard somewhere\n".to_owned() + &listed_in_history(|item| item.is_rumoured)
}

fn listed_in_history(is_listed: impl Fn(&Item) -> bool) -> String {
    let listed =
        world::indicators().into_iter().filter(|value| world::item(value).is_some_and(|item| is_listed(&item)));
    listed.map(|value| value + "\n").collect()
}

/// The answer of the source whose name begins the path.
pub(super) fn reply(question: &Question<'_>, now: SystemTime) -> Reply {
    let parts: Vec<&str> = question.path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["virustotal", "users", _, "overall_quotas"] => virustotal_quotas(),
        ["virustotal", "users", ..] => virustotal_user(),
        ["virustotal", "files"] => Reply::new(200, json!({ "data": { "type": "analysis", "id": "demonstration" } })),
        ["virustotal", "analyses", _] => Reply::new(200, json!({ "data": { "attributes": { "status": "queued" } } })),
        ["virustotal", collection, id] => virustotal(collection, id, now),
        ["virustotal", _, id, "downloaded_files"] => downloaded_files(id, now),
        [name @ ("abuseipdb" | "reseller"), "check"] => {
            let ip = value_of(question.query, "ipAddress").unwrap_or_default();
            let item = world::item(&ip);
            abuseipdb(&ip, item.map(|item| if *name == "reseller" { item.resold } else { item.score }), now)
        }
        ["urlhaus", _] => urlhaus(question.form, now),
        ["greynoise", "v3", "community", ip] => greynoise(ip, now),
        ["hashlookup", "info"] => Reply::new(200, json!({ "hashlookup-version": "1.4", "nsrl-version": "2026.09.1" })),
        ["hashlookup", "lookup", kind, hash] => hashlookup(kind, hash),
        _ => Reply::new(404, json!({ "error": "no such source in the replay" })),
    }
}

/// The addresses that the zone lists this name under.
pub(super) fn listed(name: &str) -> Vec<Ipv4Addr> {
    match name.trim_end_matches('.') {
        "7.100.51.198.zen.spamhaus.org" => PROXY.to_vec(),
        "2.0.0.127.zen.spamhaus.org" => TEST_POINT.to_vec(),
        name => {
            let reversed = name.strip_suffix(".zen.spamhaus.org").unwrap_or_default();
            let address = reversed.rsplit('.').collect::<Vec<_>>().join(".");
            let is_listed = world::item(&address).is_some_and(|item| item.in_zone);
            if is_listed { PROXY.to_vec() } else { Vec::new() }
        }
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

/// `2026-01-31 12:00:00`, as URLhaus writes the times of files; those of URLs and hosts end with ` UTC`.
fn abuse_ch(time: SystemTime) -> String {
    rfc3339(time).replace('T', " ").replace('Z', "")
}

fn date(time: SystemTime) -> String {
    rfc3339(time).chars().take(10).collect()
}

/// The quota of the key. Reports no window, so that the demonstration is not limited.
fn virustotal_quotas() -> Reply {
    Reply::new(200, json!({ "data": {} }))
}

/// The owner of the key, with what is left of its quota.
fn virustotal_user() -> Reply {
    let quotas = json!({
        "api_requests_hourly": { "used": 0, "allowed": 240 },
        "api_requests_daily": { "used": 0, "allowed": 500 },
        "api_requests_monthly": { "used": 0, "allowed": 15_500 },
    });
    let attributes = json!({ "status": "active", "quotas": quotas });
    Reply::new(200, json!({ "data": { "id": "demonstration", "type": "user", "attributes": attributes } }))
}

fn virustotal(collection: &str, id: &str, now: SystemTime) -> Reply {
    let asked = id;
    let (malicious, suspicious) = match id {
        "198.51.100.7" => (60, 2),
        "203.0.113.5" => (12, 0),
        "198.51.100.23" => (3, 2),
        SUSPECT => (4, 1),
        "files.example.com" => (14, 1),
        BAD_FILE => (58, 0),
        KNOWN_FILE => (0, 0),
        other if other == base64_of(BAD_URL) => (21, 3),
        other if world::item(other).is_some_and(|item| item.engines > 0) => {
            let engines = world::item(other).map_or(0, |item| item.engines);
            (engines, engines / 6)
        }
        // It has a report on every address, and on nothing else that it has not seen.
        _ if collection == "ip_addresses" => (0, 0),
        _ => {
            let what = match collection {
                "domains" => "Domain",
                "urls" => "URL",
                _ => "File",
            };
            let message = format!("{what} \"{id}\" not found");
            return Reply::new(404, json!({ "error": { "code": "NotFoundError", "message": message } }));
        }
    };
    let is_file = collection == "files";
    let rest = 94 - malicious - suspicious;
    let harmless = if is_file { 0 } else { rest - rest / 6 };
    let counts = [
        ("malicious", malicious, json!("malware")),
        ("suspicious", suspicious, json!("suspicious")),
        ("harmless", harmless, json!("clean")),
        ("undetected", rest - harmless, if is_file { Value::Null } else { json!("unrated") }),
    ];
    let engines = counts.iter().flat_map(|(category, count, result)| (0..*count).map(move |_| (category, result)));
    let results: serde_json::Map<_, _> = engines
        .enumerate()
        .map(|(nth, (category, result))| {
            let name = format!("Engine {nth:02}");
            let row = json!({ "engine_name": name, "category": category, "result": result, "method": "blacklist" });
            (name, row)
        })
        .collect();
    let mut attributes = json!({
        "last_analysis_date": seconds(ago(now, 3600)),
        "last_modification_date": seconds(ago(now, 3600)),
        "last_analysis_stats": {
            "malicious": malicious, "suspicious": suspicious, "harmless": harmless, "undetected": rest - harmless,
            "timeout": 0,
        },
        "last_analysis_results": results,
        "reputation": -i64::from(malicious),
        "tags": [],
    });
    let (kind, id, more) = match collection {
        "ip_addresses" => {
            ("ip_address", id.to_owned(), json!({ "country": "NL", "as_owner": "Example Hosting", "asn": 64_500 }))
        }
        "domains" => ("domain", id.to_owned(), json!({ "registrar": "Example Registrar" })),
        "urls" => {
            let sha256 = hex(digest::digest(&digest::SHA256, BAD_URL.as_bytes()).as_ref());
            ("url", sha256, json!({ "url": BAD_URL, "last_final_url": BAD_URL }))
        }
        // It names a file by its SHA-256, whichever hash was asked.
        _ => {
            let sha256 = if id == KNOWN_FILE { KNOWN_FILE_SHA256 } else { id };
            ("file", sha256.to_owned(), json!({ "sha256": sha256, "type_description": "Win32 EXE", "size": 73_802 }))
        }
    };
    if let (Value::Object(attributes), Value::Object(more)) = (&mut attributes, more) {
        attributes.extend(more);
    }
    let mut data = json!({ "id": id, "type": kind, "attributes": attributes });
    if let Some(relationships) = relationships(collection, asked) {
        data["relationships"] = relationships;
    }
    Reply::new(200, json!({ "data": data }))
}

/// What a report says that an indicator is related to.
fn relationships(collection: &str, id: &str) -> Option<Value> {
    let file = |id: &str| json!({ "type": "file", "id": id });
    let domain = |id: &str| json!({ "type": "domain", "id": id });
    let address = |id: &str| json!({ "type": "ip_address", "id": id });
    match (collection, id) {
        ("domains", "files.example.com") => Some(json!({
            "communicating_files": { "data": [file(BAD_FILE)] },
            "siblings": { "data": [domain("www.example.com")] },
            "parent": { "data": domain("example.com") },
        })),
        ("files", BAD_FILE) => Some(json!({
            "contacted_domains": { "data": [domain("files.example.com")] },
            "contacted_ips": { "data": [address("198.51.100.7"), address(SUSPECT), address("10.20.30.40")] },
            "dropped_files": { "data": [file(KNOWN_FILE_SHA256)] },
        })),
        _ => None,
    }
}

/// The files that were downloaded from an address: those of the suspect one are suspicious.
fn downloaded_files(id: &str, now: SystemTime) -> Reply {
    let detections: &[u32] = if id == SUSPECT { &[7, 6, 0] } else { &[] };
    let file = |malicious: &u32| {
        let stats = json!({ "malicious": malicious, "suspicious": 0, "harmless": 0, "undetected": 70 - malicious });
        let attributes = json!({ "last_analysis_date": seconds(ago(now, 3600)), "last_analysis_stats": stats });
        json!({ "type": "file", "id": BAD_FILE, "attributes": attributes })
    };
    Reply::new(200, json!({ "data": detections.iter().map(file).collect::<Vec<_>>() }))
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

fn abuseipdb(ip: &str, of_history: Option<u32>, now: SystemTime) -> Reply {
    if ip == "127.0.0.1" {
        let data = json!({
            "ipAddress": ip, "isPublic": false, "ipVersion": 4, "isWhitelisted": true, "abuseConfidenceScore": 0,
            "countryCode": null, "usageType": "Reserved", "isp": null, "domain": null, "hostnames": [], "isTor": false,
            "totalReports": 0, "numDistinctUsers": 0, "lastReportedAt": null,
        });
        return Reply::new(200, json!({ "data": data }));
    }
    let (score, reports, whitelisted) = match ip {
        "198.51.100.7" => (100, 412, false),
        "203.0.113.5" => (0, 9, true),
        "198.51.100.23" => (31, 4, false),
        _ => of_history.map_or((0, 0, false), |score| (score, score / 3, false)),
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
    let utc = |time| format!("{} UTC", abuse_ch(time));
    let reference = "https://urlhaus.abuse.ch/url/1/";
    let blacklists = json!({ "spamhaus_dbl": "not listed", "surbl": "not listed" });
    let host = |host: &str| {
        let url = json!({
            "id": "1", "urlhaus_reference": reference, "url": format!("http://{host}/invoice.exe"),
            "url_status": "online", "date_added": utc(ago(now, 2 * DAY)), "threat": "malware_download",
            "reporter": "demonstration", "larted": "true", "takedown_time_seconds": null, "tags": ["exe"],
        });
        json!({
            "query_status": "ok", "urlhaus_reference": format!("https://urlhaus.abuse.ch/host/{host}/"), "host": host,
            "firstseen": utc(ago(now, 9 * DAY)), "url_count": "1", "blacklists": blacklists, "urls": [url],
        })
    };
    let url = || {
        let payload = json!({
            "firstseen": date(ago(now, 2 * DAY)), "filename": "invoice.exe", "file_type": "exe", "response_size": "73802",
            "response_md5": BAD_FILE_MD5, "response_sha256": BAD_FILE, "signature": "Demonstration", "virustotal": null,
        });
        json!({
            "query_status": "ok", "id": "1", "urlhaus_reference": reference, "url": BAD_URL, "url_status": "online",
            "host": "files.example.com", "date_added": utc(ago(now, 2 * DAY)), "last_online": null,
            "threat": "malware_download", "blacklists": blacklists, "reporter": "demonstration", "larted": "true",
            "takedown_time_seconds": null, "tags": ["exe"], "payloads": [payload],
        })
    };
    let payload = || {
        let url = json!({
            "url_id": "1", "url": BAD_URL, "url_status": "online", "urlhaus_reference": reference,
            "filename": "invoice.exe", "firstseen": date(ago(now, 2 * DAY)), "lastseen": null,
        });
        json!({
            "query_status": "ok", "md5_hash": BAD_FILE_MD5, "sha256_hash": BAD_FILE, "file_type": "exe",
            "file_size": "73802", "signature": "Demonstration", "firstseen": abuse_ch(ago(now, 5 * DAY)),
            "lastseen": abuse_ch(ago(now, DAY)), "url_count": "1", "virustotal": null, "urls": [url],
        })
    };
    let asked = ["host", "url", "sha256_hash", "md5_hash"].into_iter().find_map(|name| value_of(form, name));
    let body = match asked.as_deref() {
        Some(name @ ("198.51.100.7" | "files.example.com")) => host(name),
        Some(name) if world::item(name).is_some_and(|item| item.in_urlhaus) => host(name),
        Some(BAD_URL) => url(),
        Some(BAD_FILE | BAD_FILE_MD5) => payload(),
        _ => json!({ "query_status": "no_results" }),
    };
    Reply::new(200, body)
}

fn greynoise(ip: &str, now: SystemTime) -> Reply {
    let known = |noise: bool, classification: &str, name: &str| {
        json!({
            "ip": ip, "noise": noise, "riot": !noise, "classification": classification, "name": name,
            "link": format!("https://viz.greynoise.io/ip/{ip}"), "last_seen": date(ago(now, DAY)), "message": "Success",
        })
    };
    let is_attacker = world::item(ip).and_then(|item| item.is_attacker);
    match ip {
        "198.51.100.7" => Reply::new(200, known(true, "malicious", "unknown")),
        "203.0.113.5" => Reply::new(200, known(false, "benign", "Example Public DNS")),
        "203.0.113.80" => Reply::new(200, known(false, "benign", "Example Updates")),
        "8.8.8.8" => Reply::new(200, known(false, "benign", "Google Public DNS")),
        "198.51.100.23" => Reply { slow: true, ..Reply::new(200, known(true, "malicious", "unknown")) },
        _ if is_attacker == Some(true) => Reply::new(200, known(true, "malicious", "unknown")),
        _ if is_attacker == Some(false) => Reply::new(200, known(false, "benign", "Example Services")),
        _ => {
            let message = "IP not observed scanning the internet or contained in RIOT data set.";
            Reply::new(404, json!({ "ip": ip, "noise": false, "riot": false, "message": message }))
        }
    }
}

fn hashlookup(kind: &str, hash: &str) -> Reply {
    if hash.eq_ignore_ascii_case(KNOWN_FILE) {
        return Reply::new(
            200,
            json!({
                "MD5": KNOWN_FILE.to_uppercase(), "SHA-1": "A9993E364706816ABA3E25717850C26C9CD0D89D",
                "FileName": "abc.dll", "FileSize": "3", "source": "NSRL", "db": "nsrl_modern_rds",
                "hashlookup:trust": 100, "hashlookup:parent-total": 3,
            }),
        );
    }
    let kind = kind.to_uppercase().replace("SHA", "SHA-");
    Reply::new(404, json!({ "message": format!("Non existing {kind}"), "query": hash }))
}
