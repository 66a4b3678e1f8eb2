//! Kind `dnsbl`: a zone that answers over DNS whether an address or a name is listed (RFC 5782).
//! Knows the return codes of Spamhaus ZEN and DBL; every other zone is read by the code table of its source.
//! No query is sent here: `fetch` does that and fills in the credential.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::http;
use crate::finding::{Disposition, Fact, Finding, Reliability, SourceError, SourceErrorKind, Strength};
use crate::indicator::{Form, Indicator};
use crate::source::{
    About, Answer, AnswerBody, BuildError, CacheTtl, Choice, CredentialNeed, DnsAnswer, DnsQuestion, Lookup, OptionDef,
    OptionViolation, Probe, Question, QuotaPer, Reading, Source, SourceView, TransportKind,
};

/// Where the transport puts the credential.
const CREDENTIAL: &str = "{credential}";
/// Length of a Spamhaus DQS key, to judge how long a name will be once the transport has filled it in.
const KEY_LENGTH: usize = 26;
/// Longest name in DNS, written without its trailing dot.
const MAX_NAME: usize = 253;
/// Tag of addresses that are given out to households; such a listing is policy, not abuse.
const DYNAMIC_RANGE: &str = "dynamic range";

const ZONE: OptionDef<String> =
    OptionDef::required_text("zone", "zone to ask, such as zen.spamhaus.org or {credential}.zen.dq.spamhaus.net");
const LOOKUP: OptionDef<Listed> = OptionDef::choice(
    "lookup",
    Listed::Auto,
    "what the zone lists; auto: names for DBL, ZRD, SURBL and URIBL zones, else addresses",
);
const CODES: OptionDef<BTreeMap<String, String>> = OptionDef::table(
    "codes",
    "what a returned address means in zones other than ZEN and DBL: \"127.0.0.2\" = \"malicious 0.85 spam\", or by a bit of the last octet: \"bit 64\" (for SURBL and URIBL \"127.0.0.64\" is that bit too)",
);
const RESOLVER: OptionDef<Option<SocketAddr>> = OptionDef::resolver(
    "resolver",
    "resolver to ask, address or address:port; unset: the system's (Spamhaus refuses public ones)",
);

/// What a zone lists.
#[derive(Clone, Copy, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
enum Listed {
    Auto,
    Ip,
    Domain,
    Both,
}

impl Choice for Listed {}

pub(super) static ABOUT: LazyLock<About> = LazyLock::new(|| About {
    kind: "dnsbl".into(),
    title: "DNS block list".into(),
    summary: "Whether a DNS zone such as Spamhaus ZEN or DBL lists an address or a name.".into(),
    home_page: "https://www.spamhaus.org/blocklists/".into(),
    terms: "Each zone has its own; the public Spamhaus zones are free for low-volume, non-commercial use \
            (https://www.spamhaus.org/blocklists/dnsbl-fair-use-policy/)."
        .into(),
    forms: vec![Form::Ipv4, Form::Ipv6, Form::Domain],
    transport: TransportKind::Dns,
    credential: CredentialNeed::Optional,
    tiers: vec![http::tier(
        "standard",
        "any zone; a Spamhaus DQS zone takes its key as credential",
        &[(QuotaPer::Minute, 600)],
    )],
    reliability: Reliability::B,
    timeout: Duration::from_secs(2),
    // The record's own TTL shortens the first.
    cache_ttl: CacheTtl::new(Duration::from_secs(60 * 60), Duration::from_secs(15 * 60)),
    options: vec![ZONE.spec(), LOOKUP.spec(), CODES.spec(), RESOLVER.spec()],
    rating_revision: 2,
    greatest_strength: Strength::MAX,
    ..http::about()
});

pub(super) fn build(view: &SourceView<'_>) -> Result<Arc<dyn Source>, BuildError> {
    let zone = Zone::new(&view.get(&ZONE)?, view.get(&LOOKUP)?);
    let mut wrong = Vec::new();
    if let Err(message) = zone.check() {
        wrong.push(OptionViolation { option: ZONE.name, message });
    }
    let mut codes = Vec::new();
    for (code, meaning) in &view.get(&CODES)? {
        match CodeRow::parse(code, meaning, zone.answers_in_bits()) {
            Ok(row) => codes.push(row),
            Err(message) => wrong.push(OptionViolation { option: CODES.name, message }),
        }
    }
    let resolver = view.get(&RESOLVER)?;
    if !wrong.is_empty() {
        return Err(BuildError::Invalid(wrong));
    }
    if zone.has_credential() && !view.has_credential() {
        return Err(BuildError::Missing("the zone needs a key: set the source's credential".into()));
    }
    Ok(Arc::new(Dnsbl { zone, codes, resolver }))
}

