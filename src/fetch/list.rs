//! Look-ups in a list that was read before: a local file, read again when it changes, or a feed, loaded again when its
//! time is over.
//!
//! A reload that fails, or that shrinks the list by more than half, keeps the last good copy and says so; a feed that
//! stays that small is taken in the end. Loads run in tasks of their own, whoever gives up: a look-up starts one and goes
//! on with the copy there is; only the first copy is waited for, as long as the attempt lasts.

use std::fmt;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use url::Url;

use super::Transport;
use super::http::HttpTransport;
use super::trip::lock;
use crate::clock::Clock;
use crate::finding::{SourceError, SourceErrorKind};
use crate::source::{
    Answer, AnswerBody, EgressRules, ListAnswer, ListIndex, ListLocation, ListQuestion, Question, Source,
    SourceSettings,
};

/// Largest list that is read.
const LARGEST_LIST: usize = 256 * 1024 * 1024;
/// A file is looked at for changes at most so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look-up waits at most so long for a look that is overdue.
const PATIENCE: Duration = Duration::from_millis(500);
/// After a load that failed, the next try is at most so far away.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// A load that takes longer is given up, so that one that hangs does not keep the next from starting.
const LONGEST_LOAD: Duration = Duration::from_secs(300);
/// Loads of a feed in a row that are less than half of the copy in use, the last of which is believed.
const LOADS_TO_SHRINK: u32 = 3;

/// Looks up in the list of one source.
pub(super) struct ListTransport {
    shared: Arc<Shared>,
    /// Ends a load under way when nobody can ask any more: a source that is tested and not saved, or set anew.
    _asked: DropGuard,
}

struct Shared {
    source: Arc<dyn Source>,
    settings: Arc<SourceSettings>,
    place: Place,
    clock: Arc<dyn Clock>,
    copy: ArcSwap<Copy>,
    /// When the last look began.
    begun: std::sync::Mutex<SystemTime>,
    /// Held by the task that loads.
    loading: Arc<Mutex<()>>,
    tracker: TaskTracker,
    given_up: CancellationToken,
}

enum Place {
    File { path: PathBuf, rules: EgressRules },
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
    /// What tells whether the place changed: time, size and number of a file, or the feed's own mark.
    mark: String,
    /// Why the last load was not taken.
    refused: Option<String>,
    /// How many loads in a row were refused for being too small.
    shrunk: u32,
}

