//! Look-ups in a list that was read before: a local file, read again when it changes, or a feed, loaded again when its
//! time is over.
//!
//! A reload that fails, or that shrinks the list by more than half, keeps the last good copy and says so. A look-up never
//! waits for a reload while there is a copy.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use url::Url;

use crate::clock::Clock;
use crate::finding::SourceError;
use crate::finding::SourceErrorKind;
use crate::source::Access;
use crate::source::Answer;
use crate::source::AnswerBody;
use crate::source::EgressRules;
use crate::source::ListAnswer;
use crate::source::ListIndex;
use crate::source::ListQuestion;
use crate::source::Question;
use crate::source::Source;
use crate::source::SourceSettings;

use super::Transport;
use super::http::HttpTransport;

/// Largest list that is read.
const LARGEST_LIST: usize = 256 * 1024 * 1024;
/// A file is looked at for changes at most so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const DEFAULT_REFRESH: Duration = Duration::from_secs(3600);
/// After a load that failed, the next try is at most so far away.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Looks up in the list of one source.
pub(super) struct ListTransport {
    shared: Arc<Shared>,
}

struct Shared {
    source: Arc<dyn Source>,
    settings: Arc<SourceSettings>,
    place: Place,
    clock: Arc<dyn Clock>,
    copy: ArcSwap<Copy>,
    loading: Mutex<()>,
}

enum Place {
    File(PathBuf),
    Feed { url: Url, every: Duration, http: Box<HttpTransport> },
}

/// What is in use, and what is known of where it came from.
#[derive(Clone, Default)]
struct Copy {
    index: Option<Arc<ListIndex>>,
    /// When the copy was loaded with success.
    loaded: Option<SystemTime>,
    /// When the place is looked at again.
    next_look: Option<SystemTime>,
    /// What tells whether the place changed: time and size of a file, or the feed's own mark.
    mark: String,
    /// Why the last load was not taken.
    refused: Option<String>,
}

impl ListTransport {
    /// A transport for a list with these settings. Reads nothing yet.
    ///
    /// # Errors
    /// When the settings name neither a file nor a feed, or a feed that may not be reached.
    pub(super) fn new(
        source: Arc<dyn Source>,
        settings: Arc<SourceSettings>,
        rules: EgressRules,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SourceError> {
        let access = Access { settings: &settings };
        let place = match (access.text("path"), access.text("url")) {
            (path, "") if !path.is_empty() => Place::File(PathBuf::from(path)),
            ("", url) if !url.is_empty() => feed(url, access.text("refresh"), &settings, rules, clock.clone())?,
            _ => {
                return Err(SourceError::new(
                    SourceErrorKind::BadQuestion,
                    "a list needs one of the options path and url",
                ));
            }
        };
        let copy = ArcSwap::from_pointee(Copy::default());
        Ok(Self { shared: Arc::new(Shared { source, settings, place, clock, copy, loading: Mutex::new(()) }) })
    }

    async fn ask(&self, question: &ListQuestion) -> Result<Answer, SourceError> {
        let now = self.shared.clock.now();
        let copy = self.shared.current(now).await;
        let answer = match (&copy.index, copy.loaded) {
            (Some(index), Some(loaded)) => match index.find(&question.indicator) {
                Some(entry) => ListAnswer::Listed { entry, loaded, stale: copy.refused.clone() },
                None => ListAnswer::NotListed { loaded, stale: copy.refused.clone() },
            },
            _ => ListAnswer::NeverLoaded(copy.refused.clone().unwrap_or_else(|| "it was not read yet".into())),
        };
        Ok(Answer { received: now, ttl: None, body: AnswerBody::List(answer) })
    }
}

fn feed(
    url: &str,
    refresh: &str,
    settings: &SourceSettings,
    rules: EgressRules,
    clock: Arc<dyn Clock>,
) -> Result<Place, SourceError> {
    let url =
        Url::parse(url).map_err(|error| SourceError::new(SourceErrorKind::BadQuestion, format!("url: {error}")))?;
    rules.check_url(&url).map_err(|why| SourceError::new(SourceErrorKind::Refused, why))?;
    let every = humantime::parse_duration(refresh).unwrap_or(DEFAULT_REFRESH);
    let http = Box::new(HttpTransport::new(settings, rules, clock)?.of_size(LARGEST_LIST));
    Ok(Place::Feed { url, every, http })
}

impl Shared {
    /// The copy to use: the one there is, unless the place must be looked at again.
    async fn current(self: &Arc<Self>, now: SystemTime) -> Arc<Copy> {
        let copy = self.copy.load_full();
        if copy.next_look.is_some_and(|next| now < next) {
            return copy;
        }
        // One looks; the others use what there is, and wait only for the very first copy.
        match self.loading.try_lock() {
            Ok(_one) => self.look(now).await,
            Err(_) if copy.index.is_some() => copy,
            Err(_) => {
                let _waited = self.loading.lock().await;
                self.copy.load_full()
            }
        }
    }

