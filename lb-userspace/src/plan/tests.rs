//! Tables of small configs.

use lb_common::layout::{MODE_GUE, MODE_IPIP, MODE_L2, MODE_NAT, ServiceKey, VipFlags};
use lb_common::parse::{TCP, UDP};

use super::*;
use crate::config::parse;
use crate::netlink::NextHop;

#[test]
fn addresses_come_back() {
    for text in ["203.0.113.9", "2001:db8::7", "fd00:1:2:3:4:5:6:7"] {
        let address: IpAddr = text.parse().unwrap();
        assert_eq!(address_of(address_words(address)), address);
    }
    assert_eq!(address_words("1.2.3.4".parse().unwrap())[1].to_ne_bytes(), [0, 0, 0xff, 0xff, 1, 2, 3, 4]);
}

fn words(text: &str) -> [u64; 2] {
    address_words(text.parse().unwrap())
}

fn model(services: &str) -> Model {
    let toml = format!(
        "interfaces = [\"eth0\"]\ngue_port = 6081\n{services}\n\
         [hosts.a]\naddresses = [\"10.0.0.1\", \"fd00::1\"]\n[hosts.b]\naddresses = [\"10.0.0.2\", \"fd00::2\"]\n"
    );
    parse(&toml, "f").unwrap_or_else(|errors| panic!("{errors}")).model
}

/// One service with these fields, with whatever is at the top of the file before it.
fn one(top: &str, fields: &str) -> Model {
    model(&format!("{top}\nservices = [{{ name = \"s\", {fields} }}]"))
}

/// Backends that are reached by interface 7, with these tags.
struct Site {
    model: Model,
    ids: Ids,
    hops: BTreeMap<IpAddr, NextHopState>,
    out: BTreeSet<String>,
    serving_on: BTreeMap<String, BTreeSet<String>>,
    pairs: BTreeMap<(String, String), Pair>,
    leaving: BTreeMap<(u16, HostId), BackendTable>,
    sealed: BTreeSet<String>,
    down: BTreeSet<String>,
    deadlines: BTreeMap<String, Deadline>,
    path_mtus: PathMtus,
    clients: BTreeSet<String>,
}

impl Site {
    fn new(model: Model, tags: [u32; 2]) -> Self {
        let hosts = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
        let services: BTreeMap<String, u16> =
            model.services.iter().map(|s| s.name.clone()).zip(0..).collect();
        let pairs =
            services.keys().flat_map(|service| ["a", "b"].map(|host| (service.clone(), host.to_owned())));
        let stats = Ids::with_stats(pairs.zip(1..).collect());
        let ids = Ids { hosts, services, ..stats };
        let addresses =
            model.hosts.values().flat_map(|host| [host.ipv4.unwrap().into(), host.ipv6.unwrap().into()]);
        let hop = |address: IpAddr| NextHop {
            ifindex: 7,
            interface: "eth0".to_owned(),
            tags,
            src_mac: [2, 0, 0, 0, 0, 1],
            dst_mac: [2, 0, 0, 0, 0, 2],
            source: if address.is_ipv4() { "10.0.0.254" } else { "fd00::fe" }.parse().unwrap(),
            mtu: 1500,
            gateway: None,
        };
        let hops = addresses.map(|address| (address, NextHopState::Resolved(hop(address)))).collect();
        Site {
            model,
            ids,
            hops,
            leaving: BTreeMap::new(),
            out: BTreeSet::new(),
            serving_on: BTreeMap::new(),
            pairs: BTreeMap::new(),
            clients: BTreeSet::new(),
            sealed: BTreeSet::new(),
            down: BTreeSet::new(),
            deadlines: BTreeMap::new(),
            path_mtus: PathMtus::new(),
        }
    }

    fn tables(&self) -> Tables {
        let inputs = Inputs {
            model: &self.model,
            ids: &self.ids,
            out: &self.out,
            deadlines: &self.deadlines,
            shares: &BTreeMap::new(),
            pairs: &self.pairs,
            clients: &self.clients,
            sealed: &self.sealed,
            down: &self.down,
            health: &BTreeMap::new(),
            next_hops: &self.hops,
            serving_on: &self.serving_on,
            leaving: &self.leaving,
            path_mtus: &self.path_mtus,
        };
        inputs.tables(|_| Some(0), BTreeMap::new())
    }

    /// The first service's backend on host `a`.
    fn backend(&self) -> BackendTable {
        self.tables().services[&0].backends[&1]
    }
}

fn keys(model: Model) -> Vec<ServiceKey> {
    Site::new(model, [0; 2]).tables().services.remove(&0).unwrap().keys
}

