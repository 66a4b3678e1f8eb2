//! Runs after the integration tests and says how many of them were skipped.

#[path = "it/recordings.rs"]
mod recordings;

fn main() {
    if recordings::folder().is_none() {
        println!("skipped {} tests, since CONCORD_FIXTURES names no folder of recordings:", recordings::TESTS.len());
        for test in recordings::TESTS {
            println!("    {test}");
        }
    } else {
        println!("skipped 0 tests");
    }
}
