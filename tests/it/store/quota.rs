//! The part of the contract that is about quota: what counts when, and what is charged to whom.

use std::sync::Arc;

use concord::source::{QuotaLimits, QuotaPer, QuotaZone};
use concord::store::{Acquire, Acquired, DisclosureFilter, PageLimit, Store, Unit};

use super::samples::{acquire, at, disclosure, granted, second, spent, take, unit, windows_of};

pub async fn a_minute_slides(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 2)];
    assert_eq!(granted(&*store, &windows, 0.0).await, [1]);
    assert_eq!(granted(&*store, &windows, 30.0).await, [2]);
    let full = spent(&*store, &windows, 60.999).await;
    assert_eq!((full.used, full.limit, full.resets_at), (2, 2, at(61.0)));
    assert_eq!(granted(&*store, &windows, 61.0).await, [2], "the call at 0 is 60 s old, and had a second for its way");
    assert_eq!(spent(&*store, &windows, 61.0).await.resets_at, at(91.0));
}

pub async fn no_sixty_seconds_hold_more_than_the_limit(store: Arc<dyn Store>) {
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

pub async fn a_clock_that_steps_back_frees_nothing(store: Arc<dyn Store>) {
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

pub async fn a_clock_that_jumps_ahead_and_back_forgets_nothing(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 3)];
    granted(&*store, &windows, 0.0).await;
    granted(&*store, &windows, 0.0).await;
    granted(&*store, &windows, 1_800.0).await;
    assert_eq!(spent(&*store, &windows, 1.0).await.used, 3);
}

pub async fn a_clock_that_is_set_forward_does_not_empty_the_minute(store: Arc<dyn Store>) {
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

pub async fn a_call_that_overtook_another_still_counts_its_full_minute(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 1)];
    granted(&*store, &windows, 0.005).await;
    assert_eq!(spent(&*store, &windows, 0.0).await.resets_at, at(61.005));
    spent(&*store, &windows, 61.004).await;
    granted(&*store, &windows, 61.005).await;
}

pub async fn day_and_month_reset_with_the_calendar(store: Arc<dyn Store>) {
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

pub async fn a_week_resets_on_monday_and_not_with_the_month(store: Arc<dyn Store>) {
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

pub async fn windows_turn_in_the_zone_of_the_source_and_every_zone_counts_all_calls(store: Arc<dyn Store>) {
    let limits = |zone: &str| QuotaLimits {
        zone: zone.parse().expect("a zone"),
        ..windows_of(&[(QuotaPer::Hour, 9), (QuotaPer::Day, 9), (QuotaPer::Week, 9), (QuotaPer::Month, 9)])
    };
    let used = async |zone: &str, seconds: f64| {
        let uses = store.usage("account", &limits(zone), at(seconds)).await.expect("usage");
        uses.iter().map(|window| window.used).collect::<Vec<_>>()
    };
    // A minute before the month ends in UTC, where it is Tuesday.
    granted(&*store, &[(QuotaPer::Day, 9)], 0.0).await;
    assert_eq!(used("UTC", 60.0).await, [0, 0, 1, 0]);
    assert_eq!(used("America/New_York", 60.0).await, [0, 1, 1, 1]);
    // The hour of Kathmandu began fifteen minutes before that of UTC.
    assert_eq!(used("Asia/Kathmandu", 60.0).await, [1, 1, 1, 1]);
    let midnight = 60.0 + 4.0 * 3_600.0;
    let new_york = Acquire { limits: limits("America/New_York"), ..acquire("account", &[], midnight - 0.5) };
    let Ok(Acquired::Granted(uses)) = take(&*store, new_york).await else { panic!() };
    assert_eq!(uses.iter().map(|window| window.used).collect::<Vec<_>>(), [1, 2, 2, 2]);
    assert_eq!(uses[1].resets_at, at(midnight));
    assert_eq!(used("America/New_York", midnight).await, [1, 1, 2, 1], "it may arrive only then");
    assert_eq!(used("UTC", midnight).await, [1, 1, 2, 1]);
    assert!(store.give_back(unit("account", midnight - 0.5), &limits("UTC")).await.expect("given back").is_some());
    assert_eq!(used("America/New_York", midnight).await, [0, 0, 1, 0]);
}

pub async fn an_hour_resets_with_the_clock(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Hour, 1), (QuotaPer::Day, 9)];
    assert_eq!(granted(&*store, &windows, 30.0).await, [1, 1]);
    let full = spent(&*store, &windows, 59.9).await;
    assert_eq!((full.per, full.resets_at), (QuotaPer::Hour, at(60.0)));
    assert_eq!(granted(&*store, &windows, 60.0).await, [1, 1]);
    assert_eq!(spent(&*store, &windows, 3_659.9).await.resets_at, at(3_660.0));
    assert_eq!(granted(&*store, &windows, 3_660.0).await, [1, 2]);
}

