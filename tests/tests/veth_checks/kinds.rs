//! What each kind of check asks, and which answers it takes: `https`, `udp` and `command`; those of `tcp` and `http` are in `veth_health`.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::health::{events, health, is, site, until, until_all};
use sluice_tests::site::Site;
use sluice_tests::topology::{Node, Process};
use sluice_tests::traffic::EchoServer;
use tempfile::TempDir;

const ALL: [&str; 3] = ["h1", "h2", "h3"];

/// Port of the servers that only checks ask.
const ASKED: u16 = 8443;

/// A run of a busy machine takes its time: why it failed is what was answered.
const PATIENT: &str =
    "[services.health]\ninterval = \"500ms\"\ntimeout = \"4s\"\njitter = \"0%\"\nfall = 2\nrise = 2\n";

/// Waits until both checks of a host are down, and why; and asserts that the reports say so.
fn is_down_for(site: &Site, host: &str, why: &str) {
    until(site, &format!("{host} is down for {why:?}"), || {
        health(site, host)
            .iter()
            .all(|check| check["oper"] == "down" && check["why"].as_str().unwrap().contains(why))
    });
    // With each result as a line of its own.
    let report = site.daemon.cli_ok(&["health", host]).unwrap();
    assert!(report.contains(why), "{why:?}: {report}");
    let is_told = |event: &Value| event["host"] == host && event["why"].as_str().unwrap().contains(why);
    // Of both families, some moments later; and before its server was there it may have been so, too.
    until(site, "it is told", || {
        events(site, "host_down").iter().filter(|event| is_told(event)).count() >= 2
    });
}

/// nginx with TLS and a certificate that nobody has signed; answers `/state` with the file of this name, or with 503.
struct Tls {
    _process: Process,
    folder: TempDir,
}

impl Tls {
    fn start(host: &Node) -> Self {
        let folder = tempfile::Builder::new().prefix(&format!("{}-tls.", host.ns.owner())).tempdir().unwrap();
        let path = folder.path().display();
        let (v4, v6) = (host.ipv4[0], host.ipv6[0]);
        let config = format!(
            "daemon off;\nmaster_process off;\npid {path}/nginx.pid;\nevents {{ }}\n\
             http {{\n  access_log off;\n  client_body_temp_path {path}/body;\n  proxy_temp_path {path}/proxy;\n  \
             fastcgi_temp_path {path}/fastcgi;\n  uwsgi_temp_path {path}/uwsgi;\n  scgi_temp_path {path}/scgi;\n  \
             server {{\n    listen {v4}:{ASKED} ssl;\n    listen [{v6}]:{ASKED} ssl ipv6only=on;\n    \
             ssl_certificate {path}/cert.pem;\n    ssl_certificate_key {path}/key.pem;\n    root {path};\n    \
             location = /state {{ try_files /state =503; }}\n  }}\n}}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let make = format!(
            "cd {path}; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -subj /CN=elsewhere.example -keyout key.pem -out cert.pem 2> /dev/null"
        );
        host.ns.shell(&make).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
        let tls = Tls { _process: host.ns.spawn(command).unwrap(), folder };
        tls.say("all is well");
        tls
    }

    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    fn say(&self, what: &str) {
        // At once, as a check may read it at any moment.
        let new = self.state().with_extension("new");
        std::fs::write(&new, what).unwrap();
        std::fs::rename(&new, self.state()).unwrap();
    }
}

#[test]
fn https_takes_any_certificate_and_not_any_answer() {
    let check = format!(
        "[[services.checks]]\ntype = \"https\"\nport = {ASKED}\npath = \"/state\"\nhost = \"web.example:443\"\n\
         status = [200, 204]\nbody = \"well\"\n"
    );
    let site = site("l2", 3, &[("web", &[&check, PATIENT])]);
    let mut tls: Vec<Tls> = (1..=3).map(|number| Tls::start(site.topology.host(number))).collect();
    until_all(&site, &ALL, "up");
    let test = site.daemon.cli_ok(&["health", "test", "h1"]).unwrap();
    let steps = ["handshake done, TLSv1_", "GET /state", "status 200", "well: status 200, body as expected"];
    assert!(steps.iter().all(|step| test.contains(step)), "{test}");

    std::fs::remove_file(tls[0].state()).unwrap();
    tls[1].say("all is lost");
    until_all(&site, &["h1", "h2"], "down");
    is_down_for(&site, "h1", "status 503");
    is_down_for(&site, "h2", "\"well\" is not in the body");
    assert!(is(&site, "h3", "up"), "{:?}", health(&site, "h3"));
    let problem =
        "h1 is down for web-v4: https :8443/state host web.example:443 200,204 body \"well\": status 503";
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    assert!(status["problems"].as_array().unwrap().iter().any(|of| of == problem), "{}", status["problems"]);

    // Who takes connections and does not speak TLS is not well, too.
    tls.truncate(2);
    let host = site.topology.host(3);
    let at = [SocketAddr::new(host.ipv4[0].into(), ASKED), SocketAddr::new(host.ipv6[0].into(), ASKED)];
    let plain = EchoServer::start(&host.ns, "h3", &at, 1).unwrap();
    tls[0].say("all is well again");
    until(&site, "h1 is up and h3 down", || is(&site, "h1", "up") && is(&site, "h3", "down"));
    is_down_for(&site, "h3", "TLS: ");
    drop(plain);
    assert_eq!(site.violations().unwrap(), "{}");
}

