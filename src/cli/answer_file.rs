//! A file of answers that a command goes on with after an interruption.
//!
//! It holds one record for each input, in the order of the inputs, so that the number of whole records says where to go
//! on. A record that the end of the process cut short is removed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::args::Output;
use super::input::Input;
use super::{Failure, csv};
use crate::indicator::redact_text;

/// More than the heading of CSV has.
const START_BYTES: u64 = 512;

/// A file of answers.
pub(super) struct AnswerFile {
    file: File,
    path: PathBuf,
    output: Output,
    /// Inputs that were answered before this command.
    pub(super) answered: usize,
    /// What the last of these records says was submitted.
    last_text: String,
}

impl AnswerFile {
    /// Makes a new file, or with `resume` opens one to go on with, if there is one.
    pub(super) fn open(path: &Path, output: Output, resume: bool) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::new(format!("{} exists: go on with it by --resume, or remove it", path.display()))
            }
            _ => Failure::io(path.display(), &error),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = if resume { options.create(true).truncate(false) } else { options.create_new(true) };
        let file = file.open(path).map_err(failed)?;
        let mut answers = Self { file, path: path.to_owned(), output, answered: 0, last_text: String::new() };
        answers.cut_to_whole_records()?;
        Ok(answers)
    }

    /// Counts the whole records and removes what follows them.
    fn cut_to_whole_records(&mut self) -> Result<(), Failure> {
        let path = self.path.clone();
        let failed = |error| Failure::io(path.display(), &error);
        let (mut end, mut records, mut last_start) = (0, 0, 0);
        let mut reader = BufReader::new(&self.file);
        let (mut line, mut is_quoted, mut position) = (Vec::new(), false, 0);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(failed)?;
            position += u64::try_from(read).unwrap_or_default();
            if !line.ends_with(b"\n") {
                break;
            }
            // A line end between quotes belongs to a cell of CSV.
            if self.output == Output::Csv {
                is_quoted ^= line.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
            }
            if !is_quoted {
                (last_start, end, records) = (end, position, records + 1);
            }
        }
        let heading = usize::from(self.output == Output::Csv);
        self.answered = records.max(heading) - heading;
        let mut last = String::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(last_start)).map_err(failed)?;
        file.take(end - last_start).read_to_string(&mut last).map_err(failed)?;
        let foreign = || Failure::new(format!("{} holds no answers in this form of output", path.display()));
        // A file of another form may hold no record at all as they are counted here: it must not be emptied.
        let mut start = Vec::new();
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.take(START_BYTES).read_to_end(&mut start).map_err(failed)?;
        let header = csv::header();
        let is_ours = match self.output {
            Output::Csv => start.starts_with(header.as_bytes()) || header.as_bytes().starts_with(&start),
            Output::Jsonl | Output::Json | Output::Table | Output::Dbot => start.is_empty() || start.starts_with(b"{"),
        };
        if !is_ours {
            return Err(foreign());
        }
        self.last_text = match (records, self.output) {
            (0, _) => String::new(),
            (1, Output::Csv) => String::new(),
            (_, Output::Csv) => csv::submitted(&last).ok_or_else(foreign)?,
            (_, Output::Jsonl | Output::Json | Output::Table | Output::Dbot) => {
                submitted_in_json(&last).ok_or_else(foreign)?
            }
        };
        self.file.set_len(end).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(())
    }

    /// Whether the file is still empty, without even a heading.
    pub(super) fn is_empty(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.len() == 0)
    }

    /// Checks that the last record answers this input, the last of those that were answered.
    ///
    /// # Errors
    /// If it answers another, so that the file belongs to other inputs.
    pub(super) fn check_last(&self, input: &Input) -> Result<(), Failure> {
        let texts = [redact_text(&input.text), redact_text(&input.value), input.text.clone()];
        if texts.iter().any(|text| self.is_last(text)) {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{} belongs to other inputs: its record {} answers {}, but the input there is {}",
            self.path.display(),
            self.answered,
            self.last_text,
            redact_text(&input.text)
        )))
    }

    fn is_last(&self, text: &str) -> bool {
        match self.output {
            Output::Csv => csv::escape_formula(text) == self.last_text,
            Output::Jsonl | Output::Json | Output::Table | Output::Dbot => text == self.last_text,
        }
    }

    pub(super) fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.file.write_all(text.as_bytes()).map_err(|error| Failure::io(self.path.display(), &error))
    }
}

/// What a line of JSON says was submitted.
fn submitted_in_json(line: &str) -> Option<String> {
    let document: serde_json::Value = serde_json::from_str(line).ok()?;
    let text = document.pointer("/answer/receipt/text").or_else(|| document.pointer("/error/text"))?;
    text.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn refusal(text: &str) -> String {
        format!("{{\"error\":{{\"text\":{text:?}}}}}\n")
    }

    fn resumed(output: Output, before: &str) -> Result<(usize, String), String> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("answers");
        std::fs::write(&path, before).unwrap();
        let mut answers = AnswerFile::open(&path, output, true).map_err(|failure| failure.to_string())?;
        answers.write("next\n").unwrap();
        Ok((answers.answered, std::fs::read_to_string(&path).unwrap()))
    }

    #[test]
    fn a_file_cut_short_anywhere_goes_on_after_its_last_whole_record() {
        let jsonl = refusal("one") + &refusal("two");
        let csv = csv::header() + &csv::refused("one", "first\nsecond \"line\"") + &csv::refused("two", "no");
        for (output, whole, heading) in [(Output::Jsonl, jsonl, 0), (Output::Csv, csv, 1)] {
            let ends: Vec<usize> = match output {
                Output::Csv => whole.match_indices("\r\n").map(|(at, _)| at + 2).collect(),
                _ => whole.match_indices('\n').map(|(at, _)| at + 1).collect(),
            };
            for cut in 0..=whole.len() {
                let ends: Vec<_> = ends.iter().filter(|end| **end <= cut).collect();
                let kept = ends.last().map_or(0, |end| **end);
                let (answered, text) = resumed(output, &whole[..cut]).unwrap();
                assert_eq!(answered, ends.len().saturating_sub(heading), "{output:?} cut at {cut}");
                assert_eq!(text, format!("{}next\n", &whole[..kept]), "{output:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_file_of_another_form_is_refused_and_left_as_it_is() {
        let jsonl = refusal("one");
        let csv = csv::header();
        for (output, text) in
            [(Output::Csv, jsonl.as_str()), (Output::Jsonl, csv.as_str()), (Output::Csv, "a\n"), (Output::Csv, "one\"")]
        {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("answers");
            std::fs::write(&path, text).unwrap();
            let refused = AnswerFile::open(&path, output, true).err().unwrap().to_string();
            assert!(refused.contains("holds no answers"), "{refused}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn an_existing_file_is_never_overwritten_without_being_asked_to() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("answers");
        std::fs::write(&path, "precious").unwrap();
        let refused = AnswerFile::open(&path, Output::Jsonl, false).err().unwrap().to_string();
        assert!(refused.contains("--resume"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn answers_to_other_inputs_are_not_gone_on_with() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("answers");
        std::fs::write(&path, refusal("one")).unwrap();
        let answers = AnswerFile::open(&path, Output::Jsonl, true).unwrap();
        assert!(answers.check_last(&Input::from("one".to_owned())).is_ok());
        let refused = answers.check_last(&Input::from("two".to_owned())).unwrap_err().to_string();
        assert!(refused.contains("answers one, but the input there is two"), "{refused}");
    }
}
