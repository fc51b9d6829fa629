//! What the kernel says of the program when it is loaded.

use sluice_tests::rig::Rig;

/// The verifier walks a million instructions at most, over all ways through the program. A change that comes near is
/// better noticed here than on a kernel that walks a few more.
#[test]
fn the_verifier_s_budget_is_not_used_up() {
    const LIMIT: u32 = 1_000_000;
    let mut rig = Rig::open(Rig::small());
    let info = rig.dataplane.program().unwrap().info().unwrap();
    let walked = info.verified_instruction_count().expect("Linux 5.16 tells it");
    println!("{walked} instructions walked, {} bytes of machine code", info.size_jitted());
    assert!(walked < LIMIT / 10 * 9, "{walked} of {LIMIT} instructions");
}
