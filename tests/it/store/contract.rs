//! The contract of a store: one list of sentences that every backend fulfils.

use std::sync::Arc;

use concord::finding::Disposition;
use concord::indicator::{Form, Indicator};
use concord::source::QuotaPer;
use concord::store::{
    Cursor, Disclosure, DisclosureFilter, Memory, PageLimit, Retention, SourceRow, Store, Swap, VerdictFilter,
};

use super::cached::a_cached_row_is_replaced_deleted_and_pruned_by_its_end;
use super::feedback::{
    feedback_comes_back_exactly_and_is_recorded_once,
    feedback_is_listed_newest_first_by_indicator_and_by_what_is_active, feedback_is_retracted_once_and_stays_on_record,
    pruning_leaves_feedback_that_is_active_however_old,
};
use super::never_send::never_send_rules_come_back_until_they_are_deleted;
use super::policies::{
    a_policy_grows_by_one_change_at_a_time_and_its_revisions_stay,
    revisions_that_no_verdict_can_name_are_pruned_except_the_newest,
};
use super::quota::{
    a_call_and_what_it_discloses_are_on_record_together_or_not_at_all,
    a_call_in_the_last_second_of_a_day_counts_in_the_next_as_well,
    a_call_that_overtook_another_still_counts_its_full_minute, a_clock_that_is_set_forward_does_not_empty_the_minute,
    a_clock_that_jumps_ahead_and_back_forgets_nothing, a_clock_that_steps_back_and_returns_forgets_nothing,
    a_clock_that_steps_back_frees_nothing, a_lowered_limit_waits_until_enough_calls_are_old, a_minute_slides,
    a_take_that_fails_takes_nothing_and_leaves_nothing_under_way, a_unit_counts_as_taken_now_until_its_call_has_ended,
    a_unit_is_charged_to_its_caller_over_all_accounts_until_the_day_ends,
    a_unit_is_given_back_once_in_every_window_that_it_was_taken_of,
    a_unit_is_given_back_to_the_day_in_which_it_was_taken, a_unit_is_taken_of_all_windows_or_of_none,
    a_unit_that_moved_with_the_clock_stays_taken, a_week_resets_on_monday_and_not_with_the_month,
    a_window_added_later_knows_the_calls_before, accounts_do_not_share_quota, an_hour_resets_with_the_clock,
    day_and_month_reset_with_the_calendar, many_takes_at_once_never_exceed_the_limit,
    no_sixty_seconds_hold_more_than_the_limit, usage_of_an_unknown_account_is_nothing,
    what_the_source_says_is_used_counts_where_it_is_more_than_is_recorded,
    windows_turn_in_the_zone_of_the_source_and_every_zone_counts_all_calls,
};
use super::samples::{
    acquire, answer, at, disclosure, everything_stays, granted, ids, ip, noise, record, row, second, take,
};
use super::submissions::{
    a_submission_comes_back_exactly_and_changes_by_its_revision, pruning_leaves_submissions_that_are_open_however_old,
    submissions_are_listed_newest_first_and_the_open_ones_oldest_first,
};

async fn a_verdict_comes_back_exactly(store: Arc<dyn Store>) {
    let stored = record("v1", "192.0.2.1", Disposition::Malicious, 0.123_456_789);
    store.append(stored.clone().into()).await.expect("stored");
    assert_eq!(store.verdict("v1").await.expect("read"), Some(stored));
    assert_eq!(store.verdict("v2").await.expect("read"), None);
}

async fn a_stored_verdict_never_changes(store: Arc<dyn Store>) {
    let first = record("v1", "192.0.2.1", Disposition::Malicious, 0.0);
    store.append(first.clone().into()).await.expect("stored");
    let second = record("v1", "192.0.2.2", Disposition::Benign, 1.0);
    assert!(store.append(second.into()).await.is_err());
    assert_eq!(store.verdict("v1").await.expect("read"), Some(first));
    assert_eq!(store.verdicts(VerdictFilter::default(), PageLimit::rows(10), None).await.expect("list").rows.len(), 1);
}

