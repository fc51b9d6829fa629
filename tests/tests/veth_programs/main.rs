//! Real programs through the balancer, in every mode: web servers and browsers' protocols, ssh, DNS, iperf3, ping and traceroute.
//!
//! Clients are on the balancer's other side with `ipip` and `nat`, and in the hosts' segment with `l2` and `gue`.

mod dns;
mod fragments;
mod http;
mod interfaces;
mod iperf;
mod jumbo;
mod path_mtu;
mod ping;
mod site;
mod ssh;
mod together;
mod traceroute;
