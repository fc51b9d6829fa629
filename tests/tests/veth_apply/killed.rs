//! A daemon that is killed between the note of a config and the note of what became of it.

use super::*;

const TRIALS: usize = 20;

/// Applies a config, and kills the daemon as soon as it has noted it.
fn apply_and_kill(site: &mut Site, config: &str) {
    let path = site.daemon.config_path().with_file_name("other.toml");
    std::fs::write(&path, config).unwrap();
    let noted = |site: &Site| site.daemon.log().matches("is put in force for").count();
    let (before, begin) = (noted(site), Instant::now());
    let _asked = site.daemon.cli_start(&["apply", path.to_str().unwrap()]).unwrap();
    while noted(site) == before {
        assert!(begin.elapsed() < LIMIT, "it is not noted: {}", site.daemon.log());
    }
    site.daemon.sigkill();
}

#[test]
fn what_cannot_be_put_in_force_gives_way_at_the_next_start() {
    let plan = Plan::new("l2", 3);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let balancer = &site.topology.balancer().ns;
    // A bridge has no native XDP.
    balancer.shell("ip link add d0 type bridge && ip link set d0 up").unwrap();
    let load = Load::start(&site, 100);
    let good = site::config(&site.topology, &plan).replacen("weight = 100", "weight = 300", 1);
    let bad = without(&site, &plan, &["h3"]).replacen(
        "\"eth0\"",
        "\"eth0\", { name = \"d0\", xdp_mode = \"native\" }",
        1,
    );
    // One that can be put in force goes on, whether that was noted or not.
    apply_and_kill(&mut site, &good);
    site.daemon.start_again().unwrap();
    assert_eq!(status(&site)["hosts"][0]["weight"], 300);
    assert!(!status(&site)["problems"].to_string().contains("could not"), "{}", status(&site)["problems"]);

    let problem = "could not be put in force at the start, so the config from before";
    let met = (0..TRIALS).any(|_| {
        apply_and_kill(&mut site, &bad);
        site.daemon.start_again().unwrap();
        assert_eq!((host_names(&site).len(), &status(&site)["hosts"][0]["weight"]), (3, &300.into()));
        // Else it was noted that it has failed before the kill came.
        status(&site)["problems"].to_string().contains(problem)
    });
    assert!(met, "no kill came between the notes: {}", site.daemon.log());
    let history = site.daemon.cli_json(&["history", "--json", "-n", "3"]).unwrap();
    let of = |n: usize, what: &str| history["revisions"][n][what].clone();
    assert_eq!([of(0, "kind"), of(1, "kind"), of(2, "kind")], ["start", "failed", "apply"], "{history}");
    assert!(of(2, "outcome").as_str().unwrap().starts_with("failed, see revision"), "{history}");
    // It is no news for the next start, and the next config is taken as if nothing had been.
    site.daemon.sigkill();
    site.daemon.start_again().unwrap();
    assert_eq!((host_names(&site).len(), &status(&site)["hosts"][0]["weight"]), (3, &300.into()));
    assert!(!status(&site)["problems"].to_string().contains(problem));
    apply_json(&site, &without(&site, &plan, &["h3"]), &[]);
    assert_eq!(host_names(&site), ["h1", "h2"]);
    std::thread::sleep(Duration::from_secs(1));
    load.finish(&site);
    assert_eq!(site.violations().unwrap(), "{}");
}