#[test]
fn a_service_has_a_key_for_each_protocol_and_port_or_range() {
    let model =
        one("", "vip = \"203.0.113.9\", protocol = [\"tcp\", \"udp\"], port = [443, 80, \"8000-8010\"]");
    let exact = |port, protocol| ServiceKey::exact(words("203.0.113.9"), port, protocol);
    let range = |protocol| ServiceKey { first: 8000, last: 8010, ..exact(1, protocol) };
    let expected = [exact(80, TCP), exact(443, TCP), range(TCP), exact(80, UDP), exact(443, UDP), range(UDP)];
    assert_eq!(keys(model), expected);
}

#[test]
fn a_prefix_counts_its_bits_in_an_address_of_128() {
    let key = |vip: &str| {
        let fields = format!("vip = \"{vip}\", protocol = \"udp\", port = \"all\"");
        let [key] = keys(one("", &fields)).try_into().unwrap();
        assert_eq!((key.first, key.last, key.protocol, key.is_reply), (1, 65535, UDP, false));
        (key.address, key.prefix)
    };
    assert_eq!(key("203.0.113.0/28"), (words("203.0.113.0"), 124));
    assert_eq!(key("203.0.113.7/32"), (words("203.0.113.7"), ServiceKey::WHOLE));
    assert_eq!(key("2001:db8::/48"), (words("2001:db8::"), 48));
}

#[test]
fn with_nat_the_hosts_answers_have_keys_too() {
    let fields = "vip = \"203.0.113.9\", protocol = [\"tcp\", \"udp\"], port = 443, forward = \"nat\"";
    let key = |address, port, protocol| ServiceKey::exact(words(address), port, protocol);
    let reply = |address, port, protocol| ServiceKey { is_reply: true, ..key(address, port, protocol) };
    let ports = |port| {
        let vip = "203.0.113.9";
        let mut all = vec![key(vip, 443, TCP), key(vip, 443, UDP)];
        for host in ["10.0.0.1", "10.0.0.2"] {
            all.extend([reply(host, port, TCP), reply(host, port, UDP)]);
        }
        all
    };
    assert_eq!(keys(one("", fields)), ports(443));
    assert_eq!(keys(one("", &format!("{fields}, backend_port = 8443"))), ports(8443));
    let range =
        "vip = \"2001:db8::9\", protocol = \"tcp\", port = \"80-90\", forward = \"nat\", hosts = [\"b\"]";
    let towards = ServiceKey { first: 80, last: 90, ..key("2001:db8::9", 1, TCP) };
    let back = ServiceKey { address: words("fd00::2"), is_reply: true, ..towards };
    assert_eq!(keys(one("", range)), [towards, back]);
}

#[test]
fn answers_of_a_host_that_leaves_are_known_until_another_service_has_them() {
    let service = |name: &str, vip: &str, hosts: &str| {
        format!(
            "{{ name = \"{name}\", vip = \"{vip}\", protocol = \"tcp\", port = 443, forward = \"nat\", hosts = [\"{hosts}\"] }}"
        )
    };
    let two = |second: &str| {
        let services = [service("s", "203.0.113.1", "a"), service("t", "203.0.113.2", second)];
        let mut site = Site::new(model(&format!("services = [{}, {}]", services[0], services[1])), [0; 2]);
        // Once `b` served the first service on port 444, and `a` on that which clients use.
        let earlier = one("", "vip = \"203.0.113.1\", protocol = \"tcp\", port = 443, forward = \"nat\"");
        for (host, port) in [(1, 0u16), (2, 444)] {
            let mut backend = Site::new(earlier.clone(), [0; 2]).tables().services[&0].backends[&host];
            backend.record.port = port.to_be();
            site.leaving.insert((0, host), backend);
        }
        site.tables()
    };
    let reply = |address, port| ServiceKey { is_reply: true, ..ServiceKey::exact(words(address), port, TCP) };
    let tables = two("b");
    assert_eq!(tables.services[&0].keys[1..], [reply("10.0.0.1", 443), reply("10.0.0.2", 444)]);
    assert_eq!(tables.services[&1].keys[1..], [reply("10.0.0.2", 443)]);
    let mut site = Site::new(model(&format!("services = [{}]", service("s", "203.0.113.1", "a"))), [0; 2]);
    let mut backend = site.backend();
    (backend.record.port, backend.record.mode) = (444u16.to_be(), MODE_L2);
    site.leaving.insert((0, 2), backend);
    assert_eq!(site.tables().services[&0].keys.len(), 2, "l2 has no answers that come by");
}

