//! The contract of a store: one list of sentences that every backend fulfils.

use std::sync::Arc;

use concord::finding::Disposition;
use concord::indicator::{Form, Indicator};
use concord::source::QuotaPer;
use concord::store::{
    Acquire, Acquired, Cursor, Disclosure, DisclosureFilter, Memory, PageLimit, Retention, SourceRow, Store, Swap,
    VerdictFilter,
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
use super::samples::{
    acquire, answer, at, disclosure, everything_stays, granted, ids, ip, record, row, second, spent, take, unit,
    windows_of,
};
use super::submissions::{
    a_submission_comes_back_exactly_and_changes_by_its_revision, pruning_leaves_submissions_that_are_open_however_old,
    submissions_are_listed_newest_first_and_the_open_ones_oldest_first,
};

/// A number that looks like chance.
fn noise(seed: u32) -> u64 {
    u64::from(seed)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

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
    let list = async |filter| store.verdicts(filter, PageLimit::rows(10), None).await.expect("list").rows;
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
    store.keep_answer(first.clone()).await.expect("stored");
    store.keep_answer(answer("f00d", &first.body, 9.0)).await.expect("stored");
    assert_eq!(store.answer("f00d").await.expect("read"), Some(first));
    assert_eq!(store.answer("beef").await.expect("read"), None);
}

async fn pruning_removes_what_is_too_old(store: Arc<dyn Store>) {
    store.keep_answer(answer("old", b"1", 0.0)).await.expect("stored");
    store.keep_answer(answer("edge", b"2", 10.0)).await.expect("stored");
    store.keep_answer(answer("seen-again", b"3", 0.0)).await.expect("stored");
    store.keep_answer(answer("seen-again", b"3", 15.0)).await.expect("stored");
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
        store.keep_answer(answer(hash, b"nine bytes and more", seconds)).await.expect("stored");
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

async fn a_minute_slides(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 2)];
    assert_eq!(granted(&*store, &windows, 0.0).await, [1]);
    assert_eq!(granted(&*store, &windows, 30.0).await, [2]);
    let full = spent(&*store, &windows, 60.999).await;
    assert_eq!((full.used, full.limit, full.resets_at), (2, 2, at(61.0)));
    assert_eq!(granted(&*store, &windows, 61.0).await, [2], "the call at 0 is 60 s old, and had a second for its way");
    assert_eq!(spent(&*store, &windows, 61.0).await.resets_at, at(91.0));
}

async fn no_sixty_seconds_hold_more_than_the_limit(store: Arc<dyn Store>) {
    let mut calls: Vec<f64> = Vec::new();
    // Uneven steps, so that the window's edge is met from both sides.
    let mut now = 0.0;
    for step in 0..400_u32 {
        now += f64::from((step * 7_919) % 13);
        if let Acquired::Granted(_) =
            take(&*store, acquire("account", &[(QuotaPer::Minute, 4)], now)).await.expect("a take")
        {
            calls.push(now);
        }
    }
    assert!(calls.len() > 100, "only {} calls", calls.len());
    for pair in calls.windows(5) {
        assert!(pair[4] - pair[0] >= 61.0, "five calls within a minute: {pair:?}");
    }
}

async fn a_clock_that_steps_back_frees_nothing(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 2), (QuotaPer::Day, 10)];
    granted(&*store, &windows, 3_600.0).await;
    granted(&*store, &windows, 3_600.0).await;
    let full = spent(&*store, &windows, 0.0).await;
    assert_eq!((full.per, full.resets_at), (QuotaPer::Minute, at(61.0)), "but not for an hour");
    spent(&*store, &windows, 60.0).await;
    assert_eq!(granted(&*store, &windows, 61.0).await, [1, 3], "the calls count for the day now current");
    let list = windows_of(&windows);
    let uses = store.usage("account", &list, at(61.0)).await.expect("usage");
    assert_eq!(uses.iter().map(|window| window.used).collect::<Vec<_>>(), [1, 3]);
}

async fn a_clock_that_jumps_ahead_and_back_forgets_nothing(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 3)];
    granted(&*store, &windows, 0.0).await;
    granted(&*store, &windows, 0.0).await;
    granted(&*store, &windows, 1_800.0).await;
    assert_eq!(spent(&*store, &windows, 1.0).await.used, 3);
}

