//! Reads the inputs: arguments, lines of a file or of standard input, files to hash, text to search.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;

use aws_lc_rs::digest;

use super::Failure;
use super::args::EnrichArgs;
use crate::convert::indicator::write_type;
use crate::indicator::{ExtractOptions, Indicator, IndicatorType, decode_text, extract_with_skipped, hex, is_utf16};
use crate::pb;

const READ_BYTES: usize = 64 * 1024;
/// Most bytes of a line that is sent: eight times those of the longest indicator.
const MAX_LINE_BYTES: usize = 64 * 1024;
const SHOWN_OF_LONG_LINE: usize = 80;

/// One input to enrich.
pub(super) struct Input {
    /// The text as written: an indicator, or the path of a file.
    pub(super) text: String,
    /// The value to send: the text, or the hash of the file.
    pub(super) value: String,
    /// Its type; `None`: the server detects it.
    pub(super) indicator_type: Option<IndicatorType>,
    /// Why it is not sent: the line that it stands for is no indicator and was not read whole.
    pub(super) refusal: Option<&'static str>,
}

impl Input {
    pub(super) fn indicator(&self) -> pb::Indicator {
        let wanted = self.indicator_type.map_or(pb::IndicatorType::Unspecified, write_type);
        pb::Indicator { r#type: wanted.into(), value: self.value.clone() }
    }

    /// Whether the text names a file, of which the hash alone is sent.
    pub(super) fn is_file(&self) -> bool {
        self.text != self.value
    }
}

impl From<String> for Input {
    fn from(text: String) -> Self {
        Self { value: text.clone(), text, indicator_type: None, refusal: None }
    }
}

/// The inputs that the arguments name, in order. The lines of a file or of standard input are read as they are needed, so
/// that any number of them takes the same memory; a text to search is read whole.
pub(super) struct Inputs {
    parts: VecDeque<Part>,
    stated: Option<IndicatorType>,
}

enum Part {
    One(Input),
    Lines(Lines),
}

impl Inputs {
    /// Opens what the arguments name.
    pub(super) fn open(options: &EnrichArgs) -> Result<Self, Failure> {
        let mut parts = VecDeque::new();
        for value in &options.values {
            if value == "-" {
                let input = BufReader::with_capacity(READ_BYTES, std::io::stdin());
                add_reader(&mut parts, Lines::new("standard input".into(), Box::new(input)), options.extract)?;
            } else if options.extract {
                add_text(&mut parts, value);
            } else {
                parts.push_back(Part::One(argument(value, options.indicator_type)?));
            }
        }
        if let Some(path) = &options.file {
            add_reader(&mut parts, Lines::open(path)?, options.extract)?;
        }
        Ok(Self { parts, stated: options.indicator_type })
    }

    /// How many inputs there are, where that can be known beforehand: a file is read through for it, a pipe cannot be.
    pub(super) fn count(options: &EnrichArgs) -> Option<usize> {
        let is_pipe = options.values.iter().any(|value| value == "-")
            || options.file.as_ref().is_some_and(|file| !file.is_file());
        if is_pipe || options.extract {
            return None;
        }
        let lines = options.file.as_ref().map(|file| Lines::open(file).map(Iterator::count));
        Some(options.values.len() + lines.transpose().ok()?.unwrap_or_default())
    }
}

impl Iterator for Inputs {
    type Item = Result<Input, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut input = match self.parts.front_mut()? {
                Part::One(_) => match self.parts.pop_front()? {
                    Part::One(input) => input,
                    Part::Lines(_) => continue,
                },
                Part::Lines(lines) => match lines.next() {
                    Some(Ok(input)) => input,
                    Some(Err(failure)) => return Some(Err(failure)),
                    None => {
                        self.parts.pop_front();
                        continue;
                    }
                },
            };
            // The type of a file's hash is known, whatever type is stated for the other inputs.
            if !input.is_file() {
                input.indicator_type = self.stated;
            }
            return Some(Ok(input));
        }
    }
}

/// The failure where there is no input.
pub(super) fn no_input() -> Failure {
    Failure::new("no indicator found in what was given: name some, give - for standard input, or --file")
}

/// Reads everything that the arguments name, in order.
pub(super) fn indicators(options: &EnrichArgs) -> Result<Vec<Input>, Failure> {
    let inputs = Inputs::open(options)?.collect::<Result<Vec<_>, _>>()?;
    if inputs.is_empty() { Err(no_input()) } else { Ok(inputs) }
}

/// The lines of a text that name an indicator: neither empty nor a comment.
struct Lines {
    name: String,
    reader: Box<dyn BufRead + Send>,
    begun: bool,
}

