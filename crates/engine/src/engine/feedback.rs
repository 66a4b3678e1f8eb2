//! What analysts say, in memory: an enrichment reads no store to know whether its indicator is pinned.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::SystemTime;

use super::Engine;
use crate::error::Error;
use crate::indicator::{Form, Indicator};
use crate::store::{Cursor, FeedbackFilter, PageLimit, StoreError, new_id};
use crate::sync::lock;
use crate::verdict::{ActiveFeedback, Feedback, Retraction};

/// Bounds the memory of the index.
const MOST_ACTIVE: usize = 100_000;
/// Most of them of one caller, so that none takes the places of all others.
const MOST_OF_ONE_CALLER: usize = MOST_ACTIVE / 4;
/// Most of them on one indicator, all of which are read for each of its verdicts.
const MOST_ON_ONE: usize = 100;

/// How much is read at once from the store.
const PAGE: PageLimit = PageLimit { rows: 1_000, bytes: 4 * 1024 * 1024 };

/// An indicator in the form in which it is stored, without the password of a URL.
type Key = (Form, String);

/// The feedback by indicator that was not retracted. Whether it holds is decided by the time at which it is read, so that a wall
/// clock that is ahead for a while takes nothing away.
#[derive(Default)]
pub(super) struct FeedbackIndex(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    by_indicator: HashMap<Key, Vec<Entry>>,
    /// How many entries each caller has.
    of_caller: HashMap<String, usize>,
    count: usize,
    /// The entries that end by themselves, by that time and their identifier.
    ends: BTreeMap<(SystemTime, String), Key>,
}

struct Entry {
    feedback: Feedback,
    /// No verdict names an entry that might yet fail to be stored.
    is_stored: bool,
}

fn key(indicator: &Indicator) -> Key {
    (indicator.form(), indicator.redacted())
}

impl Entries {
    fn insert(&mut self, feedback: Feedback, is_stored: bool) {
        let key = key(&feedback.indicator);
        if let Some(end) = feedback.expire_time {
            self.ends.insert((end, feedback.id.clone()), key.clone());
        }
        *self.of_caller.entry(feedback.caller.clone()).or_default() += 1;
        self.count += 1;
        self.by_indicator.entry(key).or_default().push(Entry { feedback, is_stored });
    }

    fn remove(&mut self, key: &Key, id: &str) {
        let Some(entries) = self.by_indicator.get_mut(key) else { return };
        let Some(place) = entries.iter().position(|entry| entry.feedback.id == id) else { return };
        let Feedback { caller, expire_time, id, .. } = entries.remove(place).feedback;
        if entries.is_empty() {
            self.by_indicator.remove(key);
        }
        if let Some(end) = expire_time {
            self.ends.remove(&(end, id));
        }
        self.count -= 1;
        if let Some(count) = self.of_caller.get_mut(&caller) {
            *count -= 1;
            if *count == 0 {
                self.of_caller.remove(&caller);
            }
        }
    }

    fn remove_expired(&mut self, at: SystemTime) {
        while self.ends.first_key_value().is_some_and(|((end, _), _)| *end <= at)
            && let Some(((_, id), key)) = self.ends.pop_first()
        {
            self.remove(&key, &id);
        }
    }

    /// Why there is no room for this entry; `None`: there is.
    fn lacks_room(&self, feedback: &Feedback) -> Option<String> {
        let on_one = self.by_indicator.get(&key(&feedback.indicator)).map_or(0, Vec::len);
        let of_caller = self.of_caller.get(&feedback.caller).copied().unwrap_or_default();
        if on_one >= MOST_ON_ONE {
            Some(format!("{MOST_ON_ONE} entries on this indicator are active"))
        } else if of_caller >= MOST_OF_ONE_CALLER {
            Some(format!(
                "{MOST_OF_ONE_CALLER} entries of {}, the most that one caller may have, are active",
                feedback.caller
            ))
        } else {
            (self.count >= MOST_ACTIVE).then(|| format!("{MOST_ACTIVE} entries are active"))
        }
    }
}

impl FeedbackIndex {
    /// Adds what is stored. Where there is no room for more, what has expired makes room.
    fn load(&self, stored: Vec<Feedback>, at: SystemTime) {
        let mut entries = lock(&self.0);
        for feedback in stored {
            if entries.count >= MOST_ACTIVE {
                entries.remove_expired(at);
            }
            entries.insert(feedback, true);
        }
    }

    /// Takes a place for an entry that is about to be stored, if there is room.
    fn reserve(&self, feedback: &Feedback, at: SystemTime) -> Result<(), Error> {
        let mut entries = lock(&self.0);
        // Only where it is needed, as a wall clock may be ahead for a while.
        if entries.lacks_room(feedback).is_some() {
            entries.remove_expired(at);
        }
        if let Some(what) = entries.lacks_room(feedback) {
            return Err(Error::Exhausted {
                subject: "active feedback".into(),
                message: format!("{what}: retract some (ListFeedback shows them), or let them expire"),
                retry_after: None,
            });
        }
        entries.insert(feedback.clone(), false);
        Ok(())
    }