#[test]
fn a_record_says_how_its_packets_go() {
    let record = |top: &str, more: &str| {
        let fields = format!("vip = \"203.0.113.9\", protocol = \"tcp\", port = 443{more}");
        Site::new(one(top, &fields), [0; 2]).backend()
    };
    let of = |backend: BackendTable| (backend.record.mode, u16::from_be(backend.record.port));
    assert_eq!(of(record("", "")), (MODE_L2, 0));
    assert_eq!(of(record("", ", forward = \"ipip\"")), (MODE_IPIP, 0));
    assert_eq!(of(record("", ", forward = \"gue\"")), (MODE_GUE, 6081));
    assert_eq!(of(record("", ", forward = \"nat\"")), (MODE_NAT, 0));
    assert_eq!(of(record("", ", forward = \"nat\", backend_port = 8443")), (MODE_NAT, 8443));
    let gue = record("", ", forward = \"gue\"").record;
    assert_eq!(gue.port.to_ne_bytes(), 6081u16.to_be_bytes(), "as it lies in a packet");
    assert_eq!(gue.flags, BackendFlags::REACHABLE | BackendFlags::ON_LINK);
    for plain in ["", ", forward = \"nat\""] {
        assert_eq!(record("", plain).egress, lb_common::layout::Egress::default());
    }
    let policy = |more: &str| {
        let fields =
            format!("vip = \"203.0.113.9\", protocol = \"tcp\", port = 443, forward = \"nat\"{more}");
        Site::new(one("", &fields), [0; 2]).tables().services[&0].policy
    };
    assert!(policy(", backend_port = 8443").has(Policy::PORT) && !policy("").has(Policy::PORT));
}

#[test]
fn outer_headers_come_from_this_machine_or_from_a_prefix() {
    let egress = |top: &str, vip: &str| {
        let fields = format!("vip = \"{vip}\", protocol = \"tcp\", port = 443, forward = \"ipip\"");
        let egress = Site::new(one(top, &fields), [0; 2]).backend().egress;
        (octets(egress.source), octets(egress.spread))
    };
    fn octets(words: [u64; 2]) -> [u8; 16] {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&words[0].to_ne_bytes());
        octets[8..].copy_from_slice(&words[1].to_ne_bytes());
        octets
    }
    let v4 = |bytes: [u8; 4]| {
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&bytes);
        octets
    };
    let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let (in_v4, in_v6) = ("203.0.113.9", "2001:db8::9");
    assert_eq!(egress("", in_v4), (v4([10, 0, 0, 254]), [0; 16]));
    assert_eq!(egress("", in_v6), (v6("fd00::fe"), [0; 16]));
    let top = "outer_source = [\"100.64.16.0/20\", \"fd00:5::/64\"]";
    assert_eq!(egress(top, in_v4), (v4([100, 64, 16, 0]), v4([0, 0, 15, 255])));
    assert_eq!(egress(top, in_v6), (v6("fd00:5::"), v6("::ffff:ffff:ffff:ffff")));
    assert_eq!(egress("outer_source = [\"fd00:5::/64\"]", in_v4), (v4([10, 0, 0, 254]), [0; 16]));
}

#[test]
fn outer_headers_may_be_of_the_other_family() {
    let top = "outer_source = [\"100.64.16.0/20\"]";
    let backend = |vip: &str, forward: &str, outer: &str, path_mtu: u16| {
        let fields = format!(
            "vip = \"{vip}\", protocol = \"tcp\", port = 443, forward = \"{forward}\", outer = \"{outer}\""
        );
        let mut site = Site::new(one(top, &fields), [0; 2]);
        let both = ["10.0.0.1", "fd00::1"].map(|address| (address.parse().unwrap(), path_mtu));
        site.path_mtus.extend(both);
        site.backend()
    };
    let first = |words: [u64; 2]| words[0].to_ne_bytes()[..4].to_vec();
    for (vip, least) in [("203.0.113.9", 576), ("2001:db8::9", 1280)] {
        for (forward, between) in [("ipip", 0), ("gue", 12)] {
            let four = backend(vip, forward, "ipv4", 1400);
            assert_eq!(four.record.flags & BackendFlags::OUTER_V6, 0);
            assert_eq!(four.record.address[..5], [10, 0, 0, 1, 0]);
            assert_eq!((first(four.egress.source), four.record.mtu), (vec![100, 64, 16, 0], 1400));
            assert_ne!(four.egress.spread, [0; 2]);
            let six = backend(vip, forward, "ipv6", 1400);
            assert_ne!(six.record.flags & BackendFlags::OUTER_V6, 0);
            assert_eq!(six.record.address[..2], [0xfd, 0]);
            assert_eq!((first(six.egress.source), six.record.mtu), (vec![0xfd, 0, 0, 0], 1400));
            assert_eq!(six.egress.spread, [0; 2], "the prefix is of the other family");
            // What the client can be told counts by its family, what goes around its packet by the other.
            let mtu = |outer| backend(vip, forward, outer, 68).record.mtu;
            assert_eq!([mtu("ipv4"), mtu("ipv6")], [least + 20 + between, least + 40 + between]);
        }
    }
}

