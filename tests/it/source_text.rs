//! How the sources are written, as far as a program can tell: imports in groups, no word that was given up, and no
//! test that waits. What a room may import stands in `architecture.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use crate::architecture::{CRATES, files, files_ending, root};

/// Words that had a meaning of their own here and have given way to standard ones. None may be part of an identifier in code,
/// nor stand anywhere as it is written here.
const GIVEN_UP: [&str; 46] = [
    "add_untold",
    "Asker",
    "coins",
    "come_by",
    "COMING_IN",
    "Concluded",
    "Errand",
    "Filling",
    "find_word",
    "Guest",
    "keep_found",
    "keep_no_record",
    "KeptAnswer",
    "LAST_WORDS",
    "LooksUp",
    "mend",
    "midway",
    "misplaced",
    "Mistakes",
    "Obstacle",
    "overtaken",
    "Party",
    "pass_over",
    "purse",
    "refuse_strangers",
    "RunsErrands",
    "Seat",
    "Shelf",
    "SourceStack",
    "Stacks",
    "Talk",
    "Talks",
    "Tally",
    "to_its_end",
    "Told",
    "Trip",
    "turn_time",
    "Twin",
    "two_kinds",
    "Undone",
    "unfit",
    "UnknownWord",
    "WireWishes",
    "Wish",
    "Wishes",
    "with_word",
];

/// Names that have given way to others although their words are of use: `patched_fields` is plain English, `Patched` was a
/// type of ours.
const GIVEN_UP_AS_NAMES: [&str; 9] =
    ["Board", "Configured", "FirstDay", "Patched", "Peek", "Suspension", "TakeError", "Taken", "Taker"];

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

/// The top-level `use` statements of a file, each with its first line, on one line each.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        if open {
            if let Some((_, statement)) = found.last_mut() {
                *statement += line.trim();
            }
        } else if line.starts_with("use ") {
            found.push((number, line.to_owned()));
        } else {
            continue;
        }
        open = !line.trim_end().ends_with(';');
    }
    found
}

/// What `use {}::{{A, B}}` names before the braces, or before the last item.
fn module_of(statement: &str) -> &str {
    let path = statement.trim_start_matches("use ").trim_end_matches(';');
    path.split("::{").next().filter(|module| module.len() < path.len()).unwrap_or_else(|| {
        match path.rsplit_once("::") {
            Some((module, _)) => module,
            None => path,
        }
    })
}

/// 0 for the standard library, 1 for other crates, 2 for this one.
fn group(statement: &str) -> usize {
    let root: String =
        statement.trim_start_matches("use ").chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    match root.as_str() {
        "std" | "core" | "alloc" => 0,
        "crate" | "super" | "self" => 2,
        _ => 1,
    }
}

