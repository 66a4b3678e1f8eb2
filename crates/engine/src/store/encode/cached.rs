//! Encoding of cached conversations. Not compressed: most are shorter than what compression adds.

use std::borrow::Borrow;
use std::sync::Arc;

use prost::Message;

use super::{duration, stored, stored_duration, unreadable};
use crate::finding::OutcomeBody;
use crate::store::time::{nanos, time};
use crate::store::{CachedConversation, CachedStep, StoreError};

impl<B: Borrow<OutcomeBody>> CachedConversation<B> {
    /// Encodes it for a [`CachedRow`](crate::store::CachedRow).
    pub fn encode(self) -> Arc<[u8]> {
        let body = self.body.as_ref().and_then(|body| match body.borrow() {
            OutcomeBody::Finding(finding) => Some(stored::cached_conversation::Body::Finding(finding.into())),
            OutcomeBody::NoRecord => Some(stored::cached_conversation::Body::NoRecord(())),
            OutcomeBody::Error(_) | OutcomeBody::NotAsked(_) => None,
        });
        let step = |step: CachedStep| stored::CachedStep {
            question: step.question.to_vec(),
            answer: step.answer.to_vec(),
            status: step.status.map(u32::from),
            received: nanos(step.received),
            time: nanos(step.time),
            ttl: step.ttl.map(stored_duration),
        };
        let started = nanos(self.started);
        let steps = self.steps.into_iter().map(step).collect();
        let (rating, refusals) = (self.rating.to_vec(), self.refusals);
        stored::CachedConversation { started, rating, body, steps, refusals }.encode_to_vec().into()
    }
}

impl CachedConversation {
    /// Reverses [`Self::encode`].
    ///
    /// # Errors
    /// If the bytes are damaged or were written by a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let conversation = stored::CachedConversation::decode(bytes).map_err(unreadable)?;
        let body = match conversation.body {
            Some(stored::cached_conversation::Body::Finding(finding)) => {
                Some(OutcomeBody::Finding(finding.try_into()?))
            }
            Some(stored::cached_conversation::Body::NoRecord(())) => Some(OutcomeBody::NoRecord),
            None => None,
        };
        let step = |step: stored::CachedStep| {
            Ok::<_, StoreError>(CachedStep {
                question: digest(&step.question)?,
                answer: digest(&step.answer)?,
                status: step.status.map(u16::try_from).transpose().map_err(unreadable)?,
                received: time(step.received),
                time: time(step.time),
                ttl: step.ttl.map(duration).transpose()?,
            })
        };
        let steps = conversation.steps.into_iter().map(step).collect::<Result<_, _>>()?;
        let (started, rating) = (time(conversation.started), digest(&conversation.rating)?);
        Ok(Self { started, rating, body, refusals: conversation.refusals, steps })
    }
}

fn digest<const LENGTH: usize>(bytes: &[u8]) -> Result<[u8; LENGTH], StoreError> {
    bytes.try_into().map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::finding::{Disposition, Finding};

    fn conversation(body: Option<OutcomeBody>) -> CachedConversation {
        let received = UNIX_EPOCH + Duration::new(1_700_000_000, 7);
        let step = CachedStep {
            question: [1; 16],
            answer: [2; 32],
            status: Some(404),
            received,
            time: received + Duration::from_secs(1),
            ttl: Some(Duration::from_millis(1500)),
        };
        let by_dns = CachedStep { status: None, ttl: None, ..step.clone() };
        let refusals = u32::from(body.is_none());
        CachedConversation { started: UNIX_EPOCH, rating: [3; 16], body, refusals, steps: vec![step, by_dns] }
    }

    #[test]
    fn a_conversation_comes_back_exactly_and_no_record_takes_few_bytes() {
        let finding = Finding::new(Disposition::Malicious, None, "because");
        for body in [Some(OutcomeBody::Finding(finding)), Some(OutcomeBody::NoRecord), None] {
            let conversation = conversation(body);
            assert_eq!(CachedConversation::decode(&conversation.clone().encode()), Ok(conversation));
        }
        let mut no_record = conversation(Some(OutcomeBody::NoRecord));
        no_record.steps.truncate(1);
        assert!(no_record.encode().len() <= 128);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_conversation_or_an_error(bytes: Vec<u8>, place: prop::sample::Index, byte: u8) {
            let _ = CachedConversation::decode(&bytes);
            let mut damaged = conversation(Some(OutcomeBody::NoRecord)).encode().to_vec();
            let place = place.index(damaged.len());
            damaged[place] = byte;
            let _ = CachedConversation::decode(&damaged);
        }
    }
}
