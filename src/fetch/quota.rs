//! Layer 7, quota and ledger: every attempt pays before it leaves, in `call`, so that nothing leaves unpaid and a
//! service that is merely asked whether it is ready pays nothing. A disclosure is on record before it happens.
//!
//! Our own refusal is "not asked". A ledger that cannot be reached closes the way.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower::ServiceExt;

use super::trip::{Asks, Attempt, Obstacle, Site, Told, layer};
use super::{Transport, observe};
use crate::finding::{NotAsked, NotAskedReason, SourceError, SourceErrorKind};
use crate::source::Question;
use crate::store::{Acquire, Acquired, Disclosure, StoreError, new_id};

/// Why a source is not asked that said "enough".
pub(crate) const SUSPENDED: &str = "the source says that its quota is used up";

/// How long a source is left alone that says its quota is used up and not until when.
const SUSPENSION: Duration = Duration::from_secs(60);

/// A unit is good for a call that leaves within so long: half of the second by which a minute is kept longer.
const SLOWEST_LEDGER: Duration = Duration::from_millis(500);

/// So often another unit is taken for one call where the ledger is slow, before it is given up.
const PAYMENTS: u32 = 2;

/// Takes a unit and records the disclosure before an attempt leaves.
pub(super) fn over<S: Asks>(site: &Arc<Site>, transport: Arc<dyn Transport>, inner: S) -> impl Asks + use<S> {
    layer(site, inner, move |site, inner: S, attempt: Attempt| {
        let transport = transport.clone();
        async move {
            let now = site.clock.now();
            if !attempt.party.may_go_on(now) {
                return Err(Obstacle::no_time());
            }
            if let Some(until) = site.suspended_until(now) {
                return Err(spent(SUSPENDED, until));
            }
            may_send(&site, transport.as_ref(), &attempt.question).await?;
            let paid = pay(&site, &attempt).await?;
            // Paying can take its time. From here on the call counts as made, so that who cannot wait is not told otherwise.
            if !attempt.party.may_go_on(site.clock.now()) {
                return Err(Obstacle::no_time());
            }
            attempt.party.called();
            if let Err(obstacle) = settle(&site, &attempt, paid).await {
                attempt.party.not_called();
                return Err(obstacle);
            }
            if site.is_outside() {
                site.tally.call();
            }
            let result = inner.oneshot(attempt).await;
            if site.is_outside() {
                observe::call(&site, &result);
            }
            if let Err(Obstacle::Failed(error)) = &result {
                suspend(&site, error);
            }
            result
        }
    })
}

/// Whether the question may be sent, within the time of one attempt: a name may take its time to resolve.
async fn may_send(site: &Site, transport: &dyn Transport, question: &Question) -> Result<(), Obstacle> {
    let duration = site.settings.timeout;
    tokio::select! {
        biased;
        allowed = transport.may_send(question) => allowed.map_err(Obstacle::Failed),
        () = site.clock.sleep(duration) => {
            let detail = format!("the source's name was not resolved within {} ms", duration.as_millis());
            Err(Obstacle::Failed(SourceError::new(SourceErrorKind::Timeout, detail)))
        }
    }
}

/// What must be on record before the call leaves.
async fn settle(site: &Site, attempt: &Attempt, paid: SystemTime) -> Result<(), Obstacle> {
    if let Some(told) = &attempt.told {
        disclose(site, attempt, told).await?;
    }
    pay_again_if_late(site, attempt, paid).await
}

/// Pays for a call that leaves now; answers with the moment that the unit counts for.
async fn pay(site: &Site, attempt: &Attempt) -> Result<SystemTime, Obstacle> {
    let now = site.clock.now();
    // Without windows too: another source may share the account, or get windows later. A list tells and costs nobody.
    if site.is_outside() {
        take(site, attempt, now).await?;
    }
    Ok(now)
}

