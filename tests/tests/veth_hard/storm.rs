//! Up to a thousand drains in a row under constant traffic: as many as the machine does in the time.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_tests::rig::lasting;
use sluice_tests::site::{Plan, Site};
use sluice_tests::topology::Topology;

use super::orders::Load;

/// So many drains, or what this machine does in the time: 25 s, or `SLUICE_TEST_SECONDS`.
const DRAINS: u32 = 1000;
const SECONDS: u64 = 25;
/// Fewer, and the machine has shown nothing.
const FEWEST: u32 = 20;

/// A request over the daemon's socket, without the start of a program for each.
fn post(site: &Site, path: &str, body: &str) -> Value {
    let mut stream = UnixStream::connect(site.daemon.socket()).unwrap();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: sluice\r\nconnection: close\r\n");
    let head = format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{path} {body}: {answer}\n{}", site.daemon.log());
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn up_to_a_thousand_drains_in_a_row_break_nothing() {
    // Rings small enough that a daemon without optimisation is about as fast as one with it.
    let plan = Plan { top: "ring_size = 4093", ..Plan::new("l2", 3) };
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let load = Load::start(&site, 100, 150);
    let (began, time) = (Instant::now(), lasting(SECONDS));
    let mut done = 0;
    let mut slowest = Duration::ZERO;
    while done < DRAINS && began.elapsed() < time {
        let body = format!("{{\"hosts\": [\"h{}\"]}}", 1 + done % 3);
        for path in ["/v1/drain", "/v1/undrain"] {
            let asked = Instant::now();
            post(&site, path, &body);
            slowest = slowest.max(asked.elapsed());
        }
        done += 1;
    }
    let took = began.elapsed();
    assert!(done >= FEWEST, "{done} drains in {took:?}");
    // Each has its receipt.
    let list = site.daemon.cli_json(&["receipts", "--json"]).unwrap();
    let receipts = list["receipts"].as_array().unwrap();
    for receipt in receipts {
        assert_eq!(receipt["outcome"], "undrained", "{receipt}");
        assert_eq!((&receipt["new_flows"], &receipt["misrouted"]), (&0.into(), &0.into()), "{receipt}");
        assert_eq!(receipt["violations"], serde_json::json!({}), "{receipt}");
    }
    let last = receipts.iter().filter_map(|receipt| receipt["drain"].as_u64()).max();
    assert_eq!(last, Some(u64::from(done)), "{} receipts are listed", receipts.len());
    let requests = load.finish(&site);
    println!("{done} drains in {took:?}, the slowest call {slowest:?}, beside {requests} requests");
    assert!(requests as f64 > took.as_secs_f64() * 20.0, "{requests} requests in {took:?}");
}
