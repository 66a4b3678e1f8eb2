//! The contract of stored policies.

use std::sync::Arc;

use concord::store::{PolicyRow, Store, Swap};

use super::samples::at;

/// The first change comes from a file, the others from the API.
pub fn policy_row(name: &str, change: u64, revision: u32, document: Option<&str>) -> PolicyRow {
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

pub async fn revisions_that_no_verdict_can_name_are_pruned_except_the_newest(store: Arc<dyn Store>) {
    for change in 1..=6 {
        // The fourth change deletes the policy.
        let document = (change != 4).then_some("{}");
        let revision = if change < 4 { change } else { change - 1 };
        store.append_policy_change(policy_row("strict", change.into(), revision, document)).await.expect("stored");
    }
    store.append_policy_change(policy_row("calm", 1, 1, Some("{}"))).await.expect("stored");
    // The third change was made before 3.5 and replaced the second; the third itself was replaced later.
    assert_eq!(store.prune_policies(at(3.5), 1).await, Ok(2));
    assert_eq!(store.policy_revision("strict", 2).await, Ok(None));
    assert!(store.policy_revision("strict", 3).await.is_ok_and(|row| row.is_some()));
    assert_eq!(store.prune_policies(at(100.0), 3).await, Ok(1), "the newest three stay");
    assert!(store.policy_revision("strict", 4).await.is_ok_and(|row| row.is_some()));
    assert_eq!(store.prune_policies(at(100.0), 1).await, Ok(2), "the last change stays");
    let names = store.last_policy_changes().await.expect("listed");
    assert_eq!(
        names.iter().map(|row| (row.name.as_str(), row.change)).collect::<Vec<_>>(),
        [("calm", 1), ("strict", 6)]
    );
    let next = policy_row("strict", 7, 6, Some("{}"));
    assert_eq!(store.append_policy_change(next).await, Ok(Swap::Done), "changes are counted on");
}
