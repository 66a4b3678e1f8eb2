//! The calls that each mode makes for a day of requests: 100,000 for 20,000 indicators, in virtual time. Counts, not times.

use concord::finding::Strength;

mod trace;

fn main() {
    println!(
        "strength   coverage   one call each   complete   decisive   decisive/complete   waves   same disposition"
    );
    let each = |greatest| [1.0, 0.6, 0.3].map(|coverage| (greatest, coverage));
    for (greatest, coverage) in [Strength::FULL, Strength::MAX].into_iter().flat_map(each) {
        let counts = trace::run(100_000, 20_000, coverage, greatest);
        println!(
            "{:>8.2}   {:>6.0} %   {:>13}   {:>8}   {:>8}   {:>17.3}   {:>5.2}   {:>16}",
            greatest.get(),
            coverage * 100.0,
            counts.without_cache,
            counts.complete,
            counts.decisive,
            counts.decisive as f64 / counts.complete as f64,
            counts.waves as f64 / counts.asking.max(1) as f64,
            counts.identical,
        );
    }
}
