//! How long it takes to find the indicators of a text: of a report, and of texts made to be slow. For each of these a text
//! of twice the length must take about twice as long.

use std::hint::black_box;

use concord::indicator::{ExtractOptions, extract};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const KIB: usize = 1024;
const PIECES: [(&str, &str); 8] = [
    ("prose", "The loader asks hxxps://evil[.]example[.]net/gate.php, then 203.0.113[.]9, and waits for an answer.\n"),
    ("relative paths", "./a.com/"),
    ("backslashes", "\\a.com/"),
    ("plus signs", "a.a+"),
    ("colons", "a:"),
    ("two scripts", "あa"),
    ("brackets", "h["),
    ("labelled hashes", "imphash: 44d88612fea8a8f36de82e1278abb02f,"),
];

fn extraction(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("extract");
    group.sample_size(20);
    for (name, piece) in PIECES {
        for size in [100 * KIB, 200 * KIB] {
            let text = piece.repeat(size / piece.len());
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_with_input(BenchmarkId::new(name, size), &text, |bencher, text| {
                bencher.iter(|| extract(black_box(text), &ExtractOptions::default()));
            });
        }
    }
}

criterion_group!(benches, extraction);
criterion_main!(benches);
