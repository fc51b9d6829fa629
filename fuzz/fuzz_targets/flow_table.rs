//! Any order of operations on the flow table, on an empty one and on one full of garbage.
#![no_main]

libfuzzer_sys::fuzz_target!(|play: lb_laws::flow_table::Play| {
    play.check();
});
