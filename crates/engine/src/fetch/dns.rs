//! The DNS transport: one query to one server, without cache, hosts file or search domains. No second query is sent
//! without the pipeline's knowledge, except over TCP if the answer does not fit a datagram; providers count both as
//! one.
//!
//! hickory's codec encodes and decodes the messages.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use futures_util::future::BoxFuture;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::transport::{SendError, Transport};
use crate::clock::Clock;
use crate::finding::{SourceError, SourceErrorKind};
use crate::source::{
    Answer, AnswerBody, DnsAnswer, DnsQuestion, EgressRules, Question, SourceSettings, parse_resolver,
};

const PLACEHOLDER: &str = "{credential}";
/// The file that lists the system's resolvers.
const SYSTEM: &str = "/etc/resolv.conf";
const DATAGRAM: usize = 4096;

/// Sends the DNS questions of one source.
pub(super) struct DnsTransport {
    credential: Option<SecretString>,
    rules: EgressRules,
    clock: Arc<dyn Clock>,
}

impl DnsTransport {
    /// Makes a transport for a source with these settings.
    pub(super) fn new(settings: &SourceSettings, rules: EgressRules, clock: Arc<dyn Clock>) -> Self {
        Self { credential: settings.credential.clone(), rules, clock }
    }

    async fn ask(&self, question: &DnsQuestion) -> Result<Answer, SendError> {
        let (server, query, bytes) = self.query(question).await.map_err(SendError::not_sent)?;
        let mut reply = by_datagram(server, &bytes, &query).await?;
        if reply.metadata.truncation {
            reply = by_stream(server, &bytes, &query).await.map_err(SendError::sent)?;
        }
        let (ttl, answer) = read(&reply);
        Ok(Answer { received: self.clock.now(), ttl, body: AnswerBody::Dns(answer) })
    }

    /// The server to ask, and the query as a message and in bytes.
    async fn query(&self, question: &DnsQuestion) -> Result<(SocketAddr, Message, Vec<u8>), SourceError> {
        let name = self.name(question)?;
        let server = self.server(question.resolver).await?;
        let query = message(name)?;
        let bytes =
            query.to_vec().map_err(|_| SourceError::new(SourceErrorKind::BadQuestion, "the name cannot be asked"))?;
        Ok((server, query, bytes))
    }

    fn name(&self, question: &DnsQuestion) -> Result<Name, SourceError> {
        let mut text = question.name.clone();
        if text.contains(PLACEHOLDER) {
            let Some(credential) = &self.credential else {
                return Err(SourceError::new(
                    SourceErrorKind::Unauthorized,
                    "the zone needs a credential and there is none",
                ));
            };
            text = text.replace(PLACEHOLDER, credential.expose_secret());
        }
        let name = Name::from_ascii(format!("{}.", text.trim_end_matches('.')));
        name.map_err(|_| SourceError::new(SourceErrorKind::BadQuestion, "the name to ask is no domain name"))
    }

    async fn server(&self, resolver: Option<SocketAddr>) -> Result<SocketAddr, SourceError> {
        // The egress rules do not apply to the system resolver: the operator chose it, and in clouds it is link-local.
        let Some(server) = resolver else { return system_server().await };
        self.rules.check_ip(server.ip()).map_err(|why| SourceError::new(SourceErrorKind::Refused, why))?;
        Ok(server)
    }
}

impl Transport for DnsTransport {
    fn may_send<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            let Question::Dns(question) = question else { return Ok(()) };
            self.name(question).map_err(SendError::not_sent)?;
            self.server(question.resolver).await.map(|_| ()).map_err(SendError::not_sent)
        })
    }

    fn send<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Answer, SendError>> {
        Box::pin(async move {
            match question {
                Question::Dns(question) => self.ask(question).await,
                Question::Http(_) | Question::List(_) => {
                    Err(SendError::not_sent(SourceError::new(SourceErrorKind::BadQuestion, "not a DNS question")))
                }
            }
        })
    }
}

impl fmt::Debug for DnsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsTransport").field("rules", &self.rules).finish_non_exhaustive()
    }
}

