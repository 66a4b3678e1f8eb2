//! What analysts said, as bytes and back.

use super::{StoreError, required, stored, time};
use crate::verdict::AnalystWord;

impl From<&AnalystWord> for stored::AnalystWord {
    fn from(word: &AnalystWord) -> Self {
        Self {
            feedback: word.feedback.clone(),
            judgement: stored::AnalystJudgement::from(word.judgement).into(),
            author: word.author.clone(),
            caller: word.caller.clone(),
            reason: word.reason.clone(),
            create_time: Some(word.create_time.into()),
            expire_time: word.expire_time.map(Into::into),
        }
    }
}

impl TryFrom<stored::AnalystWord> for AnalystWord {
    type Error = StoreError;

    fn try_from(word: stored::AnalystWord) -> Result<Self, StoreError> {
        Ok(Self {
            judgement: word.judgement().try_into()?,
            feedback: word.feedback,
            author: word.author,
            caller: word.caller,
            reason: word.reason,
            create_time: time(required(word.create_time)?)?,
            expire_time: word.expire_time.map(time).transpose()?,
        })
    }
}
