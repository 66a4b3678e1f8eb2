//! Lists in columns: quoted cells as RFC 4180 has them, comments, a header as first row or as comment. Which cell is the
//! entry is the source's option `column`, else what the header or the cells tell; the other cells become the entry's note.
//!
//! The reader is our own, since that of the `csv` crate takes no quote behind a blank, and abuse.ch writes `"a", "b"`; it also
//! goes on behind a quote that nobody closes.

use super::entry::{Entry, Rules, Skipped};
use super::import::{ListImport, Place, is_comment, lines, sample, text};
use super::{Column, Separator, names};
use crate::finding::SourceError;
use crate::indicator::Indicator;

/// Lines that one row may go over.
const MAX_LINES: usize = 16;
/// Bytes of a row that goes over several lines.
const MAX_ROW: usize = 64 * 1024;
/// Anything that can be an entry.
const ANY: Rules = Rules { types: Vec::new(), subdomains: true, any_name: false };

impl Separator {
    /// The character; `Auto`: the one that parts most of these rows alike, into the most cells.
    fn resolve(self, sample: &[&str]) -> Option<char> {
        match self {
            Self::Comma => Some(','),
            Self::Semicolon => Some(';'),
            Self::Tab => Some('\t'),
            Self::Pipe => Some('|'),
            Self::Auto => {
                let width = |separator: &char| {
                    let widths: Vec<_> =
                        sample.iter().map(|row| cells(row, *separator, false).map_or(0, |row| row.len())).collect();
                    let first = widths.first().copied().unwrap_or_default();
                    let alike = widths.iter().filter(|width| **width == first).count();
                    if first > 1 && alike * 2 > widths.len() { first } else { 0 }
                };
                // Of equals the last is taken.
                let separator = ['|', ';', ',', '\t'].into_iter().max_by_key(width);
                separator.filter(|separator| width(separator) > 0)
            }
        }
    }
}

impl Column {
    /// Where this row, read as a header, has the column.
    fn in_header(&self, row: &[String]) -> Option<usize> {
        match self {
            Self::Number(number) => row.get(*number).filter(|cell| is_title(cell)).map(|_| *number),
            Self::Name(name) => row.iter().position(|cell| cell.trim().eq_ignore_ascii_case(name)),
        }
    }
}

/// Whether lines that are in no other format are rows of columns: by their header, or since most hold an entry that they are
/// not themselves.
pub(super) fn is_csv(sample: &[&str]) -> bool {
    let Some(separator) = Separator::Auto.resolve(sample) else { return false };
    let is_entry = |row: &&&str| Entry::read(row, &ANY).is_ok() || !Entry::read_pair(row, &ANY).is_empty();
    let rows: Vec<_> = sample.iter().filter_map(|row| cells(row, separator, false)).collect();
    let has_header = rows.first().is_some_and(|row| obvious_column(row).is_some());
    has_header || (best_column(&rows).is_some() && sample.iter().filter(is_entry).count() * 2 <= sample.len())
}

/// The column in which most of these rows have an entry.
fn best_column(rows: &[Vec<String>]) -> Option<usize> {
    let is_entry = |cell: &String| Entry::read(cell, &ANY).is_ok();
    let entries = |at: &usize| rows.iter().filter(|row| row.get(*at).is_some_and(is_entry)).count();
    let widest = rows.iter().map(Vec::len).max().unwrap_or_default();
    // Of equals the first is taken.
    let best = (0..widest).rev().max_by_key(entries)?;
    Some(best).filter(|best| entries(best) * 2 >= rows.len())
}

/// The column that this header names by what an entry is.
fn obvious_column(header: &[String]) -> Option<usize> {
    let name = names::obvious(header.iter().map(String::as_str))?;
    header.iter().position(|cell| cell == name)
}

/// Reads the rows of a file into the list.
pub(super) fn fill(list: &mut ListImport<'_>, file: &[u8]) -> Result<(), SourceError> {
    let sample: Vec<&str> = sample(file).collect();
    let separator = list.format.separator.resolve(&sample).unwrap_or(',');
    let set = list.format.column.as_ref();
    let mut at = match set {
        Some(Column::Number(number)) => Some(*number),
        Some(Column::Name(_)) | None => None,
    };
    let (mut header, mut is_first) = (Vec::new(), true);
    let mut rest = lines(file);
    while let Some((number, line)) = rest.next() {
        if is_comment(line) {
            // Some feeds write their header as the last comment.
            let cells = header_in_comment(line, separator);
            at = at.or_else(|| set?.in_header(&cells));
            header = if cells.len() > 1 { cells } else { header };
            continue;
        }
        let place = Place::Line(number);
        let row = match whole_row(line, &mut rest, separator) {
            Ok(row) => row,
            Err(skipped) => {
                list.skip(place, skipped)?;
                continue;
            }
        };
        if std::mem::replace(&mut is_first, false) {
            let guessed = if set.is_none() { obvious_column(&row) } else { None };
            if let Some(found) = guessed.or_else(|| set?.in_header(&row)) {
                at = Some(found);
                continue;
            }
            if set.is_none() {
                let rows: Vec<_> = sample.iter().filter_map(|row| cells(row, separator, false)).collect();
                let by_comment = obvious_column(&header).filter(|_| header.len() == row.len());
                at = by_comment.or_else(|| best_column(&rows)).or(Some(0));
                if at.and_then(|at| row.get(at)).is_some_and(|cell| is_title(cell)) {
                    continue;
                }
            }
        }
        let Some(at) = at else { return Err(no_column(set, number, &row)) };
        add_row(list, place, &row, at)?;
    }
    Ok(())
}

