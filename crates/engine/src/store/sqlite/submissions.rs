//! Submissions in SQLite: a row each, replaced by compare-and-set.

use std::time::SystemTime;

use rusqlite::types::Value;
use rusqlite::{Row, params, params_from_iter};

use super::filter::Conditions;
use super::{Sqlite, parse_column};
use crate::indicator::{Indicator, Tlp};
use crate::source::Visibility;
use crate::store::encode::{decode_submission, encode_submission};
use crate::store::submission::{Submission, SubmissionFilter, SubmissionStore, SubmissionType};
use crate::store::time::{nanos, time};
use crate::store::{BoxFuture, Cursor, Listed, PageLimit, StoreError, Swap};

const SELECT: &str = "SELECT * FROM submissions";

fn read_submission(row: &Row<'_>) -> Result<Submission, StoreError> {
    let form = parse_column(&row.get::<_, String>("form")?)?;
    let columns = Submission {
        id: row.get("id")?,
        revision: row.get("revision")?,
        create_time: time(row.get("time")?),
        update_time: time(row.get("updated")?),
        submitter: row.get("submitter")?,
        source: row.get("source")?,
        indicator: Indicator::from_stored(form, &row.get::<_, String>("value")?),
        state: parse_column(&row.get::<_, String>("state")?)?,
        // The body has the rest.
        tlp: Tlp::Red,
        submission_type: SubmissionType::File,
        visibility: Visibility::Public,
        file: None,
        hold_reasons: Vec::new(),
        review: None,
        detail: String::new(),
        send_time: None,
        recipient: String::new(),
        analysis: None,
        is_known: false,
        verdict: None,
    };
    decode_submission(columns, &row.get::<_, Vec<u8>>("body")?)
}

impl SubmissionStore for Sqlite {
    fn put_submission(&self, submission: Submission, expected: u64) -> BoxFuture<'_, Swap> {
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO submissions (id, revision, time, updated, submitter, source, form, value, state, is_open, body)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11
                 WHERE ?12 = coalesce((SELECT revision FROM submissions WHERE id = ?1), 0)
                 ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, updated = excluded.updated,
                     state = excluded.state, is_open = excluded.is_open, body = excluded.body",
            )?;
            let rows = statement.execute(params![
                submission.id,
                submission.revision,
                nanos(submission.create_time),
                nanos(submission.update_time),
                submission.submitter,
                submission.source,
                submission.indicator.form().as_str(),
                submission.indicator.redacted(),
                submission.state.as_str(),
                !submission.state.is_final(),
                encode_submission(&submission),
                expected,
            ])?;
            Ok(if rows == 0 { Swap::Conflict } else { Swap::Done })
        })
    }

    fn submission<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Submission>> {
        let id = id.to_owned();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM submissions WHERE id = ?1")?;
            statement.query_and_then([id], read_submission)?.next().transpose()
        })
    }

    fn submissions(
        &self,
        filter: SubmissionFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<Submission>> {
        self.read(move |connection| {
            let mut conditions = Conditions::default();
            conditions.indicator(filter.indicator.as_ref());
            if let Some(state) = filter.state {
                conditions.and("state = ?", [Value::Text(state.as_str().to_owned())]);
            }
            if let Some(submitter) = filter.submitter {
                conditions.and("submitter = ?", [Value::Text(submitter)]);
            }
            conditions.period(None, None, after);
            let (sql, values) = conditions.newest(SELECT, limit.rows.saturating_add(1));
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_and_then(params_from_iter(values), read_submission)?;
            Listed::fill(limit, rows.map(|row| row.map(Submission::with_bytes)))
        })
    }

    fn open_submissions(&self) -> BoxFuture<'_, Vec<Submission>> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT * FROM submissions WHERE is_open = 1 ORDER BY time, id")?;
            statement.query_and_then([], read_submission)?.collect()
        })
    }

    fn prune_submissions(&self, before: SystemTime) -> BoxFuture<'_, u64> {
        Box::pin(self.delete("submissions", "is_open = 0 AND updated < ?1", [nanos(before)]))
    }
}
