//! The quota that a source reports in the headers of an answer, in the forms in use: `X-RateLimit-*`, `X-Rate-Limit-*` and
//! `RateLimit-*`, also with the window at the end of the name; `RateLimit` with `RateLimit-Policy`, as the drafts of the
//! IETF have it; and `X-APIKey-Quota-*`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::fmt::{rfc2822, strtime};
use jiff::tz::TimeZone;

use super::{Answer, AnswerBody, QuotaPer};

const PREFIXES: [&str; 3] = ["x-ratelimit-", "x-rate-limit-", "ratelimit-"];
/// A greater number is a time in seconds since 1970, a smaller one the seconds until then.
const LEAST_EPOCH: f64 = 1e9;
/// A greater number is a time in milliseconds since 1970.
const LEAST_EPOCH_MILLIS: f64 = 1e11;

/// What is left of one window of a source's quota, as it reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Length of the window; `None`: not reported.
    pub period: Option<Duration>,
    /// Calls that the window allows; `None`: not reported.
    pub limit: Option<u64>,
    /// Calls that are left.
    pub remaining: u64,
    /// Time from the receipt of the answer until the window turns; `None`: not reported, or already over.
    pub reset: Option<Duration>,
}

/// The headers about one window.
#[derive(Clone, Copy, Debug, Default)]
struct Headers {
    period: Option<Duration>,
    limit: Option<u64>,
    used: Option<u64>,
    remaining: Option<u64>,
    reset: Option<Duration>,
}

/// What a header is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Limit,
    Used,
    Remaining,
    Reset,
    Window,
}

impl RateLimit {
    /// What the headers of an answer report, of each window once. Headers that cannot be read count as missing, and a window of
    /// which they do not say what is left is left out.
    pub fn read(answer: &Answer) -> Vec<Self> {
        let AnswerBody::Http { headers, .. } = &answer.body else { return Vec::new() };
        let mut windows: BTreeMap<String, Headers> = BTreeMap::new();
        for (name, value) in headers {
            match name.as_str() {
                "ratelimit" | "ratelimit-policy" => read_list(value, &mut windows),
                name => {
                    if let Some((field, window)) = parse_name(name) {
                        let headers = windows.entry(window.to_owned()).or_default();
                        headers.period = headers.period.or(parse_period(window));
                        headers.set(field, value, answer.received);
                    }
                }
            }
        }
        let mut limits: BTreeMap<Option<Duration>, Self> = BTreeMap::new();
        for limit in windows.into_values().filter_map(Headers::finish) {
            let known = limits.entry(limit.period).or_insert(limit);
            if limit.remaining < known.remaining {
                *known = limit;
            }
        }
        limits.into_values().collect()
    }
}

impl Headers {
    fn set(&mut self, field: Field, value: &str, received: SystemTime) {
        match field {
            Field::Limit => {
                self.limit = parse_count(value);
                // `100;w=60`, unless several windows are named.
                let mut lengths = value.split([';', ',']).filter_map(|part| part.trim().strip_prefix("w="));
                if let (Some(length), None) = (lengths.next(), lengths.next()) {
                    self.period = parse_seconds(length);
                }
            }
            Field::Used => self.used = parse_count(value),
            Field::Remaining => self.remaining = parse_count(value),
            Field::Reset => self.reset = self.reset.or(parse_reset(value, received)),
            Field::Window => self.period = parse_period(value.trim()).or_else(|| parse_seconds(value)),
        }
    }

    fn finish(self) -> Option<RateLimit> {
        let left = || Some(self.limit?.saturating_sub(self.used?));
        let remaining = self.remaining.or_else(left)?;
        Some(RateLimit { period: self.period, limit: self.limit, remaining, reset: self.reset })
    }
}

