//! A package's life on a Debian 12: `cargo xtask dist --test` boots one, with systemd as its first process, and runs this in it. Everywhere else
//! the test is ignored, which `cargo test` says.

mod first_hour;
mod machine;
mod others;
mod site;
mod troubles;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use first_hour::FirstHour;
use machine::{Stock, has_xdp, journal, output, pins, property, shell, sluice, try_shell, until};
use site::{PORT, Site};

const EXAMPLE: &str = "/etc/sluice/example.toml";
const CONFIG: &str = "/etc/sluice/sluice.toml";
/// The program of a version that an upgrade has not replaced, and what has a restart find it.
const HELD: &str = "/usr/lib/sluice/held";
const DROPIN: &str = "/run/systemd/system/sluice.service.d/zz-held.conf";
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Says that the daemon ran when the package was removed.
const RAN: &str = "/var/lib/sluice/ran-when-removed";

/// The package, and one of a later version whose program has another layout of the maps.
struct Packages {
    this: String,
    next: String,
    /// Not compressed, for a machine without `xz`.
    tarball: String,
}

impl Packages {
    fn named() -> Packages {
        let name = |variable| std::env::var(variable).expect("`cargo xtask dist --test` sets it");
        Packages { this: name("SLUICE_DEB"), next: name("SLUICE_NEXT_DEB"), tarball: name("SLUICE_TARBALL") }
    }
}

/// As an operator does it, who has the file and nothing else.
fn install(deb: &str) -> String {
    shell(&format!("apt-get install -qy --allow-downgrades -o Dpkg::Use-Pty=0 {deb}"))
}

/// The version that is there already.
fn reinstall(deb: &str) -> String {
    shell(&format!("apt-get install -qy --reinstall -o Dpkg::Use-Pty=0 {deb}"))
}

fn version_of(deb: &str) -> String {
    String::from_utf8(output("dpkg-deb", &["-f", deb, "Version"]).stdout).unwrap().trim().to_owned()
}

fn installed_version() -> String {
    let output = output("dpkg-query", &["-W", "-f", "${Version} ${Status}", "sluice"]);
    String::from_utf8(output.stdout).unwrap()
}

fn pid() -> String {
    property("MainPID")
}

fn layout() -> String {
    let said = String::from_utf8(output("sluice", &["--version"]).stdout).unwrap();
    said.trim().rsplit(' ').next().unwrap().trim_end_matches(')').to_owned()
}

