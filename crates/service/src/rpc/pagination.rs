//! Pages of lists: their size and their opaque tokens.
//!
//! A token contains the position of the last row of its page and a digest of the request's parameters, so that a token
//! that is sent with other parameters is refused instead of silently skipping rows.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::load::{AnswerMemory, out_of_answer_memory};
use crate::convert::Violations;
use crate::error::{Error, Reason, Violation};
use crate::store::{Cursor, Listed, PageLimit};

const DEFAULT_SIZE: usize = 100;
const MAX_SIZE: i32 = 1000;
/// Half of the message size that gRPC clients accept by default.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// Bounds how many pages are made at the same time, since until a page is written its rows are in memory as well.
static PAGES_IN_PROGRESS: Semaphore = Semaphore::const_new(4);
const DIGEST: usize = 8;
const TIME: usize = 16;

/// One page of a list, as the request asks for it.
#[derive(Debug)]
pub(super) struct Page {
    size: usize,
    after: Option<Cursor>,
    /// The filter of the list. A token is only valid for the same parameters.
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

    /// Waits until the page may be made. The caller holds the permit until the page is written.
    pub(super) async fn turn() -> Option<SemaphorePermit<'static>> {
        // The semaphore is never closed.
        PAGES_IN_PROGRESS.acquire().await.ok()
    }

    /// How much to read from the store for this page.
    pub(super) fn limit(&self) -> PageLimit {
        PageLimit { rows: self.size, bytes: MAX_BYTES }
    }

    /// The last row of the previous page.
    pub(super) fn after(&self) -> Option<Cursor> {
        self.after.clone()
    }

    /// Returns the messages of this page and the token of the next one, which is empty on the last page. A page ends
    /// before it would exceed its size limit (but has at least one row), and before it would exceed the memory of its
    /// request.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if there is not enough memory even for the first row.
    pub(super) fn write<T, M: Message>(
        &self,
        listed: &Listed<T>,
        mut memory: AnswerMemory,
        cursor: impl Fn(&T) -> Cursor,
        write: impl Fn(&T) -> M,
    ) -> Result<(Vec<M>, String), Error> {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for row in listed.rows.iter().take(self.size) {
            let message = write(row);
            bytes += message.encoded_len();
            if bytes > MAX_BYTES && !messages.is_empty() {
                break;
            }
            if !memory.reserve(bytes) {
                if messages.is_empty() {
                    return Err(out_of_answer_memory());
                }
                break;
            }
            messages.push(message);
        }
        let has_more = listed.has_more || messages.len() < listed.rows.len();
        let last = messages.len().checked_sub(1).and_then(|last| listed.rows.get(last)).filter(|_| has_more);
        let token = last.map(|last| write_token(&cursor(last), &self.parameters)).unwrap_or_default();
        Ok((messages, token))
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
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::rpc::load::Slots;
    use crate::sync::lock;

    fn cursor() -> Cursor {
        Cursor { time: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123), id: "abc".into() }
    }

    #[test]
    fn a_token_leads_back_to_its_position() {
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
    fn a_page_ends_before_it_is_too_large_and_its_token_continues_after_its_last_row() {
        let page = Page::read(0, "", "p".into(), &mut Violations::default()).unwrap();
        let cursor = |megabytes: &usize| Cursor { id: megabytes.to_string(), ..cursor() };
        let write = |megabytes: &usize| "x".repeat(megabytes * 1024 * 1024 - 100);
        let written = |rows: &[usize], has_more| {
            let listed = Listed { rows: rows.to_vec(), has_more, bytes: 0 };
            let (messages, token) = page.write(&listed, AnswerMemory::new(None), cursor, write).unwrap();
            (messages.len(), read_token(&token, "p").unwrap().map(|cursor| cursor.id))
        };
        assert_eq!(written(&[1, 1], false), (2, None));
        assert_eq!(written(&[1, 1], true), (2, Some("1".to_owned())));
        assert_eq!(written(&[1, 2, 1], false), (1, Some("1".to_owned())));
        assert_eq!(written(&[5, 1], false), (1, Some("5".to_owned())), "a row that is too large has a page of its own");
        assert_eq!(written(&[5], false), (1, None));
        assert_eq!(written(&[], false), (0, None));
    }

    #[derive(Debug)]
    struct Free(Mutex<usize>);

    impl Slots for Free {
        fn grow(&self, wanted: usize) -> Option<usize> {
            let mut free = lock(&self.0);
            *free = free.checked_sub(wanted)?;
            Some(wanted)
        }
    }

    #[test]
    fn a_page_ends_at_the_memory_limit_of_its_request_and_is_refused_if_not_one_row_fits() {
        let page = Page::read(0, "", "p".into(), &mut Violations::default()).unwrap();
        let rows = |free, kilobytes: usize| {
            let listed = Listed { rows: vec![kilobytes; 10], has_more: false, bytes: 0 };
            let memory = AnswerMemory::new(Some(Arc::new(Free(Mutex::new(free)))));
            let written =
                page.write(&listed, memory, |_| cursor(), |kilobytes: &usize| "x".repeat(kilobytes * 1024 - 8));
            written.map(|(messages, token)| (messages.len(), token.is_empty()))
        };
        assert_eq!(rows(9, 64), Ok((10, true)));
        assert_eq!(rows(4, 64), Ok((5, false)));
        assert_eq!(rows(0, 64), Ok((1, false)));
        assert_eq!(rows(0, 65), Err(out_of_answer_memory()));
    }

    #[test]
    fn page_sizes_are_bounded_and_never_negative() {
        assert_eq!(read_size(0), Ok(100));
        assert_eq!(read_size(7), Ok(7));
        assert_eq!(read_size(i32::MAX), Ok(1000));
        assert_eq!(read_size(-1).unwrap_err().field, "page_size");
    }
}
