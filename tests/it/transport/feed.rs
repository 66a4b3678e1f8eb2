//! Feeds that have moved, and feeds that are compressed.

use concord::source::{EgressRules, ListAnswer};

use super::list::{HOUR, TestList, try_list};
use super::scripted_server::{Reply, ScriptedServer};
use super::{CREDENTIAL, gzip, option, settings, with_credential};

const LISTED: &str = "192.0.2.1";

fn listing() -> Reply {
    Reply::new("200 OK", "", b"192.0.2.1\n")
}

fn moved(status: &str, location: &str) -> Reply {
    Reply::new(status, &format!("location: {location}\r\n"), b"")
}

fn feed_under(url: &str, with_key: bool, rules: EgressRules) -> TestList {
    let url = option("list", "url", url);
    let settings = settings("list", |settings| {
        settings.options.insert("url".into(), url);
        if with_key {
            with_credential(settings);
        }
    });
    try_list(settings, rules).unwrap()
}

fn feed(url: &str) -> TestList {
    feed_under(url, false, EgressRules::default())
}

/// Why the list was never loaded.
async fn refusal(list: &TestList) -> String {
    match list.look_up(LISTED).await {
        ListAnswer::NeverLoaded(why) => why,
        other => panic!("it was loaded: {other:?}"),
    }
}

async fn is_listed(list: &TestList) -> bool {
    matches!(list.look_up(LISTED).await, ListAnswer::Listed { .. })
}

#[tokio::test]
async fn a_feed_that_moved_is_followed_on_its_host_and_to_another() {
    for status in ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let other = ScriptedServer::start(vec![listing()]).await;
        let elsewhere = other.url("/list?x=1");
        let server = ScriptedServer::start(vec![moved(status, "/new/list"), moved(status, &elsewhere)]).await;
        assert!(is_listed(&feed(&server.url("/feed"))).await, "{status}");
        assert!(server.seen()[1].starts_with("GET /new/list "), "{status}: {:?}", server.seen());
        assert!(other.seen()[0].starts_with("GET /list?x=1 "), "{status}: {:?}", other.seen());
    }
}

#[tokio::test]
async fn five_redirects_are_followed_and_no_sixth() {
    let steps = |count| (0..count).map(|step| moved("302 Found", &format!("/{step}")));
    let server = ScriptedServer::start(steps(5).chain([listing()]).collect()).await;
    assert!(is_listed(&feed(&server.url("/feed"))).await);
    let server = ScriptedServer::start(steps(6).chain([listing()]).collect()).await;
    assert_eq!(refusal(&feed(&server.url("/feed"))).await, "the feed redirects more than 5 times");
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test]
async fn the_key_of_a_feed_stays_with_the_host_that_it_was_given_for() {
    let other = ScriptedServer::start(vec![listing()]).await;
    let echoed = other.url(&format!("/feed?key={CREDENTIAL}"));
    for place in ["/feed?key={credential}", "/{credential}/feed"] {
        let server = ScriptedServer::start(vec![moved("302 Found", "/here"), moved("302 Found", &echoed)]).await;
        let why = refusal(&feed_under(&server.url(place), true, EgressRules::default())).await;
        assert!(why.contains(&format!("redirects to http://{}, where its key must not go", other.address)), "{why}");
        assert!(!why.contains(CREDENTIAL), "{why}");
        assert!(server.seen()[1].starts_with("GET /here "), "on its own host it is followed");
    }
    assert!(other.seen().is_empty(), "{:?}", other.seen());
}

#[tokio::test]
async fn a_redirect_cannot_ask_for_the_key() {
    // The source has a key that its address does not use.
    let other = ScriptedServer::start(vec![listing()]).await;
    for place in ["/list?key={credential}", "/%7Bcredential%7D/list", "/{credential}"] {
        let server = ScriptedServer::start(vec![moved("302 Found", &other.url(place))]).await;
        let why = refusal(&feed_under(&server.url("/feed"), true, EgressRules::default())).await;
        assert!(why.contains("must not go"), "{place}: {why}");
    }
    assert!(other.seen().is_empty(), "{:?}", other.seen());
}

#[tokio::test]
async fn every_step_of_a_feed_is_judged_by_the_rules_and_a_refused_one_is_named() {
    let cases = [
        ("http://169.254.169.254/latest/meta-data?a=b", "redirects to http://169.254.169.254: ", "never reached"),
        ("http://metadata.google.internal/x", "redirects to http://metadata.google.internal: ", "never reached"),
        ("ftp://198.51.100.1/list", "redirects to ftp://198.51.100.1, ", "only http and https"),
        ("http://", "HTTP status 302", "names no address"),
    ];
    for (location, named, why_not) in cases {
        let server = ScriptedServer::start(vec![moved("302 Found", location)]).await;
        let why = refusal(&feed(&server.url("/feed"))).await;
        assert!(why.contains(named) && why.contains(why_not) && !why.contains("meta-data"), "{location}: {why}");
    }
    // What the API may set is judged as strictly where a redirect leads there.
    let loopback = || vec!["127.0.0.0/8".parse().unwrap()];
    for (location, reason) in
        [("https://10.0.0.1/", "a private address"), ("http://feed.example.com/", "must be https")]
    {
        let server = ScriptedServer::start(vec![moved("302 Found", location)]).await;
        let rules = EgressRules { from_api: true, allowed_networks: loopback(), ..EgressRules::default() };
        let why = refusal(&feed_under(&server.url("/feed"), false, rules)).await;
        assert!(why.contains(reason), "{location}: {why}");
    }
    let nowhere = ScriptedServer::start(vec![Reply::new("301 Moved Permanently", "", b"")]).await;
    assert!(refusal(&feed(&nowhere.url("/feed"))).await.contains("names no address"));
}

#[tokio::test]
async fn a_feed_that_moved_is_asked_whether_it_changed_where_it_is_now() {
    let whole = Reply::new("200 OK", "etag: \"v1\"\r\n", b"192.0.2.1\n");
    let unchanged = Reply::raw("HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n");
    let other = ScriptedServer::start(vec![whole, unchanged]).await;
    let moves = || moved("301 Moved Permanently", &other.url("/list"));
    let server = ScriptedServer::start(vec![moves(), moves()]).await;
    let list = feed(&server.url("/feed"));
    assert!(is_listed(&list).await);
    let [first, _] = list.after(HOUR).await;
    assert_eq!(first, (true, None));
    assert!(!other.seen()[0].contains("if-none-match") && other.seen()[1].contains("if-none-match: \"v1\"\r\n"));
}

#[tokio::test]
async fn a_compressed_feed_is_unpacked_and_its_size_is_bounded() {
    let server = ScriptedServer::start(vec![Reply::new("200 OK", "", &gzip::stored(b"192.0.2.1\n"))]).await;
    assert!(is_listed(&feed(&server.url("/feed.txt.gz"))).await);
    let bomb = gzip::bomb(concord::source::MAX_LIST_BYTES + 1);
    let server = ScriptedServer::start(vec![Reply::new("200 OK", "", &bomb)]).await;
    let why = refusal(&feed(&server.url("/feed.txt.gz"))).await;
    assert!(why.contains("268435456 bytes when unpacked"), "{why}");
}