    async fn look(&self, now: SystemTime) -> Arc<Copy> {
        let before = self.copy.load_full();
        let mut copy = (*before).clone();
        match self.load(&before).await {
            // Unchanged: a copy that was refused before stands there still, so the reason stays. A load that failed has
            // cleared the mark, so that "unchanged" never hides it.
            Ok(None) => {}
            Ok(Some((mark, bytes))) => {
                let taken = self.index(&before, bytes).await;
                copy.mark = mark;
                match taken {
                    Ok(index) => {
                        copy.index = Some(Arc::new(index));
                        copy.loaded = Some(now);
                        copy.refused = None;
                    }
                    Err(why) => copy.refused = Some(why),
                }
            }
            Err(why) => {
                // Once it can be had again it is read again, changed or not.
                copy.mark.clear();
                copy.refused = Some(why);
            }
        }
        if let Some(why) = copy.refused.as_ref().filter(|_| before.refused != copy.refused) {
            tracing::warn!(source = self.settings.name, why, "the list was not taken");
        }
        let wait = match &self.place {
            Place::File(_) => LOOK_EVERY,
            Place::Feed { every, .. } if copy.refused.is_some() => (*every).min(AFTER_FAILURE),
            Place::Feed { every, .. } => *every,
        };
        copy.next_look = now.checked_add(wait);
        let copy = Arc::new(copy);
        self.copy.store(copy.clone());
        copy
    }

    /// What stands at the place and its mark; `None` if it did not change.
    async fn load(&self, before: &Copy) -> Result<Option<(String, Vec<u8>)>, String> {
        match &self.place {
            Place::File(path) => load_file(path, before).await.map_err(|error| format!("{}: {error}", path.display())),
            Place::Feed { url, http, .. } => load_feed(http, url, before).await,
        }
    }

    /// The index over what was read, built off the threads that serve.
    async fn index(&self, before: &Copy, bytes: Vec<u8>) -> Result<ListIndex, String> {
        let (source, settings) = (self.source.clone(), self.settings.clone());
        let build = move || source.index(Access { settings: &settings }, &bytes);
        let built = tokio::task::spawn_blocking(build).await.map_err(|_| "the list could not be read".to_owned())?;
        let index = built.map_err(|error| error.detail)?;
        match before.index.as_ref().map(|index| index.len()) {
            Some(had) if index.len() * 2 < had => {
                Err(format!("the new copy has {} entries, less than half of the {had} in use", index.len()))
            }
            Some(_) | None => Ok(index),
        }
    }
}

async fn load_file(path: &PathBuf, before: &Copy) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let about = tokio::fs::metadata(path).await?;
    let mark = format!("{:?} {}", about.modified()?, about.len());
    // A copy that was refused is looked at again only when the file changes, as one that was taken.
    if mark == before.mark {
        return Ok(None);
    }
    if about.len() > u64::try_from(LARGEST_LIST).unwrap_or(u64::MAX) {
        return Err(std::io::Error::other(format!("more than {LARGEST_LIST} bytes")));
    }
    Ok(Some((mark, tokio::fs::read(path).await?)))
}

async fn load_feed(http: &HttpTransport, url: &Url, before: &Copy) -> Result<Option<(String, Vec<u8>)>, String> {
    let conditions: &[(&str, &str)] = match before.index.is_some() && !before.mark.is_empty() {
        true => &[("if-none-match", before.mark.as_str())],
        false => &[],
    };
    let answer = http.get(url, conditions).await.map_err(|error| error.to_string())?;
    let mark = answer.header("etag").unwrap_or_default().to_owned();
    match answer.body {
        AnswerBody::Http { status: 304, .. } => Ok(None),
        AnswerBody::Http { status: 200, body, .. } => Ok(Some((mark, body))),
        AnswerBody::Http { status, .. } => Err(format!("the feed answers with HTTP status {status}")),
        AnswerBody::Dns(_) | AnswerBody::List(_) => Err("the feed did not answer by HTTP".into()),
    }
}

impl Transport for ListTransport {
    fn send<'a>(
        &'a self,
        question: &'a Question,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, SourceError>> + Send + 'a>> {
        Box::pin(async move {
            match question {
                Question::List(question) => self.ask(question).await,
                Question::Http(_) | Question::Dns(_) => {
                    Err(SourceError::new(SourceErrorKind::BadQuestion, "not a question to a list"))
                }
            }
        })
    }
}

impl fmt::Debug for ListTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListTransport").field("source", &self.shared.settings.name).finish_non_exhaustive()
    }
}