async fn a_clock_that_is_set_forward_does_not_empty_the_minute(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 2)];
    granted(&*store, &windows, 0.0).await;
    granted(&*store, &windows, 30.0).await;
    // Ten seconds later by the monotonic clock, the wall clock has gained an hour.
    store.follow_clock_forward(at(40.0), at(3_640.0)).await.expect("noted");
    assert_eq!(spent(&*store, &windows, 3_640.0).await.used, 2);
    spent(&*store, &windows, 3_660.9).await;
    assert_eq!(granted(&*store, &windows, 3_661.0).await, [2], "the first is a minute old");
    spent(&*store, &windows, 3_690.9).await;
    assert_eq!(granted(&*store, &windows, 3_691.0).await, [2]);
}

async fn a_call_that_overtook_another_still_counts_its_full_minute(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 1)];
    granted(&*store, &windows, 0.005).await;
    assert_eq!(spent(&*store, &windows, 0.0).await.resets_at, at(61.005));
    spent(&*store, &windows, 61.004).await;
    granted(&*store, &windows, 61.005).await;
}

async fn day_and_month_reset_with_the_calendar(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Day, 1), (QuotaPer::Month, 2)];
    assert_eq!(granted(&*store, &windows, 0.0).await, [1, 1]);
    let full = spent(&*store, &windows, 59.999_999).await;
    assert_eq!((full.per, full.resets_at), (QuotaPer::Day, at(60.0)));
    assert_eq!(granted(&*store, &windows, 60.0).await, [1, 1], "day and month turned together");
    assert_eq!(granted(&*store, &windows, 60.0 + 86_400.0).await, [1, 2]);
    let full = spent(&*store, &windows, 61.0 + 86_400.0).await;
    assert_eq!(
        (full.per, full.resets_at),
        (QuotaPer::Month, at(60.0) + second(30 * 86_400)),
        "the one that resets last"
    );
}

async fn a_week_resets_on_monday_and_not_with_the_month(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Week, 2)];
    // Tuesday, and the day after, which is in another month.
    assert_eq!(granted(&*store, &windows, 0.0).await, [1]);
    assert_eq!(granted(&*store, &windows, 60.0).await, [2]);
    let monday = 60.0 + 5.0 * 86_400.0;
    let full = spent(&*store, &windows, monday - 0.001).await;
    assert_eq!((full.per, full.used, full.resets_at), (QuotaPer::Week, 2, at(monday)));
    assert_eq!(full.describe(), "2 of 2 calls per week are used");
    assert_eq!(granted(&*store, &windows, monday).await, [1]);
    // The clock steps back over the Monday.
    assert_eq!(spent(&*store, &windows, monday - 3_600.0).await.used, 3);
}

async fn an_hour_resets_with_the_clock(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Hour, 1), (QuotaPer::Day, 9)];
    assert_eq!(granted(&*store, &windows, 30.0).await, [1, 1]);
    let full = spent(&*store, &windows, 59.9).await;
    assert_eq!((full.per, full.resets_at), (QuotaPer::Hour, at(60.0)));
    assert_eq!(granted(&*store, &windows, 60.0).await, [1, 1]);
    assert_eq!(spent(&*store, &windows, 3_659.9).await.resets_at, at(3_660.0));
    assert_eq!(granted(&*store, &windows, 3_660.0).await, [1, 2]);
}

async fn what_the_source_says_is_used_counts_where_it_is_more_than_is_recorded(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Hour, 9), (QuotaPer::Day, 9), (QuotaPer::Month, 30)];
    granted(&*store, &windows, 0.0).await;
    granted(&*store, &windows, 1.0).await;
    let stated = vec![(QuotaPer::Hour, 1), (QuotaPer::Day, 8), (QuotaPer::Month, 12)];
    assert_eq!(store.raise("account", stated, at(2.0)).await, Ok(true));
    assert_eq!(granted(&*store, &windows, 3.0).await, [3, 9, 13], "less than is recorded changes nothing");
    assert_eq!(spent(&*store, &windows, 4.0).await.per, QuotaPer::Day);
    assert_eq!(store.raise("account", vec![(QuotaPer::Day, u64::MAX)], at(5.0)).await, Ok(true));
    // The source's clock may not have turned yet.
    assert_eq!(store.raise("account", vec![(QuotaPer::Day, 9)], at(359.9)).await, Ok(false));
    assert_eq!(granted(&*store, &windows, 360.0).await, [1, 1, 1]);
    assert_eq!(store.raise("account", vec![(QuotaPer::Day, 5)], at(360.0)).await, Ok(true));
    assert_eq!(granted(&*store, &windows, 361.0).await, [2, 6, 2]);
}

