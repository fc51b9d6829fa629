//! A PostgreSQL primary and its standby behind a VIP: the primary dies, is cut off or relieved, and no acknowledged row is lost. Settings, config,
//! script and what clients say are those of docs/postgresql.md; only `ssh` and what Debian's programs know of clusters are stood in for, as
//! all hosts are this machine.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::servers::{POSTGRES, Postgres, SluiceDaemon, sluice_binary};
use sluice_tests::topology::{Node, Topology};
use sluice_tests::traffic::{Insert, Inserts, InsertsOptions, Written};

const NAMES: [&str; 2] = ["db-1", "db-2"];
/// A row of a client that is no test's.
const BY_PSQL: u64 = 2_000_000;

/// Dropped in this order.
struct Pair {
    daemon: SluiceDaemon,
    servers: [Postgres; 2],
    config: String,
    programs: tempfile::TempDir,
    topology: Topology,
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The first block of this kind in the document under this heading.
fn block(heading: &str, kind: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/postgresql.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("\n## {heading}\n")).expect("the document has such a heading");
    let (_, rest) = rest.split_once(&format!("```{kind}\n")).expect("the document has such a block");
    rest.split_once("```").unwrap().0.to_owned()
}

/// The text with all that the document names otherwise.
fn with(text: &str, changes: &[(&str, String)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "there is no {from} in {text}");
        text.replace(from, to)
    })
}

