//! Random sequences of steps.

use std::cell::RefCell;
use std::thread;

use proptest::collection::vec;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::balancer::Balancer;
use super::run::run;
use super::steps::{Step, any_crowded_step, any_policies, any_step};
use super::world::Checked;

pub const RING: u32 = 11;
/// Publications wait for grace periods, so that several sequences run at once.
const AT_ONCE: u8 = 4;

/// A table with room for all, and one for a few.
pub fn roomy() -> Balancer {
    Balancer::open(RING, 16, false)
}

fn cases(default: u32) -> u32 {
    match std::env::var("KERNEL_MODEL_CASES") {
        Ok(cases) => cases.parse().expect("KERNEL_MODEL_CASES is a number of sequences"),
        Err(_) => default,
    }
}

/// Some sequences, one after the other, and what was checked in them.
fn run_some<S: Strategy<Value = Step> + Clone>(
    seed: u8,
    cases: u32,
    is_roomy: bool,
    any_step: S,
) -> Result<Checked, String> {
    let balancer = RefCell::new(roomy());
    let total = RefCell::new(Checked::default());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 3000, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&(any_policies(), vec(any_step, 1..150)), |(policies, steps)| {
        let checked = run(&mut balancer.borrow_mut(), is_roomy, RING, &policies, &steps)
            .map_err(TestCaseError::fail)?;
        total.borrow_mut().add(&checked);
        Ok(())
    });
    result.map_err(|error| format!("{error}"))?;
    Ok(total.into_inner())
}

fn run_all<S: Strategy<Value = Step> + Clone>(
    cases: u32,
    is_roomy: bool,
    any_step: impl Fn() -> S + Sync,
) -> Checked {
    let share = cases.div_ceil(u32::from(AT_ONCE));
    let results: Vec<_> = thread::scope(|scope| {
        let any_step = &any_step;
        let worker = |seed| scope.spawn(move || run_some(seed, share, is_roomy, any_step()));
        let workers: Vec<_> = (0..AT_ONCE).map(worker).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut total = Checked::default();
    for result in results {
        total.add(&result.unwrap_or_else(|error| panic!("{error}")));
    }
    eprintln!("{cases} sequences: {total:?}");
    total
}

/// The contract, and the rules to the last counter, under every policy.
#[test]
fn the_product_agrees_with_the_rules() {
    let cases = cases(40);
    let total = run_all(cases, true, || any_step().boxed());
    let cases = u64::from(cases);
    assert!(total.packets > cases * 10 && total.begun_while_out > cases, "{total:?}");
    assert!(total.drained > cases / 4 && total.survived_losses > cases / 4, "{total:?}");
    assert!(total.moved_by_policy > cases / 8, "{total:?}");
}

/// The contract alone, in a table that a flood has filled: what gives way is what can be missed.
#[test]
fn the_contract_holds_in_a_full_table() {
    let cases = cases(24);
    let total = run_all(cases, false, || any_crowded_step().boxed());
    let cases = u64::from(cases);
    assert!(total.packets > cases * 10 && total.begun_while_out > cases, "{total:?}");
}
