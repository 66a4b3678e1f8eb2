//! Every row and rule of `docs/indicators.md` by cases of our own; their files say how they are written.

use std::path::Path;

use concord::indicator::{ExtractOptions, Form, Indicator, decode_text, extract, extract_with_skipped};
use serde_json::Value;
use strum::VariantArray;

/// The rows of a table, each with its line number.
fn rows(name: &str) -> Vec<(usize, Vec<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/indicators").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let rows = (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    rows.map(|(number, line)| (number, line.split('\t').map(unescape).collect())).collect()
}

/// `\u` with four digits becomes the character that it stands for.
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

/// The lines of a file of cases: `{"value", "reads" or "refused", "note"?}` for one value, `{"text", "finds"}` for a text.
fn cases(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/indicators").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a case yields, if it is not what it says.
fn case_difference(case: &Value) -> Option<String> {
    let word = |key: &str| case[key].as_str();
    if let Some(text) = word("text") {
        let found = extract(text, &ExtractOptions::default());
        assert!(found.iter().all(|found| text[found.span.clone()] == found.text), "{text:?}");
        let found: Vec<_> = found.iter().map(|found| found.indicator.value()).collect();
        let expected: Vec<_> = case["finds"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        return (found != expected).then(|| format!("{text:?} yields {found:?}"));
    }
    let parsed = Indicator::parse(word("value").unwrap());
    let agrees = match &parsed {
        Ok(parsed) => {
            let noted = |note: &str| parsed.notes.iter().any(|said| said.contains(note));
            word("reads") == Some(parsed.indicator.value()) && word("note").is_none_or(noted)
        }
        Err(refusal) => word("refused").is_some_and(|why| refusal.message.contains(why)),
    };
    (!agrees).then(|| format!("{case} is read as {parsed:?}"))
}

#[test]
fn every_case_from_the_field_comes_out_right() {
    let wrong: Vec<_> = cases("field-cases.jsonl").iter().filter_map(case_difference).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A sample of pasted texts, written before the code was tried on them: it measures how often a text comes out right.
#[test]
fn nineteen_of_twenty_pasted_texts_come_out_right() {
    let cases = cases("pasted.jsonl");
    let wrong: Vec<_> = cases.iter().filter_map(case_difference).collect();
    assert!(cases.len() >= 100 && wrong.len() * 20 <= cases.len(), "{}", wrong.join("\n"));
}

#[test]
fn a_labelled_hash_of_something_else_is_passed_over_by_name() {
    let hash = "44d88612fea8a8f36de82e1278abb02f";
    let text = format!("MD5={hash},IMPHASH=f34d5f2d4577ed6d9ceec516c1f5a744");
    let (found, skipped) = extract_with_skipped(&text, &ExtractOptions::default());
    assert_eq!(found.len(), 1);
    assert_eq!((&*skipped[0].kind, &text[skipped[0].span.clone()]), ("imphash", "f34d5f2d4577ed6d9ceec516c1f5a744"));
    let refusal = Indicator::parse(&format!("imphash: {hash}")).unwrap_err();
    assert!(refusal.message.contains("imphash"), "{refusal}");
}

#[test]
fn a_link_of_a_mail_gateway_never_leaves() {
    let link = "https://nam02.safelinks.protection.outlook.com/?url=https%3A%2F%2Fevil.example.net%2Fa&data=user%40corp.example";
    let parsed = Indicator::parse(link).unwrap();
    assert_eq!(parsed.indicator.value(), "https://evil.example.net/a");
    assert!(!format!("{parsed:?}").contains("corp.example"));
    // One whose target cannot be read is refused rather than asked about.
    let hidden = "https://nam02.safelinks.protection.outlook.com/?data=user%40corp.example";
    assert!(Indicator::parse(hidden).is_err());
    let options = ExtractOptions { url_hosts: true, email_domains: true };
    assert!(
        extract(&format!("{hidden} and {link}"), &options)
            .iter()
            .all(|found| !found.indicator.value().contains("outlook"))
    );
}

#[test]
fn a_file_in_utf_16_is_decoded_with_or_without_a_byte_order_mark() {
    let text = "evil.example.net\r\n203.0.113.9\r\n";
    let units = || text.encode_utf16();
    let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
    for bytes in [&little, &big, &[b"\xff\xfe", &*little].concat(), &[b"\xfe\xff", &*big].concat()] {
        assert_eq!(decode_text(bytes), text);
    }
    assert_eq!(decode_text(&[b"\xef\xbb\xbf", text.as_bytes()].concat()), text);
    assert_eq!(decode_text("é".as_bytes()), "é");
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
