//! Plans of small sites.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{Unwell, broken};
use super::*;
use crate::config::parse;
use crate::model::Percent;
use crate::ring::{Base, SHARE_FULL};

/// Hosts `a1`, `a2`, `b1`, `b2` of weight 100, `c` of weight 200, in the zones of their letters, and services with these fields.
fn model(services: &[&str]) -> Model {
    let mut toml = "interfaces = [\"eth0\"]\nring_size = 601\n".to_owned();
    for (number, (name, weight)) in
        [("a1", 100), ("a2", 100), ("b1", 100), ("b2", 100), ("c", 200)].iter().enumerate()
    {
        let group = if number % 2 == 0 { "even" } else { "odd" };
        toml += &format!(
            "[hosts.{name}]\naddresses = [\"10.0.0.{number}\"]\nweight = {weight}\nzone = \"{}\"\ngroups = [\"{group}\", \"all\"]\n",
            &name[..1]
        );
    }
    for (number, fields) in services.iter().enumerate() {
        toml += &format!(
            "[[services]]\nname = \"s{number}\"\nvip = \"203.0.113.{number}\"\nport = 1\n{fields}\n"
        );
    }
    parse(&toml.replace("10.0.0.0\"", "10.0.0.9\""), "f")
        .unwrap_or_else(|errors| panic!("{errors}\n{toml}"))
        .model
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const TCP: &str = "protocol = \"tcp\"";
const TWO: &str = "protocol = \"tcp\"\nhosts = [\"a1\", \"a2\"]";

/// The rules that a drain would break, as `rule service: message | mend`.
fn says(model: &Model, out: &[&str], down: &[&str], hosts: &[&str]) -> Vec<String> {
    let rules =
        broken(model, &set(out), &BTreeSet::new(), &set(down), &Unwell::default(), &names(hosts), None);
    rules
        .iter()
        .map(|rule| format!("{} {}: {} | {}", rule.rule, rule.service, rule.message, rule.mend))
        .collect()
}

#[test]
fn the_last_host_of_a_service_is_not_drained() {
    let model = model(&[TWO, TCP]);
    assert_eq!(says(&model, &[], &[], &["a1"]), [""; 0]);
    assert_eq!(
        says(&model, &[], &[], &["a1", "a2"]),
        [
            "last_host s0: draining a1 and a2 would leave service s0 without a host | drain fewer hosts, or add one to the \
          service first; with --force new clients would be refused"
        ]
    );
    assert_eq!(
        says(&model, &["a1"], &[], &["a2"]),
        [
            "last_host s0: draining a2 would leave service s0 without a host | undrain a1 first; with --force new clients \
          would be refused"
        ]
    );
    assert_eq!(
        says(&model, &[], &["a1"], &["a2"]),
        [
            "last_host s0: draining a2 would leave service s0 without a host that is up (a1 is down) | get a1 up first; with \
          --force new clients would be refused"
        ]
    );
    // The one that is down takes nothing away now, but would not come back.
    assert_eq!(says(&model, &[], &["a1"], &["a1"]), [""; 0]);
    assert_eq!(says(&model, &["a2"], &["a1"], &["a1"]).len(), 1);
    // What is out already is not taken out.
    assert_eq!(says(&model, &["a1", "a2"], &[], &["a1", "a2"]), [""; 0]);
    assert_eq!(says(&model, &["a1", "a2"], &[], &["b1"]), [""; 0], "not by this drain");
}

#[test]
fn the_healthy_part_goes_by_weight_and_counts_what_is_down() {
    let rule = |percent: u8| format!("{TCP}\nrules = {{ min_healthy = \"{percent}%\" }}");
    let half = model(&[&rule(50)]);
    // 600 in all, 200 of them c's.
    assert_eq!(says(&half, &[], &[], &["c", "a1"]), [""; 0]);
    assert_eq!(
        says(&half, &[], &[], &["c", "a1", "a2"]),
        [
            "min_healthy s0: service s0 would have 33% of its weight healthy (200 of 600, now 600), and min_healthy is 50% | \
          drain fewer at once: hosts of weight 300 together may be out, 0 are"
        ]
    );
    assert_eq!(
        says(&half, &["c"], &["a1"], &["a2"]),
        [
            "min_healthy s0: service s0 would have 33% of its weight healthy (200 of 600, now 300), and min_healthy is 50% | \
          undrain c or get a1 up first"
        ]
    );
    let rules = broken(
        &half,
        &set(&["c"]),
        &BTreeSet::new(),
        &set(&["a1"]),
        &Unwell::default(),
        &names(&["a2"]),
        None,
    );
    assert_eq!((rules[0].weight, rules[0].healthy_before, rules[0].healthy_after), (600, 300, 200));
    // A host that is down is none of the healthy ones: draining it costs nothing.
    assert_eq!(says(&half, &["c"], &["a1", "a2"], &["a1"]), [""; 0]);
    assert_eq!(says(&model(&[&rule(100)]), &[], &[], &["a1"]).len(), 1);
    assert_eq!(says(&model(&[&rule(67)]), &[], &[], &["c"]).len(), 1, "66.7 % is less");
    assert_eq!(says(&model(&[&rule(66)]), &[], &[], &["c"]).len(), 0);
    let all: Vec<String> = says(&half, &[], &[], &["a1", "a2", "b1", "b2", "c"]);
    assert!(
        all.len() == 2 && all[0].starts_with("last_host") && all[1].starts_with("min_healthy"),
        "{all:?}"
    );
}

#[test]
fn one_zone_is_out_at_a_time() {
    let model = model(&[&format!("{TCP}\nrules = {{ one_zone_at_a_time = true }}"), TWO]);
    assert_eq!(says(&model, &[], &[], &["b1", "b2"]), [""; 0]);
    assert_eq!(says(&model, &["a1"], &[], &["a2"]).len(), 1, "of the other service");
    assert_eq!(
        says(&model, &[], &[], &["b1", "c"]),
        [
            "one_zone_at_a_time s0: service s0 would have hosts out in zones b and c, and one_zone_at_a_time is set | drain \
          the zones b and c one after the other"
        ]
    );
    assert_eq!(
        says(&model, &["a1"], &[], &["b1"]),
        [
            "one_zone_at_a_time s0: service s0 would have hosts out in zones a and b, and one_zone_at_a_time is set | undrain \
          a1 first"
        ]
    );
    assert!(says(&model, &[], &["a1"], &["b1"])[0].ends_with("get a1 up first"));
    assert_eq!(says(&model, &["a1"], &[], &["a1"]), [""; 0]);
}

#[test]
fn words_name_hosts_groups_and_zones() {
    let model = model(&[TCP]);
    let ok = |words: &[&str]| named(&model, &names(words)).unwrap();
    assert_eq!(ok(&["c", "a1", "c"]), ["c", "a1"]);
    assert_eq!(ok(&["@odd"]), ["a2", "b2"]);
    assert_eq!(ok(&["b2", "@zone:b", "@even"]), ["b2", "b1", "a1", "c"]);
    let wrong = |word: &str| named(&model, &names(&["a1", word])).unwrap_err();
    assert_eq!(wrong("a3"), Unknown::Host("a3".to_owned()));
    assert_eq!(wrong("@eve"), Unknown::Group("eve".to_owned()));
    assert_eq!(wrong("@zone:z"), Unknown::Zone("z".to_owned()));
    assert_eq!(wrong("@"), Unknown::Group(String::new()));
    assert_eq!(wrong("@eve").known(&model), set(&["@all", "@even", "@odd"]));
    assert_eq!(wrong("@zone:z").known(&model), set(&["@zone:a", "@zone:b", "@zone:c"]));
    assert_eq!(wrong("@zone:z").word(), "@zone:z");
}

/// One ring over all hosts, with these out before and after.
struct Site {
    model: Model,
    members: Vec<Member>,
    services: BTreeSet<String>,
    out: BTreeSet<String>,
    down: BTreeSet<String>,
}

impl Site {
    fn new(services: &[&str], out: &[&str], down: &[&str]) -> Self {
        let model = model(services);
        let member = |(name, id): (&String, HostId)| Member {
            id,
            name: name.clone(),
            weight: model.hosts[name].weight,
            share: SHARE_FULL,
        };
        Site {
            members: model.hosts.keys().zip(1..).map(member).collect(),
            services: model.services.iter().map(|service| service.name.clone()).collect(),
            model,
            out: set(out),
            down: set(down),
        }
    }

    fn owners(&self, taken: &[String]) -> Vec<HostId> {
        let is_out =
            |name: &String| self.out.contains(name) || self.down.contains(name) || taken.contains(name);
        let share = |member: &Member| if is_out(&member.name) { 0 } else { SHARE_FULL };
        let members: Vec<Member> =
            self.members.iter().map(|member| Member { share: share(member), ..member.clone() }).collect();
        Base::build(b"the plan's tests", 601, &members).owners(&members)
    }

    fn plan(&self, hosts: &[&str], load: &dyn Fn(&Service, &str) -> Load, live: LiveFlows) -> DrainPlan {
        let hosts = names(hosts);
        let (before, after) = (self.owners(&[]), self.owners(&hosts));
        let ring =
            RingChange { services: &self.services, members: &self.members, before: &before, after: &after };
        plan(&Input {
            model: &self.model,
            hosts: &hosts,
            service: None,
            clients: None,
            share: None,
            admin: &|host| if self.out.contains(host) { AdminState::Draining } else { AdminState::Active },
            down: &self.down,
            rules: rules::broken(
                &self.model,
                &self.out,
                &BTreeSet::new(),
                &self.down,
                &Unwell::default(),
                &hosts,
                None,
            ),
            rings: &[ring],
            load,
            live: &|_| live,
            idle_timeout: 900,
            expected: None,
        })
    }
}

fn per_second(new_flows: f64) -> Load {
    Load {
        new_flows_per_second: new_flows,
        packets_per_second: 10.0 * new_flows,
        bytes_per_second: 1e4 * new_flows,
    }
}

fn none() -> LiveFlows {
    LiveFlows::default()
}

#[test]
fn loads_go_where_the_slots_go() {
    let site = Site::new(&[TCP, TCP], &[], &[]);
    let load = |service: &Service, host: &str| {
        let weight = if host == "c" { 2.0 } else { 1.0 };
        per_second(weight * if service.name == "s0" { 30.0 } else { 6.0 })
    };
    let plan = site.plan(&["a1", "a2"], &load, none());
    assert_eq!(plan.hosts.iter().map(|host| host.host.as_str()).collect::<Vec<_>>(), ["a1", "a2"]);
    let taken: u32 = plan.hosts.iter().map(|host| host.slots).sum();
    let moved: u32 = plan.hosts.iter().flat_map(|host| host.moves.values()).sum();
    assert!(taken == moved && taken.abs_diff(200) < 5, "{plan:?}");
    assert_eq!(plan.hosts[0].load, per_second(36.0));
    for survivor in &plan.survivors {
        let gained: u32 = survivor.slots_after - survivor.slots_before;
        let of = |host: &PlannedHost| f64::from(host.moves[&survivor.host]) / f64::from(host.slots) * 36.0;
        let expected = survivor.before.new_flows_per_second + plan.hosts.iter().map(of).sum::<f64>();
        assert!((survivor.after.new_flows_per_second - expected).abs() < 1e-9, "{survivor:?}");
        assert!((survivor.after.packets_per_second - 10.0 * expected).abs() < 1e-6, "{survivor:?}");
        assert!(gained > 0 && survivor.share_after > survivor.share_before);
    }
    assert_eq!(plan.survivors.len(), 3);
    let share: f64 = plan.survivors.iter().map(|survivor| survivor.share_after).sum();
    assert!((share - 1.0).abs() < 1e-9);
    assert_eq!((plan.unserved, plan.rules.len(), plan.notes.len()), (None, 0, 0), "{:?}", plan.notes);
}

#[test]
fn what_nobody_would_serve_is_said() {
    let plan =
        Site::new(&[TWO], &["b1", "b2", "c"], &[]).plan(&["a1", "a2"], &|_, _| per_second(5.0), none());
    let unserved = plan.unserved.unwrap();
    assert_eq!((unserved.slots, unserved.load.new_flows_per_second), (601, 10.0));
    assert_eq!((plan.survivors.len(), plan.rules[0].rule.as_str()), (0, "last_host"));
    assert!(plan.notes.contains(&"service s0 would have no host: new clients would be refused".to_owned()));
    let pass = format!("{TWO}\nwhen_empty = \"pass\"");
    let plan =
        Site::new(&[&pass], &["b1", "b2", "c"], &[]).plan(&["a1", "a2"], &|_, _| per_second(5.0), none());
    assert!(plan.notes.iter().any(|note| note.ends_with("this machine's kernel would get new clients")));
}

#[test]
fn notes_tell_what_to_expect() {
    let udp = |handover: &str| format!("protocol = \"udp\"\nudp_handover = \"{handover}\"");
    let site = Site::new(&[&udp("pin"), &udp("gap"), &udp("immediate"), TCP], &["c", "b1"], &["b2"]);
    let half_open = LiveFlows { half_open: 2, total: 2, hidden: true, ..none() };
    let load = |service: &Service, host: &str| {
        per_second(if host == "a2" && service.name == "s0" { 4.0 } else { 0.0 })
    };
    let plan = site.plan(&["a1", "b2", "c"], &load, half_open);
    assert_eq!(
        plan.notes,
        [
            "c: out already, a drain changes nothing there",
            "b2: down, packets of live flows do not get there",
            "6 half-open connections stay with the host that the SYN went to",
            "a1, b2 and c: there may be more live flows, of services with tracking = \"edges\"",
            "UDP flows of s0 stay until they have been silent for the timeout of UDP",
            "UDP flows of s1 move with the first datagram after a pause",
            "UDP flows of s2 move with their next datagram",
            "no traffic was measured on these hosts just now: go by the slots",
        ]
    );
    assert_eq!(plan.survivors.iter().map(|survivor| survivor.host.as_str()).collect::<Vec<_>>(), ["a2"]);
    assert_eq!((plan.at_least_seconds, plan.expected_seconds), (0, None));
    // All that is left for one, who gets much more than it has.
    let load = |_: &Service, host: &str| per_second(if host == "a1" { 50.0 } else { 10.0 });
    let plan = Site::new(&[TCP], &["b1", "b2", "c"], &[]).plan(&["a1"], &load, none());
    assert_eq!(plan.notes, ["a2 would get 6.0 times its new flows: 60.0 a second, now 10.0"]);
    let plan = Site::new(&[TCP], &["b1", "b2"], &[]).plan(&["c", "a1"], &|_, _| per_second(0.1), none());
    assert!(
        plan.notes[0].starts_with("a2 would own ") && plan.notes[0].contains(" times its slots: 601, now ")
    );
}

#[test]
fn edges_take_their_time() {
    let edges = format!("{TWO}\ntracking = \"edges\"");
    let site = Site::new(&[TCP, &edges], &[], &[]);
    assert_eq!(site.plan(&["a1", "c"], &|_, _| per_second(1.0), none()).at_least_seconds, 901);
    assert_eq!(site.plan(&["c"], &|_, _| per_second(1.0), none()).at_least_seconds, 0);
}

#[test]
fn moves_add_up_by_host() {
    let plan = Site::new(&[TCP], &[], &["c"]).plan(&["b1"], &|_, _| per_second(1.0), none());
    let to: BTreeMap<&str, u32> =
        plan.hosts[0].moves.iter().map(|(to, slots)| (to.as_str(), *slots)).collect();
    assert_eq!(to.keys().copied().collect::<Vec<_>>(), ["a1", "a2", "b2"], "c is down");
    assert_eq!((to.values().sum::<u32>(), plan.hosts[0].kept), (plan.hosts[0].slots, 0));
}

#[test]
fn a_host_with_a_part_of_its_weight_counts_for_that_part() {
    let model = model(&[TCP]);
    let service = &model.services[0];
    let host = service.hosts[0].clone();
    let taken = &service.hosts[1..2];
    let look = |part: u16| {
        let unwell =
            Unwell { parts: [((service.name.clone(), host.clone()), part)].into(), ..Unwell::default() };
        let mut model = model.clone();
        model.services[0].rules.min_healthy = Percent(100);
        let rules =
            broken(&model, &set(&[]), &BTreeSet::new(), &set(&[]), &unwell, taken, Some(&service.name));
        rules.into_iter().find(|rule| rule.rule == "min_healthy").map(|rule| rule.healthy_before).unwrap()
    };
    let weight = u64::from(model.hosts[&host].weight);
    assert_eq!(look(256) - look(0), weight);
    assert_eq!(look(256) - look(128), weight / 2);
    assert_eq!(look(256) - look(3), weight - weight * 3 / 256);
}

/// After a shift to 100% the hosts that it came from get no new flows: how well they are is nothing for those that do.
#[test]
fn hosts_that_stand_aside_are_nobodys_weight() {
    let mut model = model(&[TCP]);
    model.services[0].rules.min_healthy = Percent(50);
    let of = |hosts: &[&str]| hosts.iter().map(|&host| ("s0".to_owned(), host.to_owned())).collect();
    let rules = |aside: &[&str], hosts: &[&str]| {
        let unwell = Unwell { aside: of(aside), ..Unwell::default() };
        let rules = broken(&model, &set(&[]), &BTreeSet::new(), &set(&[]), &unwell, &names(hosts), None);
        rules.into_iter().map(|rule| (rule.rule, rule.healthy_after, rule.weight)).collect::<Vec<_>>()
    };
    let all: u64 =
        ["a1", "a2", "b1", "b2", "c"].iter().map(|host| u64::from(model.hosts[*host].weight)).sum();
    let left = u64::from(model.hosts["b2"].weight) + u64::from(model.hosts["c"].weight);
    assert!(2 * (all - left) <= all, "half of all may go");
    assert!(rules(&[], &["b2", "c"]).is_empty(), "with all in use");
    let aside = ["a1", "a2", "b1"];
    assert_eq!(
        rules(&aside, &["b2", "c"]),
        [("min_healthy".to_owned(), 0, left)],
        "and others would serve: not the last"
    );
    assert!(rules(&aside, &aside).is_empty(), "nothing is lost with them");
}