struct Dnsbl {
    zone: Zone,
    codes: Vec<CodeRow>,
    resolver: Option<SocketAddr>,
}

impl Source for Dnsbl {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn supports(&self, form: Form) -> bool {
        match form {
            Form::Ipv4 | Form::Ipv6 => self.zone.takes_addresses,
            Form::Domain => self.zone.takes_names,
            Form::Url | Form::Md5 | Form::Sha1 | Form::Sha256 => false,
        }
    }

    fn independence_key(&self) -> String {
        format!("dnsbl:{}", self.zone.display_name())
    }

    fn ask(&self, lookup: &Lookup) -> Result<Question, SourceError> {
        let form = lookup.indicator.form();
        if !self.supports(form) {
            return Err(bad_question(format!("{} lists no {}", self.zone.display_name(), form.as_str())));
        }
        match lookup.indicator.ip() {
            Some(ip) => self.question(&reversed(ip)),
            None => self.question(lookup.indicator.value()),
        }
    }

    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        match addresses(answer)? {
            Some(addresses) => refusal(addresses, self.zone.is_uribl()).map_or(Ok(()), Err),
            None => Ok(()),
        }
    }

    fn read(&self, lookup: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
        let answer = answers.last().ok_or_else(|| SourceError::malformed("no answer"))?;
        self.check(answer)?;
        let codes = addresses(answer)?.unwrap_or_default();
        let mut listings: Vec<Listing> = codes.iter().map(|code| self.zone.listing(*code, &self.codes)).collect();
        listings.sort_by(Listing::heaviest_first);
        listings.dedup_by_key(|listing| listing.code);
        Ok(match finding(&self.zone, &lookup.indicator, &listings) {
            Some(finding) => Reading::Found(finding),
            None => Reading::NoRecord,
        })
    }

    fn probe(&self) -> Vec<Question> {
        let labels = if self.zone.takes_addresses { ["2.0.0.127", "1.0.0.127"] } else { ["test", "invalid"] };
        labels.iter().filter_map(|label| self.question(label).ok()).collect()
    }

    fn read_probe(&self, answers: &[Result<Answer, SourceError>]) -> Probe {
        let zone = self.zone.display_name();
        match self.read_test_points(answers) {
            // A zone that lists its test point has taken the key in its name; a failure can have other causes.
            Ok(()) => Probe::new(
                Ok(()),
                self.zone.has_credential().then_some(true),
                format!("{zone} lists its test point and not the point beside it"),
            ),
            Err(error) => {
                let detail = format!("{zone}: {}", error.detail);
                Probe::new(Err(error), None, detail)
            }
        }
    }
}

impl Dnsbl {
    fn question(&self, label: &str) -> Result<Question, SourceError> {
        let name = format!("{label}.{}", self.zone.name);
        let key = if self.zone.has_credential() { KEY_LENGTH.saturating_sub(CREDENTIAL.len()) } else { 0 };
        if name.len() + key > MAX_NAME {
            return Err(bad_question(format!("the name to ask would be longer than {MAX_NAME} characters")));
        }
        let zone = self.zone.without_credential().to_owned();
        Ok(Question::Dns(DnsQuestion { name, zone, resolver: self.resolver }))
    }

    /// Judges the answers to the two questions of a probe.
    fn read_test_points(&self, answers: &[Result<Answer, SourceError>]) -> Result<(), SourceError> {
        let [listed, unlisted] = answers else {
            return Err(SourceError::unavailable("the zone was not asked"));
        };
        let is_listed = |answer: &Result<Answer, SourceError>| {
            let answer = answer.as_ref().map_err(Clone::clone)?;
            self.check(answer)?;
            Ok(!addresses(answer)?.unwrap_or_default().is_empty())
        };
        if !is_listed(listed)? {
            return Err(SourceError::unavailable(
                "the zone does not list its test point: it is mistyped, shut down, or refuses the key",
            ));
        }
        if is_listed(unlisted)? {
            return Err(SourceError::malformed("the zone lists what it must not: it lists everything, do not use it"));
        }
        Ok(())
    }
}

/// A zone as its settings name it.
struct Zone {
    /// Lower case, without outer dots, with the credential's place.
    name: String,
    codes: Codes,
    takes_addresses: bool,
    takes_names: bool,
}

/// Whose return codes a zone has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Codes {
    Zen,
    Dbl,
    Table,
}

