//! The page that explains the numbers has the numbers that are used.

use concord::finding::Reliability;
use concord::indicator::IndicatorType;
use concord::verdict::{Decay, LetterRow, TypeNumbers, WeightedRule};
use strum::VariantArray;

use super::build::DAY;

const PAGE: &str = include_str!("../../../docs/fusion.md");

/// The cells of the table row whose first cell is this.
fn row(first: &str) -> Vec<&'static str> {
    let start = format!("| {first} |");
    let line = PAGE.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no row {first}"));
    line.trim_matches('|').split('|').map(str::trim).collect()
}

fn evidence(if_malicious: f64, if_benign: f64) -> String {
    format!("{:+.2}", (if_malicious / if_benign).ln()).replace('-', "−")
}

fn check_letter(cells: &[&str], row: &LetterRow) {
    let (bad, good) = (row.if_malicious, row.if_benign);
    let shares = |cell: &str| -> Vec<f64> { cell.split('/').map(|share| share.trim().parse().unwrap()).collect() };
    assert_eq!(shares(cells[1]), [bad.benign, bad.suspicious, bad.malicious], "{cells:?}");
    assert_eq!(shares(cells[2]), [good.benign, good.suspicious, good.malicious], "{cells:?}");
    assert_eq!(cells[3], evidence(bad.malicious, good.malicious));
    assert_eq!(cells[4], evidence(bad.suspicious, good.suspicious));
    assert_eq!(cells[5], evidence(bad.benign, good.benign));
}

fn check_type(cells: &[&str], numbers: &TypeNumbers) {
    assert_eq!(cells[1].parse(), Ok(numbers.prior), "{cells:?}");
    match numbers.decay {
        None => assert_eq!(cells[2], "claims do not age"),
        Some(Decay::HalfLife { grace, half_life }) => {
            let days = |span: std::time::Duration| format!("{} days", span.as_secs() / DAY);
            assert_eq!(cells[2..], [days(grace), days(half_life)], "{cells:?}");
        }
        Some(Decay::Polynomial { .. }) => panic!("the page has no column for it"),
    }
}

#[test]
fn the_page_has_the_letters_that_are_used() {
    let rule = WeightedRule::built_in();
    for &letter in Reliability::VARIANTS {
        match rule.letters.row(letter) {
            Some(numbers) => check_letter(&row(letter.as_str()), numbers),
            None => assert_eq!(row(letter.as_str())[3..], ["0", "0", "0"]),
        }
    }
}

#[test]
fn the_page_has_the_priors_and_ages_that_are_used() {
    let rule = WeightedRule::built_in();
    for &indicator_type in IndicatorType::VARIANTS {
        check_type(&row(indicator_type.as_str()), rule.of_type(indicator_type));
    }
}

#[test]
fn the_page_has_the_thresholds_that_are_used() {
    let thresholds = WeightedRule::built_in().thresholds;
    let shown = |number: f64| format!("{number:.2}").trim_start_matches('0').to_owned();
    assert_eq!(row(&format!("at least {}", shown(thresholds.malicious)))[1], "malicious");
    assert_eq!(row(&format!("at least {}", shown(thresholds.suspicious)))[1], "suspicious");
    assert_eq!(row(&format!("at most {}", shown(thresholds.benign)))[1], "benign");
}
