//! Lists: read from a file or a feed, read again, kept when what comes is worse, and never in a look-up's way.

use std::future::ready;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use concord::clock::{Clock, ManualClock};
use concord::fetch::ListReader;
use concord::finding::SourceError;
use concord::indicator::Indicator;
use concord::source::{AnswerBody, EgressRules, ListAnswer, SourceSettings, SourceView};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::scripted_server::{Reply, ScriptedServer};
use super::{kind, option, settings, with_credential};

pub const HOUR: Duration = Duration::from_secs(3600);
const FOUR: &str = "192.0.2.1\n192.0.2.2\n192.0.2.3\n192.0.2.4\n";
const ONE: &str = "192.0.2.1\n";

/// A list and what it runs on.
#[derive(Debug)]
pub struct TestList {
    reader: ListReader,
    clock: ManualClock,
    tracker: TaskTracker,
}

pub fn try_list(settings: SourceSettings, rules: EgressRules) -> Result<TestList, SourceError> {
    // A list must hold by itself where a credential is missing, so the source is built as if there were one.
    let mut complete = settings.clone();
    with_credential(&mut complete);
    let source = kind("list").build(&SourceView::new(&complete));
    let source = source.map_err(|error| SourceError::malformed(format!("{error:?}")))?;
    let (clock, tracker) = (ManualClock::following_tokio(super::now()), TaskTracker::new());
    let shared = Arc::new(clock.clone());
    let reader = ListReader::new(source, Arc::new(settings), rules, shared, tracker.clone())?;
    Ok(TestList { reader, clock, tracker })
}

fn list_with(settings: SourceSettings) -> TestList {
    try_list(settings, EgressRules::default()).unwrap()
}

fn file(path: &Path) -> TestList {
    file_under(path, EgressRules::default())
}

/// A list of this text, with its place; the folder goes when it is dropped.
fn written(text: &str) -> (tempfile::TempDir, std::path::PathBuf, TestList) {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("list.txt");
    std::fs::write(&path, text).unwrap();
    let list = file(&path);
    (folder, path, list)
}

fn file_under(path: &std::path::Path, rules: EgressRules) -> TestList {
    let path = option("list", "path", path.to_str().unwrap());
    try_list(settings("list", |settings| drop(settings.options.insert("path".into(), path))), rules).unwrap()
}

fn feed(server: &ScriptedServer) -> TestList {
    let url = option("list", "url", &server.url("/feed"));
    list_with(settings("list", |settings| drop(settings.options.insert("url".into(), url))))
}

fn listing(text: &str) -> Reply {
    Reply::new("200 OK", "", text.as_bytes())
}

impl TestList {
    pub async fn look_up(&self, text: &str) -> ListAnswer {
        let indicator = Indicator::parse(text).unwrap().indicator;
        let answer = self.reader.find(&indicator).await;
        match answer.body {
            AnswerBody::List(answer) => answer,
            AnswerBody::Http { .. } | AnswerBody::Dns(_) | AnswerBody::Failed(_) => panic!("{answer:?}"),
        }
    }

    /// Until every load under way has ended.
    async fn loads(&self) {
        self.tracker.close();
        self.tracker.wait().await;
        self.tracker.reopen();
    }

    /// What the list says of its first and its last entry, once time has passed and what that set off has ended.
    pub async fn after(&self, duration: Duration) -> [ListLookup; 2] {
        self.clock.advance(duration);
        self.look_up("192.0.2.1").await;
        self.loads().await;
        [list_lookup(self.look_up("192.0.2.1").await), list_lookup(self.look_up("192.0.2.4").await)]
    }
}

/// Whether it is listed, and why the last load was not taken.
pub type ListLookup = (bool, Option<String>);

fn list_lookup(answer: ListAnswer) -> ListLookup {
    match answer {
        ListAnswer::Listed { status, .. } => (true, status.stale),
        ListAnswer::NotListed(status) => (false, status.stale),
        ListAnswer::NeverLoaded(why) => panic!("never loaded: {why}"),
    }
}

