//! The quota and tier of a key, as VirusTotal reports them.

use super::options::{FREE, PREMIUM};
use crate::finding::SourceError;
use crate::source::{Allowance, Probe, QuotaPer, QuotaWindow, WindowAllowance};
use crate::sources::json::{self, Object};

/// The daily calls of a free key.
pub(super) const FREE_PER_DAY: u64 = 500;

/// The windows by the service's names for them.
const WINDOWS: [(&str, QuotaPer); 3] = [
    ("api_requests_hourly", QuotaPer::Hour),
    ("api_requests_daily", QuotaPer::Day),
    ("api_requests_monthly", QuotaPer::Month),
];

/// Adds the quotas and the tier in the record of the user.
pub(super) fn extend(probe: &mut Probe, body: &[u8], is_premium: bool) {
    let windows = read_user(body).unwrap_or_default();
    probe.tier = tier(&windows).map(str::to_owned);
    let declared = if is_premium { PREMIUM } else { FREE };
    if let Some(is) = probe.tier.as_deref().filter(|is| *is != declared) {
        probe.detail.push_str(&format!("; the key is of tier {is}, and the source is declared {declared}"));
    }
    for WindowAllowance { window: QuotaWindow { per, limit }, used } in windows {
        let left = limit.saturating_sub(used);
        probe.detail.push_str(&format!("; {left} of {limit} left this {}", per.as_str()));
        probe.quota_left.push((per.as_str().to_owned(), left));
    }
}

/// Reads the quotas of a key: those of its owner, or of the owner's group if less is left of them.
pub(super) fn read_allowance(record: &Object<'_>) -> Result<Allowance, SourceError> {
    let quotas = record.need_object("data")?;
    let least_left = |(member, per): (&str, QuotaPer)| {
        let quota = quotas.object(member).ok()??;
        let holders = ["user", "group"].into_iter().filter_map(|holder| read_window(&quota, holder, per));
        // The count of a window is never lowered, so that it must fit the same limit each time, whoever has less left.
        let left = |allowed: &WindowAllowance| allowed.window.limit.saturating_sub(allowed.used);
        holders.reduce(|one, other| {
            let limit = one.window.limit.min(other.window.limit);
            let used = limit.saturating_sub(left(&one).min(left(&other)));
            WindowAllowance { window: QuotaWindow { per, limit }, used }
        })
    };
    let windows: Vec<_> = WINDOWS.into_iter().filter_map(least_left).collect();
    Ok(Allowance { tier: tier(&windows).map(str::to_owned), windows })
}

fn read_user(body: &[u8]) -> Option<Vec<WindowAllowance>> {
    let document = json::parse(body).ok()?;
    let quotas = Object::root(&document).ok()?.object("data.attributes.quotas").ok()??;
    Some(WINDOWS.into_iter().filter_map(|(member, per)| read_window(&quotas, member, per)).collect())
}

/// The limit and the use of one window. A limit of zero is ignored, since such a key could ask nothing.
fn read_window(quotas: &Object<'_>, member: &str, per: QuotaPer) -> Option<WindowAllowance> {
    let quota = quotas.object(member).ok()??;
    let (used, limit) = (quota.count("used").ok()??, quota.count("allowed").ok()??);
    (limit > 0).then_some(WindowAllowance { window: QuotaWindow { per, limit }, used })
}

fn tier(windows: &[WindowAllowance]) -> Option<&'static str> {
    let day = windows.iter().find(|allowed| allowed.window.per == QuotaPer::Day)?;
    Some(if day.window.limit > FREE_PER_DAY { PREMIUM } else { FREE })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_user_record_tells_the_tier_and_what_is_left_of_the_quota() {
        let user = |allowed: u64| {
            let quotas = json!({
                "api_requests_daily": {"used": 88, "allowed": allowed},
                "api_requests_monthly": {"used": 88, "allowed": 15_500},
            });
            serde_json::to_vec(&json!({"data": {"attributes": {"quotas": quotas}}})).expect("JSON")
        };
        let probed = |body: &[u8]| {
            let mut probe = Probe::new(Ok(()), Some(true), String::new());
            extend(&mut probe, body, false);
            probe
        };
        let free = probed(&user(500));
        assert_eq!(free.tier.as_deref(), Some("free"));
        assert_eq!(free.quota_left, [("day".to_owned(), 412), ("month".to_owned(), 15_412)]);
        let premium = probed(&user(20_000));
        assert_eq!(premium.tier.as_deref(), Some("premium"));
        assert!(premium.detail.contains("the key is of tier premium, and the source is declared free"));
        assert_eq!(probed(b"{}").tier, None);
    }

    fn allowance(quotas: &Value) -> Allowance {
        let body = json!({ "data": quotas }).to_string();
        let document = json::parse(body.as_bytes()).expect("JSON");
        read_allowance(&Object::root(&document).expect("an object")).expect("quotas")
    }

    #[test]
    fn the_quotas_of_a_key_are_those_of_its_owner_or_group_whichever_has_less_left() {
        let read = allowance(&json!({
            "api_requests_hourly": {"user": {"used": 3, "allowed": 240}},
            "api_requests_daily": {"user": {"used": 3, "allowed": 30_000}, "group": {"used": 900, "allowed": 1_000}},
            "api_requests_monthly": {"group": {"used": 900, "allowed": 30_000}},
            "intelligence_searches_monthly": {"user": {"used": 9, "allowed": 9}},
        }));
        let windows: Vec<_> = read.windows.iter().map(|allowed| (allowed.window.per, allowed.window.limit)).collect();
        assert_eq!(windows, [(QuotaPer::Hour, 240), (QuotaPer::Day, 1_000), (QuotaPer::Month, 30_000)]);
        assert_eq!(read.windows.iter().map(|allowed| allowed.used).collect::<Vec<_>>(), [3, 900, 900]);
        assert_eq!(read.tier.as_deref(), Some("premium"));
    }

    #[test]
    fn quotas_that_are_missing_or_nothing_are_no_limits() {
        let none = json!({"api_requests_daily": {"user": {"used": 0, "allowed": 0}}, "api_requests_hourly": {}});
        assert_eq!(allowance(&none), Allowance::default());
        assert!(read_allowance(&Object::empty()).is_err());
    }
}
