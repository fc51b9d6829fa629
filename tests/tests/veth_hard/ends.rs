//! Connections whose ends do not end at the same time, or both at the same time, or by a RST, while their host drains.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sluice_tests::site::Site;

use super::actors::{CLOSE, LINES, LISTEN, PORT, STREAM, site_with_actors};
use super::tools::{Connection, Lost, connect, echoes, ends_well, live, site, speak, until};

/// Sockets of h1 in this state that belong to the port.
fn sockets(site: &Site, state: &str, port: u16) -> usize {
    let line = format!("ss -Htn state {state} sport = :{port}");
    site.topology.host(1).ns.shell(&line).unwrap().lines().count()
}

/// All that a server streams after its client's FIN.
fn stream() -> String {
    (0..LINES).map(|number| format!("{number}\n")).collect()
}

#[test]
fn half_closed_connections_carry_data_one_way_for_longer_than_the_closing_timeout() {
    const CLOSING: Duration = Duration::from_secs(2);
    let (site, actors) = site_with_actors(2, [4, 8, 2, 4]);
    let (mut ours, mut others) = connect(&site, PORT, 24);
    // Every other server sends on after its client's FIN, and every other client after its server's.
    for (number, connection) in ours.iter_mut().chain(&mut others).enumerate() {
        let what = if number % 2 == 0 { STREAM } else { LISTEN };
        connection.stream.write_all(&[what]).unwrap();
    }
    let split = |connections: Vec<Connection>, first: usize| {
        let numbered = connections.into_iter().enumerate();
        let (streams, listens): (Vec<_>, Vec<_>) =
            numbered.partition(|(number, _)| (number + first).is_multiple_of(2));
        let bare = |numbered: Vec<(usize, Connection)>| numbered.into_iter().map(|(_, one)| one);
        (bare(streams).collect::<Vec<_>>(), bare(listens).collect::<Vec<_>>())
    };
    let first = ours.len();
    let (mut streams, mut listens) = split(ours, 0);
    let (other_streams, other_listens) = split(others, first);
    let (our_streams, our_listens) = (streams.len() as u64, listens.len() as u64);
    streams.extend(other_streams);
    listens.extend(other_listens);
    for connection in &mut listens {
        assert_eq!(connection.stream.read(&mut [0; 1]).unwrap(), 0, "the server has ended");
    }
    for connection in &streams {
        connection.stream.shutdown(Shutdown::Write).unwrap();
    }
    let ended = Instant::now();
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut connection| {
            std::thread::spawn(move || {
                let mut all = String::new();
                connection.stream.read_to_string(&mut all).map(|_| all)
            })
        })
        .collect();
    let mut said = 0;
    while ended.elapsed() < CLOSING * 3 {
        for connection in &mut listens {
            connection.stream.write_all(b"more").unwrap();
        }
        said += 4;
        assert_eq!(live(&site, "h1"), [0, our_listens, our_streams], "after {:?}", ended.elapsed());
        sleep(Duration::from_millis(300));
    }
    let ports: Vec<_> = listens.iter().map(|connection| connection.stream.local_addr().unwrap()).collect();
    drop(listens);
    until("all servers have heard their clients' ends", || actors.heard().len() == ports.len());
    let heard = actors.heard();
    assert!(ports.iter().all(|port| heard.contains(&(*port, said))), "{said} bytes each: {heard:?}");
    for reader in readers {
        assert_eq!(reader.join().unwrap().unwrap(), stream(), "nothing is missing");
    }
    ends_well(&site, "h1", (our_streams + our_listens) as usize);
}

#[test]
fn both_ends_close_at_the_same_time() {
    let (site, _actors) = site_with_actors(2, [4, 8, 2, 4]);
    let client = &site.topology.client().ns;
    let (mut ours, others) = connect(&site, PORT, 16);
    drop(others);
    for connection in &mut ours {
        connection.stream.write_all(&[CLOSE]).unwrap();
    }
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    // The servers' FINs are under way for so long that the clients have sent theirs before they come.
    let lost = Lost::packets(client, "input", "tcp sport 9 tcp flags & fin == fin");
    for connection in &mut ours {
        connection.stream.write_all(b"!").unwrap();
    }
    until("the servers have sent their FINs", || sockets(&site, "fin-wait-1", PORT) == ours.len());
    for connection in &ours {
        connection.stream.shutdown(Shutdown::Write).unwrap();
    }
    // What the TCP of a host calls it when FINs have crossed.
    until("the FINs have crossed", || sockets(&site, "closing", PORT) == ours.len());
    assert_eq!(live(&site, "h1"), [0, 0, ours.len() as u64]);
    drop(lost);
    for connection in &mut ours {
        assert_eq!(connection.stream.read(&mut [0; 1]).unwrap(), 0, "an end, and no RST");
    }
    until("the host knows none of them", || {
        ["fin-wait-1", "closing", "established"].iter().all(|state| sockets(&site, state, PORT) == 0)
    });
    ends_well(&site, "h1", ours.len());
}

#[test]
fn a_client_s_rst_reaches_the_draining_host() {
    let site = site(2, [4, 8, 2, 4]);
    let (ours, mut others) = echoes(&site, 16);
    let count = ours.len();
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    assert_eq!(sockets(&site, "established", 7), count);
    for connection in ours {
        connection.abort();
    }
    until("the host knows of all", || sockets(&site, "established", 7) == 0);
    speak(&mut others);
    ends_well(&site, "h1", count);
}