fn fresh(listed: [bool; 2]) -> [ListLookup; 2] {
    listed.map(|listed| (listed, None))
}

#[tokio::test]
async fn a_file_is_read_at_the_first_look_up() {
    let (_folder, _, list) = written(FOUR);
    match list.look_up("192.0.2.4").await {
        ListAnswer::Listed { entry, status } => {
            assert_eq!((entry.value.as_str(), status.loaded, status.stale), ("192.0.2.4", super::now(), None));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(list_lookup(list.look_up("198.51.100.1").await), (false, None));
}

#[tokio::test]
async fn a_list_that_is_loaded_ahead_answers_its_first_look_up_from_memory() {
    let (_folder, path, list) = written(FOUR);
    list.reader.start_loading();
    list.loads().await;
    std::fs::remove_file(path).unwrap();
    assert_eq!(list_lookup(list.look_up("192.0.2.4").await), (true, None));
}

#[tokio::test]
async fn a_file_that_changed_is_read_again_within_a_second() {
    let (_folder, path, list) = written("192.0.2.1\n");
    assert_eq!(list.after(Duration::ZERO).await, fresh([true, false]));
    std::fs::write(&path, FOUR).unwrap();
    assert_eq!(list.after(Duration::from_millis(999)).await, fresh([true, false]));
    assert_eq!(list.after(Duration::from_millis(1)).await, fresh([true, true]));
}

#[tokio::test]
async fn a_look_up_after_a_long_pause_waits_for_the_overdue_check() {
    let (_folder, path, list) = written("192.0.2.1\n");
    assert_eq!(list.after(Duration::ZERO).await, fresh([true, false]));
    std::fs::write(&path, FOUR).unwrap();
    list.clock.advance(Duration::from_secs(3));
    assert_eq!(list_lookup(list.look_up("192.0.2.4").await), (true, None));
}

#[tokio::test]
async fn an_overdue_check_is_waited_for_only_briefly() {
    let released = Arc::new(Notify::new());
    let server = ScriptedServer::start(vec![listing(ONE), listing(FOUR).when(&released)]).await;
    let feed = feed(&server);
    feed.after(Duration::ZERO).await;
    feed.clock.advance(HOUR + HOUR + Duration::from_secs(1));
    // The feed hangs, so nothing but patience can end, and the copy there is answers.
    tokio::time::pause();
    for waits in [Duration::from_millis(500), Duration::ZERO, Duration::ZERO] {
        let before = feed.clock.now();
        let (listed, stale) = list_lookup(feed.look_up("192.0.2.4").await);
        assert!(!listed && stale.unwrap().contains("it is being loaded"));
        assert_eq!(feed.clock.now().duration_since(before).unwrap(), waits, "once for all");
    }
    tokio::time::resume();
    released.notify_one();
    feed.loads().await;
    assert_eq!(list_lookup(feed.look_up("192.0.2.4").await), (true, None));
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_stop_the_checks_of_a_list() {
    let (_folder, path, list) = written("192.0.2.1\n");
    assert_eq!(list.after(Duration::ZERO).await, fresh([true, false]));
    std::fs::write(&path, FOUR).unwrap();
    list.clock.set_wall(super::now() - 24 * HOUR);
    assert_eq!(list.after(Duration::from_secs(1)).await, fresh([true, true]));
}

#[tokio::test]
async fn a_reload_that_cannot_be_read_keeps_the_copy_and_says_so_until_it_can() {
    let (_folder, path, list) = written(FOUR);
    list.after(Duration::ZERO).await;
    for round in 0..2 {
        std::fs::write(&path, "<html> is no indicator\n").unwrap();
        let [first, last] = list.after(Duration::from_secs(1)).await;
        assert!(first.0 && last.0, "round {round}");
        assert!(last.1.unwrap().contains("web page"), "round {round}");
    }
    std::fs::remove_file(&path).unwrap();
    let [_, last] = list.after(Duration::from_secs(1)).await;
    assert!(last.0 && last.1.unwrap().contains("list.txt"));
    std::fs::write(&path, FOUR).unwrap();
    assert_eq!(list.after(Duration::from_secs(1)).await, fresh([true, true]));
}

#[tokio::test]
async fn a_file_that_lost_more_than_half_is_not_taken_and_the_way_out_is_named() {
    let (_folder, path, list) = written(FOUR);
    list.after(Duration::ZERO).await;
    std::fs::write(&path, ONE).unwrap();
    for _ in 0..5 {
        let [_, last] = list.after(Duration::from_secs(1)).await;
        let why = last.1.unwrap();
        assert!(last.0 && why.contains("1 entries, less than half of the 4") && why.contains("restart"), "{why}");
    }
    std::fs::write(&path, "192.0.2.1\n192.0.2.2\n").unwrap();
    assert_eq!(list.after(Duration::from_secs(1)).await, fresh([true, false]), "half is enough");
}

#[tokio::test]
async fn a_list_that_was_never_loaded_says_why() {
    let folder = tempfile::TempDir::new().unwrap();
    let list = file(&folder.path().join("absent.txt"));
    assert!(matches!(list.look_up("192.0.2.1").await, ListAnswer::NeverLoaded(why) if why.contains("absent.txt")));
    let list = file(folder.path());
    assert!(matches!(list.look_up("192.0.2.1").await, ListAnswer::NeverLoaded(why) if why.contains("not a file")));
    let server = ScriptedServer::start(vec![Reply::new("500 Internal Server Error", "", b"")]).await;
    let list = feed(&server);
    assert!(matches!(list.look_up("192.0.2.1").await, ListAnswer::NeverLoaded(why) if why.contains("500")));
}

#[tokio::test]
async fn a_file_named_over_the_api_is_checked_at_every_load() {
    let folder = tempfile::TempDir::new().unwrap();
    let lists = folder.path().canonicalize().unwrap().join("lists");
    std::fs::create_dir(&lists).unwrap();
    std::fs::write(folder.path().join("secret"), FOUR).unwrap();
    let path = lists.join("list.txt");
    let rules = EgressRules { from_api: true, list_folders: vec![lists.clone()], ..EgressRules::default() };
    let list = file_under(&path, rules);
    std::os::unix::fs::symlink(folder.path().join("secret"), &path).unwrap();
    let refused = list.look_up("192.0.2.1").await;
    assert!(matches!(&refused, ListAnswer::NeverLoaded(why) if why.contains("list_folders")), "{refused:?}");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, ONE).unwrap();
    assert_eq!(list.after(Duration::from_secs(1)).await, fresh([true, false]));
    // A link that takes its place later leads nowhere either: the copy in use stays, and says why.
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), &path).unwrap();
    let [first, last] = list.after(Duration::from_secs(1)).await;
    assert!(first.0 && !last.0 && last.1.unwrap().contains("list_folders"));
}