/// A ledger that took its time to write has recorded a moment that is over by now, and the call would leave in another
/// window than it was counted in. So another unit is taken: one is lost, and no window is overshot.
async fn pay_again_if_late(site: &Site, attempt: &Attempt, mut paid: SystemTime) -> Result<(), Obstacle> {
    for again in 0..=PAYMENTS {
        let late = site.clock.now().duration_since(paid).unwrap_or_default();
        if late <= SLOWEST_LEDGER || !site.is_outside() {
            return Ok(());
        }
        tracing::warn!(source = site.settings.name, ?late, "the ledger is slow, so a unit was taken in vain");
        if again == PAYMENTS {
            break;
        }
        if !attempt.party.may_go_on(site.clock.now()) {
            return Err(Obstacle::no_time());
        }
        paid = pay(site, attempt).await?;
    }
    Err(Obstacle::Broken(SourceError::unavailable("the ledger is too slow, so the source was not asked")))
}

async fn take(site: &Site, attempt: &Attempt, at: SystemTime) -> Result<(), Obstacle> {
    let acquire = Acquire {
        account: site.account.clone(),
        source: site.settings.name.clone(),
        windows: site.settings.quota.clone(),
        at,
    };
    match site.ledger.acquire(acquire).await {
        Ok(Acquired::Granted(_)) if site.settings.quota.is_empty() => Ok(()),
        Ok(Acquired::Granted(windows)) => {
            attempt.party.paid(windows);
            site.tally.unit();
            observe::unit(site);
            Ok(())
        }
        Ok(Acquired::Spent(window)) => {
            attempt.party.saw(window);
            Err(spent(&window.describe(), window.resets_at))
        }
        Err(error) => Err(ledger_away(site, &error)),
    }
}

/// One record for each caller of the conversation, all before its first call leaves.
async fn disclose(site: &Site, attempt: &Attempt, first: &Told) -> Result<(), Obstacle> {
    if !site.is_outside() {
        return Ok(());
    }
    let to = host_of(&attempt.question);
    while let Some(told) = attempt.party.to_record(first, &to) {
        if let Err(error) = record(site, &told, &to).await {
            attempt.party.not_recorded(&told);
            return Err(ledger_away(site, &error));
        }
    }
    Ok(())
}

/// Records that the source was, or is about to be, told of an indicator on behalf of a caller.
pub(super) async fn record(site: &Site, told: &Told, to: &str) -> Result<(), StoreError> {
    let now = site.clock.now();
    let disclosure = Disclosure {
        id: new_id(now),
        time: now,
        indicator: told.indicator.clone(),
        source: site.settings.name.clone(),
        to: to.to_owned(),
        caller: told.caller.clone(),
        tlp: told.tlp,
    };
    site.ledger.disclose(disclosure).await
}

/// The host of a URL, the zone of a DNS name. The name itself repeats the indicator and may hold a credential's place.
fn host_of(question: &Question) -> String {
    match question {
        Question::Http(http) => http.url.host_str().unwrap_or_default().to_owned(),
        Question::Dns(dns) => dns.zone.clone(),
        Question::List(_) => String::new(),
    }
}

fn spent(detail: &str, until: SystemTime) -> Obstacle {
    let mut not_asked = NotAsked::new(NotAskedReason::QuotaSpent, detail);
    not_asked.until = Some(until);
    Obstacle::Barred(not_asked)
}

fn ledger_away(site: &Site, error: &StoreError) -> Obstacle {
    tracing::error!(source = site.settings.name, %error, "the ledger cannot be reached, so nothing is asked");
    Obstacle::Broken(SourceError::unavailable("the ledger cannot be reached, so the source was not asked"))
}

/// A source that says "enough" is believed at once, whatever our own count says.
fn suspend(site: &Site, error: &SourceError) {
    if error.kind == SourceErrorKind::QuotaExhausted {
        // "Enough, and come back at once" says nothing of when.
        let duration = error.retry_after.filter(|duration| !duration.is_zero()).unwrap_or(SUSPENSION);
        site.suspend(duration);
    }
}
