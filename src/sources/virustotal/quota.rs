//! What a key's own record says of its quota and tier.

use super::options::PREMIUM;
use crate::source::Probe;
use crate::sources::json::{self, Object};

/// The daily calls of a free key.
pub(super) const FREE_PER_DAY: u64 = 500;

/// Adds what the user's record says of quotas and tier.
pub(super) fn extend(probe: &mut Probe, body: &[u8], is_premium: bool) {
    let quotas = read_quotas(body).unwrap_or_default();
    let daily = quotas.iter().find(|quota| quota.window == "day");
    probe.tier = daily.map(|quota| if quota.allowed > FREE_PER_DAY { "premium" } else { "free" }.to_owned());
    let is_paid = daily.map(|quota| quota.allowed > FREE_PER_DAY);
    if is_paid.is_some_and(|is_paid| is_paid != is_premium) {
        let (is, declared) = if is_premium { ("free", PREMIUM) } else { (PREMIUM, "free") };
        probe.detail.push_str(&format!("; the key is of tier {is}, and the source is declared {declared}"));
    }
    for quota in quotas {
        let left = quota.allowed.saturating_sub(quota.used);
        probe.detail.push_str(&format!("; {} of {} left this {}", left, quota.allowed, quota.window));
        probe.quota_left.push((quota.window.to_owned(), left));
    }
}

struct Quota {
    window: &'static str,
    used: u64,
    allowed: u64,
}

fn read_quotas(body: &[u8]) -> Option<Vec<Quota>> {
    const WINDOWS: [(&str, &str); 3] =
        [("api_requests_hourly", "hour"), ("api_requests_daily", "day"), ("api_requests_monthly", "month")];
    let value = json::parse(body).ok()?;
    let quotas = Object::root(&value).ok()?.object("data.attributes.quotas").ok()??;
    let read = |(member, window): (&str, &'static str)| {
        let quota = quotas.object(member).ok()??;
        Some(Quota { window, used: quota.count("used").ok()??, allowed: quota.count("allowed").ok()?? })
    };
    Some(WINDOWS.into_iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_record_tells_the_tier_and_what_is_left_of_the_quota() {
        let user = |allowed: u64| {
            let quotas = serde_json::json!({
                "api_requests_daily": {"used": 88, "allowed": allowed},
                "api_requests_monthly": {"used": 88, "allowed": 15_500},
            });
            serde_json::to_vec(&serde_json::json!({"data": {"attributes": {"quotas": quotas}}})).expect("JSON")
        };
        let probed = |body: &[u8]| {
            let mut probe = Probe::new(Ok(()), Some(true), String::new());
            extend(&mut probe, body, false);
            probe
        };
        let free = probed(&user(500));
        assert_eq!(free.tier.as_deref(), Some("free"));
        assert_eq!(free.quota_left, [("day".to_owned(), 412), ("month".to_owned(), 15_412)]);
        assert_eq!(probed(&user(20_000)).tier.as_deref(), Some("premium"));
        assert_eq!(probed(b"{}").tier, None);
    }
}