impl Zone {
    fn new(written: &str, listed: Listed) -> Self {
        let mut name = written.trim().trim_matches('.').to_ascii_lowercase();
        if matches!(name.as_str(), "zen.dq.spamhaus.net" | "dbl.dq.spamhaus.net" | "zrd.dq.spamhaus.net") {
            // Such a zone answers only under a key, so the place of the key goes without saying.
            name = format!("{CREDENTIAL}.{name}");
        }
        let ends = |zones: &[&str]| zones.iter().any(|zone| is_below(&name, zone));
        let codes = if ends(&["zen.spamhaus.org", "zen.dq.spamhaus.net"]) {
            Codes::Zen
        } else if ends(&["dbl.spamhaus.org", "dbl.dq.spamhaus.net"]) {
            Codes::Dbl
        } else {
            Codes::Table
        };
        let lists_names = codes == Codes::Dbl || ends(&["zrd.dq.spamhaus.net", "surbl.org", "uribl.com"]);
        let (takes_addresses, takes_names) = match listed {
            Listed::Auto => (!lists_names, lists_names),
            Listed::Ip => (true, false),
            Listed::Domain => (false, true),
            Listed::Both => (true, true),
        };
        Self { name, codes, takes_addresses, takes_names }
    }

    /// Whether each bit of the last octet is a list of its own, so that one address may stand for several.
    fn answers_in_bits(&self) -> bool {
        self.is_uribl() || is_below(&self.name, "surbl.org")
    }

    fn is_uribl(&self) -> bool {
        is_below(&self.name, "uribl.com")
    }

    fn has_credential(&self) -> bool {
        self.name.contains(CREDENTIAL)
    }

    /// The zone without the credential placeholder and the labels before it.
    fn without_credential(&self) -> &str {
        match self.name.rfind(CREDENTIAL) {
            Some(place) => self.name.get(place + CREDENTIAL.len()..).unwrap_or_default().trim_start_matches('.'),
            None => &self.name,
        }
    }

    /// The zone as it may be shown, the same for every way to the same list: no key, no place of a key.
    fn display_name(&self) -> &str {
        match self.codes {
            Codes::Zen => "zen.spamhaus.org",
            Codes::Dbl => "dbl.spamhaus.org",
            Codes::Table if !self.has_credential() && is_below(&self.name, "dq.spamhaus.net") => "dq.spamhaus.net",
            Codes::Table => self.without_credential(),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("option zone is empty: name the zone to ask, such as zen.spamhaus.org".into());
        }
        if !self.has_credential() && is_below(&self.name, "dq.spamhaus.net") {
            return Err(
                "option zone holds a key in clear: set it as credential and write {credential} in its place".into()
            );
        }
        let is_label = |label: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            (1..=63).contains(&label.len()) && label.bytes().all(allowed)
        };
        if self.name.replace(CREDENTIAL, "key").split('.').all(is_label) {
            Ok(())
        } else {
            Err(format!("option zone is no DNS name: {}", self.display_name()))
        }
    }

    /// What one returned address means.
    fn listing(&self, code: Ipv4Addr, table: &[CodeRow]) -> Listing {
        let last_two = (code.octets()[2], code.octets()[3]);
        let in_first = code.octets()[1] == 0;
        let (claim, strength, label) = match self.codes {
            Codes::Zen if in_first => zen(last_two),
            Codes::Dbl if in_first => dbl(last_two),
            Codes::Zen | Codes::Dbl => UNNAMED,
            Codes::Table => {
                let listings = table.iter().filter(|row| row.code.fits(code)).map(|row| row.listing(code));
                let heaviest = listings.min_by(Listing::heaviest_first);
                return heaviest.unwrap_or_else(|| Listing::new(code, Disposition::Suspicious, 0.85, "listed"));
            }
        };
        Listing::new(code, claim, strength, label)
    }
}

/// A code that its zone's operator has not documented: listed, for an unknown reason.
const UNNAMED: (Disposition, f64, &str) = (Disposition::Unknown, 0.0, "a code that we have no name for");

fn zen(last_two: (u8, u8)) -> (Disposition, f64, &'static str) {
    match last_two {
        (0, 2) => (Disposition::Malicious, 0.85, "SBL, spam source or spam operation"),
        (0, 3) => (Disposition::Suspicious, 0.85, "SBL CSS, sender of low reputation"),
        (0, 4..=7) => (Disposition::Malicious, 0.85, "XBL, hijacked machine or open proxy"),
        (0, 9) => (Disposition::Malicious, 1.0, "SBL DROP, network in criminal hands"),
        (0, 10) => (Disposition::Unknown, 0.0, "PBL, range that sends no mail itself, by its provider"),
        (0, 11) => (Disposition::Unknown, 0.0, "PBL, range that sends no mail itself, by Spamhaus"),
        _ => UNNAMED,
    }
}