async fn verdicts_are_listed_newest_first_page_by_page(store: Arc<dyn Store>) {
    for (id, seconds) in [("b", 1.0), ("a", 1.0), ("d", 3.0), ("c", 2.0), ("e", 1.0)] {
        store.append(record(id, "192.0.2.1", Disposition::Benign, seconds).into()).await.expect("stored");
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.verdicts(VerdictFilter::default(), PageLimit::rows(2), after).await.expect("page").rows;
        let Some(last) = page.last() else { break };
        after = Some(Cursor { time: last.create_time, id: last.id.clone() });
        seen.extend(page.iter().map(|record| record.id.clone()));
    }
    assert_eq!(seen, ["d", "c", "e", "b", "a"]);
}

async fn a_list_ends_at_its_bytes_and_a_large_row_stands_alone(store: Arc<dyn Store>) {
    for (id, seconds, text) in [("a", 1.0, 10), ("b", 2.0, 50_000), ("c", 3.0, 4_000), ("d", 4.0, 4_000)] {
        let mut large = record(id, "192.0.2.1", Disposition::Benign, seconds);
        large.verdict.deciding_source = Some("x".repeat(text));
        store.append(large.into()).await.expect("stored");
        let named = Disclosure { caller: "x".repeat(text), ..disclosure(id, "192.0.2.1", "s", seconds) };
        store.record_disclosure(named).await.expect("stored");
    }
    let limit = PageLimit { rows: 10, bytes: 20_000 };
    let mut after = None;
    for (wanted, has_more) in [(["d", "c"].as_slice(), true), (&["b"], true), (&["a"], false)] {
        let verdicts = store.verdicts(VerdictFilter::default(), limit, after.clone()).await.expect("page");
        assert_eq!((ids(&verdicts.rows).as_slice(), verdicts.has_more), (wanted, has_more));
        let listed = store.disclosures(DisclosureFilter::default(), limit, after).await.expect("page");
        let found: Vec<_> = listed.rows.iter().map(|disclosure| disclosure.id.as_str()).collect();
        assert_eq!((found.as_slice(), listed.has_more), (wanted, has_more));
        after = listed.rows.last().map(|last| Cursor { time: last.time, id: last.id.clone() });
    }
    let one = store.verdicts(VerdictFilter::default(), PageLimit::rows(1), None).await.expect("page");
    assert_eq!((ids(&one.rows).as_slice(), one.has_more), (["d"].as_slice(), true));
}

async fn a_filter_narrows_by_each_of_its_fields(store: Arc<dyn Store>) {
    store.append(record("a", "192.0.2.1", Disposition::Benign, 1.0).into()).await.expect("stored");
    store.append(record("b", "192.0.2.2", Disposition::Malicious, 2.0).into()).await.expect("stored");
    store.append(record("c", "192.0.2.1", Disposition::Malicious, 3.0).into()).await.expect("stored");
    let list = async |filter: VerdictFilter| {
        let listed = store.verdicts(filter.clone(), PageLimit::rows(10), None).await.expect("list").rows;
        assert_eq!(store.count_verdicts(filter).await.expect("count"), listed.len() as u64);
        listed
    };
    let none = VerdictFilter::default();
    let indicator = Some(ip("192.0.2.1"));
    let disposition = Some(Disposition::Malicious);
    assert_eq!(ids(&list(VerdictFilter { indicator: indicator.clone(), ..none.clone() }).await), ["c", "a"]);
    assert_eq!(ids(&list(VerdictFilter { disposition, ..none.clone() }).await), ["c", "b"]);
    assert_eq!(ids(&list(VerdictFilter { indicator, disposition, ..none.clone() }).await), ["c"]);
    assert_eq!(ids(&list(VerdictFilter { from: Some(at(2.0)), ..none.clone() }).await), ["c", "b"]);
    assert_eq!(ids(&list(VerdictFilter { until: Some(at(2.0)), ..none }).await), ["a"]);
}

async fn an_answer_is_stored_once(store: Arc<dyn Store>) {
    let first = answer("f00d", &[0, 159, 255].repeat(1_000), 1.25);
    store.keep_answers(vec![first.clone()]).await.expect("stored");
    store.keep_answers(vec![answer("f00d", &first.body, 9.0)]).await.expect("stored");
    assert_eq!(store.answer("f00d").await.expect("read"), Some(first));
    assert_eq!(store.answer("beef").await.expect("read"), None);
}

