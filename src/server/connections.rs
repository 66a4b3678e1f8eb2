//! Who is connected. A connection that has shown no valid credential yet is one of few, must show one soon, and makes way for
//! the next; one that has is counted with those of its caller. An answer that its client does not read ends its connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tracing::debug;

use super::active_call::ActiveCall;
use super::fair_pool::{Evict, FairPool, Permit};
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::rpc::auth::{Caller, Owner};
use crate::settings::Limits;
use crate::sync::lock;

/// How often a connection is looked at.
const SUPERVISION_INTERVAL: Duration = Duration::from_secs(1);
/// Time for the other calls of a connection that is to be closed.
const CLOSING_GRACE: Duration = Duration::from_secs(30);
/// Calls that a connection without a credential may have refused before it is closed.
const MAX_REFUSED_CALLS: u64 = 64;
/// Of the connections without a credential, one address has at most one in this many.
const PER_ADDRESS_DIVISOR: usize = 2;

/// All connections.
pub(super) struct Connections {
    /// Those over the network that have shown no credential.
    unauthenticated: Arc<FairPool<Connection>>,
    /// Those over the network that have.
    authenticated: Arc<FairPool<Connection>>,
    send_timeout: Duration,
    credential_timeout: Duration,
    next_number: AtomicU64,
}

/// One connection.
pub(super) struct Connection {
    number: u64,
    /// `None`: of the same machine and user.
    address: Option<IpAddr>,
    connections: Arc<Connections>,
    calls: Mutex<HashMap<u64, Weak<ActiveCall>>>,
    next_call: AtomicU64,
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

    /// A connection from this address. `None` where there is no room for it.
    pub(super) fn accept(self: &Arc<Self>, address: IpAddr) -> Option<Arc<Connection>> {
        let connection = self.connection(Some(address));
        let permit = self.unauthenticated.acquire(Owner::Address(network(address)), &connection)?;
        *lock(&connection.permit) = Some(permit);
        Some(connection)
    }

    /// A connection of the same machine and user.
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
            calls: Mutex::default(),
            next_call: AtomicU64::new(0),
            last_active: Mutex::new(SystemClock.monotonic()),
            is_authenticated: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            permit: Mutex::default(),
            closing: CancellationToken::new(),
        })
    }
}

impl Connection {
    /// A call begins.
    pub(super) fn begin_call(self: &Arc<Self>) -> Arc<ActiveCall> {
        let number = self.next_call.fetch_add(1, Ordering::Relaxed);
        // Among all connections the time of arrival orders calls well enough.
        let now = SystemClock.monotonic();
        let call = ActiveCall::new(now.nanos());
        *lock(&self.last_active) = now;
        lock(&self.calls).insert(number, Arc::downgrade(&call));
        call
    }

    /// In whose permit a call of this caller counts: its own, or that of its address where callers have no names. On the same
    /// machine it is the connection that tells callers apart.
    pub(super) fn owner(&self, caller: &Caller) -> Owner {
        match self.address.map(network) {
            None => Owner::Connection(self.number),
            Some(_) if caller.is_named() => Owner::Caller(caller.0.clone()),
            Some(address) if address.is_loopback() => Owner::Connection(self.number),
            Some(address) => Owner::Address(address),
        }
    }

    /// The address, or the connection where there is none.
    pub(super) fn address_owner(&self) -> Owner {
        self.address.map_or(Owner::Connection(self.number), |address| Owner::Address(network(address)))
    }

    /// Takes note of a valid credential.
    pub(super) fn mark_authenticated(self: &Arc<Self>, caller: &Caller) {
        if self.is_authenticated.swap(true, Ordering::AcqRel) {
            return;
        }
        let owner = if caller.is_named() { Owner::Caller(caller.0.clone()) } else { self.address_owner() };
        let permit = self.connections.authenticated.acquire(owner, self);
        if permit.is_none() {
            debug!("a connection is closed: there are as many as the limit allows, and all are in use");
            self.closing.cancel();
        }
        // The place among those without a credential is given back here.
        let before = std::mem::replace(&mut *lock(&self.permit), permit);
        drop(before);
    }

    /// Takes note of a call that was refused. Who has shown no credential and goes on all the same is disconnected.
    pub(super) fn record_refusal(&self) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        if refused > MAX_REFUSED_CALLS && !self.is_authenticated.load(Ordering::Acquire) {
            self.closing.cancel();
        }
    }

    /// Resolves when no further calls are to be taken.
    pub(super) fn closing(&self) -> WaitForCancellationFuture<'_> {
        self.closing.cancelled()
    }

    /// Resolves when the connection is to be dropped.
    pub(super) async fn supervise(&self) {
        let tick =
            SUPERVISION_INTERVAL.min(self.connections.send_timeout / 4).min(self.connections.credential_timeout / 4);
        loop {
            tokio::select! {
                () = self.closing.cancelled() => break,
                () = SystemClock.sleep(tick) => {}
            }
            if self.abort_unread_answers() {
                debug!("a connection is closed: its client does not read an answer");
                metrics::counter!("concord_connections_closed_total", "reason" => "unread").increment(1);
                break;
            }
            let idle = SystemClock.monotonic().since(*lock(&self.last_active));
            if !self.is_authenticated.load(Ordering::Acquire)
                && self.is_idle()
                && idle >= self.connections.credential_timeout
            {
                debug!("a connection is closed: it showed no credential in time");
                metrics::counter!("concord_connections_closed_total", "reason" => "no_credential").increment(1);
                return;
            }
        }
        self.closing.cancel();
        let begun = SystemClock.monotonic();
        loop {
            // The end of an answer may still be on its way. Who has shown no credential and was silent waits for nothing.
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

    /// Ends the answers that their client has not read in time; says whether there was one.
    fn abort_unread_answers(&self) -> bool {
        let now = SystemClock.monotonic();
        let calls: Vec<_> = {
            let mut calls = lock(&self.calls);
            calls.retain(|_, call| call.strong_count() > 0);
            calls.values().filter_map(Weak::upgrade).collect()
        };
        let is_late =
            |call: &Arc<ActiveCall>| call.unread_for(now).is_some_and(|time| time >= self.connections.send_timeout);
        let late = calls.iter().filter(|call| is_late(call));
        // Not `any`: every one of them holds something.
        late.map(|call| call.abort()).fold(false, |ended, this| ended | this)
    }

    /// Whether no call is under way, but for those that were given up.
    fn is_idle(&self) -> bool {
        let calls: Vec<_> = lock(&self.calls).values().filter_map(Weak::upgrade).collect();
        calls.iter().all(|call| call.is_aborted())
    }
}

impl Evict for Connection {
    /// Idle ones first, of these the one that has been so for longest. A caller's own are not interrupted for another of its
    /// own, unless they have shown no credential.
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

/// What counts as one address: of IPv6, the network that one customer has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::from(u64::MAX) << 64)))
        }
        address => address,
    }
}