/// Whether a cell is a title rather than an entry: every entry has one of these marks, is a hash, or is defanged.
fn is_title(cell: &str) -> bool {
    !cell.contains(['.', ':', '/']) && cell.len() < 32 && Indicator::parse(cell).is_err()
}

/// The cells of a comment. One that is no text has none.
fn header_in_comment(line: &[u8], separator: char) -> Vec<String> {
    let comment = std::str::from_utf8(line).unwrap_or_default();
    cells(comment.trim_start_matches(['#', ';', ' ']), separator, false).unwrap_or_default()
}

/// One row, which goes on over the next lines as long as a quote is open.
fn whole_row<'a>(
    line: &'a [u8],
    rest: &mut (impl Iterator<Item = (usize, &'a [u8])> + Clone),
    separator: char,
) -> Result<Vec<String>, Skipped> {
    let line = text(line)?;
    if let Some(cells) = cells(line, separator, false) {
        return Ok(cells);
    }
    // The lines behind a quote that nobody closes are rows of their own, so they are not used up before it is closed.
    let (mut row, mut ahead) = (line.to_owned(), rest.clone());
    for _ in 1..MAX_LINES {
        let Some((_, next)) = ahead.next().filter(|_| row.len() < MAX_ROW) else { break };
        row.push('\n');
        row.push_str(text(next)?);
        if let Some(cells) = cells(&row, separator, true) {
            *rest = ahead;
            return Ok(cells);
        }
    }
    Err(Skipped::unreadable("a quote is opened and never closed: close it"))
}

/// The cells of a row; `None` while a quote is open, and, if strict, where something follows a quote that closes. A quote
/// counts only at the beginning of a cell.
fn cells(row: &str, separator: char, strict: bool) -> Option<Vec<String>> {
    let mut cells = Vec::new();
    let mut rest = row;
    loop {
        let (cell, after) = match rest.trim_start_matches(' ').strip_prefix('"') {
            Some(quoted) => {
                let (cell, after) = quoted_cell(quoted)?;
                let (behind, after) = after.split_once(separator).map_or((after, None), |(a, b)| (a, Some(b)));
                if strict && !behind.trim().is_empty() {
                    return None;
                }
                (cell, after)
            }
            None => match rest.split_once(separator) {
                Some((cell, after)) => (cell.trim().to_owned(), Some(after)),
                None => (rest.trim().to_owned(), None),
            },
        };
        cells.push(cell);
        match after {
            Some(after) => rest = after,
            None => return Some(cells),
        }
    }
}

/// A cell after its opening quote, and what follows its closing one.
fn quoted_cell(quoted: &str) -> Option<(String, &str)> {
    let mut cell = String::new();
    let mut rest = quoted;
    loop {
        let (inside, after) = rest.split_once('"')?;
        cell.push_str(inside);
        match after.strip_prefix('"') {
            Some(after) => {
                cell.push('"');
                rest = after;
            }
            None => return Some((cell, after)),
        }
    }
}

fn add_row(list: &mut ListImport<'_>, place: Place, row: &[String], at: usize) -> Result<(), SourceError> {
    match row.get(at) {
        None => {
            let why = format!("there is no column {}, only {}", at + 1, row.len());
            list.skip(place, Skipped::unreadable(why))
        }
        Some(cell) if cell.trim().is_empty() => Ok(()),
        Some(cell) => {
            let others = row.iter().enumerate().filter(|(column, other)| *column != at && !other.is_empty());
            let note: Vec<&str> = others.map(|(_, other)| other.as_str()).collect();
            list.add(place, cell, &note.join(", "))
        }
    }
}

fn no_column(column: Option<&Column>, number: usize, row: &[String]) -> SourceError {
    let column = match column {
        Some(Column::Name(name)) => name.as_str(),
        Some(Column::Number(_)) | None => "",
    };
    let cells = row.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
    SourceError::malformed(format!(
        "line {number}: no header has a column \"{column}\"; set option column to a number from 1, or to one of: {cells}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_count_only_at_the_beginning_of_a_cell() {
        let read = |row| cells(row, ',', false).unwrap();
        assert_eq!(read("a, \"b,c\" ,d"), ["a", "b,c", "d"]);
        assert_eq!(read("\"say \"\"x\"\"\",y"), ["say \"x\"", "y"]);
        assert_eq!(read("5\" disk,z"), ["5\" disk", "z"]);
        assert_eq!(read("a,,"), ["a", "", ""]);
        assert_eq!(cells("\"open,b", ',', false), None);
    }
}
