//! How long a look-up in a list of a million entries takes: hit, miss, name with subdomains, network; and how long it takes to
//! load one of plain lines.

use std::hint::black_box;

use concord::indicator::{Form, Indicator};
use concord::source::{ListIndex, ListIndexBuilder, OptionValue, SourceSettings, SourceView};
use concord::sources;
use criterion::{Criterion, criterion_group, criterion_main};

const EACH: u32 = 250_000;

fn indicator(form: Form, value: &str) -> Indicator {
    Indicator::from_normal(form, value).expect("written in its normal form")
}

/// A quarter each of hashes, names with subdomains, addresses and networks.
fn million() -> ListIndex {
    let mut builder = ListIndexBuilder::with_capacity(40 << 20);
    for number in 0..EACH {
        let [_, b, c, d] = number.to_be_bytes();
        let added = builder
            .value(&indicator(Form::Sha256, &format!("{number:064x}")), "")
            .and_then(|()| builder.name(&format!("host{number}.example.com"), ""))
            .and_then(|()| builder.value(&indicator(Form::Ipv4, &format!("10.{b}.{c}.{d}")), ""))
            .and_then(|()| {
                let network = format!("2001:db8:{:x}:{:x}::/64", number >> 16, number & 0xffff);
                builder.network(network.parse().expect("a network"), "")
            });
        added.expect("room for a million");
    }
    builder.build()
}

fn look_ups(criterion: &mut Criterion) {
    let index = million();
    assert_eq!(index.len(), 4 * EACH as usize);
    let cases = [
        ("hash, hit", Form::Sha256, format!("{:064x}", EACH / 2), true),
        ("hash, miss", Form::Sha256, "f".repeat(64), false),
        ("name below an entry, hit", Form::Domain, "a.b.host7.example.com".into(), true),
        ("name, miss", Form::Domain, "a.b.c.example.org".into(), false),
        ("address in a network, hit", Form::Ipv6, "2001:db8:1:1::7".into(), true),
        ("address, miss", Form::Ipv4, "192.0.2.1".into(), false),
    ];
    for (name, form, value, hit) in cases {
        let wanted = indicator(form, &value);
        assert_eq!(index.find(&wanted).is_some(), hit, "{name}");
        criterion.bench_function(name, |bencher| bencher.iter(|| index.find(black_box(&wanted))));
    }
}

fn loading(criterion: &mut Criterion) {
    let kind = sources::find("list").expect("the kind");
    let mut settings = SourceSettings::from_defaults(kind.about(), "bench");
    settings.options.insert("path".into(), OptionValue::Path("list.txt".into()));
    let list = kind.build(&SourceView::new(&settings)).expect("a list");
    let lines: String = (0..EACH).map(|number| format!("host{number}.example.com\n{number:032x}\n")).collect();
    let index = || list.index(black_box(lines.as_bytes())).map(|index| index.len());
    assert_eq!(index(), Ok(2 * EACH as usize));
    let mut group = criterion.benchmark_group("loading");
    group.sample_size(10).bench_function("half a million lines", |bencher| bencher.iter(index));
}

criterion_group!(benches, look_ups, loading);
criterion_main!(benches);
