//! Recorded answers of the services and the texts of public test suites. They are not part of the project:
//! `CONCORD_FIXTURES` names their folder. Without it a test that needs them is skipped, and fails in CI (`CI` is set).

use std::path::PathBuf;

/// The tests that need them; `tests/skipped.rs` says after them how many were skipped.
pub const TESTS: [&str; 8] = [
    "every_recorded_report_is_rated_both_ways_in_one_table",
    "every_recorded_look_up_reads_to_the_outcome_that_the_list_states",
    "free_texts_yield_what_the_public_suites_find",
    "preferred_vendors_of_the_recorded_url_are_cut_off_in_that_integration",
    "recorded_resolutions_and_comments_are_facts",
    "recorded_lists_name_what_the_table_of_look_ups_says",
    "single_values_are_read_as_the_public_suites_read_them",
    "spamhaus_codes_as_published_each_have_a_line_of_their_own",
];

/// The folder, if there is one.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os("CONCORD_FIXTURES").map(PathBuf::from).filter(|folder| folder.is_dir())
}

/// The folder for this test; `None` says that the test is skipped.
///
/// # Panics
/// In CI, where nothing may be skipped.
#[allow(dead_code, reason = "the summary of skipped tests needs no recording")]
pub fn folder_for(test: &str) -> Option<PathBuf> {
    assert!(TESTS.contains(&test), "{test} is missing in the list of tests that need recordings");
    let folder = folder();
    assert!(folder.is_some() || std::env::var_os("CI").is_none(), "in CI CONCORD_FIXTURES must name a folder");
    folder
}
