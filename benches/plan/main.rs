//! The calls that each mode makes for a day of requests: 100,000 for 20,000 indicators, in virtual time. Counts, not times.

mod trace;

fn main() {
    println!("coverage   one call each   complete   decisive   decisive/complete   waves   same disposition");
    for coverage in [1.0, 0.6, 0.3] {
        let counts = trace::run(100_000, 20_000, coverage);
        println!(
            "{:>7.0} %   {:>13}   {:>8}   {:>8}   {:>17.3}   {:>5.2}   {:>16}",
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
