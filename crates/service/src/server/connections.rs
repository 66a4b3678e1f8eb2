//! The open connections and their limits. A connection starts out unauthenticated: few of these are allowed, they must
//! send a call with a valid credential soon, and they are evicted for newer ones. After that, the connection counts
//! against its caller. A client that does not read an answer is disconnected.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tracing::debug;

use super::active_call::{ActiveCall, OpenCalls};
use super::fair_pool::{Evict, FairPool, Permit};
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::rpc::auth::{Caller, Owner};
use crate::settings::Limits;
use crate::sync::lock;

/// How often a connection is checked for unread answers and missing credentials.
const SUPERVISION_INTERVAL: Duration = Duration::from_secs(1);
/// How long a connection that is being closed waits for its calls in flight.
const CLOSING_GRACE: Duration = Duration::from_secs(30);
/// An unauthenticated connection is closed after more refused calls than this.
const MAX_REFUSED_CALLS: u64 = 64;
/// One address may have at most `1 / PER_ADDRESS_DIVISOR` of the unauthenticated connections.
const PER_ADDRESS_DIVISOR: usize = 2;

/// All connections.
pub(super) struct Connections {
    /// Network connections that have not sent a valid credential.
    unauthenticated: Arc<FairPool<Connection>>,
    /// Network connections that have.
    authenticated: Arc<FairPool<Connection>>,
    send_timeout: Duration,
    credential_timeout: Duration,
    next_number: AtomicU64,
}

/// One connection.
pub(super) struct Connection {
    number: u64,
    /// `None` for connections over the socket or from within the process: same machine, same user.
    address: Option<IpAddr>,
    connections: Arc<Connections>,
    calls: Arc<OpenCalls>,
    last_active: Mutex<Monotonic>,
    is_authenticated: AtomicBool,
    refused: AtomicU64,
    permit: Mutex<Option<Permit<Connection>>>,
    closing: CancellationToken,
}

impl Connections {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let max_unauthenticated = limits.max_connections_without_credential;
        Arc::new(Self {
            unauthenticated: FairPool::new(max_unauthenticated, (max_unauthenticated / PER_ADDRESS_DIVISOR).max(1)),
            authenticated: FairPool::new(limits.max_connections, limits.max_connections),
            send_timeout: limits.send_timeout,
            credential_timeout: limits.credential_timeout,
            next_number: AtomicU64::new(0),
        })
    }

    /// Registers a connection from this address. `None` if the limit leaves no room for it.
    pub(super) fn accept(self: &Arc<Self>, address: IpAddr) -> Option<Arc<Connection>> {
        let connection = self.connection(Some(address));
        let permit = self.unauthenticated.acquire(Owner::Address(network(address)), &connection)?;
        *lock(&connection.permit) = Some(permit);
        Some(connection)
    }

    /// Registers a connection over the socket or from within the process. It needs no credential and has no limit.
    pub(super) fn accept_local(self: &Arc<Self>) -> Arc<Connection> {
        let connection = self.connection(None);
        connection.is_authenticated.store(true, Ordering::Release);
        connection
    }

    fn connection(self: &Arc<Self>, address: Option<IpAddr>) -> Arc<Connection> {
        Arc::new(Connection {
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
            address,
            connections: self.clone(),
            calls: Arc::default(),
            last_active: Mutex::new(SystemClock.monotonic()),
            is_authenticated: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            permit: Mutex::default(),
            closing: CancellationToken::new(),
        })
    }
}

impl Connection {
    /// A call that arrives now.
    pub(super) fn new_call(&self) -> Arc<ActiveCall> {
        // The arrival time orders calls across all connections; it need not be unique.
        let now = SystemClock.monotonic();
        *lock(&self.last_active) = now;
        ActiveCall::new(now.nanos())
    }

    /// Registers a call that was not refused on arrival.
    pub(super) fn register(&self, call: &Arc<ActiveCall>) {
        self.calls.register(call);
    }

    /// The owner that a call of this caller counts against: the caller if it is named, otherwise its address. Callers
    /// on the same machine share an address, so each of their connections is an owner.
    pub(super) fn owner(&self, caller: &Caller) -> Owner {
        match self.address.map(network) {
            None => Owner::Connection(self.number),
            Some(_) if caller.is_named() => Owner::Caller(caller.0.clone()),
            Some(address) if address.is_loopback() => Owner::Connection(self.number),
            Some(address) => Owner::Address(address),
        }
    }

    /// The owner where the caller is not known: the address, or the connection if there is none.
    pub(super) fn address_owner(&self) -> Owner {
        self.address.map_or(Owner::Connection(self.number), |address| Owner::Address(network(address)))
    }

