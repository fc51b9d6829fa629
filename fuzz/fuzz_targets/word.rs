//! Any bits in flow words, cold records and the words of the directory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lb_laws::words::check(bytes));
