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
    leaving: BTreeMap<(u16, HostId), BackendTable>,
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
        Site { model, ids, hops, leaving: BTreeMap::new() }
    }

    fn tables(&self) -> Tables {
        let none = BTreeSet::new();
        let inputs = Inputs {
            model: &self.model,
            ids: &self.ids,
            out: &none,
            sealed: &none,
            down: &none,
            next_hops: &self.hops,
            leaving: &self.leaving,
            path_mtus: &Default::default(),
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
