//! What README.md and docs/ show is what happens. Each block of `console` is typed into a shell beside a demonstration of its
//! page and must print what the page shows; `UPDATE_GOLDEN=1` writes it anew. Before it, each block of `toml` becomes
//! `concord.toml` in the folder where the commands run. `MASKS` names all that differs from run to run.
//!
//! `docs/clients.md` needs stubs: it is read where `CONCORD_EXAMPLES` is set, as in `.ci/run`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use concord::settings::{Environment, Flags, LoadInput, load};
use concord::sources;
use regex::Regex;
use tempfile::TempDir;

use crate::demo::KeptDemo;

/// What is masked, and what stands in its place.
const MASKS: [(&str, &str); 2] = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-11-26T16:30:29Z"),
    (r"verdicts/[0-9a-z]{26}", "verdicts/01m8cb1jand7ad4pxv7n8f6250"),
];
/// Where the pages have the demonstration.
const SHOWN_ADDRESS: &str = "127.0.0.1:7700";
/// Stands before the output of each command, and nowhere else.
const SEPARATOR: char = '\u{1e}';

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect();
    pages.sort();
    pages.insert(0, root().join("README.md"));
    pages
}

/// A page, cut at the fences of its blocks: text and blocks in turn, each block with its first line.
fn parts(page: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in page.split_inclusive('\n') {
        let is_block = parts.len() % 2 == 0;
        let fence = line.starts_with("```");
        if fence && !is_block {
            parts.push(String::new());
        }
        parts.last_mut().unwrap().push_str(line);
        if fence && is_block {
            parts.push(String::new());
        }
    }
    parts
}

/// The lines of a block in this language.
fn block<'a>(part: &'a str, language: &str) -> Option<Vec<&'a str>> {
    let mut lines: Vec<&str> = part.strip_prefix(&format!("```{language}\n"))?.lines().collect();
    lines.pop();
    Some(lines)
}

fn commands(part: &str) -> impl Iterator<Item = &str> {
    block(part, "console").unwrap_or_default().into_iter().filter_map(|line| line.strip_prefix("$ "))
}

/// What the commands of a page print, one text for each.
fn outputs(parts: &[String], folder: &Path) -> Vec<String> {
    let demo = KeptDemo::start();
    let programs = Path::new(env!("CARGO_BIN_EXE_concord")).parent().unwrap().display();
    // Nobody's own settings and keys.
    let unset = "unset $(env | grep -oE '^(CONCORD_[A-Z_]*|[A-Z_]*_KEY)=' | tr -d =)";
    let mut script = format!("exec 2>&1\nPATH='{programs}':$PATH\n{unset}\n");
    for part in parts {
        if let Some(lines) = block(part, "toml") {
            script += &format!("cat > concord.toml <<'END_OF_TOML'\n{}\nEND_OF_TOML\n", lines.join("\n"));
        }
        for command in commands(part) {
            let command = command.replace(SHOWN_ADDRESS, &demo.address);
            script += &format!("printf '\\036'\n{command}\n");
        }
    }
    let mut shell = Command::new("sh");
    let home = TempDir::new().unwrap();
    shell.env("XDG_DATA_HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
    let output = shell.arg("-c").arg(script).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap().replace(&demo.address, SHOWN_ADDRESS);
    for (pattern, shown) in MASKS {
        text = Regex::new(pattern).unwrap().replace_all(&text, shown).into_owned();
    }
    text.split(SEPARATOR).skip(1).map(str::to_owned).collect()
}

/// The page with what its commands print now.
fn rerun(page: &str, folder: &Path) -> String {
    let parts = parts(page);
    let mut outputs = outputs(&parts, folder).into_iter();
    let mut written = String::new();
    for part in &parts {
        if block(part, "console").is_none() {
            written += part;
            continue;
        }
        written += "```console\n";
        for command in commands(part) {
            written += &format!("$ {command}\n{}", outputs.next().expect("an output for each command"));
            if !written.ends_with('\n') {
                written.push('\n');
            }
        }
        written += "```\n";
    }
    written
}

#[test]
fn every_sample_is_what_the_commands_above_it_print() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut stale = Vec::new();
    for path in pages() {
        let page = std::fs::read_to_string(&path).unwrap();
        let needs_stubs = path.ends_with("clients.md");
        if !page.contains("```console\n") || (needs_stubs && std::env::var_os("CONCORD_EXAMPLES").is_none()) {
            continue;
        }
        let folder = TempDir::new().unwrap();
        let now = rerun(&page, if needs_stubs { Path::new(env!("CARGO_MANIFEST_DIR")) } else { folder.path() });
        if update {
            std::fs::write(&path, &now).unwrap();
        } else if now != page {
            let differs = now.lines().zip(page.lines()).find(|(now, page)| now != page);
            stale.push(format!("{}: now, and on the page:\n{differs:#?}\n{now}", path.display()));
        }
    }
    assert!(stale.is_empty(), "UPDATE_GOLDEN=1 writes these pages anew:\n{}", stale.join("\n"));
}

#[test]
fn every_configuration_that_a_page_shows_can_be_loaded() {
    let mut loaded = 0;
    for path in pages() {
        let page = std::fs::read_to_string(&path).unwrap();
        for lines in parts(&page).iter().filter_map(|part| block(part, "toml")) {
            let folder = TempDir::new().unwrap();
            let file = folder.path().join("concord.toml");
            std::fs::write(&file, lines.join("\n")).unwrap();
            let environment = Environment::from([("VIRUSTOTAL_API_KEY".to_owned(), "key".to_owned())]);
            let flags = Flags { listens: true, ..Flags::default() };
            let config = load(LoadInput { file: Some(file), environment, flags, kinds: sources::all() });
            assert!(config.is_ok(), "{}: {}", path.display(), config.unwrap_err());
            loaded += 1;
        }
    }
    assert!(loaded > 0, "no page shows a configuration");
}