#[tokio::test]
async fn a_folder_that_is_a_link_may_later_lead_elsewhere() {
    let folder = tempfile::TempDir::new().unwrap();
    let current = folder.path().join("current");
    for (month, text) in [("may", ONE), ("june", FOUR)] {
        std::fs::create_dir(folder.path().join(month)).unwrap();
        std::fs::write(folder.path().join(month).join("list.txt"), text).unwrap();
    }
    let rules = EgressRules { from_api: true, list_folders: vec![current.clone()], ..EgressRules::default() };
    let list = file_under(&current.join("list.txt"), rules);
    std::os::unix::fs::symlink(folder.path().join("may"), &current).unwrap();
    assert_eq!(list.after(Duration::ZERO).await, fresh([true, false]));
    std::fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink(folder.path().join("june"), &current).unwrap();
    assert_eq!(list.after(Duration::from_secs(1)).await, fresh([true, true]));
}

#[tokio::test]
async fn the_status_of_a_list_names_the_file_and_not_its_folders() {
    let folder = tempfile::TempDir::new().unwrap();
    let answer = file(&folder.path().join("absent.txt")).look_up("192.0.2.1").await;
    let outside = folder.path().display().to_string();
    assert!(matches!(&answer, ListAnswer::NeverLoaded(why) if !why.contains(&outside)), "{answer:?}");
}