pub async fn what_the_source_says_is_used_counts_where_it_is_more_than_is_recorded(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Hour, 9), (QuotaPer::Day, 9), (QuotaPer::Month, 30)];
    granted(&*store, &windows, 0.0).await;
    granted(&*store, &windows, 1.0).await;
    let stated = vec![(QuotaPer::Hour, 1), (QuotaPer::Day, 8), (QuotaPer::Month, 12)];
    assert_eq!(store.raise("account", stated, QuotaZone::default(), at(2.0)).await, Ok(true));
    assert_eq!(granted(&*store, &windows, 3.0).await, [3, 9, 13], "less than is recorded changes nothing");
    assert_eq!(spent(&*store, &windows, 4.0).await.per, QuotaPer::Day);
    assert_eq!(store.raise("account", vec![(QuotaPer::Day, u64::MAX)], QuotaZone::default(), at(5.0)).await, Ok(true));
    // The source's clock may not have turned yet.
    assert_eq!(store.raise("account", vec![(QuotaPer::Day, 9)], QuotaZone::default(), at(359.9)).await, Ok(false));
    assert_eq!(granted(&*store, &windows, 360.0).await, [1, 1, 1]);
    assert_eq!(store.raise("account", vec![(QuotaPer::Day, 5)], QuotaZone::default(), at(360.0)).await, Ok(true));
    assert_eq!(granted(&*store, &windows, 361.0).await, [6, 6, 6], "the day began with hour and month");
}

pub async fn a_unit_is_taken_of_all_windows_or_of_none(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 1), (QuotaPer::Day, 9), (QuotaPer::Month, 9)];
    assert_eq!(granted(&*store, &windows, 0.0).await, [1, 1, 1]);
    for _ in 0..3 {
        assert_eq!(spent(&*store, &windows, 1.0).await.per, QuotaPer::Minute);
    }
    let uses = store.usage("account", &windows_of(&windows), at(2.0)).await.expect("usage");
    assert_eq!(uses.iter().map(|window| window.used).collect::<Vec<_>>(), [1, 1, 1]);
}

pub async fn a_unit_is_given_back_once_in_every_window_that_it_was_taken_of(store: Arc<dyn Store>) {
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

pub async fn a_unit_is_given_back_to_the_day_in_which_it_was_taken(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 2), (QuotaPer::Day, 9), (QuotaPer::Month, 9)];
    granted(&*store, &windows, 58.0).await;
    // Day and month turn before it is known that the call reached nobody.
    assert_eq!(granted(&*store, &windows, 61.0).await, [2, 1, 1]);
    let left =
        store.give_back(unit("account", 58.0), &windows_of(&windows)).await.expect("given back").expect("it was there");
    assert_eq!(left.iter().map(|window| window.used).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(granted(&*store, &windows, 62.0).await, [2, 2, 2], "the new day has only what was taken in it");
}

pub async fn a_unit_counts_as_taken_now_until_its_call_has_ended(store: Arc<dyn Store>) {
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

pub async fn a_call_in_the_last_second_of_a_day_counts_in_the_next_as_well(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Day, 1), (QuotaPer::Month, 9)];
    granted(&*store, &windows, 59.5).await;
    assert_eq!(spent(&*store, &windows, 60.5).await.per, QuotaPer::Day);
    let list = windows_of(&windows);
    assert!(store.give_back(unit("account", 59.5), &list).await.expect("given back").is_some());
    assert_eq!(granted(&*store, &windows, 60.5).await, [1, 1], "and is given back to both");
}