async fn a_unit_is_taken_of_all_windows_or_of_none(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 1), (QuotaPer::Day, 9), (QuotaPer::Month, 9)];
    assert_eq!(granted(&*store, &windows, 0.0).await, [1, 1, 1]);
    for _ in 0..3 {
        assert_eq!(spent(&*store, &windows, 1.0).await.per, QuotaPer::Minute);
    }
    let uses = store.usage("account", &windows_of(&windows), at(2.0)).await.expect("usage");
    assert_eq!(uses.iter().map(|window| window.used).collect::<Vec<_>>(), [1, 1, 1]);
}

async fn a_unit_is_given_back_once_in_every_window_that_it_was_taken_of(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 2), (QuotaPer::Day, 2), (QuotaPer::Week, 2), (QuotaPer::Month, 2)];
    granted(&*store, &windows, 0.0).await;
    granted(&*store, &windows, 1.0).await;
    let (taken, list) = (unit("account", 1.0), windows_of(&windows));
    let left = store.give_back(taken.clone(), &list).await.expect("given back").expect("it was there");
    assert_eq!(left.iter().map(|window| window.used).collect::<Vec<_>>(), [1, 1, 1, 1]);
    assert_eq!(left[0].resets_at, at(61.0));
    assert_eq!(store.give_back(taken, &list).await, Ok(None), "once");
    assert_eq!(store.give_back(unit("other", 0.0), &list).await, Ok(None), "nobody else's");
    assert_eq!(granted(&*store, &windows, 2.0).await, [2, 2, 2, 2]);
}

async fn a_unit_is_given_back_to_the_day_in_which_it_was_taken(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 2), (QuotaPer::Day, 9), (QuotaPer::Month, 9)];
    granted(&*store, &windows, 58.0).await;
    // Day and month turn before it is known that the call reached nobody.
    assert_eq!(granted(&*store, &windows, 61.0).await, [2, 1, 1]);
    let left =
        store.give_back(unit("account", 58.0), &windows_of(&windows)).await.expect("given back").expect("it was there");
    assert_eq!(left.iter().map(|window| window.used).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(granted(&*store, &windows, 62.0).await, [2, 2, 2], "the new day has only what was taken in it");
}

async fn a_unit_counts_as_taken_now_until_its_call_has_ended(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 2), (QuotaPer::Day, 2)];
    let slow = store.acquire(vec![acquire("account", &windows, 0.0)]).await.expect("a take");
    assert!(matches!(slow[..], [Acquired::Granted(_)]));
    // Minute and day have turned; the call may leave only now.
    assert_eq!(granted(&*store, &windows, 62.0).await, [2, 2]);
    store.settle(unit("account", 0.0), at(70.0)).await.expect("settled");
    let full = spent(&*store, &windows, 124.0).await;
    assert_eq!((full.per, full.used), (QuotaPer::Day, 2), "in the day in which it ended as well");
    let uses = store.usage("account", &windows_of(&windows), at(124.0)).await.expect("usage");
    assert_eq!((uses[0].used, uses[0].resets_at), (1, at(131.0)), "and in the minute from when it ended");
}

async fn a_call_in_the_last_second_of_a_day_counts_in_the_next_as_well(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Day, 1), (QuotaPer::Month, 9)];
    granted(&*store, &windows, 59.5).await;
    assert_eq!(spent(&*store, &windows, 60.5).await.per, QuotaPer::Day);
    let list = windows_of(&windows);
    assert!(store.give_back(unit("account", 59.5), &list).await.expect("given back").is_some());
    assert_eq!(granted(&*store, &windows, 60.5).await, [1, 1], "and is given back to both");
}

async fn a_clock_that_steps_back_and_returns_forgets_nothing(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 4), (QuotaPer::Day, 4)];
    for second in [86_500.0, 86_510.0] {
        granted(&*store, &windows, second).await;
    }
    // A day back, and forward again.
    assert_eq!(granted(&*store, &windows, 0.0).await, [3, 3]);
    assert_eq!(granted(&*store, &windows, 86_520.0).await[1], 3);
    assert_eq!(granted(&*store, &windows, 86_530.0).await[1], 4);
    assert_eq!(spent(&*store, &windows, 86_600.0).await.per, QuotaPer::Day);
}