#[tokio::test]
async fn a_feed_is_loaded_again_by_its_etag_after_its_refresh_time() {
    let tagged = Reply::new("200 OK", "etag: \"v1\"\r\n", FOUR.as_bytes());
    let unchanged = Reply::raw("HTTP/1.1 304 Not Modified\r\nconnection: close\r\netag: \"v1\"\r\n\r\n");
    let server = ScriptedServer::start(vec![tagged, unchanged, listing("192.0.2.1\n192.0.2.2\n")]).await;
    let list = feed(&server);
    assert_eq!(list.after(Duration::ZERO).await, fresh([true, true]));
    list.after(HOUR - Duration::from_secs(1)).await;
    assert_eq!(server.seen().len(), 1);
    assert_eq!(list.after(Duration::from_secs(1)).await, fresh([true, true]));
    assert_eq!(list.after(HOUR).await, fresh([true, false]));
    let seen = server.seen();
    let conditional = |request: &String| request.contains("if-none-match: \"v1\"\r\n");
    assert_eq!(seen.iter().map(conditional).collect::<Vec<_>>(), [false, true, true]);
}

#[tokio::test]
async fn the_key_of_a_feed_stands_in_its_address_as_a_placeholder() {
    let server = ScriptedServer::start(vec![listing(ONE), listing(ONE)]).await;
    for place in ["/{credential}/feed", "/feed?key={credential}"] {
        let url = option("list", "url", &server.url(place));
        let with = settings("list", |settings| {
            settings.options.insert("url".into(), url.clone());
            with_credential(settings);
        });
        let list = list_with(with);
        assert_eq!(list_lookup(list.look_up("192.0.2.1").await), (true, None), "{place}");
        assert!(!format!("{list:?}").contains(super::CREDENTIAL));
        let without = list_with(settings("list", |settings| drop(settings.options.insert("url".into(), url))));
        let answer = without.look_up("192.0.2.1").await;
        assert!(matches!(&answer, ListAnswer::NeverLoaded(why) if why.contains("needs a credential")), "{answer:?}");
    }
    let [path, query] = &server.seen()[..] else { panic!("{:?}", server.seen()) };
    assert!(path.starts_with(&format!("GET /{}/feed ", super::CREDENTIAL)), "{path}");
    assert!(query.starts_with(&format!("GET /feed?key={} ", super::CREDENTIAL)), "{query}");
}

#[tokio::test]
async fn a_feed_that_fails_keeps_its_copy_and_is_tried_again_within_a_minute() {
    let failing = Reply::new("503 Service Unavailable", "", b"");
    let gone = Reply::new("404 Not Found", "", b"");
    let server = ScriptedServer::start(vec![listing(FOUR), failing, gone, listing(FOUR)]).await;
    let list = feed(&server);
    list.after(Duration::ZERO).await;
    for status in ["503", "404"] {
        let [_, last] = list.after(if status == "503" { HOUR } else { Duration::from_secs(60) }).await;
        assert!(last.0 && last.1.unwrap().contains(status));
    }
    assert_eq!(list.after(Duration::from_secs(60)).await, fresh([true, true]));
}

#[tokio::test]
async fn a_feed_that_stays_small_is_accepted_at_the_third_load() {
    let small = || Reply::new("200 OK", "etag: \"small\"\r\n", ONE.as_bytes());
    let server = ScriptedServer::start(vec![listing(FOUR), small(), listing(FOUR), small(), small(), small()]).await;
    let list = feed(&server);
    list.after(Duration::ZERO).await;
    let [_, last] = list.after(HOUR).await;
    assert!(last.0 && last.1.unwrap().contains("(now 1)"));
    // One that is whole again in between begins anew.
    assert_eq!(list.after(HOUR).await, fresh([true, true]));
    for count in ["(now 1)", "(now 2)"] {
        let [_, last] = list.after(HOUR).await;
        assert!(last.0 && last.1.unwrap().contains(count), "{count}");
    }
    assert_eq!(list.after(HOUR).await, fresh([true, false]));
    // A feed that is asked whether it changed would say no, and could not be believed.
    assert!(server.seen().iter().all(|request| !request.contains("if-none-match")));
}

