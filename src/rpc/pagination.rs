//! Pages: sizes and opaque tokens.
//!
//! A token holds the place where the page before ended and a digest of the parameters it was made for, so that a token
//! sent with other parameters is refused instead of skipping rows.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Reason, Violation};
use crate::store::Cursor;

const DEFAULT_SIZE: usize = 100;
const GREATEST_SIZE: i32 = 1000;
const DIGEST: usize = 8;
const TIME: usize = 16;

/// Reads a page size; 0 is 100, more than 1,000 is 1,000.
///
/// # Errors
/// When it is negative.
pub(super) fn read_size(size: i32) -> Result<usize, Violation> {
    match size {
        0 => Ok(DEFAULT_SIZE),
        1.. => Ok(usize::try_from(size.min(GREATEST_SIZE)).unwrap_or(DEFAULT_SIZE)),
        _ => Err(Violation::invalid("page_size", "must not be negative; leave it out for 100")),
    }
}

/// The token for the page behind `cursor` of a list with these parameters.
pub(super) fn write_token(cursor: &Cursor, parameters: &str) -> String {
    let nanos = cursor.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut bytes = nanos.to_be_bytes().to_vec();
    bytes.extend_from_slice(cursor.id.as_bytes());
    let mut token = seal(&bytes, parameters);
    token.extend_from_slice(&bytes);
    URL_SAFE_NO_PAD.encode(token)
}

/// Reads a token; empty is the first page.
///
/// # Errors
/// When it is damaged, or was made for other parameters.
pub(super) fn read_token(token: &str, parameters: &str) -> Result<Option<Cursor>, Violation> {
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
    let (sealed, bytes) = token.split_at_checked(DIGEST)?;
    if seal(bytes, parameters) != sealed {
        return None;
    }
    let (time, id) = bytes.split_at_checked(TIME)?;
    let nanos = u128::from_be_bytes(time.try_into().ok()?);
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, rest))?;
    Some(Cursor { time, id: String::from_utf8(id.to_vec()).ok()? })
}

fn seal(bytes: &[u8], parameters: &str) -> Vec<u8> {
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