async fn system_server() -> Result<SocketAddr, SourceError> {
    let text = tokio::fs::read_to_string(SYSTEM).await;
    let text = text.map_err(|error| SourceError::unavailable(format!("the system names no resolver: {error}")))?;
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let server = named.filter_map(|name| parse_resolver(name.trim()).ok()).next();
    server.ok_or_else(|| SourceError::unavailable("the system names no resolver; set the option resolver"))
}

/// A query for A records with an unpredictable identifier.
fn message(name: Name) -> Result<Message, SourceError> {
    let mut id = [0; 2];
    rand::fill(&mut id).map_err(|_| SourceError::unavailable("no random numbers could be had"))?;
    let mut message = Message::new(u16::from_be_bytes(id), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, RecordType::A));
    Ok(message)
}

async fn by_datagram(server: SocketAddr, query: &[u8], asked: &Message) -> Result<Message, SendError> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let not_sent = |error| SendError::not_sent(receive_error(error));
    let socket = UdpSocket::bind(any).await.map_err(not_sent)?;
    socket.connect(server).await.map_err(not_sent)?;
    socket.send(query).await.map_err(not_sent)?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(undelivered)?;
        let reply = buffer.get(..length).map(Message::from_vec);
        // A datagram that does not answer the query may be forged by a third party, so keep waiting for the answer.
        if let Some(Ok(reply)) = reply
            && answers(&reply, asked)
        {
            return Ok(reply);
        }
    }
}

async fn by_stream(server: SocketAddr, query: &[u8], asked: &Message) -> Result<Message, SourceError> {
    let mut stream = TcpStream::connect(server).await.map_err(receive_error)?;
    let length = u16::try_from(query.len()).map_err(|_| SourceError::malformed("the query is too long"))?;
    stream.write_all(&length.to_be_bytes()).await.map_err(receive_error)?;
    stream.write_all(query).await.map_err(receive_error)?;
    let mut bytes = vec![0; usize::from(stream.read_u16().await.map_err(receive_error)?)];
    stream.read_exact(&mut bytes).await.map_err(receive_error)?;
    match Message::from_vec(&bytes) {
        Ok(reply) if answers(&reply, asked) => Ok(reply),
        Ok(_) | Err(_) => Err(SourceError::malformed("the DNS answer cannot be read")),
    }
}

fn answers(reply: &Message, asked: &Message) -> bool {
    reply.metadata.id == asked.metadata.id
        && reply.metadata.message_type == MessageType::Response
        && reply.queries.first().map(Query::name) == asked.queries.first().map(Query::name)
}

/// The error of a failed receive. An ICMP error such as "port unreachable" means that the datagram reached nobody.
fn undelivered(error: io::Error) -> SendError {
    let is_sent = !matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
    );
    SendError { is_sent, ..SendError::sent(receive_error(error)) }
}

fn receive_error(error: io::Error) -> SourceError {
    SourceError::unavailable(format!("no answer from the DNS server: {error}"))
}

/// The answer, with the shortest time to live of its records.
fn read(reply: &Message) -> (Option<Duration>, DnsAnswer) {
    match reply.metadata.response_code {
        ResponseCode::NoError => {
            let mut ttl = None;
            let mut addresses = Vec::new();
            for record in &reply.answers {
                if let RData::A(address) = &record.data {
                    addresses.push(address.0);
                    let seconds = Duration::from_secs(u64::from(record.ttl));
                    ttl = Some(ttl.map_or(seconds, |shortest: Duration| shortest.min(seconds)));
                }
            }
            (ttl, DnsAnswer::Addresses(addresses))
        }
        ResponseCode::NXDomain => (None, DnsAnswer::NxDomain),
        ResponseCode::ServFail => (None, DnsAnswer::Failure("SERVFAIL".into())),
        ResponseCode::Refused => (None, DnsAnswer::Failure("REFUSED".into())),
        other => (None, DnsAnswer::Failure(format!("{other:?}").to_uppercase())),
    }
}