fn dbl(last_two: (u8, u8)) -> (Disposition, f64, &'static str) {
    match last_two {
        (1, 2) => (Disposition::Suspicious, 0.85, "spam domain"),
        (1, 4) => (Disposition::Malicious, 0.85, "phishing domain"),
        (1, 5) => (Disposition::Malicious, 0.85, "malware domain"),
        (1, 6) => (Disposition::Malicious, 0.85, "botnet command domain"),
        (1, 102) => (Disposition::Suspicious, 0.5, "legitimate domain abused for spam"),
        (1, 103) => (Disposition::Suspicious, 0.5, "legitimate redirector abused for spam"),
        (1, 104) => (Disposition::Suspicious, 0.5, "legitimate domain abused for phishing"),
        (1, 105) => (Disposition::Suspicious, 0.5, "legitimate domain abused for malware"),
        (1, 106) => (Disposition::Suspicious, 0.5, "legitimate domain abused for botnet command"),
        _ => UNNAMED,
    }
}

/// One returned address and what it claims.
#[derive(Clone, Debug, PartialEq)]
struct Listing {
    code: Ipv4Addr,
    claim: Disposition,
    strength: Strength,
    label: String,
}

impl Listing {
    fn new(code: Ipv4Addr, claim: Disposition, strength: f64, label: &str) -> Self {
        Self { code, claim, strength: Strength::clamped(strength), label: label.to_owned() }
    }

    /// By claim, then strength; the code makes the order the same however the resolver shuffles.
    fn heaviest_first(&self, other: &Self) -> std::cmp::Ordering {
        (other.claim, other.strength).cmp(&(self.claim, self.strength)).then(self.code.cmp(&other.code))
    }
}

/// A row of the option `codes`.
struct CodeRow {
    code: Code,
    claim: Disposition,
    strength: f64,
    label: String,
}

/// The returned addresses that a row is about.
enum Code {
    Address(Ipv4Addr),
    /// Every address whose last octet has this bit, as SURBL and URIBL answer.
    Bit(u8),
}

impl Code {
    fn parse(text: &str, in_bits: bool) -> Option<Self> {
        if let Some(bit) = text.trim().strip_prefix("bit ") {
            return bit.trim().parse().ok().filter(|bit: &u8| bit.is_power_of_two()).map(Self::Bit);
        }
        let code: Ipv4Addr = text.trim().parse().ok()?;
        match code.octets() {
            [127, 0, 0, bit] if in_bits && bit.is_power_of_two() => Some(Self::Bit(bit)),
            [127, ..] => Some(Self::Address(code)),
            _ => None,
        }
    }

    fn fits(&self, code: Ipv4Addr) -> bool {
        match self {
            Self::Address(address) => *address == code,
            Self::Bit(bit) => code.octets()[3] & bit != 0,
        }
    }
}

impl CodeRow {
    /// Reads a row: address or bit, then claim, strength (.85 if left out) and label.
    fn parse(code: &str, meaning: &str, in_bits: bool) -> Result<Self, String> {
        let mistake = |what: String| format!("option codes, \"{code}\": {what}; write such as \"malicious 0.85 spam\"");
        let wrong = || mistake("is no address in 127.0.0.0/8, and no bit of the last octet (bit 64)".into());
        let code = Code::parse(code, in_bits).ok_or_else(wrong)?;
        let (word, rest) = split_word(meaning);
        let claim = word.parse::<Disposition>().map_err(|unknown| mistake(unknown.to_string()))?;
        let (number, after) = split_word(rest);
        let (strength, label) = match number.parse::<f64>() {
            Ok(strength) if (0.0..=1.0).contains(&strength) => (strength, after),
            Ok(_) => return Err(mistake(format!("strength {number} is outside 0 to 1"))),
            Err(_) => (Strength::FULL.get(), rest),
        };
        let label = if label.is_empty() { "listed" } else { label }.to_owned();
        Ok(Self { code, claim, strength, label })
    }

