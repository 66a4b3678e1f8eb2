//! The fuzz targets as ordinary tests: over their corpus, and over a fixed number of mutations that are the same in every run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::submission::samples::{gzip, mail, pdf, private_key, tar, word, zip};

#[path = "../../fuzz/targets.rs"]
mod targets;

/// A generator of numbers (xorshift), so that a failure is found again.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// What parsers stumble over.
const PIECES: [&str; 22] = [
    "\0",
    "\"",
    "'",
    "{",
    "}",
    "[",
    "]",
    "(.)",
    "\\",
    "//",
    "%2F",
    "%",
    "@",
    ":",
    ".",
    "-",
    "\n",
    ",",
    "null",
    "-1",
    "é\u{200b}",
    "99999999999999999999",
];

pub fn mutate(random: &mut Random, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => drop(bytes.drain(at..end.max(at))),
            2 => bytes = [&bytes[..end.max(at)], &bytes[at.min(end)..]].concat(),
            3 => bytes.truncate(at),
            4 => {
                let from = random.below(other.len() + 1);
                let to = (from + random.below(32)).min(other.len());
                drop(bytes.splice(at..at, other[from..to].iter().copied()));
            }
            _ => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].bytes())),
        }
    }
    bytes
}

fn run(target: fn(&[u8]), seeds: &[Vec<u8>], mutations: usize) {
    assert!(!seeds.is_empty());
    let checked = |input: &[u8]| {
        let outcome = std::panic::catch_unwind(|| target(input));
        assert!(outcome.is_ok(), "fails on {:?}", String::from_utf8_lossy(input));
    };
    seeds.iter().for_each(|seed| checked(seed));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for number in 0..mutations {
        let other = &seeds[random.below(seeds.len())];
        checked(&mutate(&mut random, &seeds[number % seeds.len()], other));
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a folder, in order of name.
fn files(folder: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().filter(|file| !file.ends_with("cases.json")).map(|file| fs::read(file).unwrap()).collect()
}

/// A column of a table of cases.
fn column(table: &str, column: usize) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(root().join("tests/fixtures/indicators").join(table)).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|row| row.split('\t').nth(column)).map(|cell| cell.as_bytes().to_vec()).collect()
}

#[test]
fn no_indicator_violates_an_invariant() {
    run(targets::indicator, &[files("fuzz/corpus/indicator"), column("single.tsv", 1)].concat(), 4000);
}

#[test]
fn no_text_violates_an_invariant() {
    run(targets::text, &[files("fuzz/corpus/text"), column("text.tsv", 0)].concat(), 2000);
}

#[test]
fn no_page_token_violates_an_invariant() {
    run(targets::page_token, &files("fuzz/corpus/page_token"), 2000);
}

#[test]
fn no_configuration_violates_an_invariant() {
    run(targets::configuration, &files("tests/fixtures/config"), 1000);
}

#[test]
fn no_list_violates_an_invariant() {
    run(targets::list, &files("tests/fixtures/sources/list"), 1000);
}

#[test]
fn no_answer_violates_an_invariant() {
    let kinds = concord::sources::all().iter().map(|kind| kind.about().kind.clone());
    let seeds: Vec<_> = kinds.flat_map(|kind| files(&format!("tests/fixtures/sources/{kind}"))).collect();
    run(targets::answer, &seeds, 500);
}

/// Mutations of each format of submitted content.
const SUBMITTED: usize = 10_000;
/// More memory than all of their inspections take, one after the other.
const MEMORY: u64 = 64 << 20;
/// How a test says how much memory its process took.
const PEAK: &str = "VmHWM:";

/// All inspections in a process of their own, whose memory is nobody else's.
#[test]
fn the_inspection_of_mutated_content_takes_bounded_memory() {
    let tests = std::env::current_exe().unwrap();
    let arguments = ["fuzz::no_submitted", "--test-threads", "1", "--nocapture"];
    let output = std::process::Command::new(tests).args(arguments).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    let kib = |line: &str| line.split_once(PEAK)?.1.trim().strip_suffix(" kB")?.parse::<u64>().ok();
    let peaks: Vec<u64> = shown.lines().filter_map(kib).map(|kib| kib * 1024).collect();
    assert_eq!(peaks.len(), 4, "{shown}");
    assert!(peaks.iter().all(|peak| *peak < MEMORY), "{peaks:?}");
}

/// A target and its seeds.
type Seeded<'a> = (fn(&[u8]), &'a [Vec<u8>]);

/// Inspects the mutations of these seeds, and says how much memory the process has taken so far.
fn inspect(formats: &[Seeded<'_>]) {
    formats.iter().for_each(|(target, seeds)| run(*target, seeds, SUBMITTED));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with(PEAK)).unwrap());
}

#[test]
fn no_submitted_archive_violates_an_invariant() {
    let inner = zip(&[("id_rsa", &private_key()), ("b.txt", b"words")]);
    let packed = tar(&[("a.txt", b"words"), ("inner.zip", &inner)]);
    let zipped = zip(&[("inner.zip", &inner), ("a.txt", b"words")]);
    let [zipped, unzipped, gzipped] = [zipped, packed.clone(), gzip(&packed)].map(|seed| [seed, inner.clone()]);
    inspect(&[(targets::archive, &zipped), (targets::archive, &unzipped), (targets::archive, &gzipped)]);
}

#[test]
fn no_submitted_office_document_violates_an_invariant() {
    let labelled = [("MSIP_Label_4a5b6c7d-1234-5678-9abc-def012345678_Name", "x")];
    let document = [word(&["TLP", ":AMBER"], &labelled)];
    let part = b"<Properties><property name=\"MSIP_Label_1_Name\"><v>x</v></property><w:p>TLP:RED</w:p></Properties>";
    let name = |name: &str| name.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let old = [b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1".to_vec(), name("__substg1.0_0037001F"), name("EncryptedPackage")];
    inspect(&[(targets::archive, &document), (targets::office, &[part.to_vec()]), (targets::archive, &[old.concat()])]);
}

#[test]
fn no_submitted_pdf_violates_an_invariant() {
    let seeds = [pdf(&["TLP", ":RED"], "/Title (words)"), pdf(&["words"], "/Encrypt 5 0 R")];
    inspect(&[(targets::pdf, &seeds)]);
}

#[test]
fn no_submitted_mail_violates_an_invariant() {
    let inner = zip(&[("id_rsa", &private_key())]);
    inspect(&[(targets::mail, &[mail("words", &inner), mail("TLP:RED", &mail("within", b"words"))])]);
}
