//! CSV lists: quoted cells as RFC 4180 has them, comments, a header as first row or as comment.
//! Which cell is the entry is the source's option `column`; the other cells become the entry's note.

use std::borrow::Cow;

use super::formats::{ListImport, Place, is_comment, lines, text};
use super::{Column, Separator};
use crate::finding::SourceError;
use crate::indicator::Indicator;

impl Column {
    /// Where this row, read as a header, has the column.
    fn in_header(&self, row: &[String]) -> Option<usize> {
        match self {
            Self::Number(number) => row.get(*number).filter(|cell| is_title(cell)).map(|_| *number),
            Self::Name(name) => row.iter().position(|cell| cell.trim().eq_ignore_ascii_case(name)),
        }
    }
}

/// Reads the rows of a CSV file into the list.
pub(super) fn fill(list: &mut ListImport<'_>, file: &[u8]) -> Result<(), SourceError> {
    let separator = match list.format.separator {
        Separator::Comma => ',',
        Separator::Semicolon => ';',
        Separator::Tab => '\t',
    };
    let column = list.format.column.as_ref().unwrap_or(&Column::Number(0));
    let mut at = match column {
        Column::Number(number) => Some(*number),
        Column::Name(_) => None,
    };
    let mut first = true;
    let mut rest = lines(file);
    while let Some((number, line)) = rest.next() {
        if is_comment(line) {
            at = at.or_else(|| column.in_header(&header_in_comment(line, separator)));
            continue;
        }
        let row = whole_row((number, line), &mut rest, separator)?;
        if std::mem::replace(&mut first, false)
            && let Some(found) = column.in_header(&row)
        {
            at = Some(found);
            continue;
        }
        let at = at.ok_or_else(|| no_column(column, number, &row))?;
        add_row(list, number, &row, at)?;
    }
    Ok(())
}

/// Whether a cell is a title rather than an entry: every entry has one of these marks, is a hash, or is defanged.
fn is_title(cell: &str) -> bool {
    !cell.contains(['.', ':', '/']) && cell.len() < 32 && Indicator::parse(cell).is_err()
}

/// Some feeds write their header as the last comment. A comment that is no text is no header.
fn header_in_comment(line: &[u8], separator: char) -> Vec<String> {
    let comment = std::str::from_utf8(line).unwrap_or_default();
    cells(comment.trim_start_matches(['#', ';', ' ']), separator).unwrap_or_default()
}

/// One row, which goes on over the next lines as long as a quote is open.
fn whole_row<'a>(
    (number, line): (usize, &'a [u8]),
    rest: &mut impl Iterator<Item = (usize, &'a [u8])>,
    separator: char,
) -> Result<Vec<String>, SourceError> {
    let mut row = Cow::Borrowed(text(number, line)?);
    loop {
        if let Some(cells) = cells(&row, separator) {
            return Ok(cells);
        }
        // A quote that nobody closes would swallow the rest of the file.
        let next = rest.next().filter(|_| row.len() < MAX_ROW);
        let Some((next_number, next)) = next else {
            return Err(SourceError::malformed(format!("line {number}: a quote is opened and never closed: close it")));
        };
        let row = row.to_mut();
        row.push('\n');
        row.push_str(text(next_number, next)?);
    }
}

/// Bytes of a row that goes over several lines.
const MAX_ROW: usize = 64 * 1024;

/// The cells of a row; `None` while a quote is open. A quote counts only at the beginning of a cell.
fn cells(row: &str, separator: char) -> Option<Vec<String>> {
    let mut cells = Vec::new();
    let mut rest = row;
    loop {
        let (cell, after) = match rest.trim_start_matches(' ').strip_prefix('"') {
            Some(quoted) => quoted_cell(quoted, separator)?,
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

/// A cell after its opening quote, and the rest after its separator.
fn quoted_cell(quoted: &str, separator: char) -> Option<(String, Option<&str>)> {
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
            None => return Some((cell, after.split_once(separator).map(|(_, after)| after))),
        }
    }
}

fn add_row(list: &mut ListImport<'_>, number: usize, row: &[String], at: usize) -> Result<(), SourceError> {
    match row.get(at) {
        None => {
            let why = format!("there is no column {}, only {}", at + 1, row.len());
            list.refuse(Place::Line(number), &why)
        }
        Some(cell) if cell.trim().is_empty() => Ok(()),
        Some(cell) => {
            let others = row.iter().enumerate().filter(|(column, other)| *column != at && !other.is_empty());
            let note: Vec<&str> = others.map(|(_, other)| other.as_str()).collect();
            list.add(Place::Line(number), cell, &note.join(", "))
        }
    }
}

fn no_column(column: &Column, number: usize, row: &[String]) -> SourceError {
    let column = match column {
        Column::Number(number) => (number + 1).to_string(),
        Column::Name(name) => name.clone(),
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
        let read = |row| cells(row, ',').unwrap();
        assert_eq!(read("a, \"b,c\" ,d"), ["a", "b,c", "d"]);
        assert_eq!(read("\"say \"\"x\"\"\",y"), ["say \"x\"", "y"]);
        assert_eq!(read("5\" disk,z"), ["5\" disk", "z"]);
        assert_eq!(read("a,,"), ["a", "", ""]);
        assert_eq!(cells("\"open,b", ','), None);
    }
}
