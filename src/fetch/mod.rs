//! The way a question takes to a source and its answer back: one file per layer, `stack.rs` composes them.
//!
//! The only room that opens outbound connections. It decides nothing about who may be told what (that is `engine`'s
//! plan) and nothing about what an answer means (that is the kind's `read`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::finding::{Outcome, SourceError};
use crate::indicator::Tlp;
use crate::source::{Answer, Lookup, Question};
use crate::store::WindowUse;

mod attempt_time;
mod cache;
mod coalesce;
mod conversation;
mod dns;
mod http;
mod list;
mod observe;
mod quota;
mod retry;
mod stack;
mod tls;
mod total_time;
mod transport;
mod trip;

#[cfg(test)]
mod tests;

pub use cache::{KeptAge, SourceCache};
pub use observe::{Counters, Tally};
pub(crate) use quota::SUSPENDED;
pub use stack::{Parts, SourceStack};
pub use transport::transport_for;
use trip::Step;
pub use trip::Suspension;

/// One look-up of one source, as the engine asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is looked up.
    pub lookup: Lookup,
    /// The moment by which the outcome must be there.
    pub deadline: SystemTime,
    /// How old a kept answer may be; `None`: as old as the source's settings allow; zero: ask anew.
    pub max_age: Option<Duration>,
    /// For whom, for the disclosure ledger.
    pub caller: String,
    /// Under which TLP, for the disclosure ledger.
    pub tlp: Tlp,
}

/// An outcome and how it was come by.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// What came of asking.
    pub outcome: Outcome,
    /// How it was come by.
    pub receipt: Receipt,
}

/// How an outcome was come by; differs from call to call, so it is no part of the verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipt {
    /// Whether a call left for this request.
    pub called: bool,
    /// Whether it came from cache.
    pub from_cache: bool,
    /// Whether it was shared with another request for the same, already in flight.
    pub shared: bool,
    /// Time since the source answered.
    pub age: Duration,
    /// How long the answer itself says that it stands, from its arrival on: the least time to live of its records.
    pub ttl: Option<Duration>,
    /// Time that it took to come by.
    pub latency: Duration,
    /// Quota units spent for this request; 0 for what came from cache or was shared.
    pub units: u32,
    /// What is left of the source's windows, as far as known.
    pub quota: Vec<WindowUse>,
    /// What should be known of how the answer came to be: that a list is not fresh, and why.
    pub note: Option<String>,
    /// The raw answers behind the outcome.
    pub answers: RawAnswers,
}

/// The raw answers behind an outcome, in order of asking. Clones share them. What a list says is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawAnswers(Arc<[Step]>);

impl RawAnswers {
    fn of(steps: &Arc<[Step]>) -> Self {
        Self(steps.clone())
    }

    /// The hashes under which they are stored.
    pub fn hashes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|step| step.hash.as_deref())
    }

    /// What the source said, as it is stored. It may not be in the store yet: nobody waits for that.
    pub fn bodies(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.iter().filter_map(|step| conversation::raw(&step.answer.body))
    }
}

/// How a question travels, filled by the HTTP, DNS and list transports and by scripted ones in tests.
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// Whether the question may be sent at all, as far as can be told before anything is paid or on record.
    ///
    /// The error says why not.
    fn may_send<'a>(
        &'a self,
        question: &'a Question,
    ) -> Pin<Box<dyn Future<Output = Result<(), SourceError>> + Send + 'a>> {
        let _ = question;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Sends one question once and waits for its answer; the caller bounds the time and drops the future to give up.
    fn send<'a>(
        &'a self,
        question: &'a Question,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, SourceError>> + Send + 'a>>;
}
