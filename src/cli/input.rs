//! Reads the inputs: arguments, lines of a file or of standard input, files to hash, text to search.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use aws_lc_rs::digest;

use super::Failure;
use super::args::EnrichArgs;
use crate::convert::indicator::write_type;
use crate::indicator::{ExtractOptions, Indicator, IndicatorType, decode_text, extract_with_skipped, hex};
use crate::pb;

/// One input to enrich.
pub(super) struct Input {
    /// The text as written: an indicator, or the path of a file.
    pub(super) text: String,
    /// The value to send: the text, or the hash of the file.
    pub(super) value: String,
    /// Its type; `None`: the server detects it.
    pub(super) indicator_type: Option<IndicatorType>,
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
        Self { value: text.clone(), text, indicator_type: None }
    }
}

/// Reads everything that the arguments name, in order.
pub(super) fn indicators(options: &EnrichArgs) -> Result<Vec<Input>, Failure> {
    let mut texts = Vec::new();
    for value in &options.values {
        if value == "-" {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text).map_err(|error| Failure::io("standard input", &error))?;
            add_text(&mut texts, &decode_text(&text), options.extract);
        } else if options.extract {
            add_text(&mut texts, value, true);
        } else {
            texts.push(argument(value, options.indicator_type)?);
        }
    }
    if let Some(path) = &options.file {
        // Pasted mail is not always UTF-8 or UTF-16; bytes that are neither are no indicator.
        let text = std::fs::read(path).map_err(|error| Failure::io(path.display(), &error))?;
        add_text(&mut texts, &decode_text(&text), options.extract);
    }
    // The type of a file's hash is known, whatever type is stated for the other inputs.
    texts.iter_mut().filter(|input| !input.is_file()).for_each(|input| input.indicator_type = options.indicator_type);
    if texts.is_empty() {
        return Err(Failure::new(
            "no indicator found in what was given: name some, give - for standard input, or --file",
        ));
    }
    Ok(texts)
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

fn add_text(texts: &mut Vec<Input>, text: &str, pull_out: bool) {
    if pull_out {
        let options = ExtractOptions { url_hosts: false, email_domains: false };
        let (found, skipped) = extract_with_skipped(text, &options);
        for hash in skipped {
            eprintln!("concord: {} is left out: the text calls it a hash of the kind {}", hash.text, hash.kind);
        }
        texts.extend(found.into_iter().map(|found| found.indicator.value().to_owned().into()));
    } else {
        let lines = text.lines().map(str::trim);
        texts
            .extend(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| line.to_owned().into()));
    }
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

fn hash(path: &Path) -> Result<String, Failure> {
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