#[test]
fn a_way_with_tags_says_so() {
    let tags = [[0x88, 0xa8, 0, 7], [0x81, 0, 0, 100]].map(u32::from_ne_bytes);
    let fields = "vip = \"203.0.113.9\", protocol = \"tcp\", port = 443";
    let backend = Site::new(one("", fields), tags).backend();
    assert_eq!(backend.record.flags, BackendFlags::REACHABLE | BackendFlags::ON_LINK | BackendFlags::TAGGED);
    assert_eq!(backend.egress, lb_common::layout::Egress { tags, ..Default::default() });
    assert_eq!(backend.needs(), lb_common::layout::FEATURE_TAGS);
    assert_eq!(Site::new(one("", fields), [0; 2]).backend().needs(), 0);
}

#[test]
fn hosts_that_answer_by_nat_are_known() {
    let vips = |forward: &str| {
        let fields = format!("vip = \"203.0.113.9\", protocol = \"tcp\", port = 1, forward = \"{forward}\"");
        Site::new(one("", &fields), [0; 2]).tables().vips
    };
    let all: Vec<u32> = vips("nat").into_values().map(|vip| vip.0).collect();
    assert_eq!(all, [VipFlags::NAT_HOST, VipFlags::NAT_HOST, VipFlags::VIP | VipFlags::ALONE]);
    assert_eq!(vips("l2").len(), 1);
}

#[test]
fn fragments_pass_where_no_service_of_the_address_drops_them() {
    let flags = |services: &[(&str, u16, &str)]| {
        let service = |(n, (vip, port, fragments)): (usize, &(&str, u16, &str))| {
            format!(
                "{{ name = \"s{n}\", vip = \"{vip}\", protocol = \"udp\", port = {port}, fragments = \"{fragments}\" }}"
            )
        };
        let services: Vec<String> = services.iter().enumerate().map(service).collect();
        let tables = Site::new(model(&format!("services = [{}]", services.join(", "))), [0; 2]).tables();
        let text = |((address, bits), vip): (([u8; 16], u8), crate::dataplane::Vip)| {
            assert_eq!(vip.0 & VipFlags::VIP, VipFlags::VIP);
            assert_eq!(vip.0 & VipFlags::ALONE != 0, bits == 128, "addresses of a prefix may be clients");
            let address = std::net::Ipv6Addr::from(address).to_canonical();
            (format!("{address}/{bits}"), vip.0 & VipFlags::PASS_FRAGMENTS != 0)
        };
        tables.vips.into_iter().map(text).collect::<Vec<_>>()
    };
    let v4 = |passes| vec![("203.0.113.9/128".to_owned(), passes)];
    assert_eq!(flags(&[("203.0.113.9", 1, "drop")]), v4(false));
    assert_eq!(flags(&[("203.0.113.9", 1, "pass")]), v4(true));
    assert_eq!(flags(&[("203.0.113.9", 1, "pass"), ("203.0.113.9", 2, "drop")]), v4(false));
    let both = |one: &str, other: &str| {
        let flags =
            flags(&[("203.0.113.9", 1, one), ("203.0.113.0/24", 2, other), ("2001:db8::/64", 1, "pass")]);
        assert_eq!(flags[2], ("2001:db8::/64".to_owned(), true));
        assert_eq!((flags[0].0.as_str(), flags[1].0.as_str()), ("203.0.113.0/120", "203.0.113.9/128"));
        [flags[0].1, flags[1].1]
    };
    assert_eq!(both("pass", "pass"), [true, true]);
    assert_eq!(both("drop", "pass"), [true, false]);
    assert_eq!(both("pass", "drop"), [false, false], "a packet to the address may be for the prefix");
}