/// Why what was loaded is not taken.
enum Refusal {
    /// It cannot be read, or not be had.
    Unusable(String),
    /// It has no more than so many entries, in place of so many.
    Shrunk { has: usize, had: usize },
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
        tracker: TaskTracker,
    ) -> Result<Self, SourceError> {
        let place = match source.list_location() {
            Some(ListLocation::File(path)) => Place::File { path, rules },
            Some(ListLocation::Feed { url, refresh }) => {
                rules.check_url(&url).map_err(|why| SourceError::new(SourceErrorKind::Refused, why))?;
                let http = Box::new(HttpTransport::new(&settings, rules, clock.clone())?.of_size(LARGEST_LIST));
                Place::Feed { url, every: refresh, http }
            }
            None => return Err(SourceError::new(SourceErrorKind::BadQuestion, "the source has no list")),
        };
        let copy = ArcSwap::from_pointee(Copy::default());
        let loading = Arc::new(Mutex::new(()));
        let begun = std::sync::Mutex::new(SystemTime::UNIX_EPOCH);
        let given_up = CancellationToken::new();
        let _asked = given_up.clone().drop_guard();
        let shared = Shared { source, settings, place, clock, copy, begun, loading, tracker, given_up };
        Ok(Self { shared: Arc::new(shared), _asked })
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

impl Shared {
    /// The copy to use: the one there is. When the place must be looked at again, a task does.
    async fn current(self: &Arc<Self>, now: SystemTime) -> Arc<Copy> {
        let copy = self.copy.load_full();
        // A look further ahead than looks are apart was set before the clock stepped back.
        let sane = |next: SystemTime| next.duration_since(now).is_ok_and(|ahead| ahead <= self.wait(&copy));
        if copy.next_look.is_some_and(|next| now < next && sane(next)) {
            return copy;
        }
        if let Ok(one) = self.loading.clone().try_lock_owned() {
            *lock(&self.begun) = now;
            let shared = self.clone();
            self.tracker.spawn(async move {
                shared.look().await;
                drop(one);
            });
        }
        let overdue = |next: SystemTime| now.duration_since(next).is_ok_and(|late| late > self.period());
        match copy.next_look {
            Some(next) if copy.index.is_some() && !overdue(next) => return copy,
            Some(next) if copy.index.is_some() => return self.look_in_time(copy, next, now).await,
            // Without a copy there is nothing to say before one is loaded.
            Some(_) | None => drop(self.loading.lock().await),
        }
        self.copy.load_full()
    }

    /// Nobody asked for a while, so the copy may be old: the look is waited for, and not for long. Whoever comes when that
    /// time is over is answered at once.
    async fn look_in_time(&self, copy: Arc<Copy>, due: SystemTime, now: SystemTime) -> Arc<Copy> {
        let patience = PATIENCE.min(self.settings.timeout / 2);
        let waited = now.duration_since(*lock(&self.begun)).unwrap_or_default();
        tokio::select! {
            biased;
            _loaded = self.loading.lock() => self.copy.load_full(),
            () = self.clock.sleep(patience.saturating_sub(waited)) => {
                let late = now.duration_since(due).unwrap_or_default();
                let why = format!("not looked at since it was due {} s ago; it is being loaded", late.as_secs());
                let refused = copy.refused.clone().or(Some(why));
                Arc::new(Copy { refused, ..Copy::clone(&copy) })
            }
        }
    }

    /// How often the place is looked at where nothing fails.
    fn period(&self) -> Duration {
        match &self.place {
            Place::File { .. } => LOOK_EVERY,
            Place::Feed { every, .. } => *every,
        }
    }

    async fn look(&self) {
        let before = self.copy.load_full();
        let begun = self.clock.now();
        let mut copy = (*before).clone();
        match self.load_in_time(&before).await {
            // Unchanged: a copy that was refused before stands there still, so the reason stays. A load that failed has
            // cleared the mark, so that "unchanged" never hides it.
            Ok(None) => {}
            Ok(Some((mark, bytes))) => {
                copy.mark = mark;
                match self.index(&before, bytes).await {
                    Ok(index) => {
                        copy.index = Some(Arc::new(index));
                        copy.loaded = Some(begun);
                        copy.refused = None;
                        copy.shrunk = 0;
                    }
                    Err(refusal) => self.refuse(&mut copy, refusal),
                }
            }
            Err(why) => {
                // Once it can be had again it is read again, changed or not.
                copy.mark.clear();
                self.refuse(&mut copy, Refusal::Unusable(why));
            }
        }
        if let Some(why) = copy.refused.as_ref().filter(|_| before.refused != copy.refused) {
            tracing::warn!(source = self.settings.name, why, "the list was not taken");
        }
        copy.next_look = self.clock.now().checked_add(self.wait(&copy));
        self.copy.store(Arc::new(copy));
    }

    /// How long until the place is looked at again.
    fn wait(&self, copy: &Copy) -> Duration {
        // A feed that shrank is believed by its own pace, not within minutes.
        if copy.refused.is_some() && copy.shrunk == 0 { self.period().min(AFTER_FAILURE) } else { self.period() }
    }

    /// Notes why the last load was not taken, and what becomes of it.
    fn refuse(&self, copy: &mut Copy, refusal: Refusal) {
        let (has, had) = match refusal {
            Refusal::Unusable(why) => {
                copy.shrunk = 0;
                copy.refused = Some(why);
                return;
            }
            Refusal::Shrunk { has, had } => (has, had),
        };
        copy.shrunk = copy.shrunk.saturating_add(1);
        let way_out = match &self.place {
            Place::File { .. } => "if that is meant, restart the server".to_owned(),
            Place::Feed { .. } if has == 0 => {
                "an empty one is never taken; if that is meant, restart the server".into()
            }
            Place::Feed { .. } => {
                // Else the feed would answer that nothing changed, and it could not be loaded once more.
                copy.mark.clear();
                format!("it is taken if {LOADS_TO_SHRINK} loads in a row bring so few (now {})", copy.shrunk)
            }
        };
        copy.refused = Some(format!("the new copy has {has} entries, less than half of the {had} in use; {way_out}"));
    }

    async fn load_in_time(&self, before: &Copy) -> Result<Option<(String, Vec<u8>)>, String> {
        tokio::select! {
            biased;
            loaded = self.load(before) => loaded,
            () = self.given_up.cancelled() => Err("nobody asks any more".into()),
            () = self.clock.sleep(LONGEST_LOAD) => Err(format!("not loaded within {} s", LONGEST_LOAD.as_secs())),
        }
    }

    /// What stands at the place and its mark; `None` if it did not change.
    async fn load(&self, before: &Copy) -> Result<Option<(String, Vec<u8>)>, String> {
        match &self.place {
            Place::File { path, rules } => {
                // Whoever asks may see this: the file by its name, without the folders that it stands in.
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                load_file(path, rules, before).await.map_err(|why| format!("{name}: {why}"))
            }
            Place::Feed { url, http, .. } => load_feed(http, url, before).await,
        }
    }

    /// The index over what was read, built off the threads that serve.
    async fn index(&self, before: &Copy, bytes: Vec<u8>) -> Result<ListIndex, Refusal> {
        let source = self.source.clone();
        let build = move || source.index(&bytes);
        let built = tokio::task::spawn_blocking(build).await;
        let built = built.map_err(|_| Refusal::Unusable("the list could not be read".into()))?;
        let index = built.map_err(|error| Refusal::Unusable(error.detail))?;
        let (has, had) = (index.len(), before.index.as_ref().map_or(0, |index| index.len()));
        if has.saturating_mul(2) < had && !self.is_believed(before, has) {
            return Err(Refusal::Shrunk { has, had });
        }
        Ok(index)
    }

    /// Whether a copy that is too small was seen often enough to be what is meant.
    fn is_believed(&self, before: &Copy, has: usize) -> bool {
        match &self.place {
            Place::File { .. } => false,
            Place::Feed { .. } => has > 0 && before.shrunk.saturating_add(1) >= LOADS_TO_SHRINK,
        }
    }
}

/// The file's mark and bytes; `None` if it did not change. The rules are kept at every look: a link may lead elsewhere by
/// now.
async fn load_file(
    path: &Path,
    rules: &EgressRules,
    before: &Copy,
) -> Result<Option<(String, Vec<u8>)>, Box<dyn std::error::Error + Send + Sync>> {
    let real = tokio::fs::canonicalize(path).await;
    let mut folders = Vec::new();
    for folder in &rules.list_folders {
        folders.extend(tokio::fs::canonicalize(folder).await);
    }
    rules.check_file(real.as_deref().ok(), &folders)?;
    let real = real?;
    let about = tokio::fs::metadata(&real).await?;
    let mark = format!("{:?} {} {}", about.modified()?, about.len(), about.ino());
    // A copy that was refused is looked at again only when the file changes, as one that was taken.
    if mark == before.mark {
        return Ok(None);
    }
    if !about.is_file() {
        return Err("not a file".into());
    }
    // Read to the limit and one byte more: a file can grow after it was measured.
    let limit = u64::try_from(LARGEST_LIST).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(&real).await?;
    let opened = file.metadata().await?;
    // Between the judgement and the opening a link may have taken the file's place.
    if (opened.dev(), opened.ino()) != (about.dev(), about.ino()) {
        return Err("changed while it was opened".into());
    }
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).await?;
    if bytes.len() > LARGEST_LIST {
        return Err(format!("more than {LARGEST_LIST} bytes").into());
    }
    Ok(Some((mark, bytes)))
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
