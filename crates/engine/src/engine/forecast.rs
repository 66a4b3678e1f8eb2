//! Tells operators when the quota of a day will be used up at the present pace: once a day and account in the log, and as a
//! metric.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Engine;
use crate::source::QuotaPer;
use crate::sync::lock;

/// For each account, the end of the day for which a forecast was logged.
#[derive(Debug, Default)]
pub(super) struct LoggedForecasts(Mutex<BTreeMap<String, SystemTime>>);

impl Engine {
    /// Sets the metric of each source, and logs what became true. Returns what it logged, by source.
    pub async fn note_forecasts(&self) -> Vec<(String, String)> {
        let mut logged = Vec::new();
        // Only reports: pipelines that are not in use yet are not built for it.
        for entry in &self.pipelines.latest().entries {
            let Ok(pipeline) = &entry.pipeline else { continue };
            let Some(account) = pipeline.account() else { continue };
            let usage = pipeline.quota_usage().await;
            let runs_out = pipeline.runs_out(&usage).await;
            entry.counters.note_forecast(runs_out);
            let day = usage.iter().find(|window| window.per == QuotaPer::Day);
            let (Some(runs_out), Some(day)) = (runs_out, day) else { continue };
            if lock(&self.forecasts.0).insert(account.to_owned(), day.resets_at) == Some(day.resets_at) {
                continue;
            }
            let detail = format!("at this pace the day's quota ends at {}", time_of_day(runs_out));
            tracing::warn!(source = entry.name(), used = day.used, limit = day.limit, "{detail}");
            logged.push((entry.name().to_owned(), detail));
        }
        logged
    }
}

/// `14:20 UTC`.
fn time_of_day(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).map(|time| time.to_zoned(TimeZone::UTC));
    time.map(|time| format!("{:02}:{:02} UTC", time.hour(), time.minute())).unwrap_or_default()
}