/// What a server of datagrams says.
#[derive(Clone, Copy)]
enum Says {
    Right,
    Wrong,
    Nothing,
}

/// Answers datagrams on both addresses of a host.
struct Answerer {
    says: Arc<AtomicU8>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Answerer {
    fn start(host: &Node) -> Self {
        let (says, is_over) = (Arc::new(AtomicU8::new(Says::Right as u8)), Arc::new(AtomicBool::new(false)));
        let addresses =
            [SocketAddr::new(host.ipv4[0].into(), ASKED), SocketAddr::new(host.ipv6[0].into(), ASKED)];
        let start = |address| {
            let (says, is_over) = (says.clone(), is_over.clone());
            let serve = move || serve(address, &says, &is_over);
            host.ns.start("answerer", serve).unwrap()
        };
        let threads = addresses.map(start).into_iter().collect();
        Answerer { says, is_over, threads }
    }

    fn say(&self, what: Says) {
        self.says.store(what as u8, Ordering::Relaxed);
    }
}

fn serve(address: SocketAddr, says: &AtomicU8, is_over: &AtomicBool) {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut asked = [0; 64];
    while !is_over.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut asked) else { continue };
        let answer: &[u8] = match says.load(Ordering::Relaxed) {
            of if of == Says::Right as u8 && &asked[..length] == b"how are you?" => b"fine, thanks",
            of if of == Says::Nothing as u8 => continue,
            _ => b"not so fine",
        };
        socket.send_to(answer, from).unwrap();
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().expect("no panic").expect("it was in its namespace");
        }
    }
}

#[test]
fn udp_takes_the_answer_that_is_expected_and_no_other() {
    let check = format!(
        "[[services.checks]]\ntype = \"udp\"\nport = {ASKED}\nsend = \"how are you?\"\nexpect = \"fine\"\n"
    );
    let site = site("l2", 3, &[("echo-udp", &[&check, PATIENT])]);
    let mut servers: Vec<Answerer> =
        (1..=3).map(|number| Answerer::start(site.topology.host(number))).collect();
    until_all(&site, &ALL, "up");
    servers[0].say(Says::Wrong);
    servers[1].say(Says::Nothing);
    until_all(&site, &["h1", "h2"], "down");
    is_down_for(&site, "h1", "another answer than expected: \"not so fine\"");
    is_down_for(&site, "h2", "no answer in 4s");
    assert!(is(&site, "h3", "up"), "{:?}", health(&site, "h3"));
    // Nobody is there: ICMP says so at once.
    servers.truncate(2);
    servers[0].say(Says::Right);
    servers[1].say(Says::Right);
    until(&site, "h1 and h2 are up", || is(&site, "h1", "up") && is(&site, "h2", "up"));
    until_all(&site, &["h3"], "down");
    is_down_for(&site, "h3", "refused");
    assert_eq!(site.violations().unwrap(), "{}");
}

/// Processes that a script has noted.
fn noted(folder: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(folder.join("noted")).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// State and parent of a process, of `/proc/PID/stat` (proc(5)).
fn state(process: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn runs(process: u32) -> bool {
    state(process).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// Children of a process that nobody has waited for.
fn zombies_of(parent: u32) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|&number| state(number) == Some(('Z', parent))).count()
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_command_decides_by_its_exit_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    // It hangs with a child of its own, both of which ignore what they can.
    let script = format!(
        "cd {path}\nif test -e $SLUICE_HOST.worn; then echo \"worn out at $SLUICE_ADDRESS\" >&2; exit 7; fi\n\
         if test -e $SLUICE_HOST.hangs; then trap '' TERM INT HUP; sleep 1000 & echo $! >> noted; echo $$ >> noted; wait; fi\n"
    );
    std::fs::write(folder.path().join("check"), script).unwrap();
    let check = format!("[[services.checks]]\ntype = \"command\"\ncommand = \"sh {path}/check\"\n");
    let site = site("l2", 3, &[("web", &[&check, PATIENT])]);
    until_all(&site, &ALL, "up");
    std::fs::write(folder.path().join("h1.worn"), "").unwrap();
    std::fs::write(folder.path().join("h2.hangs"), "").unwrap();
    until_all(&site, &["h1", "h2"], "down");
    let address = site.topology.host(1).ipv4[0];
    let of_v4 = |check: &&Value| check["service"] == "web-v4";
    let why = format!("exit status: 7: worn out at {address}");
    until(&site, &why, || health(&site, "h1").iter().find(of_v4).unwrap()["why"] == why);
    is_down_for(&site, "h1", "exit status: 7: worn out at ");
    is_down_for(&site, "h2", "no answer in 4s");
    assert!(is(&site, "h3", "up"), "{:?}", health(&site, "h3"));
    // Each run that hung was killed with its child; the last ones may hang still.
    let so_far = noted(folder.path());
    assert!(so_far.len() >= 4, "two runs of both services: {so_far:?}");
    std::fs::remove_file(folder.path().join("h1.worn")).unwrap();
    std::fs::remove_file(folder.path().join("h2.hangs")).unwrap();
    until_all(&site, &["h1", "h2"], "up");
    let all = noted(folder.path());
    wait_for("processes of runs whose time was over are there yet", || !all.iter().any(|&of| runs(of)));
    let daemon = site.daemon.process().unwrap().pid();
    // One may end in this very moment, of those that are well.
    wait_for("runs that are over were not waited for", || zombies_of(daemon) == 0);
    assert_eq!(site.violations().unwrap(), "{}");
}
