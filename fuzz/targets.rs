//! What each fuzz target does with its bytes. The targets in `fuzz_targets/` call these, and so does an ordinary test.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use concord::fuzzing::{read_token, write_token};
use concord::indicator::{ExtractOptions, Indicator, extract};
use concord::settings::{Environment, Flags, LoadInput, load};
use concord::source::{
    Answer, AnswerBody, CredentialNeed, DnsAnswer, ListAnswer, ListEntry, ListStatus, Lookup, Source, SourceSettings,
    SourceView, TransportKind,
};
use concord::sources;
use concord::store::Cursor;
use concord::submission::{Limits, Patterns, inspect_file};

/// One indicator: its normal form is read as itself, and what is shown of it holds no password.
pub fn indicator(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(parsed) = Indicator::parse(&text) else { return };
    let indicator = parsed.indicator;
    let again = Indicator::parse_as(indicator.value(), indicator.indicator_type()).expect("a normal form is read");
    assert_eq!(again.indicator, indicator);
    assert_eq!(indicator.has_url_credentials(), indicator.redacted() != indicator.value());
    let _ = (indicator.defanged(), indicator.unicode(), indicator.host(), indicator.ip(), indicator.urls_within());
}

/// Free text: what is found stands where it says.
pub fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for (url_hosts, email_domains) in [(false, false), (true, true)] {
        for found in extract(&text, &ExtractOptions { url_hosts, email_domains }) {
            assert_eq!(text.get(found.span.clone()), Some(found.text.as_str()));
        }
    }
}

/// Page tokens: none panics, and what one leads to is written and read alike.
pub fn page_token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(Some(cursor)) = read_token(&text, "p") {
        assert_eq!(read_token(&write_token(&cursor, "p"), "p"), Ok(Some(cursor)));
    }
    let seconds = data.iter().take(4).fold(0, |seconds, byte| seconds << 8 | u64::from(*byte));
    let cursor = Cursor { time: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), id: text.into_owned() };
    assert_eq!(read_token(&write_token(&cursor, "p"), "p"), Ok(Some(cursor.clone())));
    assert!(read_token(&write_token(&cursor, "p"), "q").is_err());
}