    fn listing(&self, code: Ipv4Addr) -> Listing {
        Listing::new(code, self.claim, self.strength, &self.label)
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

/// The addresses of a DNS answer; `None` if the name does not exist.
fn addresses(answer: &Answer) -> Result<Option<&[Ipv4Addr]>, SourceError> {
    match &answer.body {
        AnswerBody::Dns(DnsAnswer::Addresses(addresses)) => Ok(Some(addresses)),
        AnswerBody::Dns(DnsAnswer::NxDomain) => Ok(None),
        AnswerBody::Dns(DnsAnswer::Failure(code)) => Err(failure(code)),
        AnswerBody::Http { .. } | AnswerBody::List(_) => Err(SourceError::malformed("not a DNS answer")),
        AnswerBody::Failed(error) => Err(error.clone()),
    }
}

fn failure(code: &str) -> SourceError {
    let kind = if code.eq_ignore_ascii_case("REFUSED") {
        SourceErrorKind::Refused
    } else if code.eq_ignore_ascii_case("FORMERR") {
        SourceErrorKind::BadQuestion
    } else {
        SourceErrorKind::Unavailable
    };
    SourceError::new(kind, format!("the name server answers {code}"))
}

/// The refusal that hides among the addresses, if any; refusals come before every listing.
fn refusal(addresses: &[Ipv4Addr], is_uribl: bool) -> Option<SourceError> {
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    let is_remote = |address: &&Ipv4Addr| address.octets()[0] != 127;
    sorted.iter().find_map(|address| refused_code(*address, is_uribl)).or_else(|| {
        let address = sorted.iter().find(is_remote)?;
        Some(SourceError::malformed(format!(
            "{address} is outside 127.0.0.0/8: the resolver rewrites answers, ask another one"
        )))
    })
}

fn refused_code(address: Ipv4Addr, is_uribl: bool) -> Option<SourceError> {
    const BLOCKED: &str = "no zone lists by this code: the resolver is blocked or over its limit, ask another one";
    let (kind, what) = match address.octets() {
        [127, 255, 255, 252] => (SourceErrorKind::BadQuestion, "the zone is mistyped: check option zone"),
        [127, 255, 255, 254] => {
            (SourceErrorKind::Refused, "asked through a public resolver: set option resolver, or use a key")
        }
        [127, 255, 255, 255] => (SourceErrorKind::QuotaExhausted, "too many queries"),
        [127, 255, 255, _] => (SourceErrorKind::Malformed, "an error code that we have no name for"),
        [127, 0, 0, 1] => (SourceErrorKind::Refused, BLOCKED),
        [127, 0, 0, 255] if is_uribl => (SourceErrorKind::Refused, BLOCKED),
        [127, 0, 1, 255] => (SourceErrorKind::BadQuestion, "the zone takes names, not addresses: check option lookup"),
        _ => return None,
    };
    Some(SourceError::new(kind, format!("{address}: {what}")))
}

/// The finding of these listings, the heaviest first; `None` without any.
fn finding(zone: &Zone, indicator: &Indicator, listings: &[Listing]) -> Option<Finding> {
    let heaviest = listings.first()?;
    let strength = (heaviest.claim != Disposition::Unknown).then_some(heaviest.strength);
    let reason =
        |listing: &Listing| format!("{} lists it as {} ({})", zone.display_name(), listing.code, listing.label);
    let mut finding = Finding::new(heaviest.claim, strength, reason(heaviest));
    finding.reasons.extend(listings.iter().skip(1).map(reason));
    finding.facts = vec![
        Fact::new("zone", zone.display_name()),
        Fact::new("codes", listings.iter().map(|listing| listing.code.to_string()).collect::<Vec<_>>()),
        Fact::new("listings", listings.iter().map(|listing| listing.label.clone()).collect::<Vec<_>>()),
    ];
    let is_pbl = |listing: &Listing| matches!(listing.code.octets(), [127, 0, 0, 10 | 11]);
    if zone.codes == Codes::Zen && listings.iter().all(is_pbl) {
        finding.tags.push(DYNAMIC_RANGE.into());
    }
    finding.permalink = match zone.codes {
        Codes::Zen | Codes::Dbl => Some(format!("https://check.spamhaus.org/results/?query={}", indicator.value())),
        Codes::Table => None,
    };
    Some(finding)
}

/// Octets of IPv4, nibbles of IPv6, the last one first.
fn reversed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(ip) => {
            let mut name = String::with_capacity(63);
            for octet in ip.octets().iter().rev() {
                let dot = if name.is_empty() { "" } else { "." };
                // Writing to a String cannot fail.
                let _ = write!(name, "{dot}{:x}.{:x}", octet & 15, octet >> 4);
            }
            name
        }
    }
}

/// Whether a name is the zone or ends with it, at a label's border.
fn is_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn bad_question(detail: String) -> SourceError {
    SourceError::new(SourceErrorKind::BadQuestion, detail)
}