/// The config that a new user makes of the example: what must be there without its `#`, with addresses of this site, and what its traffic needs.
/// Silence ends a flow soon, so that a drain need not wait for a quarter of an hour for one that may have been there before.
fn config(site: &Site) -> String {
    let example = fs::read_to_string(EXAMPLE).unwrap();
    let needed = example.split("# --- ").nth(1).unwrap();
    let is_config = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = needed.lines().filter_map(|line| line.strip_prefix('#')).filter(is_config);
    let text: Vec<&str> = lines.collect();
    let text = text.join("\n");
    for part in ["vip_mode = \"local\"", "forward = \"l2\"", "[hosts.web-2]"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = text
        .replace("10.0.0.11", &site.host(1).to_string())
        .replace("10.0.0.12", &site.host(2).to_string())
        .replace("203.0.113.10", &site.vip().to_string())
        .replace("protocol = \"tcp\"", "protocol = [\"tcp\", \"udp\"]")
        .replace("port = 80", &format!("port = {PORT}"));
    text + "\n\n[timeouts]\nestablished = \"20s\"\n"
}

#[test]
#[ignore = "needs a Debian that it may change: cargo xtask dist --test"]
fn a_package_is_installed_upgraded_downgraded_removed_and_purged() {
    let packages = Packages::named();
    let before = Stock::take();
    without_a_config(&packages);
    with_a_wrong_one(&packages);
    let site = Site::build();
    with_a_right_one(&site);
    the_first_hour(&site);
    another_version(&site, &packages);
    a_version_that_could_not_take_over(&site, &packages);
    a_config_that_was_edited(&site, &packages);
    a_machine_that_restarts_nothing(&packages);
    troubles::a_version_that_does_not_start(&site, &packages);
    troubles::a_daemon_that_is_just_starting(&site, &packages);
    removed_and_installed_again(&site, &packages);
    let config = fs::read_to_string(CONFIG).unwrap();
    troubles::a_forwarding_that_cannot_be_ended(&site);
    others::a_config_and_a_user_that_were_there(&site, &packages, &config);
    others::the_tarball_and_the_package_over_it(&site, &packages, &config);
    purged(&before);
}

fn without_a_config(packages: &Packages) {
    let said = install(&packages.this);
    assert!(said.contains("cp /etc/sluice/example.toml /etc/sluice/sluice.toml"), "{said}");
    assert_eq!(installed_version(), format!("{} install ok installed", version_of(&packages.this)));
    assert_eq!((property("UnitFileState"), property("ActiveState")), ("enabled".into(), "inactive".into()));
    let version = shell("sluice --version");
    assert!(version.contains("(commit ") && version.contains(", map layout "), "{version}");
    for path in [
        "/usr/share/bash-completion/completions/sluice",
        "/usr/share/zsh/vendor-completions/_sluice",
        "/usr/share/fish/vendor_completions.d/sluice.fish",
        "/usr/share/sluice/dashboard.json",
        "/usr/share/sluice/alerts.yml",
    ] {
        assert!(Path::new(path).is_file(), "{path}");
    }
    shell("man -w sluice sluice-drain sluice-health-test");
    // It says that it does not start, and nothing is left in a failed state, neither now nor at a boot.
    let (status, said) = try_shell("systemctl start sluice");
    assert!(status != 0 && said.contains("Assertion failed"), "{said}");
    let (_, said) = try_shell("systemctl --no-pager status sluice");
    assert!(said.contains("start assertion failed") && said.contains(CONFIG), "{said}");
    assert_eq!(property("ActiveState"), "inactive");
    assert_eq!(shell("systemctl --failed --plain --no-legend"), "");
}

fn with_a_wrong_one(packages: &Packages) {
    // Nothing in it counts yet.
    shell(&format!("cp {EXAMPLE} {CONFIG}"));
    let (status, said) = try_shell(&format!("sluice check {CONFIG}"));
    assert!(status != 0 && said.contains("interfaces = "), "{said}");
    assert_ne!(try_shell("systemctl start sluice").0, 0);
    assert_eq!((property("Result"), property("ExecMainStatus")), ("exit-code".into(), "9".into()));
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(
        (property("NRestarts"), property("ActiveState")),
        ("0".into(), "failed".into()),
        "it is not tried again"
    );
    let log = journal();
    assert!(log.contains("sluice check /etc/sluice/sluice.toml"), "{log}");
    // An upgrade meanwhile does not make it worse.
    let said = install(&packages.next);
    assert!(said.contains("was not running, and is not started"), "{said}");
    install(&packages.this);
    shell("systemctl reset-failed sluice");
}

fn with_a_right_one(site: &Site) {
    for command in FirstHour::read().commands("Say what should exist") {
        shell(&command);
        if command.starts_with("cp ") {
            fs::write(CONFIG, config(site)).unwrap();
            shell(&format!("cat {CONFIG}"));
        }
    }
    follow("Start, look");
    shell("systemctl --no-pager status sluice | head -n 8");
    hosts_are_found();
    assert!(has_xdp("eth0"));
    site.start_traffic().finish("started");
}

fn hosts_are_found() {
    until("hosts are found", || {
        let status = sluice(&["status", "--json"]);
        status["hosts"].as_array().unwrap().iter().all(|host| host["oper"] == "up")
    });
}

/// The rest of the first hour, as it stands there.
fn the_first_hour(site: &Site) {
    let (traffic, document) = (site.start_traffic(), FirstHour::read());
    let config = fs::read_to_string(CONFIG).unwrap();
    fs::write(CONFIG, format!("{config}\n{}", document.config("In a browser"))).unwrap();
    follow("In a browser");
    let mut page = TcpStream::connect("127.0.0.1:8080").unwrap();
    page.write_all(b"GET / HTTP/1.1\r\nhost: 127.0.0.1:8080\r\nconnection: close\r\n\r\n").unwrap();
    let mut said = String::new();
    page.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("<title>Sluice"), "{said}");
    traffic.finish("the page, by a restart");
    follow("Take a host out, bring it back");
    let history = shell("sluice history");
    assert!(history.contains("my first"), "{history}");
    follow("Change the config");
    until("the file is read again", || journal().contains("is in force already"));
    hosts_are_found();
}