async fn a_call_and_what_it_discloses_are_on_record_together_or_not_at_all(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Day, 1)];
    let disclosing = |id: &str| Acquire {
        disclosures: vec![disclosure(id, "192.0.2.1", "x", 0.0)],
        ..acquire("account", &windows, 0.0)
    };
    let acquired = store.acquire(vec![disclosing("d1"), disclosing("d2")]).await.expect("a take");
    assert!(matches!(acquired[..], [Acquired::Granted(_), Acquired::Spent(_)]), "{acquired:?}");
    let recorded = store.disclosures(DisclosureFilter::default(), PageLimit::rows(9), None).await.expect("read").rows;
    assert_eq!(recorded.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["d1"]);
}

async fn a_take_that_fails_takes_nothing_and_leaves_nothing_under_way(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 2), (QuotaPer::Day, 9)];
    let disclosing =
        || Acquire { disclosures: vec![disclosure("d1", "192.0.2.1", "x", 0.0)], ..acquire("account", &windows, 0.0) };
    for _ in 0..3 {
        assert!(store.acquire(vec![disclosing(), disclosing()]).await.is_err(), "the same disclosure twice");
    }
    assert_eq!(
        store.disclosures(DisclosureFilter::default(), PageLimit::rows(9), None).await.map(|listed| listed.rows),
        Ok(Vec::new())
    );
    let uses = store.usage("account", &windows_of(&windows), at(0.0)).await.expect("usage");
    assert_eq!(uses.iter().map(|window| window.used).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(granted(&*store, &windows, 200.0).await, [1, 1], "nor after minute and day have turned");
}

async fn a_unit_that_moved_with_the_clock_stays_taken(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 9), (QuotaPer::Day, 9)];
    granted(&*store, &windows, 3_600.0).await;
    assert_eq!(granted(&*store, &windows, 0.0).await, [2, 2]);
    assert_eq!(store.give_back(unit("account", 3_600.0), &windows_of(&windows)).await, Ok(None));
    let uses = store.usage("account", &windows_of(&windows), at(1.0)).await.expect("usage");
    assert_eq!(uses.iter().map(|window| window.used).collect::<Vec<_>>(), [2, 2]);
}

async fn many_takes_at_once_never_exceed_the_limit(store: Arc<dyn Store>) {
    let takes = (0..100).map(|_| take(&*store, acquire("account", &[(QuotaPer::Minute, 7), (QuotaPer::Day, 50)], 0.0)));
    let taken = futures_util::future::join_all(takes).await;
    let granted = taken.iter().filter(|taken| matches!(taken, Ok(Acquired::Granted(_)))).count();
    assert_eq!(granted, 7);
}

async fn accounts_do_not_share_quota(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Day, 1)];
    granted(&*store, &windows, 0.0).await;
    let other = take(&*store, acquire("other", &windows, 0.0)).await.expect("a take");
    assert!(matches!(other, Acquired::Granted(_)), "{other:?}");
    spent(&*store, &windows, 0.0).await;
}

async fn a_lowered_limit_waits_until_enough_calls_are_old(store: Arc<dyn Store>) {
    for seconds in [0.0, 10.0, 20.0] {
        granted(&*store, &[(QuotaPer::Minute, 3)], seconds).await;
    }
    let full = spent(&*store, &[(QuotaPer::Minute, 1)], 30.0).await;
    assert_eq!((full.used, full.resets_at), (3, at(81.0)));
    granted(&*store, &[(QuotaPer::Minute, 1)], 81.0).await;
}

async fn a_window_added_later_knows_the_calls_before(store: Arc<dyn Store>) {
    granted(&*store, &[], 0.0).await;
    granted(&*store, &[(QuotaPer::Minute, 9)], 1.0).await;
    let windows = [(QuotaPer::Month, 9), (QuotaPer::Week, 9), (QuotaPer::Minute, 9)];
    assert_eq!(granted(&*store, &windows, 2.0).await, [3, 3, 3]);
}

async fn usage_of_an_unknown_account_is_nothing(store: Arc<dyn Store>) {
    let windows = windows_of(&[(QuotaPer::Month, 9), (QuotaPer::Minute, 3)]);
    let uses = store.usage("nobody", &windows, at(0.0)).await.expect("usage");
    let shown: Vec<_> = uses.iter().map(|window| (window.per, window.limit, window.used, window.resets_at)).collect();
    assert_eq!(shown, [(QuotaPer::Month, 9, 0, at(60.0)), (QuotaPer::Minute, 3, 0, at(0.0))]);
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
