//! Pages of lists: sizes and opaque tokens.
//!
//! A token holds the last row of its page and a digest of the parameters it was made for, so that a token sent with other
//! parameters is refused instead of skipping rows.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::convert::Violations;
use crate::error::{Reason, Violation};
use crate::store::Cursor;

const DEFAULT_SIZE: usize = 100;
const MAX_SIZE: i32 = 1000;
const DIGEST: usize = 8;
const TIME: usize = 16;

/// One page of a list, as the request asks for it.
#[derive(Debug)]
pub(super) struct Page {
    size: usize,
    after: Option<Cursor>,
    /// What the list is filtered by: a token holds for the same parameters alone.
    parameters: String,
}

impl Page {
    /// Reads the fields `page_size` and `page_token`.
    pub(super) fn read(size: i32, token: &str, parameters: String, violations: &mut Violations) -> Option<Self> {
        let size = violations.check(read_size(size));
        let after = violations.check(read_token(token, &parameters));
        let (size, after) = size.zip(after)?;
        Some(Self { size, after, parameters })
    }

    /// How many rows to ask for: one more than are shown, which says whether there is another page.
    pub(super) fn limit(&self) -> usize {
        self.size + 1
    }

    /// The last row of the page before.
    pub(super) fn after(&self) -> Option<Cursor> {
        self.after.clone()
    }

    /// The rows of this page out of at most [`Self::limit`], and the token of the next page, which is empty on the last.
    pub(super) fn cut<T>(&self, mut rows: Vec<T>, cursor: impl Fn(&T) -> Cursor) -> (Vec<T>, String) {
        let more = rows.len() > self.size;
        rows.truncate(self.size);
        let last = rows.last().filter(|_| more);
        let token = last.map(|last| write_token(&cursor(last), &self.parameters)).unwrap_or_default();
        (rows, token)
    }
}

fn read_size(size: i32) -> Result<usize, Violation> {
    match size {
        0 => Ok(DEFAULT_SIZE),
        1.. => Ok(usize::try_from(size.min(MAX_SIZE)).unwrap_or(DEFAULT_SIZE)),
        _ => Err(Violation::invalid("page_size", "must not be negative; leave it out for 100")),
    }
}

pub fn write_token(cursor: &Cursor, parameters: &str) -> String {
    let nanos = cursor.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut bytes = nanos.to_be_bytes().to_vec();
    bytes.extend_from_slice(cursor.id.as_bytes());
    let mut token = digest_of(&bytes, parameters);
    token.extend_from_slice(&bytes);
    URL_SAFE_NO_PAD.encode(token)
}

pub fn read_token(token: &str, parameters: &str) -> Result<Option<Cursor>, Violation> {
    if token.is_empty() {
        return Ok(None);
    }
    read_cursor(token, parameters).map(Some).ok_or_else(|| {
        let message = "damaged, or made for other parameters: repeat the request as it was, or begin without a token";
        Violation::new("page_token", Reason::PageTokenInvalid, message)
    })
}

fn read_cursor(token: &str, parameters: &str) -> Option<Cursor> {
    let token = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (digest, bytes) = token.split_at_checked(DIGEST)?;
    if digest_of(bytes, parameters) != digest {
        return None;
    }
    let (time, id) = bytes.split_at_checked(TIME)?;
    let nanos = u128::from_be_bytes(time.try_into().ok()?);
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, rest))?;
    Some(Cursor { time, id: String::from_utf8(id.to_vec()).ok()? })
}

fn digest_of(bytes: &[u8], parameters: &str) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(bytes);
    context.update(parameters.as_bytes());
    context.finish().as_ref().iter().take(DIGEST).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        Cursor { time: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123), id: "abc".into() }
    }

    #[test]
    fn a_token_leads_back_to_its_place() {
        let token = write_token(&cursor(), "p");
        assert_eq!(read_token(&token, "p"), Ok(Some(cursor())));
        assert_eq!(read_token("", "p"), Ok(None));
    }

    #[test]
    fn a_token_for_other_parameters_or_a_damaged_one_is_refused() {
        let token = write_token(&cursor(), "p");
        let mut damaged = token.clone();
        damaged.replace_range(4..5, if token.get(4..5) == Some("A") { "B" } else { "A" });
        for (token, parameters) in [(token.as_str(), "q"), (damaged.as_str(), "p"), ("!!", "p"), ("QUJD", "p")] {
            let refused = read_token(token, parameters).unwrap_err();
            assert_eq!((refused.field.as_str(), refused.reason), ("page_token", Reason::PageTokenInvalid));
        }
    }

    #[test]
    fn page_sizes_are_bounded_and_never_negative() {
        assert_eq!(read_size(0), Ok(100));
        assert_eq!(read_size(7), Ok(7));
        assert_eq!(read_size(i32::MAX), Ok(1000));
        assert_eq!(read_size(-1).unwrap_err().field, "page_size");
    }
}
