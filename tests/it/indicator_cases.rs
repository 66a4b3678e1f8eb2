//! Every row and rule of `docs/indicators.md` by cases of our own; their files say how they are written.

use std::path::Path;

use concord::indicator::{ExtractOptions, Form, Indicator, extract};
use strum::VariantArray;

/// The rows of a table, each with its line number.
fn rows(name: &str) -> Vec<(usize, Vec<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/indicators").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let rows = (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    rows.map(|(number, line)| (number, line.split('\t').map(unescape).collect())).collect()
}

/// `\uXXXX` becomes the character that it stands for.
fn unescape(cell: &str) -> String {
    let mut pieces = cell.split("\\u");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32) {
            Some(character) => text = text + &character.to_string() + &piece[4..],
            None => text = text + "\\u" + piece,
        }
    }
    text
}

fn parse(stated: &str, text: &str) -> Result<(Form, String, Vec<String>), String> {
    let parsed = match stated {
        "-" => Indicator::parse(text),
        stated => Indicator::parse_as(text, stated.parse().unwrap()),
    };
    let parsed = parsed.map_err(|refusal| refusal.message)?;
    Ok((parsed.indicator.form(), parsed.indicator.value().to_owned(), parsed.notes))
}

#[test]
fn every_value_is_read_as_its_row_says() {
    let mut wrong = Vec::new();
    let rows = rows("single.tsv");
    for (number, row) in &rows {
        let [stated, text, form, expected, notes @ ..] = row.as_slice() else { panic!("line {number}: {row:?}") };
        let notes: Vec<&str> = notes.iter().flat_map(|cell| cell.split(" | ")).collect();
        let agrees = match parse(stated, text) {
            Err(refusal) => form == "refused" && refusal.contains(expected.as_str()),
            Ok((read, value, said)) => {
                read.as_str() == form
                    && value == *expected
                    && said.len() == notes.len()
                    && notes.iter().all(|note| said.iter().any(|said| said.contains(note)))
            }
        };
        if !agrees {
            wrong.push(format!("line {number}: {text:?} is read as {:?}", parse(stated, text)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn a_normal_form_is_read_as_itself() {
    for (number, row) in rows("single.tsv").iter().filter(|(_, row)| row[2] != "refused") {
        let form = Form::VARIANTS.iter().find(|form| form.as_str() == row[2]).expect("a form");
        let again = Indicator::parse_as(&row[3], form.indicator_type()).unwrap();
        assert_eq!(again.indicator.value(), row[3], "line {number}");
    }
}

#[test]
fn every_text_yields_what_its_row_says() {
    let mut wrong = Vec::new();
    for (number, row) in rows("text.tsv") {
        let [text, asked, expected] = row.as_slice() else { panic!("line {number}: {row:?}") };
        let options = match asked.as_str() {
            "-" => ExtractOptions { url_hosts: false, email_domains: false },
            "hosts" => ExtractOptions { url_hosts: true, email_domains: false },
            "mails" => ExtractOptions { url_hosts: false, email_domains: true },
            "both" => ExtractOptions { url_hosts: true, email_domains: true },
            other => panic!("line {number}: {other:?}"),
        };
        let found = extract(text, &options);
        for found in &found {
            assert_eq!(text[found.span.clone()], found.text, "line {number}");
        }
        let found: Vec<_> = found
            .iter()
            .map(|found| format!("{} {}", found.indicator.form().as_str(), found.indicator.value()))
            .collect();
        let found = if found.is_empty() { "-".to_owned() } else { found.join(" | ") };
        if found != *expected {
            wrong.push(format!("line {number}: {text:?} yields {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_refusal_shows_at_most_a_hundred_characters_and_no_password() {
    let refusal = Indicator::parse(&"x".repeat(5000)).unwrap_err().message;
    assert!(refusal.matches('x').count() <= 110, "{refusal}");
    let refusal = Indicator::parse("ssh://user:hunter2@example.com/").unwrap_err().message;
    assert!(!refusal.contains("hunter2"), "{refusal}");
    let parsed = Indicator::parse("http://user:hunter2@example.com/").unwrap();
    assert_eq!(parsed.indicator.redacted(), "http://***@example.com/");
    assert!(parsed.indicator.has_url_credentials());
}