pub async fn a_clock_that_steps_back_and_returns_forgets_nothing(store: Arc<dyn Store>) {
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

pub async fn a_call_and_what_it_discloses_are_on_record_together_or_not_at_all(store: Arc<dyn Store>) {
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

pub async fn a_take_that_fails_takes_nothing_and_leaves_nothing_under_way(store: Arc<dyn Store>) {
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

pub async fn a_unit_that_moved_with_the_clock_stays_taken(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Minute, 9), (QuotaPer::Day, 9)];
    granted(&*store, &windows, 3_600.0).await;
    assert_eq!(granted(&*store, &windows, 0.0).await, [2, 2]);
    assert_eq!(store.give_back(unit("account", 3_600.0), &windows_of(&windows)).await, Ok(None));
    let uses = store.usage("account", &windows_of(&windows), at(1.0)).await.expect("usage");
    assert_eq!(uses.iter().map(|window| window.used).collect::<Vec<_>>(), [2, 2]);
}

pub async fn many_takes_at_once_never_exceed_the_limit(store: Arc<dyn Store>) {
    let takes = (0..100).map(|_| take(&*store, acquire("account", &[(QuotaPer::Minute, 7), (QuotaPer::Day, 50)], 0.0)));
    let taken = futures_util::future::join_all(takes).await;
    let granted = taken.iter().filter(|taken| matches!(taken, Ok(Acquired::Granted(_)))).count();
    assert_eq!(granted, 7);
}

pub async fn a_unit_is_charged_to_its_caller_over_all_accounts_until_the_day_ends(store: Arc<dyn Store>) {
    let charged = |account: &str, caller: &str, seconds: f64| {
        let mut acquire = acquire(account, &[(QuotaPer::Day, 9)], seconds);
        acquire.unit.charged_to = Some(caller.into());
        Acquire { budget: Some(2), ..acquire }
    };
    for account in ["account", "other"] {
        let granted = take(&*store, charged(account, "soar", 0.0)).await.expect("a take");
        assert!(matches!(granted, Acquired::Granted(_)), "{granted:?}");
    }
    let refused = take(&*store, charged("account", "soar", 1.0)).await.expect("a take");
    let Acquired::OverBudget(day) = refused else { panic!("{refused:?}") };
    assert_eq!((day.limit, day.used, day.resets_at), (2, 2, at(60.0)));
    assert_eq!(spent_of(&*store, "account", 1.0).await, 1, "nothing was spent");
    assert!(matches!(take(&*store, charged("account", "analyst", 2.0)).await, Ok(Acquired::Granted(_))));
    let given_back = Unit { charged_to: Some("soar".into()), ..unit("other", 0.0) };
    assert!(store.give_back(given_back, &windows_of(&[])).await.expect("given back").is_some());
    assert_eq!((spent_of(&*store, "caller:soar", 3.0).await, spent_of(&*store, "other", 3.0).await), (1, 0));
    let again = take(&*store, charged("account", "soar", 3.0)).await;
    assert!(matches!(again, Ok(Acquired::Granted(_))), "{again:?}");
    let tomorrow = take(&*store, charged("account", "soar", 60.0)).await;
    assert!(matches!(tomorrow, Ok(Acquired::Granted(_))), "{tomorrow:?}");
}

/// What an account has used of the day.
async fn spent_of(store: &dyn Store, account: &str, seconds: f64) -> u64 {
    store.usage(account, &windows_of(&[(QuotaPer::Day, 9)]), at(seconds)).await.expect("usage")[0].used
}

pub async fn accounts_do_not_share_quota(store: Arc<dyn Store>) {
    let windows = [(QuotaPer::Day, 1)];
    granted(&*store, &windows, 0.0).await;
    let other = take(&*store, acquire("other", &windows, 0.0)).await.expect("a take");
    assert!(matches!(other, Acquired::Granted(_)), "{other:?}");
    spent(&*store, &windows, 0.0).await;
}

pub async fn a_lowered_limit_waits_until_enough_calls_are_old(store: Arc<dyn Store>) {
    for seconds in [0.0, 10.0, 20.0] {
        granted(&*store, &[(QuotaPer::Minute, 3)], seconds).await;
    }
    let full = spent(&*store, &[(QuotaPer::Minute, 1)], 30.0).await;
    assert_eq!((full.used, full.resets_at), (3, at(81.0)));
    granted(&*store, &[(QuotaPer::Minute, 1)], 81.0).await;
}

pub async fn a_window_added_later_knows_the_calls_before(store: Arc<dyn Store>) {
    granted(&*store, &[], 0.0).await;
    granted(&*store, &[(QuotaPer::Minute, 9)], 1.0).await;
    let windows = [(QuotaPer::Month, 9), (QuotaPer::Week, 9), (QuotaPer::Minute, 9)];
    assert_eq!(granted(&*store, &windows, 2.0).await, [3, 3, 3]);
}

pub async fn usage_of_an_unknown_account_is_nothing(store: Arc<dyn Store>) {
    let windows = windows_of(&[(QuotaPer::Month, 9), (QuotaPer::Minute, 3)]);
    let uses = store.usage("nobody", &windows, at(0.0)).await.expect("usage");
    let shown: Vec<_> = uses.iter().map(|window| (window.per, window.limit, window.used, window.resets_at)).collect();
    assert_eq!(shown, [(QuotaPer::Month, 9, 0, at(60.0)), (QuotaPer::Minute, 3, 0, at(0.0))]);
}
