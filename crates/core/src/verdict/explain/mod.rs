//! The sentences that explain a verdict. They say what went in and what came out; nothing is decided here.
//!
//! `term.rs` explains one term of the sum, `summary.rs` is the line that an analyst reads first, `change.rs` says what would
//! change the verdict, `compare.rs` what differs between two, `policy.rs` why a policy judges as it does, `feedback.rs` what
//! analysts said.

use super::evidence::nats;

mod change;
mod compare;
mod feedback;
mod policy;
mod summary;
mod term;

pub use change::{flip_sentence, margin_sentence, pending_sentence, reach_sentence};
pub use compare::{comparison_summary, term_change_sentence};
pub use policy::policy_sentence;
pub use summary::summary;
pub use term::sentence;

/// Evidence with its sign: `+0.780 nats`.
fn signed(micro: i64) -> String {
    if micro == 0 { "no evidence".to_owned() } else { format!("{:+.3} nats", nats(micro)) }
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// Names as in a sentence: `a`, `a and b`, `a, b and c`.
fn joined(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A share in percent. Only what is exactly 0 or 1 is shown as 0 or 100: rounding must not suggest certainty.
pub fn percent(share: f64) -> String {
    // A zero has no sign.
    let shown = share * 100.0 + 0.0;
    if share > 0.0 && shown < 0.05 {
        "<0.1 %".to_owned()
    } else if share < 1.0 && shown >= 99.95 {
        ">99.9 %".to_owned()
    } else {
        format!("{shown:.1} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_never_suggests_certainty() {
        assert_eq!(percent(0.999_97), ">99.9 %");
        assert_eq!(percent(0.000_01), "<0.1 %");
        assert_eq!(percent(0.973_4), "97.3 %");
        assert_eq!(percent(0.0), "0.0 %");
        assert_eq!(percent(-0.0), "0.0 %");
    }
}
