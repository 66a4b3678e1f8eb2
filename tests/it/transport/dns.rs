//! DNS: every answer a server can give, what stands in its way, and the credential in a name.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use concord::finding::{SourceError, SourceErrorKind};
use concord::source::{Answer, AnswerBody, DnsAnswer, DnsQuestion, EgressRules, Question};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::task::TaskTracker;

use super::{CREDENTIAL, bench, settings, try_bench, with_credential};

const NAME: &str = "1.2.0.192.zone.example.com";

/// A server of one question; `reply` makes all datagrams that it gets.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(reply: impl Fn(&Message) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        Self::on(UdpSocket::bind("127.0.0.1:0").await.unwrap(), reply)
    }

    fn on(socket: UdpSocket, reply: impl Fn(&Message) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let (address, seen) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let queries = seen.clone();
        TaskTracker::new().spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..length]).unwrap();
            queries.lock().unwrap().push(query.queries[0].name().to_ascii());
            for datagram in reply(&query) {
                socket.send_to(&datagram, from).await.unwrap();
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn response(query: &Message) -> Message {
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.add_query(query.queries[0].clone());
    message
}

fn listed(query: &Message, addresses: &[(u8, u32)]) -> Message {
    let mut message = response(query);
    for (last, ttl) in addresses {
        let address = RData::A(A(Ipv4Addr::new(127, 0, 0, *last)));
        message.add_answer(Record::from_rdata(query.queries[0].name().clone(), *ttl, address));
    }
    message
}

fn failing(query: &Message, code: ResponseCode) -> Message {
    let mut message = response(query);
    message.metadata.response_code = code;
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

fn question(server: SocketAddr, name: &str) -> Question {
    Question::Dns(DnsQuestion { name: name.into(), zone: "zone.example.com".into(), resolver: Some(server) })
}

async fn ask(server: SocketAddr) -> Result<Answer, SourceError> {
    bench(settings("dnsbl", |_| {})).ask(&question(server, NAME)).await
}

fn list_lookup(answer: Answer) -> DnsAnswer {
    match answer.body {
        AnswerBody::Dns(answer) => answer,
        AnswerBody::Http { .. } | AnswerBody::List(_) | AnswerBody::Failed(_) => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_a_server_that_fails_and_one_that_refuses_differ() {
    let cases = [
        (ResponseCode::NXDomain, DnsAnswer::NxDomain),
        (ResponseCode::ServFail, DnsAnswer::Failure("SERVFAIL".into())),
        (ResponseCode::Refused, DnsAnswer::Failure("REFUSED".into())),
        (ResponseCode::NoError, DnsAnswer::Addresses(Vec::new())),
    ];
    for (code, expected) in cases {
        let server = Server::start(move |query| vec![bytes(&failing(query, code))]).await;
        let answer = ask(server.address).await.unwrap();
        assert_eq!((answer.ttl, answer.received), (None, super::now()), "{code}");
        assert_eq!(list_lookup(answer), expected, "{code}");
        assert_eq!(server.seen(), [format!("{NAME}.")]);
    }
}

#[tokio::test]
async fn all_addresses_are_cached_for_the_shortest_of_their_times() {
    let server = Server::start(|query| vec![bytes(&listed(query, &[(2, 300), (4, 60), (11, 900)]))]).await;
    let answer = ask(server.address).await.unwrap();
    assert_eq!(answer.ttl, Some(Duration::from_secs(60)));
    let addresses = [2, 4, 11].map(|last| Ipv4Addr::new(127, 0, 0, last));
    assert_eq!(list_lookup(answer), DnsAnswer::Addresses(addresses.to_vec()));
}

#[tokio::test]
async fn records_that_answer_another_question_are_skipped() {
    let server = Server::start(|query| {
        let mut other_id = listed(query, &[(66, 60)]);
        other_id.metadata.id = query.metadata.id.wrapping_add(1);
        let mut other_name = listed(query, &[(66, 60)]);
        other_name.queries =
            vec![Query::query(Name::from_ascii("example.com.").unwrap(), query.queries[0].query_type())];
        // A query is no response, even with the right number.
        let same = bytes(query);
        vec![bytes(&other_id), bytes(&other_name), same, b"no DNS".to_vec(), bytes(&listed(query, &[(2, 60)]))]
    })
    .await;
    let answer = ask(server.address).await.unwrap();
    assert_eq!(list_lookup(answer), DnsAnswer::Addresses(vec![Ipv4Addr::new(127, 0, 0, 2)]));
}

#[tokio::test]
async fn a_datagram_from_somebody_else_is_not_taken() {
    let (stranger, server) =
        (std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = server.local_addr().unwrap();
    let answering = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 512];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        let query = Message::from_vec(&buffer[..length]).unwrap();
        stranger.send_to(&bytes(&listed(&query, &[(66, 60)])), from).unwrap();
        server.send_to(&bytes(&listed(&query, &[(2, 60)])), from).unwrap();
    });
    let answer = ask(address).await.unwrap();
    answering.await.unwrap();
    assert_eq!(list_lookup(answer), DnsAnswer::Addresses(vec![Ipv4Addr::new(127, 0, 0, 2)]));
}

/// A datagram socket and a listener on the same port.
async fn both() -> (UdpSocket, TcpListener) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            return (socket, listener);
        }
    }
}