/// A configuration file: it is used or refused in words.
pub fn configuration(data: &[u8]) {
    let file = std::env::temp_dir().join(format!("concord-fuzz-{}.toml", std::process::id()));
    std::fs::write(&file, data).expect("a temporary file");
    let input = LoadInput {
        file: Some(file.clone()),
        environment: Environment::new(),
        flags: Flags::default(),
        kinds: sources::all(),
    };
    match load(input) {
        Ok(config) => drop(config.render_masked()),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
    std::fs::remove_file(&file).expect("the temporary file");
}

/// A list file: it is read or refused in words, and every entry can be looked for.
pub fn list(data: &[u8]) {
    let kind = sources::find("list").expect("the kind");
    let mut settings = SourceSettings::from_defaults(kind.about(), "fuzz");
    let path = kind.about().options.iter().find(|spec| spec.name == "path").expect("the option");
    settings.options.insert("path".into(), path.parse(&serde_json::json!("list.txt")).expect("a path"));
    let source = kind.build(&SourceView::new(&settings)).expect("a list");
    match source.index(data) {
        Ok(index) => {
            for text in ["192.0.2.1", "2001:db8::1", "www.example.com", "http://example.com/a"] {
                let _ = index.find(&Indicator::parse(text).expect("an indicator").indicator);
            }
        }
        Err(error) => assert!(!error.detail.is_empty()),
    }
}

/// An answer, to every kind in every tier, for every form that it looks up. The bytes are a body, or the addresses of a DNS
/// answer, or what a list says of an entry.
pub fn answer(data: &[u8]) {
    for kind in sources::all() {
        let about = kind.about();
        for tier in &about.tiers {
            let mut settings = SourceSettings::from_defaults(about, "fuzz");
            settings.tier.clone_from(&tier.name);
            settings.credential = (about.credential != CredentialNeed::None).then(|| "key".to_owned().into());
            for (option, value) in [("path", "list.txt"), ("zone", "zen.spamhaus.org")] {
                if let Some(spec) = about.options.iter().find(|spec| spec.name == option) {
                    settings.options.insert(option.into(), spec.parse(&serde_json::json!(value)).expect("a value"));
                }
            }
            let source = kind.build(&SourceView::new(&settings)).expect("enough is set");
            for sample in SAMPLES {
                let indicator = Indicator::parse(sample).expect("an indicator").indicator;
                if source.supports(indicator.form()) {
                    read(source.as_ref(), indicator, about.transport, data);
                }
            }
        }
    }
}

const SAMPLES: [&str; 7] = [
    "192.0.2.1",
    "2001:db8::1",
    "example.com",
    "http://example.com/a",
    "d41d8cd98f00b204e9800998ecf8427e",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
];

fn read(source: &dyn Source, indicator: Indicator, transport: TransportKind, data: &[u8]) {
    let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_564_800);
    let text = String::from_utf8_lossy(data).into_owned();
    let bodies = match transport {
        TransportKind::Http => {
            [200, 404].map(|status| AnswerBody::Http { status, headers: Vec::new(), body: data.to_vec() }).to_vec()
        }
        TransportKind::Dns => {
            let addresses =
                data.chunks_exact(4).map(|octets| Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]));
            let failure = DnsAnswer::Failure(text);
            [DnsAnswer::Addresses(addresses.collect()), failure].map(AnswerBody::Dns).to_vec()
        }
        TransportKind::List => {
            let entry = ListEntry { value: text.clone(), note: text.clone() };
            let status = ListStatus {
                loaded: received,
                stale: Some(text.clone()),
                entries: 1,
                skipped: 1,
                skipped_note: text.clone(),
            };
            let listed = ListAnswer::Listed { entry, status };
            [listed, ListAnswer::NeverLoaded(text)].map(AnswerBody::List).to_vec()
        }
    };
    for body in bodies {
        let answer = Answer { received, ttl: None, body };
        let _ = source.check(&answer);
        let _ = source.read(&Lookup::new(indicator.clone()), &[answer]);
    }
}

/// Counts what is read of the content.
struct Counted<'a> {
    content: io::Cursor<&'a [u8]>,
    read: usize,
}

impl io::Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

impl io::Seek for Counted<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.content.seek(to)
    }
}

/// Content of a file to submit, as what its beginning makes of it: the inspection ends after a bounded number of bytes, and
/// reports a bounded number of reasons.
pub fn submitted(magic: &[u8], data: &[u8]) {
    let content = [magic, data].concat();
    let patterns = Arc::new(Patterns::new(&["falcon".into()], &["corp.example.com".into()]).expect("two words"));
    let limits = Limits { unpacked_bytes: 1 << 20, members: 100, memory_bytes: 1 << 18, ..Limits::default() };
    let mut counted = Counted { content: io::Cursor::new(&content), read: 0 };
    let inspection = inspect_file(&mut counted, "sample", &patterns, limits).expect("read from memory");
    assert!(inspection.reasons.len() <= 50);
    assert!(counted.read <= 8 * content.len() + (64 << 10), "{} of {} bytes read", counted.read, content.len());
}

/// Archives: the bytes themselves, which a corpus of archives makes one.
pub fn archive(data: &[u8]) {
    submitted(b"", data);
}

/// An XML part of an Office document, packed as documents are.
pub fn office(data: &[u8]) {
    let mut document = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for name in ["docProps/custom.xml", "docMetadata/LabelInfo.xml", "word/document.xml"] {
        document.start_file(name, zip::write::SimpleFileOptions::default()).expect("a member");
        io::Write::write_all(&mut document, data).expect("written");
    }
    submitted(b"", &document.finish().expect("a document").into_inner());
}

/// PDF documents.
pub fn pdf(data: &[u8]) {
    submitted(b"%PDF-1.7\n", data);
}

/// E-mail messages.
pub fn mail(data: &[u8]) {
    submitted(b"From: a@example.org\r\nTo: b@example.org\r\n", data);
}
