//! What analysts say, in memory: an enrichment reads no store to know whether its indicator is pinned.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::SystemTime;

use super::Engine;
use crate::error::Error;
use crate::indicator::{Form, Indicator};
use crate::store::{FeedbackFilter, PageLimit, StoreError, new_id};
use crate::sync::lock;
use crate::verdict::{ActiveFeedback, Feedback, Retraction};

/// Bounds the memory of the index.
const MOST_ACTIVE: usize = 100_000;
/// Most of them on one indicator, all of which are read for each of its verdicts.
const MOST_ON_ONE: usize = 100;

/// An indicator in the form in which it is stored, without the password of a URL.
type Key = (Form, String);

/// The active feedback by indicator.
#[derive(Default)]
pub(super) struct FeedbackIndex(Mutex<HashMap<Key, Vec<Feedback>>>);

fn key(indicator: &Indicator) -> Key {
    (indicator.form(), indicator.redacted())
}

impl FeedbackIndex {
    fn insert(&self, feedback: Feedback) {
        lock(&self.0).entry(key(&feedback.indicator)).or_default().push(feedback);
    }

    fn remove(&self, feedback: &Feedback) {
        let mut index = lock(&self.0);
        let key = key(&feedback.indicator);
        if let Some(entries) = index.get_mut(&key) {
            entries.retain(|entry| entry.id != feedback.id);
            if entries.is_empty() {
                index.remove(&key);
            }
        }
    }

    fn active(&self, indicator: &Indicator, at: SystemTime) -> ActiveFeedback {
        let index = lock(&self.0);
        if index.is_empty() {
            return ActiveFeedback::default();
        }
        index.get(&key(indicator)).map(|entries| ActiveFeedback::new(entries, at)).unwrap_or_default()
    }

    /// Whether one more entry on this indicator would be among those that can be read with each verdict.
    fn has_room_for(&self, indicator: &Indicator, at: SystemTime) -> bool {
        let mut index = lock(&self.0);
        let Some(entries) = index.get_mut(&key(indicator)) else { return true };
        if entries.len() >= MOST_ON_ONE {
            entries.retain(|entry| entry.is_active(at));
        }
        entries.len() < MOST_ON_ONE
    }

    /// Whether there is room for one more entry. What has expired is dropped where that is needed.
    fn has_room(&self, at: SystemTime) -> bool {
        let mut index = lock(&self.0);
        let count = |index: &HashMap<Key, Vec<Feedback>>| index.values().map(Vec::len).sum::<usize>();
        if count(&index) >= MOST_ACTIVE {
            index.retain(|_, entries| {
                entries.retain(|entry| entry.is_active(at));
                !entries.is_empty()
            });
        }
        count(&index) < MOST_ACTIVE
    }
}

impl Engine {
    /// Reads the feedback that holds now. To be called once, before anything is judged.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn load_feedback(&self) -> Result<(), StoreError> {
        let filter = FeedbackFilter { active_at: Some(self.clock.now()), ..FeedbackFilter::default() };
        let listed = self.store.list_feedback(filter, PageLimit::rows(MOST_ACTIVE), None).await?;
        listed.rows.into_iter().for_each(|feedback| self.feedback.insert(feedback));
        Ok(())
    }

    /// What analysts say of an indicator now.
    pub fn active_feedback(&self, indicator: &Indicator) -> ActiveFeedback {
        self.feedback.active(indicator, self.clock.now())
    }

    /// Records feedback under a new identifier. Verdicts made from now on show it.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if too much feedback is active, or if the store fails.
    pub async fn record_feedback(&self, feedback: Feedback) -> Result<Feedback, Error> {
        if !self.feedback.has_room_for(&feedback.indicator, self.clock.now()) {
            return Err(Error::Exhausted {
                subject: "active feedback".into(),
                message: format!(
                    "{MOST_ON_ONE} entries on this indicator are active: retract some, or let them expire"
                ),
                retry_after: None,
            });
        }
        if !self.feedback.has_room(self.clock.now()) {
            return Err(Error::Exhausted {
                subject: "active feedback".into(),
                message: format!("{MOST_ACTIVE} entries are active: retract some, or let them expire"),
                retry_after: None,
            });
        }
        let feedback = Feedback { id: new_id(feedback.create_time), ..feedback };
        self.store.record_feedback(feedback.clone()).await?;
        self.feedback.insert(feedback.clone());
        Ok(feedback)
    }

    /// Takes feedback back, and returns it as it is then; `None` if there is none of this identifier.
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