    /// Records that a call carried a valid credential, and moves the connection to the authenticated ones. If these are
    /// at their limit and none can be evicted, the connection is closed.
    pub(super) fn mark_authenticated(self: &Arc<Self>, caller: &Caller) {
        if self.is_authenticated.swap(true, Ordering::AcqRel) {
            return;
        }
        let owner = if caller.is_named() { Owner::Caller(caller.0.clone()) } else { self.address_owner() };
        let permit = self.connections.authenticated.acquire(owner, self);
        if permit.is_none() {
            debug!("closing a connection: limits.max_connections is reached and all connections are in use");
            self.closing.cancel();
        }
        // Frees the slot among the unauthenticated connections, outside the lock.
        let previous = std::mem::replace(&mut *lock(&self.permit), permit);
        drop(previous);
    }

    /// Records a refused call. An unauthenticated client that keeps calling after refusals is disconnected.
    pub(super) fn record_refusal(&self) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        if refused > MAX_REFUSED_CALLS && !self.is_authenticated.load(Ordering::Acquire) {
            self.closing.cancel();
        }
    }

    /// Resolves when the connection must accept no further calls.
    pub(super) fn closing(&self) -> WaitForCancellationFuture<'_> {
        self.closing.cancelled()
    }

    /// Resolves when the connection must be dropped, because it was evicted, did not authenticate in time, or does not
    /// read.
    pub(super) async fn supervise(&self) {
        let tick =
            SUPERVISION_INTERVAL.min(self.connections.send_timeout / 4).min(self.connections.credential_timeout / 4);
        loop {
            tokio::select! {
                () = self.closing.cancelled() => break,
                () = SystemClock.sleep(tick) => {}
            }
            if self.abort_unread_answers() {
                debug!("closing a connection: its client does not read an answer");
                metrics::counter!("concord_connections_closed_total", "reason" => "unread").increment(1);
                break;
            }
            let idle = SystemClock.monotonic().since(*lock(&self.last_active));
            if !self.is_authenticated.load(Ordering::Acquire)
                && self.is_idle()
                && idle >= self.connections.credential_timeout
            {
                debug!("closing a connection: it sent no valid credential in time");
                metrics::counter!("concord_connections_closed_total", "reason" => "no_credential").increment(1);
                return;
            }
        }
        self.closing.cancel();
        let begun = SystemClock.monotonic();
        loop {
            // The last bytes of an answer may still be in a buffer, so an active connection gets one more tick. An
            // unauthenticated connection without recent calls has no such answer.
            let was_active =
                begun.since(*lock(&self.last_active)) < tick || self.is_authenticated.load(Ordering::Acquire);
            if was_active || !self.is_idle() {
                SystemClock.sleep(tick).await;
            }
            self.abort_unread_answers();
            if self.is_idle() || SystemClock.monotonic().since(begun) >= CLOSING_GRACE {
                return;
            }
        }
    }

    /// Aborts the answers that their client has not read in time. Returns whether there was one.
    fn abort_unread_answers(&self) -> bool {
        let now = SystemClock.monotonic();
        let calls = self.calls.all();
        let is_late =
            |call: &Arc<ActiveCall>| call.unread_for(now).is_some_and(|time| time >= self.connections.send_timeout);
        let late = calls.iter().filter(|call| is_late(call));
        // A fold instead of `any`, which would stop at the first: every late answer must be aborted.
        late.map(|call| call.abort()).fold(false, |any, aborted| any | aborted)
    }

    /// Whether no call is in flight except aborted ones.
    fn is_idle(&self) -> bool {
        self.calls.all().iter().all(|call| call.is_aborted())
    }
}

impl Evict for Connection {
    /// Idle connections go first, and among these the one that has been idle for longest. A busy authenticated
    /// connection is not closed for a newcomer of the same owner.
    fn eviction_priority(&self, newcomer_is_same_owner: bool) -> Option<u64> {
        let is_idle = self.is_idle();
        if newcomer_is_same_owner && !is_idle && self.is_authenticated.load(Ordering::Acquire) {
            return None;
        }
        let age = u64::MAX / 2 - lock(&self.last_active).nanos().min(u64::MAX / 2);
        Some(if is_idle { u64::MAX / 2 + age } else { age })
    }

    fn evict(&self) {
        metrics::counter!("concord_connections_closed_total", "reason" => "limit").increment(1);
        self.closing.cancel();
    }
}

/// The unit that counts as one address. For IPv6 it is the /64, since a single customer usually controls a whole one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::from(u64::MAX) << 64)))
        }
        address => address,
    }
}