fn follow(heading: &str) {
    for command in FirstHour::read().commands(heading) {
        shell(&command);
    }
}

/// The next version and back, with a drain in force on the way back.
fn another_version(site: &Site, packages: &Packages) {
    let (first, before) = (pid(), layout());
    let traffic = site.start_traffic();
    // As if a removal had been broken off.
    fs::write(RAN, "").unwrap();
    let said = install(&packages.next);
    assert!(!Path::new(RAN).exists(), "it is of one installation alone");
    assert_eq!(installed_version(), format!("{} install ok installed", version_of(&packages.next)));
    assert_ne!((pid(), layout()), (first, before.clone()));
    assert!(said.contains("has taken over; forwarding went on"), "{said}");
    assert!(journal().contains("took over the data path"), "{}", journal());
    traffic.goes_on();
    shell("sluice drain web-1 --reason \"a new version\" --force");
    let second = pid();
    install(&packages.this);
    assert_ne!(pid(), second);
    assert_eq!(layout(), before);
    traffic.goes_on();
    let hosts = sluice(&["status", "--json"])["hosts"].clone();
    assert_eq!(hosts[0]["admin"], "draining", "{hosts}");
    traffic.finish("an upgrade to another layout of the maps, a drain, and a downgrade");
    // New flows keep away from the host that drains; it comes back as it was.
    let traffic = site.start_traffic();
    assert!(traffic.reached("h2") && !traffic.reached("h1"));
    traffic.finish("new flows beside a drain");
    shell("sluice status && sluice undrain web-1");
}

/// A data path that nobody could take over: the daemon that knows it goes on, also after a crash.
fn a_version_that_could_not_take_over(site: &Site, packages: &Packages) {
    let traffic = site.start_traffic();
    let (first, before) = (pid(), layout());
    shell("mv /sys/fs/bpf/sluice/default/maps/COLD /sys/fs/bpf/sluice/default/elsewhere");
    let said = install(&packages.next);
    assert!(said.contains("the daemon of the version before goes on"), "{said}");
    assert!(said.contains("COLD is not there") && !said.contains("differs:"), "{said}");
    assert!(said.contains("which is kept as /usr/lib/sluice/held"), "{said}");
    assert_eq!((pid(), property("ActiveState")), (first.clone(), "active".into()));
    assert_ne!(layout(), before, "the command is the new version's");
    traffic.goes_on();
    shell("mv /sys/fs/bpf/sluice/default/elsewhere /sys/fs/bpf/sluice/default/maps/COLD");
    shell(&format!("kill -KILL {first}"));
    let is_another = || property("ActiveState") == "active" && !["0", &first].contains(&pid().as_str());
    until("the daemon comes back after a crash", is_another);
    assert_eq!(program_of_the_daemon(), HELD);
    assert!(journal().contains("took over the data path"), "{}", journal());
    traffic.goes_on();
    // What is held may be asked for once more by the next refusal, and is its own source then.
    shell("mv /sys/fs/bpf/sluice/default/maps/COLD /sys/fs/bpf/sluice/default/elsewhere");
    assert!(reinstall(&packages.next).contains("goes on"));
    shell("mv /sys/fs/bpf/sluice/default/elsewhere /sys/fs/bpf/sluice/default/maps/COLD");
    shell(&format!("{HELD} --version && systemctl restart sluice"));
    assert_eq!(program_of_the_daemon(), HELD);
    let said = install(&packages.this);
    assert!(said.contains("has taken over"), "{said}");
    nothing_is_held();
    traffic.finish("an upgrade that is refused, a crash, and an upgrade that is not");
}

/// The file that the daemon's program was started from.
fn program_of_the_daemon() -> String {
    fs::read_link(format!("/proc/{}/exe", pid())).unwrap().display().to_string()
}

fn nothing_is_held() {
    assert_eq!(program_of_the_daemon(), "/usr/bin/sluice");
    for path in [HELD, DROPIN] {
        assert!(!Path::new(path).exists(), "{path}");
    }
}

