//! The contract of stored policies.

use std::sync::Arc;

use concord::store::{PolicyRow, Store, Swap};

use super::samples::at;

/// The first change comes from a file, the others from the API.
fn policy_row(name: &str, change: u64, revision: u32, document: Option<&str>) -> PolicyRow {
    let document = document.map(str::to_owned);
    PolicyRow { name: name.into(), change, revision, time: at(change as f64), from_file: change == 1, document }
}

pub async fn a_policy_grows_by_one_change_at_a_time_and_its_revisions_stay(store: Arc<dyn Store>) {
    let changes = [
        policy_row("strict", 1, 1, Some("{1}")),
        policy_row("strict", 2, 2, Some("{2}")),
        policy_row("strict", 3, 2, None),
        policy_row("strict", 4, 3, Some("{3}")),
    ];
    assert_eq!(store.last_policy_changes().await, Ok(Vec::new()));
    assert_eq!(store.append_policy_change(changes[1].clone()).await, Ok(Swap::Conflict), "the first is missing");
    for change in &changes {
        assert_eq!(store.append_policy_change(change.clone()).await, Ok(Swap::Done));
        assert_eq!(store.append_policy_change(change.clone()).await, Ok(Swap::Conflict), "it is there");
        assert_eq!(store.last_policy_changes().await, Ok(vec![change.clone()]));
    }
    let other = policy_row("calm", 1, 1, Some("{4}"));
    assert_eq!(store.append_policy_change(other.clone()).await, Ok(Swap::Done));
    assert_eq!(store.last_policy_changes().await, Ok(vec![other, changes[3].clone()]));
    for (revision, change) in [(1, 0), (2, 1), (3, 3)] {
        assert_eq!(store.policy_revision("strict", revision).await, Ok(Some(changes[change].clone())));
    }
    assert_eq!(store.policy_revision("strict", 4).await, Ok(None));
}
