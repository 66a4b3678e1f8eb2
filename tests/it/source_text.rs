//! How the sources are written, as far as a program can tell: imports in groups, and no word that was given up. What a
//! room may import stands in `architecture.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::architecture::{files, root};

/// Words that had a meaning of their own here and have given way to standard ones.
const GIVEN_UP: [&str; 52] = [
    "add_untold",
    "Asker",
    "Board",
    "coins",
    "come_by",
    "COMING_IN",
    "Concluded",
    "Configured",
    "Errand",
    "Filling",
    "find_word",
    "FirstDay",
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
    "Patched",
    "Peek",
    "purse",
    "refuse_strangers",
    "RunsErrands",
    "Seat",
    "Shelf",
    "SourceStack",
    "Stacks",
    "Suspension",
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
    for file in ["src", "tests", "benches"].iter().flat_map(|folder| files(&root().join(folder))) {
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

#[test]
fn no_word_that_was_given_up_comes_back() {
    let mut wrong = Vec::new();
    for file in ["src", "benches", "examples/rust"].iter().flat_map(|folder| files(&root().join(folder))) {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if let Some(word) = words.find(|word| GIVEN_UP.contains(word)) {
                wrong.push(format!("{}:{number}: {word}", shown(&file)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