#[test]
fn imports_come_in_three_groups_and_a_module_is_named_once() {
    let mut wrong = Vec::new();
    for file in CRATES.into_iter().chain(["tests", "benches"]).flat_map(|folder| files(&root().join(folder))) {
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let imports = imports(&text);
        let mut modules = BTreeSet::new();
        for (number, statement) in &imports {
            let module = module_of(statement);
            let conditional = number.checked_sub(1).is_some_and(|before| lines[before].starts_with("#["));
            let alone = ["std", "crate"].contains(&module) || conditional;
            if !alone && !modules.insert(module.to_owned()) {
                wrong.push(format!("{}:{}: {module} is imported twice", shown(&file), number + 1));
            }
        }
        for pair in imports.windows(2) {
            let ((first, before), (second, after)) = (&pair[0], &pair[1]);
            let between = &lines[*first + 1..*second];
            let other = between.iter().any(|line| line.starts_with(|c: char| c.is_alphabetic() || c == '#'));
            let apart = between.iter().any(|line| line.is_empty());
            let fits = other
                || match group(before).cmp(&group(after)) {
                    std::cmp::Ordering::Less => apart,
                    std::cmp::Ordering::Equal => !apart,
                    std::cmp::Ordering::Greater => false,
                };
            if !fits {
                wrong.push(format!("{}:{}: {after} stands in no group", shown(&file), second + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The words of an identifier in lower case: of `taken_by_party` and of `takenByParty` the same three.
fn words_of(identifier: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = '_';
    for (place, c) in identifier.char_indices() {
        let next_is_lower = identifier[place + c.len_utf8()..].starts_with(|c: char| c.is_lowercase());
        let begins = before == '_' || (c.is_uppercase() && (!before.is_uppercase() || next_is_lower));
        match words.last_mut() {
            _ if c == '_' => {}
            Some(word) if !begins => word.extend(c.to_lowercase()),
            _ => words.push(c.to_lowercase().collect()),
        }
        before = c;
    }
    words
}

/// The line without what stands in quotes or in a comment.
fn code_of(line: &str) -> String {
    let line = line.split("//").next().unwrap_or_default();
    line.split('"').step_by(2).collect::<Vec<_>>().join(" ")
}

fn identifiers(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The word that was given up and stands in the line, if there is one. Where the line is code, parts of identifiers count.
fn given_up(line: &str, is_code: bool) -> Option<&'static str> {
    static PARTS: LazyLock<Vec<(Vec<String>, &str)>> =
        LazyLock::new(|| GIVEN_UP.iter().map(|given_up| (words_of(given_up), *given_up)).collect());
    let as_written = identifiers(line)
        .find_map(|word| GIVEN_UP.iter().chain(&GIVEN_UP_AS_NAMES).find(|given_up| **given_up == word).copied());
    let part = || {
        let code = code_of(line);
        identifiers(&code).map(words_of).find_map(|words| {
            let is_in = |part: &[String]| words.windows(part.len()).any(|window| window == part);
            PARTS.iter().find(|(part, _)| is_in(part)).map(|(_, given_up)| *given_up)
        })
    };
    as_written.or_else(|| if is_code { part() } else { None })
}

#[test]
fn no_word_that_was_given_up_comes_back() {
    let mut wrong = Vec::new();
    // The list of changes names what was renamed, and this file the words.
    let exempt = [root().join("CHANGELOG.md"), root().join("tests/it/source_text.rs")];
    let folders = ["src", "crates", "tests", "benches", "examples", "proto", "docs", "fuzz/fuzz_targets"];
    let folders =
        folders.iter().flat_map(|folder| files_ending(&root().join(folder), &["rs", "proto", "md", "go", "py", "ts"]));
    let pages = ["README.md", "ARCHITECTURE.md"].map(|page| root().join(page));
    for file in folders.chain(pages).filter(|file| !exempt.contains(file)) {
        let is_code = file.extension().is_some_and(|extension| extension != "md");
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(word) = given_up(line, is_code) {
                wrong.push(format!("{}:{number}: {word}", shown(&file)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_word_is_found_within_an_identifier_and_not_within_another_word() {
    assert_eq!(given_up("fn taken_by_party() {", true), Some("Party"));
    assert_eq!(given_up("struct GuestList;", true), Some("Guest"));
    assert_eq!(given_up("const HTTP_TRIP: u8 = 1;", true), Some("Trip"));
    assert_eq!(given_up("fn turn_times()", true), None);
    assert_eq!(given_up("let stripped = strip(third_partys); // a trip, told", true), None);
    assert_eq!(given_up("say(\"a trip\")", true), None);
    assert_eq!(given_up("as `KeptAnswer` says", false), Some("KeptAnswer"));
}

#[test]
fn no_test_waits_for_the_time_of_the_machine() {
    let mut wrong = Vec::new();
    for file in files(&root().join("tests")).into_iter().filter(|file| !file.ends_with("source_text.rs")) {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let code = code_of(line);
            let waits = ["thread::sleep", "time::sleep", "Instant::now", "time::timeout", "time::interval"];
            if let Some(word) = waits.iter().find(|word| code.contains(**word)) {
                wrong.push(format!("{}:{number}: {word}: use a ManualClock", shown(&file)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
