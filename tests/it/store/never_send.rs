//! The contract of stored never-send rules.

use std::sync::Arc;

use concord::store::{NeverSendRow, Store};

use super::samples::at;

pub async fn never_send_rules_come_back_until_they_are_deleted(store: Arc<dyn Store>) {
    let row = |id: &str, rule: &str| NeverSendRow {
        id: id.into(),
        rule: rule.into(),
        comment: "a customer".into(),
        creator: "soar".into(),
        create_time: at(1.25),
    };
    assert_eq!(store.never_send_rows().await, Ok(Vec::new()));
    store.put_never_send_row(row("b", "example.com")).await.expect("stored");
    store.put_never_send_row(row("a", "example.net")).await.expect("stored");
    store.put_never_send_row(row("b", "example.org")).await.expect("replaced");
    assert_eq!(store.never_send_rows().await, Ok(vec![row("a", "example.net"), row("b", "example.org")]));
    store.delete_never_send_row("b").await.expect("deleted");
    store.delete_never_send_row("b").await.expect("there is none");
    assert_eq!(store.never_send_rows().await, Ok(vec![row("a", "example.net")]));
}
