//! Clients that say nothing: for ever, for too long, or only by their kernel's keep-alive probes.

use std::io::ErrorKind;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sluice_tests::health::busy;
use socket2::{SockRef, TcpKeepalive};

use super::tools::{Connection, Lost, echoes, ends_well, flows, live, reason, site, speak, until};

#[test]
fn a_client_that_vanished_counts_until_its_idle_timeout_and_no_longer() {
    const IDLE: Duration = Duration::from_secs(10);
    let site = site(2, [4, 10, 2, 4]);
    let client = &site.topology.client().ns;
    // Whatever was silent since before the start has spoken.
    sleep(IDLE + Duration::from_secs(1));
    let (mut ours, others) = echoes(&site, 12);
    speak(&mut ours);
    let spoke = Instant::now();
    let count = ours.len();
    let lost = Lost::packets(client, "output", "tcp dport 7");
    drop((ours, others));
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    for second in 1..IDLE.as_secs() {
        sleep((spoke + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
        let live = live(&site, "h1");
        // A look that comes late shows nothing.
        if spoke.elapsed() < IDLE - Duration::from_millis(500) {
            assert_eq!(live, [0, count as u64, 0], "after {:?}", spoke.elapsed());
        }
    }
    ends_well(&site, "h1", count);
    let took = spoke.elapsed();
    // Seconds are counted whole, and two sweeps have to agree.
    assert!(took >= IDLE && took < IDLE + Duration::from_secs(5) + busy(), "{took:?}");
    drop(lost);
}

/// An idle timeout that passes is the end of a connection to Sluice, not to its ends: while its slot knows the draining host,
/// its next packet finds the way there (C3), later the new owner's kernel knows nothing of it. Probes of TCP count as packets.
#[test]
fn keep_alive_connections_that_are_idle_for_longer_than_the_timeout() {
    /// The longest idle timeout of the site, that of UDP: a handover is open for so long.
    const OPEN: Duration = Duration::from_secs(16);
    let site = site(2, [4, 4, 2, 16]);
    let (mut all, others) = echoes(&site, 40);
    // Not two of them in one slot, as the pin of one keeps the handover of both open.
    let known = flows(&site, &[]);
    let slot = |connection: &Connection| known[&connection.stream.local_addr().unwrap().to_string()].1;
    let mut slots: Vec<u64> = known.values().map(|(_, slot)| *slot).collect();
    slots.sort_unstable();
    all.retain(|connection| {
        let slot = slot(connection);
        slots.iter().filter(|&&other| other == slot).count() == 1
    });
    assert!(all.len() >= 16, "{}", all.len());
    let mut busy = all.split_off(12);
    let mut probed = all.split_off(8);
    let mut idle_long = all.split_off(4);
    let mut idle = all;
    for connection in &probed {
        let keep_alive = TcpKeepalive::new()
            .with_time(Duration::from_secs(1))
            .with_interval(Duration::from_secs(1))
            .with_retries(9);
        SockRef::from(&connection.stream).set_tcp_keepalive(&keep_alive).unwrap();
    }
    speak(busy.iter_mut().chain(&mut probed).chain(&mut idle).chain(&mut idle_long));
    let spoke = Instant::now();
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    let drained = Instant::now();
    let kept = (busy.len() + probed.len()) as u64;
    let mut go_on = |until: Duration| {
        while drained.elapsed() < until {
            speak(&mut busy);
            sleep(Duration::from_millis(500));
        }
    };
    go_on(Duration::from_secs(8));
    assert!(spoke.elapsed() < OPEN);
    assert_eq!(live(&site, "h1")[1], kept, "idle ones count as ended, those that are probed do not");
    let by_slot = reason(&site, "forward_previous");
    speak(&mut idle);
    assert_eq!(reason(&site, "forward_previous"), by_slot + idle.len() as u64);
    assert_eq!(live(&site, "h1")[1], kept + idle.len() as u64, "they are known again");
    go_on(OPEN + Duration::from_secs(6));
    // Now their slots know the owner alone. Nothing but a look at the timeouts could tell that they live.
    for connection in &mut idle_long {
        assert_eq!(connection.echo().unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    speak(probed.iter_mut().chain(&mut busy));
    let closed = busy.len() + probed.len();
    drop((busy, probed, idle, idle_long, others));
    until("nothing is left", || live(&site, "h1") == [0; 3]);
    let receipt = ends_well(&site, "h1", closed);
    assert!(receipt["appeared"].as_u64().unwrap() >= 4, "{receipt}");
}