    /// Shows an entry that is stored now.
    fn publish(&self, feedback: &Feedback) {
        let mut entries = lock(&self.0);
        let entries = entries.by_indicator.get_mut(&key(&feedback.indicator));
        if let Some(entry) = entries.into_iter().flatten().find(|entry| entry.feedback.id == feedback.id) {
            entry.is_stored = true;
        }
    }

    fn remove(&self, feedback: &Feedback) {
        lock(&self.0).remove(&key(&feedback.indicator), &feedback.id);
    }

    fn active(&self, indicator: &Indicator, at: SystemTime) -> ActiveFeedback {
        let entries = lock(&self.0);
        if entries.count == 0 {
            return ActiveFeedback::default();
        }
        let entries = entries.by_indicator.get(&key(indicator)).into_iter().flatten();
        ActiveFeedback::new(entries.filter(|entry| entry.is_stored).map(|entry| &entry.feedback), at)
    }
}

impl Engine {
    /// Reads the feedback that was not retracted. To be called once, before anything is judged.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn load_feedback(&self) -> Result<(), StoreError> {
        let filter = FeedbackFilter { unretracted: true, ..FeedbackFilter::default() };
        let mut after = None;
        loop {
            let listed = self.store.list_feedback(filter.clone(), PAGE, after).await?;
            after = listed.rows.last().map(|last| Cursor { time: last.create_time, id: last.id.clone() });
            self.feedback.load(listed.rows, self.clock.now());
            if !listed.has_more {
                return Ok(());
            }
        }
    }

    /// What analysts say of an indicator now.
    pub fn active_feedback(&self, indicator: &Indicator) -> ActiveFeedback {
        self.feedback.active(indicator, self.clock.now())
    }

    /// Records feedback under a new identifier. Verdicts made from now on show it.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if too much feedback is active, of all callers, of this one or on this indicator; or if the store
    /// fails.
    pub async fn record_feedback(&self, feedback: Feedback) -> Result<Feedback, Error> {
        let feedback = Feedback { id: new_id(feedback.create_time), ..feedback };
        self.feedback.reserve(&feedback, self.clock.now())?;
        match self.store.record_feedback(feedback.clone()).await {
            Ok(()) => self.feedback.publish(&feedback),
            Err(error) => {
                self.feedback.remove(&feedback);
                return Err(error.into());
            }
        }
        Ok(feedback)
    }

    /// Takes feedback back, and returns it as it is then; `None` if there is none of this identifier. The retraction in it is
    /// another where somebody had taken it back before.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn retract_feedback(&self, id: &str, retraction: Retraction) -> Result<Option<Feedback>, Error> {
        let feedback = self.store.retract_feedback(id, retraction).await?;
        if let Some(feedback) = &feedback {
            self.feedback.remove(feedback);
        }
        Ok(feedback)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::verdict::AnalystJudgement;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn feedback_of(number: usize, caller: &str, end: Option<SystemTime>) -> Feedback {
        let value = format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
        Feedback {
            id: format!("{caller}{number}"),
            indicator: Indicator::parse(&value).unwrap().indicator,
            judgement: AnalystJudgement::Benign,
            author: "alice".into(),
            reason: "our scanner".into(),
            pin: false,
            create_time: at(0),
            expire_time: end,
            verdict: None,
            caller: caller.into(),
            retraction: None,
        }
    }

    #[test]
    fn no_caller_takes_more_than_its_share_and_what_ends_frees_it() {
        let index = FeedbackIndex::default();
        let end = |number: usize| (number == 0).then(|| at(10));
        for number in 0..MOST_OF_ONE_CALLER {
            index.reserve(&feedback_of(number, "soar", end(number)), at(0)).unwrap();
        }
        let one_more = feedback_of(MOST_OF_ONE_CALLER, "soar", None);
        let refused = index.reserve(&one_more, at(9)).unwrap_err().to_string();
        assert!(refused.contains("25000 entries of soar") && refused.contains("retract"), "{refused}");
        index.reserve(&feedback_of(0, "other", None), at(9)).unwrap();
        index.reserve(&one_more, at(10)).unwrap();
        index.reserve(&feedback_of(MOST_OF_ONE_CALLER + 1, "soar", None), at(10)).unwrap_err();
        index.remove(&one_more);
        index.reserve(&one_more, at(10)).unwrap();
    }

    #[test]
    fn all_callers_together_fill_the_index_and_no_more() {
        let index = FeedbackIndex::default();
        for number in 0..MOST_ACTIVE {
            index.reserve(&feedback_of(number, &format!("caller{}", number % 5), None), at(0)).unwrap();
        }
        let refused = index.reserve(&feedback_of(0, "late", None), at(0)).unwrap_err().to_string();
        assert!(refused.contains("100000 entries are active"), "{refused}");
    }

    #[test]
    fn what_is_not_stored_yet_takes_a_place_and_is_not_shown() {
        let index = FeedbackIndex::default();
        let feedback = feedback_of(1, "soar", None);
        index.reserve(&feedback, at(0)).unwrap();
        assert_eq!(index.active(&feedback.indicator, at(0)), ActiveFeedback::default());
        index.publish(&feedback);
        assert_eq!(index.active(&feedback.indicator, at(0)).ids(), ["soar1"]);
        index.remove(&feedback);
        assert_eq!(index.active(&feedback.indicator, at(0)), ActiveFeedback::default());
    }
}