async fn pruning_removes_what_is_too_old(store: Arc<dyn Store>) {
    store.keep_answers(vec![answer("old", b"1", 0.0)]).await.expect("stored");
    store.keep_answers(vec![answer("edge", b"2", 10.0)]).await.expect("stored");
    store.keep_answers(vec![answer("seen-again", b"3", 0.0)]).await.expect("stored");
    store.keep_answers(vec![answer("seen-again", b"3", 15.0)]).await.expect("stored");
    store.append(record("old", "192.0.2.1", Disposition::Benign, 0.0).into()).await.expect("stored");
    store.append(record("new", "192.0.2.1", Disposition::Benign, 10.0).into()).await.expect("stored");
    store.record_disclosure(disclosure("old", "192.0.2.1", "a", 0.0)).await.expect("stored");
    store.record_disclosure(disclosure("new", "192.0.2.1", "a", 10.0)).await.expect("stored");
    let age = second(10);
    let retention = Retention { answers_age: age, verdicts_age: age, disclosures_age: age, ..everything_stays() };
    let pruned = store.prune(retention, at(20.0)).await.expect("pruned");
    assert_eq!((pruned.answers, pruned.verdicts, pruned.disclosures), (1, 1, 1));
    assert_eq!(store.answer("old").await.expect("read"), None);
    assert!(store.answer("edge").await.expect("read").is_some());
    assert!(store.answer("seen-again").await.expect("read").is_some());
    assert_eq!(store.verdict("old").await.expect("read"), None);
    assert!(store.verdict("new").await.expect("read").is_some());
    assert_eq!(
        store.disclosures(DisclosureFilter::default(), PageLimit::rows(9), None).await.expect("list").rows.len(),
        1
    );
    let again = store.prune(retention, at(20.0)).await.expect("pruned");
    assert_eq!((again.answers, again.verdicts, again.disclosures), (0, 0, 0));
}

async fn pruning_by_size_removes_the_oldest(store: Arc<dyn Store>) {
    for (hash, seconds) in [("b", 2.0), ("a", 1.0), ("c", 3.0)] {
        store.keep_answers(vec![answer(hash, b"nine bytes and more", seconds)]).await.expect("stored");
    }
    let all = store.prune(everything_stays(), at(4.0)).await.expect("pruned");
    assert_eq!(all.answers, 0, "all fit");
    // The three are of one size, between 19 and 40 bytes: two fit into 80, three do not into 56.
    let pruned = store.prune(Retention { answers_bytes: 56, ..everything_stays() }, at(4.0)).await.expect("pruned");
    assert!((1..=2).contains(&pruned.answers), "{pruned:?}");
    assert_eq!(store.answer("a").await.expect("read"), None);
    assert!(store.answer("c").await.expect("read").is_some());
    store.prune(Retention { answers_bytes: 0, ..everything_stays() }, at(4.0)).await.expect("pruned");
    assert_eq!(store.answer("c").await.expect("read"), None);
}

async fn pruning_to_a_size_removes_the_oldest_of_all_and_stops_there(store: Arc<dyn Store>) {
    for number in 0..300_u32 {
        let (id, seconds) = (format!("{number:03}"), f64::from(number));
        let mut large = record(&id, "192.0.2.1", Disposition::Benign, seconds);
        // Hexadecimal digits of which no two are alike, so that they cannot be compressed away.
        large.verdict.deciding_source =
            Some((0..200).map(|place| format!("{:016x}", noise(number * 200 + place))).collect());
        store.append(large.into()).await.expect("stored");
        store.record_disclosure(disclosure(&id, "192.0.2.1", "s", seconds)).await.expect("stored");
    }
    let pruned = store.prune(everything_stays(), at(300.0)).await.expect("pruned");
    assert_eq!((pruned.verdicts, pruned.disclosures), (0, 0), "all fit");
    let half = Retention { store_bytes: 400_000, ..everything_stays() };
    let pruned = store.prune(half, at(300.0)).await.expect("pruned");
    assert!((50..=290).contains(&pruned.verdicts), "{pruned:?}");
    let listed = store.verdicts(VerdictFilter::default(), PageLimit::rows(300), None).await.expect("list").rows;
    assert_eq!(listed.len() as u64, 300 - pruned.verdicts);
    assert_eq!(listed.first().map(|newest| newest.id.as_str()), Some("299"), "the newest stay");
    let again = store.prune(half, at(300.0)).await.expect("pruned");
    assert_eq!((again.verdicts, again.disclosures), (0, 0), "it is small enough now");
}

