//! One packet of a broadcaster to all of its viewers, through the hub: decrypted once, encrypted for each.

#![allow(missing_docs, clippy::expect_used, clippy::panic, reason = "a bench that cannot measure must fail")]

mod audience;

use std::time::Duration;

use audience::Audience;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn forward(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    for viewers in [1, 10, 100, 1_000] {
        let mut audience = None;
        group.throughput(Throughput::Elements(viewers));
        group.bench_function(BenchmarkId::from_parameter(viewers), |bencher| {
            let viewers = viewers as usize;
            let audience = audience.get_or_insert_with(|| Audience::new(viewers));
            bencher.iter_custom(|packets| audience.forward(packets, viewers));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .sample_size(30);
    targets = forward
}
criterion_main!(benches);