/// The script, and the programs that it calls.
fn programs(servers: &[Postgres; 2]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = |name: &str, text: &str| {
        let path = at.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("db-failover", &block("The balancer", "shell"));
    let hosts: String = NAMES
        .iter()
        .zip(servers)
        .map(|(name, server)| {
            let (data, socket) = (server.data(), server.at());
            format!("postgres@{name}) export PGDATA={} PGHOST={} ;;\n", data.display(), socket.display())
        })
        .collect();
    let ssh = format!(
        "#!/bin/sh\nwhile [ \"$1\" = -o ]; do shift 2; done\ncase $1 in\n{hosts}*) exit 255 ;;\nesac\nshift\ncd /\n\
         export PATH={}:{}:$PATH\n\
         exec setpriv --reuid=postgres --regid=postgres --init-groups sh -c \"$*\"\n",
        at.display(),
        servers[0].programs().display(),
    );
    script("ssh", &ssh);
    // pg_ctlcluster 15 main stop -m MODE
    script("pg_ctlcluster", "#!/bin/sh\n[ \"$3\" = stop ] && exec pg_ctl -w -t 10 -m \"$5\" stop\n");
    symlink(sluice_binary().unwrap(), at.join("sluice")).unwrap();
    folder
}

impl Pair {
    fn start() -> Self {
        let topology = Topology::builder().hosts(2).build().unwrap();
        let (one, two, vip) = (topology.host(1), topology.host(2), topology.vip4());
        let settings = block("The servers", "text");
        let of = |name: &str, other: &Node| {
            let changes = [("10.0.0.12", other.ipv4[0].to_string()), (NAMES[0], name.to_owned())];
            with(&settings, &changes)
        };
        let first = Postgres::primary(one, &of(NAMES[0], two)).unwrap();
        let second = Postgres::standby(two, one.ipv4[0], &of(NAMES[1], one)).unwrap();
        wait_for("the standby is synchronous", || first.is_followed().unwrap());
        first.sql("CREATE TABLE rows (n bigint PRIMARY KEY)").unwrap();
        let servers = [first, second];
        let programs = programs(&servers);
        let at = programs.path().display();
        let script = format!("PATH={at}:$PATH {at}/db-failover");
        let changes = [
            // A small data path.
            (
                "interfaces = [\"eth0\"]",
                "interfaces = [\"eth0\"]\nring_size = 1009\n[flow_table]\npins = 4096".to_owned(),
            ),
            ("10.0.0.11", one.ipv4[0].to_string()),
            ("10.0.0.12", two.ipv4[0].to_string()),
            ("203.0.113.10", vip.to_string()),
            ("/usr/local/bin/db-failover", script),
            // Debian's own is a script that looks for clusters first.
            ("pg_isready", servers[0].programs().join("pg_isready").display().to_string()),
        ];
        let config = with(&block("The balancer", "toml"), &changes);
        let daemon = SluiceDaemon::start(&topology, &config).unwrap();
        let pair = Pair { daemon, servers, config, programs, topology };
        wait_for("both are up", || pair.health()["up"].as_array().is_some_and(|up| up.len() == 2));
        pair
    }

    fn vip(&self) -> SocketAddr {
        SocketAddr::new(self.topology.vip4().into(), POSTGRES)
    }

    fn inserts(&self, options: &InsertsOptions) -> Inserts {
        Inserts::start(&self.topology.client().ns, options).unwrap()
    }

    /// What checks make of the service.
    fn health(&self) -> Value {
        self.daemon.cli_json(&["health", "--json"]).unwrap()["services"][0].clone()
    }

    /// The script, as a hook of this event or by hand.
    fn call(&self, event: &str, host: &str, more: &[(&str, &str)]) -> Output {
        let at = self.programs.path();
        let mut command = Command::new(at.join("db-failover"));
        command.env("PATH", format!("{}:{}", at.display(), std::env::var("PATH").unwrap()));
        command.env("SLUICE_INSTANCE", self.daemon.instance());
        command.env("SLUICE_EVENT", event).env("SLUICE_HOST", host).envs(more.iter().copied());
        self.topology.balancer().ns.output(command).unwrap()
    }

    /// A client of PostgreSQL's own writes a row, with what the document has for clients.
    fn write_by_psql(&self, row: u64) {
        let vip = self.topology.vip4().to_string();
        let target = with(block("Clients", "text").trim(), &[("203.0.113.10", vip)]);
        let mut command = Command::new(self.servers[0].programs().join("psql"));
        command.arg(format!("{target} user=postgres dbname=postgres")).arg("-XAtqc");
        command.arg(format!("INSERT INTO rows VALUES ({row}) RETURNING n"));
        let said = self.topology.client().ns.run(command).unwrap();
        assert_eq!(said.trim(), row.to_string());
    }

    /// The server goes on for clients, and for the other; the balancer itself does not reach it any more.
    fn cut_off(&self, number: usize) {
        let (balancer, host) = (self.topology.balancer().ipv4[0], self.topology.host(number + 1));
        let rules = format!(
            "table ip fault {{ chain in {{ type filter hook input priority 0; ip saddr {balancer} tcp dport {POSTGRES} drop; }}; }}"
        );
        host.ns.shell(&format!("nft '{rules}'")).unwrap();
    }

    fn host(&self, number: usize) -> Value {
        self.daemon.cli_json(&["status", "--json"]).unwrap()["hosts"][number].clone()
    }

    /// A log that does not say so is shown.
    fn wait_for_log(&self, words: &str, count: usize) {
        let begun = Instant::now();
        while self.daemon.log().matches(words).count() < count {
            assert!(begun.elapsed() < LIMIT, "no {words:?} in\n{}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a server that failed wrote alone is taken back.
    fn rewind(&self, number: usize) {
        self.servers[1 - number].sql("CHECKPOINT").unwrap();
        self.servers[number].rewind(self.topology.host(2 - number).ipv4[0]).unwrap();
    }

    /// The server that was a primary follows the other from now on, by the steps of the document.
    fn rejoin(&mut self, number: usize) {
        let name = NAMES[number];
        self.servers[number].stand_by().unwrap();
        self.servers[number].start().unwrap();
        let primary = &self.servers[1 - number];
        wait_for("the old primary streams", || primary.is_streamed().unwrap());
        primary.sql("ALTER SYSTEM RESET synchronous_standby_names").unwrap();
        primary.sql("SELECT pg_reload_conf()").unwrap();
        wait_for("the old primary is waited for", || primary.is_followed().unwrap());
        let [before, after] = [NAMES[1 - number], name].map(|name| format!("standby = [\"{name}\"]"));
        let config = with(&self.config, &[(before.as_str(), after)]);
        let path = self.daemon.config_path().with_file_name("new.toml");
        std::fs::write(&path, &config).unwrap();
        self.daemon.cli_ok(&["apply", path.to_str().unwrap(), "--reason", "roles"]).unwrap();
        self.daemon.cli_ok(&["undrain", name]).unwrap();
        self.config = config;
        let health = self.health();
        assert_eq!((&health["waiting"], &health["standby_in_use"]), (&vec![name].into(), &false.into()));
    }

    /// Rows of a server.
    fn rows(&self, number: usize) -> BTreeSet<u64> {
        let rows = self.servers[number].sql("SELECT n FROM rows").unwrap();
        rows.iter().map(|row| row[0].parse().unwrap()).collect()
    }

    fn no_violations(&self) {
        let status = self.daemon.cli_json(&["status", "--json"]).unwrap();
        assert_eq!(status["violations"].to_string(), "{}");
    }
}

/// What was acknowledged is there, and what was refused is not.
fn audit(what: &str, log: &[Insert], rows: &BTreeSet<u64>) {
    let of = |is_it: &dyn Fn(&Written) -> bool| -> Vec<u64> {
        log.iter().filter(|insert| is_it(&insert.written)).map(|insert| insert.number).collect()
    };
    let acknowledged = of(&|written| *written == Written::Acknowledged);
    let refused = of(&|written| matches!(written, Written::Refused(_)));
    let lost = of(&|written| matches!(written, Written::Lost(_)));
    let there = lost.iter().filter(|number| rows.contains(number)).count();
    println!(
        "{what}: {} rows acknowledged, {} refused, {} without an answer, of which {there} are there",
        acknowledged.len(),
        refused.len(),
        lost.len()
    );
    let missing: Vec<_> = acknowledged.iter().filter(|number| !rows.contains(number)).collect();
    assert!(missing.is_empty(), "{what}: acknowledged and lost: {missing:?}");
    assert!(refused.iter().all(|number| !rows.contains(number)), "{what}: refused and there: {refused:?}");
    assert!(acknowledged.len() > 50, "{what}: {}", acknowledged.len());
}

/// The longest time without an acknowledged row in a span that begins and ends with such.
fn longest_gap(inserts: &[&Inserts], from: Instant, to: Instant) -> Duration {
    let logs: Vec<Insert> = inserts.iter().flat_map(|inserts| inserts.log()).collect();
    let all = logs.iter().filter(|insert| insert.written == Written::Acknowledged);
    let mut ended: Vec<Instant> =
        all.map(|insert| insert.ended).filter(|ended| (from..to).contains(ended)).collect();
    ended.sort();
    let gaps = ended.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().expect("two rows were acknowledged")
}

/// The script looks before it does anything.
fn nobody_is_promoted_without_need(pair: &Pair) {
    let of = [("SLUICE_SERVICE", "db")];
    let of_another = [("SLUICE_SERVICE", "web")];
    let of_some_clients = [("SLUICE_CLIENTS", "198.51.100.0/24")];
    let is_moved = [("SLUICE_AT_DEADLINE", "move")];
    let is_reset = [("SLUICE_AT_DEADLINE", "reset")];
    pair.daemon.cli_ok(&["drain", NAMES[1], "--reason", "its disk is broken"]).unwrap();
    let drained = pair.call("host_down", NAMES[0], &of);
    pair.daemon.cli_ok(&["undrain", NAMES[1]]).unwrap();
    assert!(!drained.status.success(), "a drained standby has not got all writes: {drained:?}");
    for (event, host, more, is_done) in [
        ("host_down", NAMES[0], &of_another[..], true),
        ("host_down", NAMES[0], &[], true),
        ("host_down", "web-1", &of, true),
        ("host_down", NAMES[1], &of, true),
        ("drained", NAMES[0], &of_some_clients, true),
        ("deadline", NAMES[0], &is_moved, true),
        // It is back already.
        ("drained", NAMES[0], &[], false),
        ("deadline", NAMES[0], &is_reset, false),
    ] {
        let output = pair.call(event, host, more);
        assert_eq!(output.status.success(), is_done, "{event} of {host}, {more:?}: {output:?}");
    }
    assert!(pair.servers[1].is_standby().unwrap() && !pair.servers[0].is_standby().unwrap());
    assert_eq!(pair.host(0)["admin"], "active");
}

#[test]
fn a_primary_dies_or_is_cut_off_and_its_standby_takes_over_without_a_lost_row() {
    let mut pair = Pair::start();
    // Some look whether a server takes writes, as they should; the others learn it by their refusal.
    let options = InsertsOptions::new(pair.vip());
    let careful = pair.inserts(&options);
    let naive = pair.inserts(&InsertsOptions { wants_primary: false, first: 1_000_000, ..options });
    let begun = Instant::now();
    assert!(careful.wait_acknowledged(begun, 100, LIMIT) && naive.wait_acknowledged(begun, 100, LIMIT));
    assert!(pair.servers[1].is_standby().unwrap());

    let killed = Instant::now();
    pair.servers[0].sigkill().unwrap();
    for (who, inserts) in [("careful", &careful), ("naive", &naive)] {
        let is_back = inserts.wait_acknowledged(killed, 100, LIMIT);
        assert!(is_back, "{who}: {:?}\n{}", inserts.log().last(), pair.daemon.log());
    }
    assert!(!pair.servers[1].is_standby().unwrap());
    pair.wait_for_log("on_host_down is done", 1);
    let log = pair.daemon.log();
    assert!(log.contains("db-1 to db-2: promoted") && log.contains("could not be stopped"), "{log}");

    // The old primary comes back as what it was.
    pair.servers[0].start().unwrap();
    assert!(!pair.servers[0].is_standby().unwrap(), "it knows nothing of the other");
    wait_for("its checks are well", || pair.health()["up"].as_array().is_some_and(|up| up.len() == 2));
    let back = Instant::now();
    let before = pair.rows(0);
    assert!(careful.wait_acknowledged(back, 100, LIMIT) && naive.wait_acknowledged(back, 100, LIMIT));
    let gap = longest_gap(&[&careful, &naive], begun, back);
    let (turned_away, left) = (careful.turned_away() + naive.turned_away(), careful.left());
    println!(
        "killed: no row for {gap:?}, {turned_away} connections refused, {left} to the standby before its promotion"
    );
    assert!(gap < Duration::from_secs(15), "{gap:?}");
    let host = pair.host(0);
    assert_ne!(host["admin"], "active", "{host}");
    let client = pair.topology.client().ipv4[0];
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE client_addr = '{client}'");
    assert_eq!(pair.servers[0].value(&sessions).unwrap(), "0", "nobody came to it");
    assert_ne!(pair.servers[1].value(&sessions).unwrap(), "0");
    assert_eq!(pair.rows(0), before);
    // Past the VIP it can be reached, and acknowledges nothing.
    let past = pair.servers[0].sql_within(Duration::from_secs(1), "INSERT INTO rows VALUES (-1)");
    let past = format!("{:#}", past.expect_err("an old primary acknowledges nothing"));
    assert!(past.contains("no answer in time"), "{past}");
    pair.write_by_psql(BY_PSQL);

    // What it wrote alone is taken back, and it follows.
    pair.servers[0].stop().unwrap();
    pair.rewind(0);
    pair.rejoin(0);
    let rejoined = Instant::now();
    let left = careful.left();
    assert!(careful.wait_acknowledged(rejoined, 100, LIMIT));
    assert_eq!(careful.left(), left, "nobody was sent to the standby");
    assert!(pair.servers[0].is_standby().unwrap());
    assert_eq!(pair.servers[0].value("SELECT count(*) FROM rows WHERE n = -1").unwrap(), "0");

    // The one that serves clients well, and that the balancer alone takes for dead, is stopped.
    let cut = Instant::now();
    pair.cut_off(1);
    wait_for("the other is promoted", || !pair.servers[0].is_standby().unwrap());
    let found = cut.elapsed();
    pair.servers[1].wait().unwrap();
    let stopped = Instant::now();
    for inserts in [&careful, &naive] {
        assert!(inserts.wait_acknowledged(stopped, 100, LIMIT), "{}", pair.daemon.log());
    }
    let gap = longest_gap(&[&careful, &naive], cut, Instant::now());
    println!("cut off: the other is promoted after {found:?}, no row for {gap:?}");

    let logs = [careful.finish().unwrap(), naive.finish().unwrap()];
    let rows = pair.rows(0);
    audit("careful", &logs[0], &rows);
    audit("naive", &logs[1], &rows);
    assert!(rows.contains(&BY_PSQL));
    let refused = |insert: &&Insert| matches!(insert.written, Written::Refused(_));
    assert_eq!(logs[0].iter().filter(refused).count(), 0);
    for insert in logs[1].iter().filter(refused) {
        assert_eq!(insert.written, Written::Refused("25006".to_owned()), "a standby is read-only");
    }
    pair.topology.host(2).ns.shell("nft delete table ip fault").unwrap();
    pair.rewind(1);
    pair.rejoin(1);
    wait_for("the standby has all", || pair.rows(1) == rows);
    pair.no_violations();
}

#[test]
fn a_primary_is_relieved_and_comes_back_without_a_lost_row() {
    let mut pair = Pair::start();
    nobody_is_promoted_without_need(&pair);
    // Some take another connection after a few transactions, as a pool may; others stay for as long as they can.
    let options = InsertsOptions::new(pair.vip());
    let changing = pair.inserts(&InsertsOptions { rows: Some(5), ..options.clone() });
    let staying = pair.inserts(&InsertsOptions { first: 1_000_000, ..options.clone() });
    let begun = Instant::now();
    assert!(changing.wait_acknowledged(begun, 50, LIMIT) && staying.wait_acknowledged(begun, 50, LIMIT));
    // Taken back before its deadline.
    pair.daemon
        .cli_ok(&["drain", NAMES[0], "--force", "--deadline", "1m", "--at-deadline", "reset"])
        .unwrap();
    wait_for("the standby gets who comes anew", || changing.left() > 0);
    pair.daemon.cli_ok(&["undrain", NAMES[0]]).unwrap();
    let undrained = Instant::now();
    assert!(changing.wait_acknowledged(undrained, 50, LIMIT), "{}", pair.daemon.log());
    assert!(pair.servers[1].is_standby().unwrap());
    for from in [0, 1] {
        let asked = Instant::now();
        let drain = ["drain", NAMES[from], "--force", "--deadline", "2s", "--at-deadline", "reset", "--wait"];
        let output = pair.daemon.cli(&[&drain[..], &["--timeout", "30s", "--reason", "relief"]].concat());
        let output = output.unwrap();
        assert!(matches!(output.status.code(), Some(0 | 6)), "{output:?}\n{}", pair.daemon.log());
        wait_for("the other is promoted", || !pair.servers[1 - from].is_standby().unwrap());
        pair.servers[from].wait().unwrap();
        let promoted = Instant::now();
        for inserts in [&changing, &staying] {
            assert!(inserts.wait_acknowledged(promoted, 50, LIMIT), "{}", pair.daemon.log());
        }
        let now = Instant::now();
        println!(
            "{} to {}: no row for {:?}; of those who came anew for {:?}",
            NAMES[from],
            NAMES[1 - from],
            longest_gap(&[&changing, &staying], asked, now),
            longest_gap(&[&changing], asked, now),
        );
        pair.rejoin(from);
        let rejoined = Instant::now();
        let left = changing.left();
        assert!(changing.wait_acknowledged(rejoined, 50, LIMIT));
        assert_eq!(changing.left(), left, "nobody was sent to the standby");
    }
    let (changing, staying) = (changing.finish().unwrap(), staying.finish().unwrap());
    let failed = |insert: &&Insert| insert.written != Written::Acknowledged;
    assert_eq!(
        changing.iter().find(failed).map(|insert| &insert.written),
        None,
        "no transaction of theirs failed"
    );
    let ended: Vec<&Insert> = staying.iter().filter(failed).collect();
    assert!(ended.len() <= 2 * options.clients, "at most the end of each connection: {ended:?}");
    assert!(ended.iter().all(|insert| matches!(insert.written, Written::Lost(_))), "{ended:?}");
    let rows = pair.rows(0);
    audit("changing", &changing, &rows);
    audit("staying", &staying, &rows);
    pair.no_violations();
}