async fn the_password_of_a_url_is_not_stored_and_does_not_part_its_history(store: Arc<dyn Store>) {
    let url = |user: &str| Indicator::from_normal(Form::Url, &format!("https://{user}@example.com/a")).expect("a URL");
    for (id, user, seconds) in [("a", "alice:s3cret", 1.0), ("b", "bob:0ther", 2.0)] {
        let mut secret = record(id, "192.0.2.1", Disposition::Benign, seconds);
        secret.verdict.indicator = url(user);
        store.append(secret.into()).await.expect("stored");
    }
    let filter = VerdictFilter { indicator: Some(url("alice:s3cret")), ..VerdictFilter::default() };
    let listed = store.verdicts(filter, PageLimit::rows(9), None).await.expect("list").rows;
    assert_eq!(ids(&listed), ["b", "a"]);
    assert_eq!(listed[0].verdict.indicator.value(), "https://***@example.com/a");
    let read = store.verdict("a").await.expect("read").expect("there");
    assert_eq!(read.verdict.indicator.value(), "https://***@example.com/a");
}

async fn pruning_leaves_the_quota_of_today(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 5), (QuotaPer::Day, 5)];
    granted(&*store, &windows, 0.0).await;
    let none = second(0);
    let nothing =
        Retention { answers_age: none, answers_bytes: 0, verdicts_age: none, disclosures_age: none, store_bytes: 0 };
    store.prune(nothing, at(1.0)).await.expect("pruned");
    assert_eq!(granted(&*store, &windows, 2.0).await, [2, 2]);
}

async fn a_source_row_changes_only_from_the_revision_expected(store: Arc<dyn Store>) {
    assert_eq!(store.put_source_row(row(2, "{}"), 1).await, Ok(Swap::Conflict), "there is none yet");
    assert_eq!(store.put_source_row(row(1, "{}"), 0).await, Ok(Swap::Done));
    assert_eq!(store.put_source_row(row(1, "{\"x\":1}"), 0).await, Ok(Swap::Conflict), "there is one");
    assert_eq!(store.put_source_row(row(2, "{\"y\":1}"), 1).await, Ok(Swap::Done));
    assert_eq!(store.put_source_row(row(2, "{\"z\":1}"), 1).await, Ok(Swap::Conflict), "somebody was faster");
    assert_eq!(store.source_rows().await, Ok(vec![row(2, "{\"y\":1}")]));
    assert_eq!(store.delete_source_row("alpha", 1).await, Ok(Swap::Conflict));
    assert_eq!(store.delete_source_row("alpha", 2).await, Ok(Swap::Done));
    assert_eq!(store.source_rows().await, Ok(Vec::new()));
}

async fn source_rows_are_listed_by_name(store: Arc<dyn Store>) {
    for name in ["b", "a", "c"] {
        let row = SourceRow { name: name.into(), credential: None, ..row(1, "{}") };
        assert_eq!(store.put_source_row(row, 0).await, Ok(Swap::Done));
    }
    let rows = store.source_rows().await.expect("rows");
    assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(rows.iter().all(|row| row.credential.is_none()));
}

async fn disclosures_are_listed_by_what_and_to_whom(store: Arc<dyn Store>) {
    for (id, address, source, seconds) in
        [("a", "192.0.2.1", "x", 1.0), ("b", "192.0.2.2", "x", 1.0), ("c", "192.0.2.1", "y", 2.0)]
    {
        store.record_disclosure(disclosure(id, address, source, seconds)).await.expect("stored");
    }
    assert!(store.record_disclosure(disclosure("a", "192.0.2.1", "x", 1.0)).await.is_err(), "each stands once");
    let list = async |filter, limit, after| {
        let rows = store.disclosures(filter, PageLimit::rows(limit), after).await.expect("list").rows;
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let none = DisclosureFilter::default();
    assert_eq!(list(none.clone(), 9, None).await, ["c", "b", "a"]);
    let behind = Some(Cursor { time: at(1.0), id: "b".into() });
    assert_eq!(list(none.clone(), 9, behind).await, ["a"]);
    let of = DisclosureFilter { indicator: Some(ip("192.0.2.1")), ..none.clone() };
    assert_eq!(list(of, 9, None).await, ["c", "a"]);
    assert_eq!(list(DisclosureFilter { source: Some("x".into()), ..none.clone() }, 1, None).await, ["b"]);
    assert_eq!(list(DisclosureFilter { from: Some(at(2.0)), ..none.clone() }, 9, None).await, ["c"]);
    assert_eq!(list(DisclosureFilter { until: Some(at(2.0)), ..none.clone() }, 9, None).await, ["b", "a"]);
    let whole = store.disclosures(none, PageLimit::rows(1), None).await.expect("list").rows;
    assert_eq!(whole, [disclosure("c", "192.0.2.1", "y", 2.0)]);
}

async fn a_closed_store_refuses_work_and_may_be_closed_again(store: Arc<dyn Store>) {
    let (taken, closed) = tokio::join!(take(&*store, acquire("account", &[], 0.0)), store.close());
    assert!(taken.is_ok(), "what was asked before is done");
    closed.expect("closed");
    let refused = take(&*store, acquire("account", &[], 0.0)).await.expect_err("closed");
    assert!(refused.is_transient(), "{refused}");
    assert!(store.verdict("v1").await.is_err());
    store.close().await.expect("closing twice is nothing");
}

/// Runs each sentence of the contract on each backend.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                super::$name(Arc::new(Memory::new())).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().expect("a folder");
                super::$name(super::super::durable::open(folder.path())).await;
            })+
        }
    };
}

