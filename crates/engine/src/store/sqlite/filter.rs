//! Builds the WHERE clause of a list from only those conditions that are set, so that each filter can use its index.

use std::time::SystemTime;

use rusqlite::types::Value;

use crate::indicator::Indicator;
use crate::store::Cursor;
use crate::store::time::nanos;

/// The conditions of a SELECT, with their values.
#[derive(Default)]
pub(super) struct Conditions {
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    /// Adds a condition with one `?` for each value. The text of the condition must not contain anything from a caller.
    pub(super) fn and(&mut self, condition: &'static str, values: impl IntoIterator<Item = Value>) {
        self.sql.push_str(if self.sql.is_empty() { " WHERE " } else { " AND " });
        self.sql.push_str(condition);
        self.values.extend(values);
    }

    pub(super) fn indicator(&mut self, indicator: Option<&Indicator>) {
        if let Some(indicator) = indicator {
            let form = Value::Text(indicator.form().as_str().to_owned());
            self.and("value = ? AND form = ?", [Value::Text(indicator.redacted()), form]);
        }
    }

    pub(super) fn period(&mut self, from: Option<SystemTime>, until: Option<SystemTime>, after: Option<Cursor>) {
        if let Some(from) = from {
            self.and("time >= ?", [Value::Integer(nanos(from))]);
        }
        if let Some(until) = until {
            self.and("time < ?", [Value::Integer(nanos(until))]);
        }
        if let Some(after) = after {
            self.and("(time, id) < (?, ?)", [Value::Integer(nanos(after.time)), Value::Text(after.id)]);
        }
    }

    /// The whole statement in no order, and its values.
    pub(super) fn all(self, select: &str) -> (String, Vec<Value>) {
        (format!("{select}{}", self.sql), self.values)
    }

    /// The whole statement, newest first, and its values.
    pub(super) fn newest(mut self, select: &str, limit: usize) -> (String, Vec<Value>) {
        self.values.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
        (format!("{select}{} ORDER BY time DESC, id DESC LIMIT ?", self.sql), self.values)
    }
}
