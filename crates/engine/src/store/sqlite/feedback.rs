//! What analysts said, in SQLite.

use std::time::SystemTime;

use rusqlite::types::Value;
use rusqlite::{Row, params, params_from_iter};

use super::filter::Conditions;
use super::{Sqlite, parse_column};
use crate::indicator::Indicator;
use crate::store::time::{nanos, time};
use crate::store::{
    BoxFuture, Cursor, FeedbackFilter, FeedbackStore, Listed, PageLimit, StoreError, feedback_with_bytes,
};
use crate::verdict::{Feedback, Retraction};

const SELECT: &str = "SELECT * FROM feedback";

fn read_feedback(row: &Row<'_>) -> Result<Feedback, StoreError> {
    let form = parse_column(&row.get::<_, String>("form")?)?;
    let retracted: Option<i64> = row.get("retracted")?;
    let retraction = match retracted {
        Some(at) => {
            let caller = row.get::<_, Option<String>>("retracted_caller")?.unwrap_or_default();
            let reason = row.get("retraction_reason")?;
            Some(Retraction { author: row.get("retracted_by")?, caller, reason, time: time(at) })
        }
        None => None,
    };
    Ok(Feedback {
        id: row.get("id")?,
        indicator: Indicator::from_stored(form, &row.get::<_, String>("value")?),
        judgement: parse_column(&row.get::<_, String>("judgement")?)?,
        author: row.get("author")?,
        reason: row.get("reason")?,
        pin: row.get("pin")?,
        create_time: time(row.get("time")?),
        expire_time: row.get::<_, Option<i64>>("expires")?.map(time),
        verdict: row.get("verdict")?,
        caller: row.get("caller")?,
        retraction,
    })
}

impl FeedbackStore for Sqlite {
    fn record_feedback(&self, feedback: Feedback) -> BoxFuture<'_, ()> {
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO feedback (id, time, form, value, judgement, author, reason, pin, expires, verdict, caller)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO NOTHING",
            )?;
            let rows = statement.execute(params![
                feedback.id,
                nanos(feedback.create_time),
                feedback.indicator.form().as_str(),
                feedback.indicator.redacted(),
                feedback.judgement.as_str(),
                feedback.author,
                feedback.reason,
                feedback.pin,
                feedback.expire_time.map(nanos),
                feedback.verdict,
                feedback.caller,
            ])?;
            match rows {
                0 => Err(StoreError::rejected(format!("feedback {} exists", feedback.id))),
                _ => Ok(()),
            }
        })
    }

    fn feedback<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Feedback>> {
        let id = id.to_owned();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM feedback WHERE id = ?1")?;
            statement.query_and_then([id], read_feedback)?.next().transpose()
        })
    }

    fn list_feedback(
        &self,
        filter: FeedbackFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<Feedback>> {
        self.read(move |connection| {
            let mut conditions = Conditions::default();
            conditions.indicator(filter.indicator.as_ref());
            if let Some(at) = filter.active_at {
                let at = Value::Integer(nanos(at));
                conditions.and("retracted IS NULL AND (expires IS NULL OR expires > ?)", [at]);
            }
            if filter.unretracted {
                conditions.and("retracted IS NULL", []);
            }
            conditions.period(None, None, after);
            let (sql, values) = conditions.newest(SELECT, limit.rows.saturating_add(1));
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_and_then(params_from_iter(values), read_feedback)?;
            Listed::fill(limit, rows.map(|row| row.map(feedback_with_bytes)))
        })
    }

    fn retract_feedback<'a>(&'a self, id: &'a str, retraction: Retraction) -> BoxFuture<'a, Option<Feedback>> {
        let id = id.to_owned();
        self.write(move |connection| {
            let mut update = connection.prepare_cached(
                "UPDATE feedback SET retracted = ?2, retracted_by = ?3, retraction_reason = ?4, retracted_caller = ?5
                 WHERE id = ?1 AND retracted IS NULL",
            )?;
            update.execute(params![
                id,
                nanos(retraction.time),
                retraction.author,
                retraction.reason,
                retraction.caller
            ])?;
            let mut statement = connection.prepare_cached("SELECT * FROM feedback WHERE id = ?1")?;
            statement.query_and_then([id], read_feedback)?.next().transpose()
        })
    }

    fn prune_feedback(&self, before: SystemTime) -> BoxFuture<'_, u64> {
        Box::pin(self.delete("feedback", "(retracted < ?1 OR expires < ?1)", [nanos(before)]))
    }
}