/// What the header of this lower-case name is about, and the window in the name, which may be empty.
fn parse_name(name: &str) -> Option<(Field, &str)> {
    match name {
        "x-apikey-quota-allotted" => return Some((Field::Limit, "")),
        "x-apikey-quota-current" => return Some((Field::Used, "")),
        "x-quota-reset" => return Some((Field::Reset, "")),
        _ => {}
    }
    let rest = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let fields = [
        ("limit", Field::Limit),
        ("remaining", Field::Remaining),
        ("reset-after", Field::Reset),
        ("reset", Field::Reset),
        ("window", Field::Window),
    ];
    let (field, window) = fields.iter().find_map(|(word, field)| Some((*field, rest.strip_prefix(word)?)))?;
    match window.strip_prefix('-') {
        None if window.is_empty() => Some((field, "")),
        // A part of the quota that is not about calls in time, such as an action, is no window.
        Some(window) => parse_period(window).map(|_| (field, window)),
        None => None,
    }
}

/// Reads `limit=100, remaining=50, reset=30`, `"daily";r=50;t=30`, `"daily";q=100;w=86400` and `100;w=60`.
fn read_list(value: &str, windows: &mut BTreeMap<String, Headers>) {
    for item in value.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let head = parts.next().unwrap_or_default();
        let name = head.strip_prefix('"').and_then(|head| head.strip_suffix('"')).unwrap_or_default();
        let headers = windows.entry(name.to_owned()).or_default();
        if let Ok(limit) = head.parse() {
            headers.limit = headers.limit.or(Some(limit));
        }
        for (key, value) in std::iter::once(head).chain(parts).filter_map(|part| part.split_once('=')) {
            match key.trim() {
                "limit" | "q" => headers.limit = parse_count(value),
                "remaining" | "r" => headers.remaining = parse_count(value),
                "reset" | "t" => headers.reset = parse_seconds(value),
                "w" => headers.period = parse_seconds(value),
                _ => {}
            }
        }
    }
}

/// The number of calls at the beginning of a value; below zero is zero.
fn parse_count(value: &str) -> Option<u64> {
    let first = value.split([',', ';']).next()?.trim();
    first.parse().ok().or_else(|| first.parse::<i64>().ok().map(|_| 0))
}

fn parse_seconds(value: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(value.trim().parse().ok()?).ok().filter(|length| !length.is_zero())
}

/// The length of a window that is named by a word.
fn parse_period(word: &str) -> Option<Duration> {
    match word {
        "second" => Some(Duration::from_secs(1)),
        "minute" => Some(Duration::from_secs(60)),
        _ => word.parse::<QuotaPer>().ok().map(QuotaPer::longest),
    }
}

/// The time until a window turns, from seconds, from a time since 1970, or from a date.
fn parse_reset(value: &str, received: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(number) = value.parse::<f64>() {
        if number < LEAST_EPOCH {
            return parse_seconds(value);
        }
        let seconds = if number < LEAST_EPOCH_MILLIS { number } else { number / 1e3 };
        let since_1970 = Duration::try_from_secs_f64(seconds).ok()?;
        return SystemTime::UNIX_EPOCH.checked_add(since_1970)?.duration_since(received).ok();
    }
    let date = value.parse::<Timestamp>().ok();
    let date = date.or_else(|| Some(rfc2822::parse(value).ok()?.timestamp())).or_else(|| parse_long_date(value));
    SystemTime::from(date?).duration_since(received).ok()
}

