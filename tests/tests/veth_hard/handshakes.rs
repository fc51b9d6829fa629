//! Connections that begin just when their host is drained, and ports that begin anew while their old pin is closing.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use sluice_tests::site::ECHO;

use super::tools::{Connection, Lost, echoes, ends_well, flows, live, reason, site, speak, until};

#[test]
fn a_handshake_whose_syn_ack_was_lost_completes_at_the_draining_host() {
    const EACH: usize = 16;
    let site = site(2, [8, 8, 3, 4]);
    let client = &site.topology.client().ns;
    let lost = Lost::packets(client, "input", "tcp sport 7 tcp flags & (syn | ack) == (syn | ack)");
    let opening: Vec<_> = site
        .vips()
        .into_iter()
        .flat_map(|vip| (0..EACH).map(move |_| SocketAddr::new(vip, ECHO)))
        .map(|to| client.start("opening", move || Connection::open(to)).unwrap())
        .collect();
    let half_open = || flows(&site, &["--phase", "half-open"]);
    until("all SYNs are sent", || half_open().len() == 2 * EACH);
    let began = half_open();
    let ours = began.values().filter(|(host, _)| host == "h1").count();
    assert!(ours >= 4, "{began:?}");

    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    let again = reason(&site, "forward_syn_again");
    // Clients repeat their SYNs after a second, and two seconds later.
    until("all SYNs are repeated", || reason(&site, "forward_syn_again") >= again + 2 * EACH as u64);
    assert_eq!(half_open(), began, "a SYN that is repeated is no new flow");
    assert_eq!(live(&site, "h1"), [ours as u64, 0, 0]);
    drop(lost);
    let mut all: Vec<Connection> =
        opening.into_iter().map(|opening| opening.join().unwrap().unwrap().unwrap()).collect();
    for connection in &all {
        let (host, _) = &began[&connection.stream.local_addr().unwrap().to_string()];
        assert_eq!(connection.host, *host);
    }
    speak(&mut all);
    assert_eq!(live(&site, "h1"), [0, ours as u64, 0]);
    drop(all);
    ends_well(&site, "h1", ours);
}

#[test]
fn a_port_that_is_used_again_while_its_old_pin_closes_begins_elsewhere() {
    let site = site(2, [4, 8, 7, 4]);
    let client = &site.topology.client().ns;
    let (ours, others) = echoes(&site, 24);
    drop(others);
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    let before = ours.len();
    // Every other one ends by a RST, and the rest by FINs of both sides.
    let mut used = Vec::new();
    for (number, mut connection) in ours.into_iter().enumerate() {
        used.push((connection.port(), connection.stream.peer_addr().unwrap()));
        if number % 2 == 0 {
            connection.abort();
        } else {
            connection.stream.shutdown(Shutdown::Write).unwrap();
            let mut farewell = String::new();
            connection.stream.read_to_string(&mut farewell).unwrap();
            assert_eq!(farewell, "h1\n");
        }
    }
    // The client's kernel lets no port be used again within a second of TIME_WAIT.
    sleep(Duration::from_millis(1500));
    assert_eq!(live(&site, "h1"), [0, 0, before as u64], "all their pins are closing");
    let again =
        || used.iter().map(|&(port, to)| Connection::open_from(port, to).unwrap()).collect::<Vec<_>>();
    let mut again = client.enter(again).unwrap();
    assert!(again.iter().all(|connection| connection.host == "h2"), "none is at the draining host");
    speak(&mut again);
    assert_eq!(live(&site, "h1"), [0; 3], "the new pins are in the place of the old ones");
    speak(&mut again);
    ends_well(&site, "h1", before);
    speak(&mut again);
}