#[tokio::test]
async fn an_empty_feed_never_takes_the_place_of_a_list() {
    let server = ScriptedServer::start([FOUR, "", "", "", ""].map(listing).into_iter().collect()).await;
    let list = feed(&server);
    list.after(Duration::ZERO).await;
    for _ in 0..4 {
        let [_, last] = list.after(HOUR).await;
        assert!(last.0 && last.1.unwrap().contains("never taken"));
    }
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn a_look_up_does_not_wait_for_a_reload() {
    let released = Arc::new(Notify::new());
    let server = ScriptedServer::start(vec![listing(ONE), listing(FOUR).when(&released)]).await;
    let list = feed(&server);
    list.after(Duration::ZERO).await;
    list.clock.advance(HOUR);
    // The feed answers only after these look-ups have.
    for _ in 0..3 {
        assert_eq!(list_lookup(list.look_up("192.0.2.4").await), (false, None));
    }
    released.notify_one();
    list.loads().await;
    assert_eq!(list_lookup(list.look_up("192.0.2.4").await), (true, None));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn the_first_load_goes_on_when_its_waiter_gives_up() {
    let released = Arc::new(Notify::new());
    let server = ScriptedServer::start(vec![listing(FOUR).when(&released)]).await;
    let list = feed(&server);
    tokio::select! {
        biased;
        answer = list.look_up("192.0.2.1") => panic!("answered without a copy: {answer:?}"),
        () = ready(()) => {}
    }
    released.notify_one();
    list.loads().await;
    assert_eq!(list_lookup(list.look_up("192.0.2.1").await), (true, None));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_load_ends_when_nobody_can_ask_any_more() {
    let server = ScriptedServer::start(vec![listing(FOUR).when(&Arc::new(Notify::new()))]).await;
    let list = feed(&server);
    tokio::select! {
        biased;
        answer = list.look_up("192.0.2.1") => panic!("answered without a copy: {answer:?}"),
        () = ready(()) => {}
    }
    let tracker = list.tracker.clone();
    drop(list);
    tracker.close();
    // It would wait for a server that never answers.
    tracker.wait().await;
}

#[tokio::test]
async fn a_look_up_during_the_first_load_waits_for_it() {
    let released = Arc::new(Notify::new());
    let server = ScriptedServer::start(vec![listing(FOUR).when(&released)]).await;
    let list = feed(&server);
    let release = async { released.notify_one() };
    let (one, other, ()) = tokio::join!(list.look_up("192.0.2.1"), list.look_up("192.0.2.4"), release);
    assert_eq!((list_lookup(one), list_lookup(other)), ((true, None), (true, None)));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_never_answers_is_given_up() {
    let server = ScriptedServer::start(vec![listing(FOUR).when(&Arc::new(Notify::new()))]).await;
    let answer = feed(&server).look_up("192.0.2.1").await;
    assert!(matches!(&answer, ListAnswer::NeverLoaded(why) if why.contains("300 s")), "{answer:?}");
}

#[tokio::test]
async fn a_feed_that_may_not_be_reached_is_refused_before_anything_is_asked() {
    for (from_api, text) in
        [(false, "http://169.254.169.254/list"), (true, "http://feed.example.com/"), (true, "https://10.0.0.1/")]
    {
        let url = option("list", "url", text);
        let settings = settings("list", |settings| drop(settings.options.insert("url".into(), url)));
        let refused = try_list(settings, EgressRules { from_api, ..EgressRules::default() });
        assert!(refused.is_err(), "{text}");
    }
    let neither = try_list(settings("list", |_| {}), EgressRules::default());
    let detail = neither.err().unwrap().detail;
    assert!(detail.contains("option path") && detail.contains("option url"), "{detail}");
}