contract![
    a_verdict_comes_back_exactly,
    a_stored_verdict_never_changes,
    verdicts_are_listed_newest_first_page_by_page,
    a_list_ends_at_its_bytes_and_a_large_row_stands_alone,
    a_filter_narrows_by_each_of_its_fields,
    an_answer_is_stored_once,
    a_cached_row_is_replaced_deleted_and_pruned_by_its_end,
    pruning_removes_what_is_too_old,
    pruning_by_size_removes_the_oldest,
    pruning_to_a_size_removes_the_oldest_of_all_and_stops_there,
    the_password_of_a_url_is_not_stored_and_does_not_part_its_history,
    pruning_leaves_the_quota_of_today,
    a_source_row_changes_only_from_the_revision_expected,
    source_rows_are_listed_by_name,
    a_policy_grows_by_one_change_at_a_time_and_its_revisions_stay,
    revisions_that_no_verdict_can_name_are_pruned_except_the_newest,
    a_minute_slides,
    no_sixty_seconds_hold_more_than_the_limit,
    a_clock_that_steps_back_frees_nothing,
    a_clock_that_jumps_ahead_and_back_forgets_nothing,
    a_clock_that_is_set_forward_does_not_empty_the_minute,
    a_call_that_overtook_another_still_counts_its_full_minute,
    day_and_month_reset_with_the_calendar,
    a_week_resets_on_monday_and_not_with_the_month,
    windows_turn_in_the_zone_of_the_source_and_every_zone_counts_all_calls,
    an_hour_resets_with_the_clock,
    what_the_source_says_is_used_counts_where_it_is_more_than_is_recorded,
    a_unit_is_taken_of_all_windows_or_of_none,
    a_unit_is_given_back_once_in_every_window_that_it_was_taken_of,
    a_unit_is_given_back_to_the_day_in_which_it_was_taken,
    a_unit_counts_as_taken_now_until_its_call_has_ended,
    a_call_in_the_last_second_of_a_day_counts_in_the_next_as_well,
    a_clock_that_steps_back_and_returns_forgets_nothing,
    a_call_and_what_it_discloses_are_on_record_together_or_not_at_all,
    a_take_that_fails_takes_nothing_and_leaves_nothing_under_way,
    a_unit_that_moved_with_the_clock_stays_taken,
    many_takes_at_once_never_exceed_the_limit,
    a_unit_is_charged_to_its_caller_over_all_accounts_until_the_day_ends,
    accounts_do_not_share_quota,
    a_lowered_limit_waits_until_enough_calls_are_old,
    a_window_added_later_knows_the_calls_before,
    usage_of_an_unknown_account_is_nothing,
    disclosures_are_listed_by_what_and_to_whom,
    a_closed_store_refuses_work_and_may_be_closed_again,
    feedback_comes_back_exactly_and_is_recorded_once,
    feedback_is_listed_newest_first_by_indicator_and_by_what_is_active,
    feedback_is_retracted_once_and_stays_on_record,
    pruning_leaves_feedback_that_is_active_however_old,
    a_submission_comes_back_exactly_and_changes_by_its_revision,
    submissions_are_listed_newest_first_and_the_open_ones_oldest_first,
    pruning_leaves_submissions_that_are_open_however_old,
    never_send_rules_come_back_until_they_are_deleted,
];
