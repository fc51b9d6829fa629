//! The tables and their fields. What stands above one is what docs/configuration-reference.md says of it.

use super::super::health::LEAST_FAILING;
use super::super::limits::*;
use super::Form::{Any, Choice, Duration, Flag, Number, Percent, Table as One, Tables, Text, Texts};
use super::Usual::{As, None, Required, Value};
use super::{Change, Field, Table, change, fields, number, seconds};

const XDP_MODES: &[&str] = &["auto", "native", "generic"];
/// Of names of hosts, services, zones and groups.
const NAME: &str = "name";
const COMMAND: &str = "command for `/bin/sh -c`, 4096 bytes";

fields! {
/// These come before the first line in brackets; TOML takes what stands after a header as part of that table.
TOP "" {
    /// Interfaces that get the XDP program, the clients' side first: all by which packets of clients come in, and with `nat` those by which
    /// answers do. Names as in `ip link`, at most 15 bytes. One with a mode of its own is a table:
    /// `["eth0", { name = "eth1", xdp_mode = "generic" }]`. Packets leave by whatever interface the routes say, listed or not.
    interfaces: Any("array of names, or of [tables](#an-element-of-interfaces)"), Required;
    /// Of interfaces that have none of their own. `"native"`: in the driver, or fail. `"generic"`: in the kernel's stack, slow, runs
    /// everywhere. `"auto"`: native where the driver can, else generic. Without `sluice detach` an interface keeps the mode that it has.
    xdp_mode: Choice(XDP_MODES), Value("\"auto\"") => Detach;
    /// Who answers ARP and neighbour discovery for the VIPs. `"external"`: a router sends them here, Sluice touches no address. `"local"`:
    /// Sluice puts them on the first interface; single addresses only.
    vip_mode: Choice(&["external", "local"]), Value("\"external\"");
    /// Echo requests to VIPs. `"pass"`: this machine's kernel gets them, and answers if it has the address. `"answer"`: the XDP program answers.
    ping: Choice(&["pass", "answer"]), Value("\"pass\"");
    /// Maximum segment size that the SYNs of clients may announce, over IPv6 20 less: a larger one is lowered to it; with `nat` also that of the
    /// hosts' answers. It bounds the segments of *answers*; what clients send is bounded by the hosts' own MSS, which is to be lowered there
    /// where `ipip` or `gue` would not fit the MTU.
    mss_clamp: Number(*MSS.start() as u64, *MSS.end() as u64, "bytes"), None;
    /// Prefixes that outer headers of `ipip` and `gue` come from, one of a family at most: `["100.64.0.0/24", "fd00:5::/64"]`, IPv4 of 8 to
    /// 31 bits, IPv6 of 32 to 127. [What follows from it](configuration.md#outer-sources).
    outer_source: Texts("prefix"), As("this machine's own address");
    /// UDP port on which backends unpack `gue`.
    gue_port: Number(1, 65_535, ""), Value("6080");
    /// Slots of each consistent-hash ring: a prime, and at least 100 for each host of the largest service. The default is enough for 655 hosts.
    /// Balancers that share VIPs need the same.
    ring_size: number(&RING_SIZE, "slots"), Value("65537") => Detach;
    /// Secret of the flow hash: `openssl rand -hex 16`. Left out, a key is made at the first start and kept in the journal. Balancers that
    /// share VIPs need the same. Keep a file with a key readable for root only.
    hash_key: Text("32 hex digits"), As("made and kept") => Detach;
    /// Sizes of the flow table.
    flow_table: One("[flow_table]"), None;
    /// When a silent flow counts as ended.
    timeouts: One("[timeouts]"), None;
    /// What drains must leave of each service.
    rules: One("[rules]"), None;
    /// When checks run and what they come to.
    health: One("[health]"), None;
    /// Commands that are run when something happens.
    hooks: One("[hooks]"), None;
    /// How long the journal keeps revisions.
    journal: One("[journal]"), None;
    /// Who may use the API.
    api: One("[api]"), None;
    /// Where Prometheus may ask.
    metrics: One("[metrics]"), None;
    /// A page for browsers.
    ui: One("[ui]"), None;
    /// Where a routing daemon finds the VIPs.
    announce: One("[announce]"), None;
    /// The machines behind the balancer, by name.
    hosts: One("[hosts.NAME]"), None;
    /// What clients reach.
    services: Tables("[[services]]"), None;
}

/// A table in the array `interfaces` at the top of the file.
INTERFACE "an element of interfaces" {
    /// As in `ip link`, at most 15 bytes.
    name: Text("name of an interface"), Required;
    /// As at the top of the file, for this interface.
    xdp_mode: Choice(XDP_MODES), As("that of the file") => Detach;
}

/// The table has twice as many places as pins, up to the next power of two, of 64 bytes each.
FLOW_TABLE "[flow_table]" {
    /// Flows at once. Memory for the default is 128 MiB; `sluice check` prints it for any other. A restart with another figure keeps live flows.
    pins: number(&PINS, "flows"), Value("1_000_000") => Restart;
    /// Flows that find a place beside the table when their places in it are taken. Some 170 bytes each, taken only when used. Half full, the
    /// table lets under 0.1 % of its flows overflow; more is of use where far more flows than `pins` must be kept. A restart with another
    /// figure keeps live flows.
    overflow: number(&OVERFLOW, "flows"), As("a 25th of `pins`") => Restart;
    /// Pins that a CPU may make in a second for TCP flows whose slot is settled; 0: any number. Above it such flows are forwarded without a pin,
    /// which they do not need, and the hosts' gauges are incomplete until the longest idle timeout has passed. Flows in a handover and UDP flows
    /// always get their pins.
    flood_gate: number(&FLOOD_GATE, "pins a second"), Value("0");
}

/// A flow that has been silent for so long counts as ended. In quotes: `"90s"`, `"15m"`, `"1h 30m"`. A service may have its own:
/// `[services.timeouts]`.
TIMEOUTS "[timeouts]" {
    /// TCP, from the SYN until the client has answered the handshake.
    half_open: seconds(&TIMEOUT), Value("\"64s\"");
    /// TCP, established. Longer than the keep-alive interval of your applications. A drain may wait this long for silent flows.
    established: seconds(&TIMEOUT), Value("\"15m\"");
    /// TCP, after a FIN or RST.
    closing: seconds(&TIMEOUT), Value("\"30s\"");
    /// UDP.
    udp: seconds(&TIMEOUT), Value("\"90s\"");
    /// Not an idle timeout: the pause after which a flow of a service with `udp_handover = "gap"` may change its host.
    udp_gap: seconds(&TIMEOUT), Value("\"2s\"");
}

/// What drains must leave of each service. `sluice plan drain` says which rules a drain would break, and `sluice drain` refuses to break one
/// unless it is given `--force`. A host is *healthy* that is up and that nobody has drained. That a service keeps one healthy host is a rule
/// that needs no line. A service may have its own: `[services.rules]`.
RULES "[rules]" {
    /// Part of the weight of a service's hosts that must stay healthy.
    min_healthy: Percent(0, 100), Value("\"0%\"");
    /// No drain while a host of another zone is out, drained or down. Every host of the service needs a `zone`.
    one_zone_at_a_time: Flag, Value("false");
}

/// When [checks](#serviceschecks) run and what they come to, for services that have some. What follows from it:
/// [Health](operations.md#health). A service may have its own: `[services.health]`.
HEALTH "[health]" {
    /// From the beginning of one run of a check to that of the next. A run that takes longer puts the next one off.
    interval: Duration(*PACE.start(), *PACE.end(), "milliseconds"), Value("\"2s\"");
    /// A run without its answer by then has failed.
    timeout: Duration(*PACE.start(), *PACE.end(), "milliseconds"), Value("\"500ms\"");
    /// Part of the interval by which a run may come late for its beat, other each time, so that checks do not keep in step. Runs do not fall
    /// behind by it.
    jitter: Percent(0, 100), Value("\"5%\"");
    /// Runs in a row that must succeed until a host that is down is up. One that was never asked is up with the first.
    rise: number(&RUNS, "runs"), Value("2");
    /// Runs in a row that must fail until a host is down.
    fall: number(&RUNS, "runs"), Value("3");
    /// A host that goes down for the third time or so within a short time is held down, for one to two times this, however well its checks go.
    damping: seconds(&TIMEOUT), Value("\"60s\"");
    /// The flows of a host that is down. `"keep"`: their packets go to it still, so they go on if it comes back, or if it was never gone.
    /// `"move"`: after `down_after` each goes to another host with its next packet. `"reset"`: after `down_after` the client of a TCP flow gets
    /// a RST with its next packet; others are moved. Only of one that a check has found down, not by how clients fare.
    down_flows: Choice(&["keep", "move", "reset"]), Value("\"keep\"");
    /// How long a host has been down before its flows are moved or reset.
    down_after: seconds(&TIMEOUT), Value("\"30s\"");
    /// With less of the weight of a service's hosts up, all of them are used as if no check had failed: so, by default, while nobody is up.
    /// `"0%"`: never; what new clients get then says `when_empty`.
    panic: Percent(0, 100), Value("\"1%\"");
    /// Part of the weight of a service's hosts that checks may take out of use. Those that have been down for longest go first, those that are
    /// down by [how clients fare](#healthpassive) alone last; others are used although they are down.
    max_ejected: Percent(0, 100), Value("\"100%\"");
    /// Time in which a host that comes back gets its full share; left out: at once. Who is on its way back goes by that of the config when
    /// it came back, or by a shorter one since.
    ramp: seconds(&TIMEOUT), None;
    /// With less of the weight of a service's primary hosts up and not drained, its `standby` hosts join them.
    join_below: Percent(0, 100), Value("\"50%\"");
    /// With at least so much of it they leave again; not less than `join_below`.
    leave_at: Percent(0, 100), Value("\"75%\"");
    /// How clients fare.
    passive: One("[health.passive]"), None;
}

/// Whether a service's hosts are held against each other by [how clients fare](operations.md#passive-checks); of one service:
/// `[services.health.passive]`. It is for TCP with `tracking = "full"`; of other services nothing is seen, and what the instance says is not
/// for them.
PASSIVE "[health.passive]" {
    /// `"warn"`: a host whose flows fail is told of. `"eject"`: it also is down for the service for some time, as if a check had failed.
    action: Choice(&["off", "warn", "eject"]), Value("\"off\"");
    /// How far back flows are looked for until there are `least_flows` of a host. It takes the last second if that has as many. With `"eject"`
    /// not longer than the service's `timeouts.half_open` and `timeouts.closing`, after which the flow table forgets who was not answered, and
    /// who was. A suspicion is over when nothing has been bad for as long.
    window: seconds(&WINDOW), Value("\"10s\"");
    /// New flows of a host that are looked at at least. With less in a `window` nothing is said of it.
    least_flows: number(&LEAST_FLOWS, "flows"), Value("20");
    /// Part of a host's new flows that must have got no answer. Besides it must be twice as many as of the better half of the other hosts, and
    /// more than chance explains.
    failing: Percent(LEAST_FAILING, 100), Value("\"60%\"");
    /// How long a host is out the first time; then clients try it again. Each further time it is twice as long, until the host has fared well
    /// for as long.
    hold: seconds(&TIMEOUT), Value("\"30s\"");
    /// No time is longer; not less than `hold`.
    longest_hold: seconds(&TIMEOUT), Value("\"5m\"");
    /// Part of the weight of a service's hosts that may be out because of how clients fare alone, with no check that has found them down; one
    /// host may in any case, if there are three or more. Of two hosts none is taken out unless this is `"50%"` or more. The `max_ejected` of
    /// `[health]` holds besides.
    max_ejected: Percent(0, 100), Value("\"34%\"");
}

/// Commands that the daemon runs when something happens, each as `/bin/sh -c COMMAND` in `/`, as the daemon's user. What they find in their
/// environment, and how they are bounded: [Events and hooks](operations.md#events-and-hooks). Whoever may write this file may run commands as
/// that user, root as a rule.
HOOKS "[hooks]" {
    /// After it a command is killed, with all processes of its group.
    timeout: seconds(&TIMEOUT), Value("\"30s\"");
    /// A host is taken out.
    on_drain_began: Text(COMMAND), None;
    /// A drain under way has another deadline, action or lease.
    on_drain_amended: Text(COMMAND), None;
    /// A deadline has passed, and flows that are left go on.
    on_drain_overdue: Text(COMMAND), None;
    /// A deadline has passed, and flows that are left are moved or reset.
    on_deadline: Text(COMMAND), None;
    /// No flow is left on a host.
    on_drained: Text(COMMAND), None;
    /// Somebody took a host back.
    on_undrained: Text(COMMAND), None;
    /// A host was taken back at the end of its lease.
    on_lease_over: Text(COMMAND), None;
    /// Chosen flows are to be ended.
    on_kick_began: Text(COMMAND), None;
    /// They were.
    on_kick_ended: Text(COMMAND), None;
    /// Checks say that a host is up again for `$SLUICE_SERVICE`; without that variable: it has a next hop again.
    on_host_up: Text(COMMAND), None;
    /// Checks say that a host is down for `$SLUICE_SERVICE`; without that variable: it has no next hop. Also for each such host when the daemon
    /// starts.
    on_host_down: Text(COMMAND), None;
    /// How clients fare speaks against a host, which stays in use.
    on_host_suspected: Text(COMMAND), None;
    /// It does not any more.
    on_host_cleared: Text(COMMAND), None;
    /// So little of a service's weight is up that all its hosts are used again.
    on_panic_began: Text(COMMAND), None;
    /// Enough is up again.
    on_panic_ended: Text(COMMAND), None;
    /// A service's standby hosts get new flows as well.
    on_standby_joined: Text(COMMAND), None;
    /// They get none any more.
    on_standby_left: Text(COMMAND), None;
    /// Rings and tables are in force: with each change of hosts, drains, next hops and handovers.
    on_published: Text(COMMAND), None;
    /// Another config is in force: by `sluice apply`, a reload, or a rollback.
    on_config_applied: Text(COMMAND), None;
    /// A config is to stay.
    on_config_confirmed: Text(COMMAND), None;
    /// A config could not be put in force; the one before is in force again.
    on_config_failed: Text(COMMAND), None;
    /// A host is not in the config any more, and its last flow has ended.
    on_host_left: Text(COMMAND), None;
    /// A must-be-zero counter moved.
    on_violation: Text(COMMAND), None;
    /// The daemon has started, or was started again.
    on_daemon_started: Text(COMMAND), None;
    /// The daemon was asked to end.
    on_daemon_stopping: Text(COMMAND), None;
    /// The balancer itself wants no traffic any more.
    on_self_drain_began: Text(COMMAND), None;
    /// Little enough has come to it for long enough.
    on_self_drained: Text(COMMAND), None;
    /// It wants traffic again.
    on_self_undrained: Text(COMMAND), None;
    /// A [maintenance run](maintenance.md) began.
    on_maintain_began: Text(COMMAND), None;
    /// One of its hosts is at another step.
    on_maintain_step: Text(COMMAND), None;
    /// It is over.
    on_maintain_ended: Text(COMMAND), None;
    /// A [shift](shifting.md) began, took a step, or is over.
    on_shift: Text(COMMAND), None;
    /// Somebody is shown packets: see `sluice trace`.
    on_trace_began: Text(COMMAND), None;
    /// Nobody is shown those any more.
    on_trace_ended: Text(COMMAND), None;
}

/// How long [the journal](operations.md#history-and-how-to-go-back) keeps revisions. Receipts, drains in force and the configs of the last ten
/// changes stay in any case, and so do the last 100 revisions.
JOURNAL "[journal]" {
    /// Revisions that are older go.
    keep_for: seconds(&KEEP_FOR), Value("\"365d\"");
    /// More than so many are not kept, the oldest go.
    keep_revisions: number(&KEEP_REVISIONS, "revisions"), Value("10_000");
}

/// Who may use the API, and with it all commands but `run`, `check`, `detach` and `decap`, beside root and the daemon's user: members of these
/// groups of the machine, as their main group or another. How it is asked and bounded: [Who may do what](operations.md#who-may-do-what).
API "[api]" {
    /// Its members may look.
    read_group: Text("name of a group, 1 to 32 letters"), None => Restart;
    /// Its members may look and change.
    change_group: Text("name of a group, 1 to 32 letters"), None => Restart;
}

/// [Metrics for Prometheus](metrics.md) are at `GET /metrics` on the API's socket, and, if you like, on an address of this machine.
METRICS "[metrics]" {
    /// Listened on by TCP: `"127.0.0.1:9464"`, or `"[::]:9464"` for all addresses of the machine. Nothing but `/metrics` is there, and whoever
    /// can reach it can read it: names of hosts and services, and how much traffic they have.
    listen: Text("address and port"), None;
}

/// [A page for browsers](web.md), that shows the balancer and drains hosts. `sluice run --ui ADDRESS` stands above `listen`. Whoever can reach an
/// address of the loopback, which is every user of this machine, may look; nobody changes anything without a token.
UI "[ui]" {
    /// Listened on by TCP: `"127.0.0.1:8080"`. Elsewhere than on the loopback it takes `certificate` and `key`, and a token to look, too.
    listen: Text("address and port"), None => Restart;
    /// Names by which browsers call the page, 16 at most: `["lb1.example.net"]`. Requests for any other are refused; addresses and
    /// `localhost` need not be listed.
    names: Texts("name as in a URL"), None => Restart;
    /// Certificate chain, PEM, the machine's own first. A file that changes is read again with the next connection.
    certificate: Text("path"), None => Restart;
    /// Its private key, PEM.
    key: Text("path"), None => Restart;
    /// Tokens, one a line: `NAME TOKEN`, readable for its owner only. It is made with one token at the start if it is not there. A file that changes
    /// is read again with the next request.
    token_file: Text("path"), As("`/var/lib/sluice/INSTANCE.token`") => Restart;
    /// Also on the loopback nobody looks without a token: for a machine with other users, or with a proxy in front.
    token_to_look: Flag, Value("false") => Restart;
}

/// For a routing daemon that tells the networks around which addresses are here.
/// [How it is used](operations.md#take-the-balancer-itself-out).
ANNOUNCE "[announce]" {
    /// This interface, `"lo"` or a dummy, has the VIPs, as /32 and /128, from the moment that the daemon is ready until `sluice drain self` or
    /// `sluice detach`; the daemon's end leaves them there. VIPs that it had before stay. Not with `vip_mode = "local"`, and not with prefixes.
    interface: Text("name of an interface"), Required;
}

/// A machine behind the balancer, and the unit of drain. NAME is what `sluice drain` takes: 1 to 63 letters, digits, dots, underscores and
/// hyphens. A name with a dot stands in quotes: `[hosts."web-1.rack7"]`. At most 4094 hosts.
HOST "[hosts.NAME]" {
    /// One IPv4 address, one IPv6 address, or one of each. No other host, no VIP and not the balancer itself may have it.
    addresses: Texts("address"), Required;
    /// Share of new flows relative to other hosts. To stop new flows for a while, drain the host instead.
    weight: Number(1, 65_535, ""), Value("100");
    /// It gets no new flows: for a host that is not ready yet. Flows that it has go on. No command brings it back; to take a host out for a
    /// while, drain it.
    disabled: Flag, Value("false");
    /// What fails together: a room, a power feed, a zone of a cloud. The same letters as in a name. Commands take `@zone:NAME` for all hosts
    /// of it.
    zone: Text(NAME), None;
    /// Sets of hosts that commands take as `@NAME`, as in `sluice drain @blue`: `["blue", "rack-7"]`.
    groups: Texts(NAME), None;
}

/// What clients reach. At most 10_000 services, 64 different sets of hosts, 16_384 pairs of a service and a host, and 10_240 *records*: a
/// service has one for each protocol and port or range, and with `nat` as many for each of its hosts.
SERVICE "[[services]]" {
    /// For commands and metrics; the same letters as in a host's name, 63 at most.
    name: Text(NAME), Required;
    /// The virtual address, IPv4 or IPv6: unicast, neither loopback nor link-local. Or a prefix of them, `"203.0.113.0/28"`, IPv4 from 8 bits
    /// on, IPv6 from 32: each of its addresses is the service's, if it is routed here. Prefixes may have 8 different lengths, IPv4 and IPv6
    /// together.
    vip: Text("address or prefix"), Required;
    /// `"tcp"`, `"udp"`, or both: `["tcp", "udp"]`.
    protocol: Any("`\"tcp\"`, `\"udp\"` or an array of these"), Required;
    /// One port, `443`; a range, `"8000-8010"`; all, `"all"`; or a list, `[80, 443, "8000-8010"]`.
    /// [Which service has a packet](configuration.md#who-gets-a-packet). 16 ranges of a VIP and protocol at most.
    port: Any("port 1 to 65535, range, `\"all\"`, or an array of these"), Required;
    /// `"l2"`: rewrite the MAC addresses; hosts are one hop away. `"ipip"`: encapsulate IP in IP; hosts may be anywhere and decapsulate. `"gue"`:
    /// encapsulate in UDP (GUE, variant 0), whose source port spreads flows over a host's receive queues. With these three a host has the VIP on
    /// a loopback interface and answers the client itself. `"nat"`: rewrite the destination; hosts need no VIP, but their way to clients must
    /// [lead through this machine](configuration.md#nat).
    forward: Choice(&["l2", "ipip", "gue", "nat"]), Value("\"l2\"");
    /// Of `ipip` and `gue`: the family of outer headers, whatever that of the VIP; each host needs an address of it. Left out, a host is reached
    /// by its address of the VIP's family, or by its other one if it has none.
    /// [What it takes](configuration.md#outer-headers-of-the-other-family).
    outer: Choice(&["ipv4", "ipv6"]), As("as the VIP's, else the other");
    /// With `nat`, for a service of one port: the port on its hosts.
    backend_port: Number(1, 65_535, ""), As("as clients'");
    /// A packet in fragments goes where its first fragment goes. This is for a fragment that comes before the first one, or without it, and so
    /// without a port. `"drop"`: it is dropped. `"pass"`: this machine's kernel gets it. Of several services on a VIP one with `"drop"` decides.
    fragments: Choice(&["drop", "pass"]), Value("\"drop\"");
    /// TCP. `"full"`: the flow table knows every connection, and gauges are exact at any moment. `"edges"`: while nothing changes only a
    /// connection's first packet touches the table, so a packet costs the same however many connections there are; gauges read `unknown`, and a
    /// drain takes at least the longest idle timeout, as every connection must have spoken once. While hosts drain the table must hold their
    /// connections all the same.
    tracking: Choice(&["full", "edges"]), Value("\"full\"");
    /// `"client"`: all flows of a client's address to this service, whatever their protocol and port, go to one host, for as long as that host
    /// serves; and so do its flows to other services with `"client"` on the same VIP over the same hosts, as HTTP and HTTPS may be. For a prefix
    /// all of its addresses count as one. The spread is only as even as the clients are many. Changing it moves flows that have no pin: after a
    /// lost table, and all but the newest with `tracking = "edges"`.
    affinity: Choice(&["none", "client"]), Value("\"none\"");
    /// UDP, when the host of a flow is drained or loses its share. `"pin"`: the flow stays until it is idle past its timeout. `"gap"`: it goes to
    /// the new host with its first datagram after a pause of `udp_gap`. `"immediate"`: with its next datagram.
    udp_handover: Choice(&["pin", "gap", "immediate"]), Value("\"pin\"");
    /// Timeouts of this service: `timeouts = { established = "4h" }`, or a table `[services.timeouts]` behind its other fields. What it leaves
    /// out is as in `[timeouts]`. At most 3 different sets beside `[timeouts]`. After a change a connection goes by the timeouts that it was last
    /// seen under until its next packet; if sets change again within that time and numbers run out, the daemon warns that idle connections go by
    /// newer ones. The longest timeout of all services is what a drain may have to wait for.
    timeouts: One("[timeouts]"), As("those of the file");
    /// Rules of this service: `rules = { min_healthy = "0%" }`. What it leaves out is as in `[rules]`.
    rules: One("[rules]"), As("those of the file");
    /// What new clients get when all hosts are out, which takes a drain with `--force`, or all of them down. `"reject"`: a refusal, at once.
    /// `"pass"`: this machine's kernel gets their datagrams and SYNs, and only these: so it can serve UDP or say that a port is closed, but no TCP
    /// connection is made with it. `"last"`: the hosts that were in use last serve on, and their drains end only after another host is back.
    when_empty: Choice(&["reject", "pass", "last"]), Value("\"reject\"");
    /// How it is found out which of its hosts are well, 8 at most. Without any, nothing is asked.
    checks: Tables("[[services.checks]]"), None;
    /// Health of this service: a table `[services.health]` behind its other fields. What it leaves out is as in `[health]`.
    health: One("[health]"), As("that of the file");
    /// Hosts that get new flows only while too few of the others can: `["db-2"]`. See `join_below`.
    standby: Texts("name of a host"), None;
    /// The hosts that serve it; each needs an address of the VIP's family, with `ipip` and `gue` of either or of that which `outer` names. Left
    /// out: every host that has one.
    hosts: Texts("name of a host"), As("all");
}

/// Checks of the service above, 8 of each service and 65_536 of all hosts at most. Each host of the service is asked by each of them, and is up
/// if all say so. [What each finds](operations.md#what-each-check-finds).
CHECK "[[services.checks]]" {
    /// `"tcp"`: a connection is accepted. `"http"`, `"https"`: a `GET` is answered as it should be; certificates are not verified. `"udp"`: a
    /// datagram is answered. `"command"`: a command says so by exit status 0.
    type: Choice(&["tcp", "http", "https", "udp", "command"]), Required;
    /// `"host"`: to its own address, by this machine's kernel. `"vip"`: to the VIP, by the forwarding of real traffic; `tcp` and `udp` only, on a
    /// port of the service, whose VIP is a single address.
    through: Choice(&["host", "vip"]), Value("\"host\"");
    /// Port that is asked: `backend_port`, or the service's first, if that is no range.
    port: Number(1, 65_535, ""), As("the service's");
    /// Of `http` and `https`: what is asked for, `"/healthz"`.
    path: Text("path"), Value("\"/\"");
    /// Of `http` and `https`: the header `Host`, and the name that TLS asks for.
    host: Text("name as in a URL"), As("the address");
    /// Of `http` and `https`: statuses that are right: `200`, `"200-299"`, or a list of these.
    status: Any("status 100 to 599, range, or an array of these"), Value("\"200-399\"");
    /// Of `http` and `https`: text that the first 64 KiB of the body must have somewhere.
    body: Text("text, 1024 bytes at most"), As("any");
    /// Of `udp`: the payload.
    send: Text("text, 1024 bytes at most"), As("required by `udp`");
    /// Of `udp`: how the answer must begin.
    expect: Text("text, 1024 bytes at most"), As("any answer");
    /// Of `command`: run in `/`, as the daemon's user, with `SLUICE_HOST`, `SLUICE_ADDRESS`, `SLUICE_SERVICE` and `SLUICE_VIP` in its environment.
    /// It is killed with its process group when its time is over.
    command: Text(COMMAND), As("required by `command`");
}
}
