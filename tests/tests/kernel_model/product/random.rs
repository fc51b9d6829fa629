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
const AT_ONCE: u8 = 3;

/// A table with room for all clients of the steps, if there is no flood.
pub fn roomy() -> Balancer {
    Balancer::open(RING, 16, false)
}

/// `KERNEL_MODEL_CASES` asks for more or fewer sequences than CI runs.
fn cases(default: u32) -> u32 {
    match std::env::var("KERNEL_MODEL_CASES") {
        Ok(cases) => cases.parse().expect("KERNEL_MODEL_CASES is a number of sequences"),
        Err(_) => default,
    }
}

/// Some sequences, one after the other, and what was checked in them.
fn run_some<S: Strategy<Value = Step>>(
    balancer: &mut Balancer,
    seed: u8,
    cases: u32,
    is_roomy: bool,
    any_step: S,
) -> Result<Checked, String> {
    let balancer = RefCell::new(balancer);
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

/// In a table with room for all: the contract, and the rules to the last counter. In a table that a flood has filled: the contract
/// alone, as what gives way is what can be missed.
#[test]
fn the_product_keeps_the_contract_and_the_rules_under_any_policy() {
    let (roomy_cases, crowded_cases) = (cases(32), cases(20));
    let share = |cases: u32| cases.div_ceil(u32::from(AT_ONCE));
    let work = |seed: u8| {
        let balancer = &mut roomy();
        let in_roomy = run_some(balancer, seed, share(roomy_cases), true, any_step())?;
        let in_crowded = run_some(balancer, seed, share(crowded_cases), false, any_crowded_step())?;
        Ok::<_, String>((in_roomy, in_crowded))
    };
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|seed| scope.spawn(move || work(seed))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let (mut total, mut crowded) = (Checked::default(), Checked::default());
    for result in results {
        let (in_roomy, in_crowded) = result.unwrap_or_else(|error| panic!("{error}"));
        total.add(&in_roomy);
        crowded.add(&in_crowded);
    }
    eprintln!("{roomy_cases} sequences: {total:?}");
    eprintln!("{crowded_cases} sequences in a full table: {crowded:?}");
    let cases = u64::from(roomy_cases);
    assert!(total.packets > cases * 10 && total.begun_while_out > cases, "{total:?}");
    assert!(total.drained > cases / 4 && total.survived_losses > cases / 4, "{total:?}");
    assert!(total.moved_by_policy > cases / 8, "{total:?}");
    let cases = u64::from(crowded_cases);
    assert!(crowded.packets > cases * 10 && crowded.begun_while_out > cases, "{crowded:?}");
}
