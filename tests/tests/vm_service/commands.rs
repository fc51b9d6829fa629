//! Commands of maintenance runs, which are processes of the service as well.

use std::time::{Duration, Instant};

use super::{LIMIT, Site, systemctl, unit};

fn has_processes(user: u32) -> bool {
    let owner = format!("Uid:\t{user}\t");
    let of = |process: std::fs::DirEntry| std::fs::read_to_string(process.path().join("status"));
    let mut found = std::fs::read_dir("/proc").unwrap().flatten().map(of);
    found.any(|status| status.is_ok_and(|status| status.contains(&owner) && !status.contains("State:\tZ")))
}

/// Neither a restart of the service nor its end cuts off what a maintenance run has begun on a host.
#[test]
#[ignore = "needs systemd as the first process: cargo xtask vm"]
fn a_command_of_a_maintenance_run_goes_on() {
    // A drain without flows is done when flows would have been idle for so long.
    let short = "[timeouts]\nhalf_open = \"1s\"\nestablished = \"1s\"\nclosing = \"1s\"\nudp = \"1s\"\nudp_gap = \"1s\"\n";
    let site = Site::start_with(short);
    let unit = &site.unit;
    let folder = tempfile::tempdir().unwrap();
    let (plan, done) = (folder.path().join("plan.toml"), "/var/lib/sluice/done");
    // It ends when the test says so.
    let command = format!(
        "echo $SLUICE_STEP_ATTEMPT >>{done}; until [ -e {done}.now ]; do sleep 0.2; done; echo ended >>{done}"
    );
    let text = format!(
        "name = \"x\"\nhosts = [\"h2\"]\n[run]\ncommand = \"{command}\"\n[healthy]\nfor = \"1s\"\n[undrain]\nwatch = \"1s\"\n"
    );
    std::fs::write(&plan, text).unwrap();
    let said = || std::fs::read_to_string(done).unwrap_or_default();
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < LIMIT, "{what}: {}\n{}", said(), unit.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let runs = || has_processes(unit::uid_of("sluice"));
    let _ = (std::fs::remove_file(done), std::fs::remove_file(format!("{done}.now")));
    unit.sluice(&["maintain", "start", plan.to_str().unwrap()]);
    until("the command begins", &|| said() == "1\n");
    systemctl(&["restart", "sluice"]);
    systemctl(&["stop", "sluice"]);
    assert!(runs());
    std::fs::write(format!("{done}.now"), "").unwrap();
    until("the command ends", &|| said() == "1\nended\n");
    systemctl(&["start", "sluice"]);
    let state = || -> serde_json::Value {
        serde_json::from_str::<serde_json::Value>(&unit.sluice(&["maintain", "status", "--json"])).unwrap()["runs"][0]["state"].clone()
    };
    until("the run ends", &|| state() == "done");
    assert_eq!(said(), "1\nended\n", "once");

    // As a removal does it.
    std::fs::remove_file(format!("{done}.now")).unwrap();
    unit.sluice(&["maintain", "start", plan.to_str().unwrap()]);
    until("the next one begins", &|| said() == "1\nended\n1\n");
    systemctl(&["stop", "sluice"]);
    systemctl(&["kill", "--signal=KILL", "sluice"]);
    until("it is gone", &|| !runs());
    assert_eq!(said(), "1\nended\n1\n");
    for file in [done.to_owned(), format!("{done}.now")] {
        let _ = std::fs::remove_file(file);
    }
}