/// `Tuesday, September 03, 2013 07:06:05 AM UTC`.
fn parse_long_date(value: &str) -> Option<Timestamp> {
    let value = value.strip_suffix("UTC").or_else(|| value.strip_suffix("GMT"))?.trim_end();
    let date = strtime::parse("%A, %B %d, %Y %I:%M:%S %p", value).ok()?.to_datetime().ok()?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2023-09-09T05:50:34Z.
    const RECEIVED: Duration = Duration::from_secs(1_694_238_634);

    fn read(headers: &[(&str, &str)]) -> Vec<RateLimit> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let body = AnswerBody::Http { status: 200, headers, body: Vec::new() };
        RateLimit::read(&Answer { received: SystemTime::UNIX_EPOCH + RECEIVED, ttl: None, body })
    }

    fn limit(period: Option<u64>, limit: Option<u64>, remaining: u64, reset: Option<u64>) -> RateLimit {
        let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        RateLimit { period: seconds(period), limit, remaining, reset: seconds(reset) }
    }

    #[test]
    fn the_headers_of_known_services_are_read() {
        let abuseipdb = [
            ("retry-after", "29241"),
            ("x-ratelimit-limit", "1000"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1694267875"),
        ];
        assert_eq!(read(&abuseipdb), [limit(None, Some(1000), 0, Some(29_241))]);
        let urlscan = [
            ("x-rate-limit-scope", "team"),
            ("x-rate-limit-action", "search"),
            ("x-rate-limit-window", "hour"),
            ("x-rate-limit-limit", "100000"),
            ("x-rate-limit-remaining", "99952"),
            ("x-rate-limit-reset", "2023-09-09T06:00:00.000Z"),
            ("x-rate-limit-reset-after", "566"),
        ];
        assert_eq!(read(&urlscan), [limit(Some(3_600), Some(100_000), 99_952, Some(566))]);
        let pipl = [
            ("x-apikey-quota-allotted", "300"),
            ("x-apikey-quota-current", "298"),
            ("x-quota-reset", "Saturday, September 09, 2023 06:00:34 AM UTC"),
        ];
        assert_eq!(read(&pipl), [limit(None, Some(300), 2, Some(600))]);
        let kong = [
            ("x-ratelimit-limit-minute", "5"),
            ("x-ratelimit-remaining-minute", "4"),
            ("x-ratelimit-limit-hour", "100"),
            ("x-ratelimit-remaining-hour", "0"),
        ];
        assert_eq!(read(&kong), [limit(Some(60), Some(5), 4, None), limit(Some(3_600), Some(100), 0, None)]);
    }

    #[test]
    fn the_forms_of_the_drafts_are_read() {
        let third = [("ratelimit-limit", "10, 10;w=60"), ("ratelimit-remaining", "3"), ("ratelimit-reset", "7")];
        assert_eq!(read(&third), [limit(Some(60), Some(10), 3, Some(7))]);
        let seventh = [("ratelimit", "limit=100, remaining=50, reset=30"), ("ratelimit-policy", "100;w=60")];
        assert_eq!(read(&seventh), [limit(Some(60), Some(100), 50, Some(30))]);
        let latest = [
            ("ratelimit", "\"burst\";r=4;t=9, \"daily\";r=80;t=900"),
            ("ratelimit-policy", "\"burst\";q=5;w=10, \"daily\";q=500;w=86400"),
        ];
        let wanted = [limit(Some(10), Some(5), 4, Some(9)), limit(Some(86_400), Some(500), 80, Some(900))];
        assert_eq!(read(&latest), wanted);
    }

    #[test]
    fn what_cannot_be_read_or_is_over_counts_as_missing() {
        let remaining = |value| read(&[("x-ratelimit-remaining", value)]);
        assert_eq!(remaining("-1"), [limit(None, None, 0, None)]);
        for unreadable in ["", "many", "1.5", "99999999999999999999999"] {
            assert_eq!(remaining(unreadable), [], "{unreadable}");
        }
        for reset in ["", "soon", "1694238633", "0", "-5", "nan", "inf", "1e300", "2023-09-09T05:00:00Z"] {
            let read = read(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)]);
            assert_eq!(read, [limit(None, None, 0, None)], "{reset}");
        }
        assert_eq!(read(&[("x-ratelimit-limit", "100")]), [], "it does not say what is left");
        assert_eq!(read(&[("x-ratelimit-remaining-tokens", "0")]), [], "tokens are no calls");
        assert_eq!(read(&[("x-rate-limit-day", "9")]), []);
        let millis = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1694238694000")];
        assert_eq!(read(&millis), [limit(None, None, 0, Some(60))]);
    }

    #[test]
    fn of_two_reports_about_one_window_the_one_with_less_left_counts() {
        let two = [("ratelimit", "\"one\";r=4;t=9, \"other\";r=2;t=5")];
        assert_eq!(read(&two), [limit(None, None, 2, Some(5))]);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(name in "(x-)?rate-?limit(-[a-z]{0,9}){0,3}|x-quota-reset", value in any::<String>()) {
            let limits = read(&[(name.as_str(), value.as_str()), ("x-ratelimit-remaining", &value)]);
            prop_assert!(limits.len() <= value.len() + 1);
        }
    }
}