/// What comes over TCP after a datagram that says it is cut short.
async fn over_tcp(reply: impl Fn(&Message) -> Vec<u8> + Send + 'static) -> Result<Answer, SourceError> {
    let (socket, listener) = both().await;
    let server = Server::on(socket, |query| {
        let mut short = listed(query, &[(66, 60)]);
        short.metadata.truncation = true;
        vec![bytes(&short)]
    });
    TaskTracker::new().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await.unwrap();
        let reply = reply(&Message::from_vec(&query).unwrap());
        stream.write_all(&reply).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    ask(server.address).await
}

fn framed(message: &Message) -> Vec<u8> {
    let bytes = bytes(message);
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
}

#[tokio::test]
async fn an_answer_that_does_not_fit_a_datagram_is_asked_again_over_tcp() {
    let answer = over_tcp(|query| framed(&listed(query, &[(2, 60), (3, 60)]))).await.unwrap();
    let addresses = [2, 3].map(|last| Ipv4Addr::new(127, 0, 0, last));
    assert_eq!(list_lookup(answer), DnsAnswer::Addresses(addresses.to_vec()));
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_no_answer_and_one_that_says_something_else_is_malformed() {
    let error = over_tcp(|query| framed(&listed(query, &[(2, 60)]))[..20].to_vec()).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
    let error = over_tcp(|_| [&[0, 6][..], b"no DNS"].concat()).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Malformed, "{error}");
}

/// A port that is held and refuses: its socket talks to another peer alone, so that what others send is answered with "port
/// unreachable".
fn refusing() -> std::net::UdpSocket {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect("127.0.0.1:9").unwrap();
    socket
}

#[tokio::test]
async fn a_closed_port_is_no_answer_and_may_be_tried_again() {
    let closed = refusing();
    let failure = bench(settings("dnsbl", |_| {})).fail(&question(closed.local_addr().unwrap(), NAME)).await;
    assert!(failure.error.kind == SourceErrorKind::Unavailable && failure.error.kind.is_transient(), "{failure:?}");
    assert!(!failure.is_sent && !failure.is_permanent, "{failure:?}");
}

#[tokio::test]
async fn the_credential_is_put_into_the_name_and_shows_nowhere_else() {
    let server = Server::start(|query| vec![bytes(&failing(query, ResponseCode::NXDomain))]).await;
    let source = bench(settings("dnsbl", with_credential));
    source.ask(&question(server.address, "1.2.0.192.{credential}.zone.example.com")).await.unwrap();
    assert_eq!(server.seen(), [format!("1.2.0.192.{CREDENTIAL}.zone.example.com.")]);

    let refusing = refusing();
    let closed = refusing.local_addr().unwrap();
    let error = source.ask(&question(closed, "{credential}.zone.example.com")).await.unwrap_err();
    let shown = format!("{error:?} {:?}", source.transport);
    assert!(!shown.contains(CREDENTIAL), "{shown}");
    let too_long = format!("{}.{{credential}}.example.com", "a".repeat(64));
    let error = source.ask(&question(closed, &too_long)).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::BadQuestion);
    assert!(!error.detail.contains(CREDENTIAL), "{error}");
}

#[tokio::test]
async fn a_zone_that_needs_a_credential_is_not_asked_without_one() {
    let server = Server::start(|_| Vec::new()).await;
    let source = bench(settings("dnsbl", |_| {}));
    let error = source.ask(&question(server.address, "{credential}.zone.example.com")).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unauthorized, "{error}");
    assert_eq!(server.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn a_forbidden_resolver_is_not_asked() {
    let server = Server::start(|_| Vec::new()).await;
    let rules = EgressRules { from_api: true, ..EgressRules::default() };
    let source = try_bench(settings("dnsbl", |_| {}), rules).unwrap();
    let error = source.ask(&question(server.address, NAME)).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Refused, "{error}");
    assert_eq!(server.seen(), Vec::<String>::new());
}