#[test]
fn a_draining_host_has_its_deadline_in_its_control_word() {
    let plain = "vip = \"203.0.113.9\", protocol = \"tcp\", port = 443";
    let mut site = Site::new(one("", plain), [0; 2]);
    let deadline = Deadline { at: 4711, action: lb_common::layout::AtDeadline::Reset, spread: 60 };
    site.deadlines.insert("a".to_owned(), deadline);
    let control = |site: &Site| Control(site.backend().record.control);
    assert_eq!(control(&site), Control::new(HostState::Up), "the host is not out");
    site.out.insert("a".to_owned());
    assert_eq!(control(&site), Control::new(HostState::Draining).with_deadline(deadline));
    let bounded = site.backend();
    site.down.insert("a".to_owned());
    assert_eq!(control(&site), Control::new(HostState::Down).with_deadline(deadline));
    site.sealed.insert("a".to_owned());
    assert_eq!(control(&site), Control::new(HostState::Drained));

    // The config names the host no more, and its flows go on until then.
    let mut site = Site::new(one("", &format!("{plain}, hosts = [\"b\"]")), [0; 2]);
    site.leaving.insert((0, 1), bounded);
    assert_eq!(control(&site).deadline(), deadline);
}

#[test]
fn a_host_that_serves_on_is_up_for_that_service_alone() {
    let service = |name: &str, port: u16| {
        format!("{{ name = \"{name}\", vip = \"203.0.113.9\", protocol = \"tcp\", port = {port} }}")
    };
    let services = format!("services = [{}, {}]", service("s", 80), service("t", 81));
    let mut site = Site::new(model(&services), [0; 2]);
    site.out = ["a", "b"].map(str::to_owned).into();
    site.serving_on = BTreeMap::from([("t".to_owned(), BTreeSet::from(["b".to_owned()]))]);
    let tables = site.tables();
    let state = |service: u16, host: HostId| {
        Control(tables.services[&service].backends[&host].record.control).state()
    };
    let states = [(0, 1), (0, 2), (1, 1), (1, 2)].map(|(service, host)| state(service, host));
    assert_eq!(states, [HostState::Draining, HostState::Draining, HostState::Draining, HostState::Up]);
}

#[test]
fn a_host_that_is_out_for_one_service_is_up_for_the_others() {
    let service = |name: &str, port: u16| {
        format!("{{ name = \"{name}\", vip = \"203.0.113.9\", protocol = \"tcp\", port = {port} }}")
    };
    let services = format!("services = [{}, {}]", service("s", 80), service("t", 81));
    let mut site = Site::new(model(&services), [0; 2]);
    let deadline = Deadline { at: 7, action: lb_common::layout::AtDeadline::Move, spread: 1 };
    let control = |site: &Site, service: u16, host: HostId| {
        Control(site.tables().services[&service].backends[&host].record.control)
    };
    let key = ("t".to_owned(), "b".to_owned());
    site.pairs.insert(key.clone(), Pair { deadline: Some(deadline), ..Pair::default() });
    let up = Control::new(HostState::Up);
    assert_eq!([(0, 1), (0, 2), (1, 1)].map(|(service, host)| control(&site, service, host)), [up; 3]);
    assert_eq!(control(&site, 1, 2), Control::new(HostState::Draining).with_deadline(deadline));
    site.pairs.insert(key, Pair { is_sealed: true, ..Pair::default() });
    assert_eq!(control(&site, 1, 2), Control::new(HostState::Drained));
    assert_eq!(control(&site, 0, 2), up);
}

#[test]
fn clients_that_are_treated_apart_have_backends_of_their_own() {
    let service = "{ name = \"s\", vip = \"203.0.113.9\", protocol = \"tcp\", port = 80 }";
    let mut site = Site::new(model(&format!("services = [{service}]")), [0; 2]);
    assert!(site.tables().clients.is_empty());
    let clients = audience::name("s", "10.0.0.0/8".parse().unwrap());
    site.clients.insert(clients.clone());
    let deadline = Deadline { at: 7, action: lb_common::layout::AtDeadline::Reset, spread: 1 };
    let pair = Pair { deadline: Some(deadline), tally: 40_000, ..Pair::default() };
    site.pairs.insert((clients, "b".to_owned()), pair);
    let tables = site.tables();
    let mut address = [0; 16];
    address[10..13].copy_from_slice(&[0xff, 0xff, 10]);
    let own = &tables.clients[&(0, (address, 104))].backends;
    let all = &tables.services[&0].backends;
    assert_eq!(own.keys().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>());
    assert_eq!(own[&1], all[&1], "the other host");
    let draining = Control::new(HostState::Draining).with_deadline(deadline);
    assert_eq!((Control(own[&2].record.control), own[&2].record.tally), (draining, 40_000));
    assert_eq!((Control(all[&2].record.control), all[&2].record.tally), (Control::new(HostState::Up), 0));
    assert_eq!(own[&2].record.stats, all[&2].record.stats, "what is live counts where it did");
}
