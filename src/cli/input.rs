//! What is looked up: arguments, lines of a file or of standard input, files to hash, text to search.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use aws_lc_rs::digest;

use crate::indicator::ExtractOptions;
use crate::indicator::Indicator;
use crate::indicator::extract;
use crate::indicator::hex;
use crate::pb;

use super::Failure;
use super::args::Wish;

/// Reads everything that the arguments name, in order.
pub(super) fn indicators(wish: &Wish) -> Result<Vec<pb::Indicator>, Failure> {
    let mut texts = Vec::new();
    for value in &wish.values {
        if value == "-" {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text).map_err(|error| Failure::io("standard input", &error))?;
            add_text(&mut texts, &String::from_utf8_lossy(&text), wish.extract);
        } else if wish.extract {
            add_text(&mut texts, value, true);
        } else {
            texts.push(hash_of_file(value)?.unwrap_or_else(|| value.clone()));
        }
    }
    if let Some(path) = &wish.file {
        // Pasted mail is not always UTF-8; what cannot be read is no indicator.
        let text = std::fs::read(path).map_err(|error| Failure::io(path.display(), &error))?;
        add_text(&mut texts, &String::from_utf8_lossy(&text), wish.extract);
    }
    if texts.is_empty() {
        return Err(Failure::new(
            "no indicator found in what was given: name some, give - for standard input, or --file",
        ));
    }
    Ok(texts.into_iter().map(|value| pb::Indicator { r#type: 0, value }).collect())
}

fn add_text(texts: &mut Vec<String>, text: &str, pull_out: bool) {
    if pull_out {
        let options = ExtractOptions { url_hosts: false, email_domains: false };
        texts.extend(extract(text, &options).into_iter().map(|found| found.indicator.value().to_owned()));
    } else {
        let lines = text.lines().map(str::trim);
        texts.extend(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
    }
}

/// The SHA-256 of the file that the value names, if it names one: with a separator, or because it is nothing else.
fn hash_of_file(value: &str) -> Result<Option<String>, Failure> {
    let path = Path::new(value);
    let names_a_path = value.contains(std::path::MAIN_SEPARATOR) && !value.contains("://");
    if !path.is_file() || !(names_a_path || Indicator::parse(value).is_err()) {
        return Ok(None);
    }
    let failed = |error| Failure::io(path.display(), &error);
    let mut file = File::open(path).map_err(failed)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else { break };
        context.update(piece);
    }
    Ok(Some(hex(context.finish().as_ref())))
}
