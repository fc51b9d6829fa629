//! Random sequences of steps; see [`crate::steps`].

use std::cell::RefCell;
use std::thread;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::product::any_policies;
use crate::rig::{Rig, sizes};
use crate::steps::{RING, Reasons, any_steps, run, timeouts};

/// Publications wait for grace periods, so that several sequences run at once.
const AT_ONCE: u8 = 3;

/// `KERNEL_MODEL_CASES` asks for more or fewer sequences than CI runs.
fn cases() -> u32 {
    std::env::var("KERNEL_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(ENOUGH)
}

/// With so many each of the rare reasons occurs.
const ENOUGH: u32 = 24;

fn run_some(seed: u8, cases: u32) -> Result<Reasons, String> {
    let all = RefCell::new(Reasons::new());
    let rig = RefCell::new(Rig::open(sizes(RING, 16, 16), timeouts()));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 1500, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    runner
        .run(&(any_policies(), any_steps()), |(policies, steps)| {
            let reasons = run(&mut rig.borrow_mut(), &policies, &steps).map_err(TestCaseError::fail)?;
            for (reason, count) in reasons {
                *all.borrow_mut().entry(reason).or_default() += count;
            }
            Ok(())
        })
        .map_err(|error| format!("{error}"))?;
    Ok(all.into_inner())
}

#[test]
fn the_kernel_agrees_with_the_rules() {
    let share = cases().div_ceil(u32::from(AT_ONCE));
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|seed| scope.spawn(move || run_some(seed, share))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut met = Reasons::new();
    for result in results {
        for (reason, count) in result.unwrap_or_else(|error| panic!("{error}")) {
            *met.entry(reason).or_default() += count;
        }
    }
    let rare = ["forward_moved", "answer_reset", "forward_previous", "forward_around_down"];
    let is_met = |reason: &str| met.get(reason).is_some_and(|&count| count > 0);
    assert!(cases() < ENOUGH || rare.into_iter().all(is_met), "{met:?}");
}