/// A config that was edited, and that nobody has asked for yet, does not come into force by an upgrade.
fn a_config_that_was_edited(site: &Site, packages: &Packages) {
    let traffic = site.start_traffic();
    let (first, right) = (pid(), fs::read_to_string(CONFIG).unwrap());
    let revision = || sluice(&["status", "--json"])["config_in_force"]["revision"].clone();
    let before = revision();
    fs::write(CONFIG, format!("{right}\n[rules]\nmin_healthy = \"10%\"\n")).unwrap();
    let said = install(&packages.next);
    assert!(said.contains("was changed since the daemon has read it"), "{said}");
    assert_eq!((pid(), revision()), (first.clone(), before.clone()));
    fs::write(CONFIG, right.replace("port = ", "port = zero")).unwrap();
    let said = install(&packages.this);
    assert!(said.contains("is wrong, so it cannot be what is in force"), "{said}");
    assert_eq!((pid(), revision()), (first.clone(), before.clone()));
    fs::write(CONFIG, format!("{right}\n[rules]\nmin_healthy = \"10%\"\n")).unwrap();
    install(&packages.next);
    // As it says.
    shell(&format!("sluice check {CONFIG} && sluice apply --dry-run {CONFIG} && systemctl reload sluice"));
    until("the edited config is in force", || revision() != before);
    shell(&format!("sluice upgrade --check --config {CONFIG}"));
    shell(&format!("rm -f {DROPIN} && systemctl daemon-reload && systemctl restart sluice"));
    assert_eq!(program_of_the_daemon(), "/usr/bin/sluice");
    let said = install(&packages.this);
    assert!(said.contains("has taken over"), "{said}");
    nothing_is_held();
    traffic.finish("upgrades beside a config that was edited");
}

/// Where nothing may be restarted nobody is told that something was.
fn a_machine_that_restarts_nothing(packages: &Packages) {
    forbid_starts();
    let first = pid();
    let said = install(&packages.next);
    fs::remove_file(POLICY).unwrap();
    assert!(said.contains("by a policy of this machine") && !said.contains("has taken over"), "{said}");
    assert_eq!(pid(), first);
    install(&packages.this);
    nothing_is_held();
}

fn forbid_starts() {
    fs::write(POLICY, "#!/bin/sh\nexit 101\n").unwrap();
    shell(&format!("chmod 755 {POLICY}"));
}

fn removed_and_installed_again(site: &Site, packages: &Packages) {
    // As a command of a maintenance run, which outlives the daemon.
    let groups =
        format!("/sys/fs/cgroup/*{0}/cgroup.procs /sys/fs/cgroup{0}/cgroup.procs", property("ControlGroup"));
    let command = shell(&format!(
        "sleep 3600 >/dev/null 2>&1 & for group in {groups}; do [ ! -e $group ] || echo $! >$group; done; echo $!"
    ));
    let command = format!("/proc/{}", command.trim());
    assert!(Path::new(&command).exists());
    let said = shell("apt-get remove -qy -o Dpkg::Use-Pty=0 sluice");
    assert!(said.contains("detached: forwarding has ended"), "{said}");
    assert!(!Path::new(&command).exists());
    assert_eq!((pins(), has_xdp("eth0"), Path::new("/run/sluice").exists()), (0, false, false));
    assert!(!Path::new("/usr/bin/sluice").exists());
    assert!(Path::new(CONFIG).is_file() && Path::new("/var/lib/sluice/default.db").is_file());
    shell("getent passwd sluice");
    install(&packages.this);
    assert_eq!(property("ActiveState"), "active", "it ran when it was removed");
    hosts_are_found();
    site.start_traffic().finish("removed, and installed again");
    let history = shell("sluice history");
    assert!(history.contains("a new version"), "the journal was kept: {history}");
    // A service that is disabled is not started, and nobody blames a policy for it.
    shell("systemctl disable sluice && apt-get remove -qy -o Dpkg::Use-Pty=0 sluice");
    let said = install(&packages.this);
    assert!(said.contains("as its service is disabled") && !said.contains("by a policy"), "{said}");
    assert_eq!(property("ActiveState"), "inactive");
    shell("systemctl enable --now sluice");
    hosts_are_found();
}

fn purged(before: &Stock) {
    shell("apt-get purge -qy -o Dpkg::Use-Pty=0 sluice");
    assert_eq!((pins(), has_xdp("eth0")), (0, false));
    let (status, said) = try_shell("systemctl --no-pager status sluice");
    assert!(status != 0 && said.contains("could not be found"), "{said}");
    let left = Stock::take().more(before);
    println!("==> purged: {} files, users, groups and pins are left", left.len());
    assert_eq!(left, Vec::<String>::new());
}