impl Lines {
    fn new(name: String, reader: Box<dyn BufRead + Send>) -> Self {
        Self { name, reader, begun: false }
    }

    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::io(path.display(), &error))?;
        Ok(Self::new(path.display().to_string(), Box::new(BufReader::with_capacity(READ_BYTES, file))))
    }

    /// Passes over a byte-order mark. UTF-16 is read whole, since its line end is no single byte.
    fn begin(&mut self) -> std::io::Result<()> {
        let start = self.reader.fill_buf()?;
        if start.starts_with(b"\xef\xbb\xbf") {
            self.reader.consume(3);
        } else if is_utf16(start) {
            let mut bytes = Vec::new();
            self.reader.read_to_end(&mut bytes)?;
            self.reader = Box::new(Cursor::new(decode_text(&bytes).into_owned().into_bytes()));
        }
        Ok(())
    }

    fn next_line(&mut self) -> std::io::Result<Option<Input>> {
        if !std::mem::replace(&mut self.begun, true) {
            self.begin()?;
        }
        loop {
            let mut bytes = Vec::new();
            let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
            if self.reader.by_ref().take(most).read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
            let is_whole = bytes.len() < MAX_LINE_BYTES || bytes.ends_with(b"\n");
            let is_longer = !is_whole && self.reader.skip_until(b'\n')? > 0;
            // Pasted mail is not always UTF-8; bytes that are not are no indicator.
            let text = String::from_utf8_lossy(&bytes);
            let line = text.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if is_longer {
                let start: String = line.chars().take(SHOWN_OF_LONG_LINE).collect();
                let mut input = Input::from(format!("{start}…"));
                input.refusal = Some("the line is longer than 64 KiB, more than any indicator");
                return Ok(Some(input));
            }
            return Ok(Some(Input::from(line.to_owned())));
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Input, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_line().map_err(|error| Failure::io(&self.name, &error)).transpose()
    }
}

/// An indicator, or a file to hash. A stated type says which of the two it is, unless the value begins like a path.
pub(super) fn argument(value: &str, stated: Option<IndicatorType>) -> Result<Input, Failure> {
    let path = Path::new(value);
    let hash = match stated {
        Some(_) if Indicator::parse_as(value, IndicatorType::File).is_ok() => None,
        Some(IndicatorType::File) if path.is_file() => Some(hash(path)?),
        Some(IndicatorType::File) if !begins_like_a_path(value) => {
            return Err(Failure::new(format!("{value}: no hash, and no file here")));
        }
        Some(_) if !begins_like_a_path(value) => None,
        Some(_) | None => hash_of_file(value)?,
    };
    let mut input = Input::from(value.to_owned());
    input.value = hash.unwrap_or(input.value);
    Ok(input)
}

fn begins_like_a_path(value: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| value.starts_with(start))
}

fn add_reader(parts: &mut VecDeque<Part>, mut lines: Lines, pull_out: bool) -> Result<(), Failure> {
    if !pull_out {
        parts.push_back(Part::Lines(lines));
        return Ok(());
    }
    let mut text = Vec::new();
    lines.reader.read_to_end(&mut text).map_err(|error| Failure::io(&lines.name, &error))?;
    add_text(parts, &decode_text(&text));
    Ok(())
}

/// Adds the indicators that a text contains.
fn add_text(parts: &mut VecDeque<Part>, text: &str) {
    let options = ExtractOptions { url_hosts: false, email_domains: false };
    let (found, skipped) = extract_with_skipped(text, &options);
    for hash in skipped {
        eprintln!("concord: {} is left out: the text calls it a hash of the kind {}", hash.text, hash.kind);
    }
    parts.extend(found.into_iter().map(|found| Part::One(found.indicator.value().to_owned().into())));
}

/// The SHA-256 of the file that the value names, if it names one. A value that begins like a path names nothing else. A name
/// that is both a file here and an indicator is refused, since sending it would disclose the file's name by mistake.
fn hash_of_file(value: &str) -> Result<Option<String>, Failure> {
    let path = Path::new(value);
    let failed = |error| Failure::io(path.display(), &error);
    match (path.is_file(), begins_like_a_path(value)) {
        (true, true) => {}
        (true, false) => {
            if Indicator::parse(value).is_ok() {
                return Err(Failure::new(format!(
                    "{value} is a file here and an indicator too: write ./{value} for the file's hash, or give it on \
                     standard input (-), or state its --type, for the indicator"
                )));
            }
        }
        (false, true) => {
            std::fs::metadata(path).map_err(failed)?;
            return Err(Failure::new(format!("{value}: not a file that can be hashed")));
        }
        (false, false) => return Ok(None),
    }
    hash(path).map(Some)
}

/// The SHA-256 of a file in lower-case hexadecimal digits.
pub(super) fn hash(path: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::io(path.display(), &error);
    let mut file = File::open(path).map_err(failed)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else { break };
        context.update(piece);
    }
    Ok(hex(context.finish().as_ref()))
}
