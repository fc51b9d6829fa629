//! Any frame: the parser, the decapsulator, ICMP, and the model of the balancer's program.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    lb_laws::parse::check(bytes);
    lb_laws::decap::check(bytes);
    lb_laws::icmp::check(bytes);
    lb_laws::forwarding::check(bytes);
});
