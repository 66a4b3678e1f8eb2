//! The words on what analysts said.

use std::time::SystemTime;

use jiff::Timestamp;

use crate::verdict::AnalystWord;

/// A longer reason would hide what the sources say.
const MOST_REASON: usize = 100;

/// That the verdict is an analyst's: `pinned by alice (caller soar) until 2026-12-24 ("our scanner")`. Anybody can write any
/// author, so that the caller is shown where it is another.
pub(super) fn pinned(pin: &AnalystWord) -> String {
    let until = pin.expire_time.map(|end| format!(" until {}", date(end))).unwrap_or_default();
    let caller = match pin.caller.as_str() {
        caller if caller.is_empty() || caller == pin.author => String::new(),
        caller => format!(" (caller {caller})"),
    };
    format!("pinned by {}{caller}{until} (\"{}\")", pin.author, shortened(&pin.reason))
}

fn shortened(reason: &str) -> String {
    match reason.char_indices().nth(MOST_REASON) {
        Some((end, _)) => format!("{}…", reason.get(..end).unwrap_or_default()),
        None => reason.to_owned(),
    }
}

/// The day in UTC.
fn date(time: SystemTime) -> String {
    let text = Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default();
    text.split('T').next().unwrap_or_default().to_owned()
}
