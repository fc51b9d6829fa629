//! How long rings take: `cargo run --release -p lb-userspace --example ring_time`.
//!
//! Prints the median of 31 runs, in milliseconds of one core.

use std::hint::black_box;
use std::time::Instant;

use lb_userspace::ring::{Base, Member, SHARE_FULL};

const KEY: [u8; 16] = *b"a key for timing";

fn members(count: u16, out: u16) -> Vec<Member> {
    let member = |id| Member {
        id,
        name: format!("host-{id}"),
        weight: 100,
        // Every second one from the start, until enough are out.
        share: if id % 2 == 0 && id / 2 <= out { 0 } else { SHARE_FULL },
    };
    (1..=count).map(member).collect()
}

fn median_ms<T>(mut run: impl FnMut() -> T) -> f64 {
    let mut times: Vec<f64> = (0..31)
        .map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    for (size, count) in [(65537, 10), (65537, 100), (65537, 650), (655_357, 1000)] {
        let all = members(count, 0);
        let base = Base::build(&KEY, size, &all);
        println!("{size} slots, {count} hosts");
        println!("  build             {:8.2} ms", median_ms(|| Base::build(&KEY, size, &all)));
        for out in [0, 1, count / 2] {
            let some = members(count, out);
            println!("  owners, {out:3} out    {:8.2} ms", median_ms(|| base.owners(&some)));
        }
    }
}
