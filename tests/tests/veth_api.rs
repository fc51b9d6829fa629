//! The socket of the real daemon, asked by real users: who may look, who may change, who neither; and what one who means ill can do
//! to the others.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, Uid, setgid, setgroups, setuid};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use sluice_tests::servers::SluiceDaemon;
use sluice_tests::topology::Topology;

/// Groups that every Debian has; nobody is in them.
const READ: &str = "games";
const CHANGE: &str = "operator";

/// A user of nobody else's, with these groups beside a main one of their own.
struct Somebody {
    uid: u32,
    gid: u32,
    groups: Vec<Gid>,
}

fn group(name: &str) -> Gid {
    Group::from_name(name).unwrap().unwrap_or_else(|| panic!("there is no group {name} here")).gid
}

fn somebody(uid: u32, groups: &[&str]) -> Somebody {
    Somebody { uid, gid: uid, groups: groups.iter().map(|name| group(name)).collect() }
}

impl Somebody {
    /// As this user from the moment of its start.
    fn becomes(&self, mut command: Command) -> Command {
        let (uid, gid, groups) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid), self.groups.clone());
        // SAFETY: only system calls are made between fork and exec.
        unsafe {
            command.pre_exec(move || {
                setgroups(&groups)?;
                setgid(gid)?;
                Ok(setuid(uid)?)
            });
        }
        command
    }

    fn sluice(&self, daemon: &SluiceDaemon, args: &[&str]) -> Output {
        // The program may lie where only root gets.
        let mut command = Command::new("/proc/self/fd/9");
        command.args(args).args(["--instance", daemon.instance()]);
        let binary = fs::File::open(daemon.binary()).unwrap();
        let mut command = self.becomes(command);
        inherit(&mut command, &binary);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Curl, which every user may run, and which says what it is told to.
    fn curl(&self, daemon: &SluiceDaemon, args: &[&str]) -> Output {
        let mut command = Command::new("curl");
        command
            .args(["-s", "-w", "\n%{http_code}", "--max-time", "20", "--unix-socket"])
            .arg(daemon.socket())
            .args(args);
        self.becomes(command).output().unwrap()
    }

    /// Many connections that say a little and then nothing.
    fn hang(&self, daemon: &SluiceDaemon, count: usize) -> Child {
        let script = format!(
            "for i in $(seq {count}); do (printf 'GET /v1/status HTTP/1.1\\r\\nx: '; sleep 30) | \
             curl -s -T - --max-time 40 --unix-socket {0} telnet://x & done; wait",
            daemon.socket().display()
        );
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        self.becomes(command).spawn().unwrap()
    }
}

/// Leaves the file to the child as its descriptor 9.
fn inherit(command: &mut Command, file: &fs::File) {
    use std::os::fd::AsRawFd;
    let fd = file.as_raw_fd();
    // SAFETY: only a system call is made between fork and exec.
    unsafe {
        command.pre_exec(
            move || if libc::dup2(fd, 9) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) },
        );
    }
}

fn config(topology: &Topology, api: &str) -> String {
    let mut text = format!("interfaces = [\"eth0\"]\nring_size = 1009\n{api}\n[flow_table]\npins = 4096\n");
    for host in topology.hosts() {
        text += &format!("[hosts.{}]\naddresses = [\"{}\"]\n", host.name, host.ipv4[0]);
    }
    text + &format!(
        "[[services]]\nname = \"web\"\nvip = \"{}\"\nprotocol = \"tcp\"\nport = 80\n",
        topology.vip4()
    )
}

fn start() -> (SluiceDaemon, Topology) {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let api = format!("[api]\nread_group = \"{READ}\"\nchange_group = \"{CHANGE}\"");
    (SluiceDaemon::start(&topology, &config(&topology, &api)).unwrap(), topology)
}

fn admin(daemon: &SluiceDaemon, host: usize) -> Value {
    daemon.cli_json(&["status", "--json"]).unwrap()["hosts"][host]["admin"].clone()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn readers_read_changers_change_and_strangers_do_neither() {
    let (daemon, _topology) = start();
    let folder = daemon.socket().parent().unwrap().to_owned();
    assert_eq!(fs::metadata(daemon.socket()).unwrap().permissions().mode() & 0o777, 0o666);
    assert_eq!(
        fs::metadata(folder).unwrap().permissions().mode() & 0o022,
        0,
        "nobody else can put a socket there"
    );

    let reader = somebody(47_111, &[READ]);
    let by_main_group = Somebody { gid: group(READ).as_raw(), ..somebody(47_112, &[]) };
    for reader in [&reader, &by_main_group] {
        let status = reader.sluice(&daemon, &["status", "--json"]);
        assert!(status.status.success(), "{status:?}");
        let plan = reader.sluice(&daemon, &["plan", "drain", "h1"]);
        assert!(plan.status.success(), "a plan changes nothing: {plan:?}");
        let drain = reader.sluice(&daemon, &["drain", "h1"]);
        assert_eq!(drain.status.code(), Some(1), "{drain:?}");
        assert!(stderr(&drain).contains("may look, but not change anything"), "{drain:?}");
    }
    assert_eq!(admin(&daemon, 0), "active");

    let stranger = somebody(47_113, &["users"]);
    for args in
        [&["status"][..], &["drain", "h1"], &["undrain", "h1"], &["kick", "h1", "--rate", "1/s"], &["events"]]
    {
        let refused = stranger.sluice(&daemon, args);
        assert_eq!(refused.status.code(), Some(1), "{args:?} {refused:?}");
        assert!(stderr(&refused).contains("uid 47113"), "{refused:?}");
    }
    for path in ["/v1/openapi.json", "/v1/nothing", "/", "/v1/events?follow=false"] {
        let answer = stranger.curl(&daemon, &[&format!("http://s{path}")]);
        assert!(answer.stdout.ends_with(b"\n403"), "{path}: {answer:?}");
    }

    let changer = somebody(47_114, &["users", CHANGE]);
    let drained = changer.sluice(&daemon, &["drain", "h1", "--by", "root", "--json"]);
    assert!(drained.status.success(), "{drained:?}");
    let answer: Value = serde_json::from_slice(&drained.stdout).unwrap();
    assert_eq!(
        answer["drains"][0]["by"], "root (uid 47114)",
        "who asked is noted, whoever they say they are"
    );
    assert_ne!(admin(&daemon, 0), "active");
    assert!(changer.sluice(&daemon, &["status"]).status.success());
    daemon.cli_ok(&["undrain", "h1"]).unwrap();
    let log = daemon.log();
    for who in ["uid 47111, gid 47111, pid ", "uid 47112, gid 60, pid ", "uid 47113, gid 47113, pid "] {
        let said = log.lines().find(|line| line.contains("refused") && line.contains(who));
        assert!(said.is_some_and(|line| line.contains("/v1/") && line.contains("403")), "{who}: {log}");
    }
}

#[test]
fn without_groups_the_socket_is_roots() {
    let topology = Topology::builder().hosts(1).build().unwrap();
    let daemon = SluiceDaemon::start(&topology, &config(&topology, "")).unwrap();
    assert_eq!(fs::metadata(daemon.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = somebody(47_115, &[READ, CHANGE]).sluice(&daemon, &["status"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(stderr(&refused).contains("no permission"), "{refused:?}");
    daemon.cli_ok(&["status"]).unwrap();
}

#[test]
fn who_hangs_on_keeps_nobody_out() {
    let (daemon, _topology) = start();
    let mut hanging: Vec<Child> =
        (0..3).map(|n| somebody(47_120 + n, if n == 0 { &[READ] } else { &[] }).hang(&daemon, 60)).collect();
    // All that they get, and what is more than that refused.
    let began = Instant::now();
    while daemon.log().matches("too many connections").count() < 3 {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let reader = somebody(47_130, &[READ]);
    for _ in 0..5 {
        let began = Instant::now();
        let status = reader.sluice(&daemon, &["status", "--json"]);
        assert!(status.status.success(), "{status:?}");
        daemon.cli_ok(&["drains"]).unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    // They are sent away after a while, and the first of them can look again.
    std::thread::sleep(Duration::from_secs(12));
    let status = somebody(47_120, &[READ]).sluice(&daemon, &["status", "--json"]);
    assert!(status.status.success(), "{status:?}");
    for child in &mut hanging {
        let _ = nix::sys::signal::killpg(
            nix::unistd::Pid::from_raw(child.id() as i32),
            nix::sys::signal::Signal::SIGKILL,
        );
        let _ = child.wait();
    }
}

#[test]
fn who_asks_all_the_time_is_held_to_a_rate() {
    let (daemon, _topology) = start();
    let fast = somebody(47_140, &[READ]);
    let began = Instant::now();
    let answer = fast.curl(&daemon, &["-o", "/dev/null", "http://s/v1/drains?blockers=[1000-2000]"]);
    let took = began.elapsed().as_secs_f64();
    let text = String::from_utf8(answer.stdout).unwrap();
    // The number is more than is allowed, which is said to those within their rate.
    let (served, refused) = (text.matches("400").count(), text.matches("429").count());
    assert_eq!(served + refused, 1001, "{text}");
    assert!(served >= 100 && served as f64 <= 101.0 + 50.0 * took, "{served} in {took} s");
    assert!(somebody(47_141, &[READ]).sluice(&daemon, &["status"]).status.success());
}

/// Whatever well-formed things are asked for, the daemon is alive after it, and has said no "internal error".
#[test]
fn the_daemon_outlives_any_request() {
    let (daemon, _topology) = start();
    let pid = daemon.process().unwrap().pid();
    let mut request = any_request();
    let mut runner = TestRunner::default();
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    let mut statuses = std::collections::BTreeMap::<u16, u32>::new();
    for _ in 0..2000 {
        let (what, hosts, fields) = request(&mut runner);
        let mut body = match what {
            "kick" => json!({ "host": hosts.first() }),
            "self/drain" | "self/undrain" => json!({}),
            _ => json!({ "hosts": hosts }),
        };
        for (name, value) in fields {
            body[name] = value;
        }
        let status = post(&mut stream, what, &body);
        assert!(status < 500, "{what} {body}: {status}\n{}", daemon.log());
        *statuses.entry(status).or_default() += 1;
    }
    assert!(statuses.get(&200).is_some_and(|count| *count > 100), "{statuses:?}");
    daemon.cli_ok(&["status"]).unwrap();
    assert!(daemon.process().unwrap().is_running());
    assert_eq!(daemon.cli_json(&["status", "--json"]).unwrap()["pid"], pid);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

type Fields = Vec<(&'static str, Value)>;

/// Requests of all kinds that change something, with fields that they have and values that are mostly of the right type, and as often
/// as not at the end of their range.
fn any_request() -> impl FnMut(&mut TestRunner) -> (&'static str, Vec<&'static str>, Fields) {
    const KINDS: [(&str, &[&str]); 6] = [
        ("drain", &["reason", "by", "deadline", "at_deadline", "lease", "share", "force"]),
        ("undrain", &["reason", "by", "ramp"]),
        ("kick", &["reason", "by", "service", "clients", "older_than", "idle", "rate"]),
        ("plan/drain", &[]),
        ("self/drain", &["reason", "by", "quiet_for", "below"]),
        ("self/undrain", &["reason", "by"]),
    ];
    let number = || {
        prop_oneof![0..100u64, select(vec![u64::MAX, u64::MAX / 2, 1 << 53, 1 << 32, u64::from(u32::MAX)])]
    };
    let of = move |name: &str| match name {
        "reason" | "by" => ".{0,40}".prop_map(Value::from).boxed(),
        "at_deadline" => select(vec!["keep", "move", "reset"]).prop_map(Value::from).boxed(),
        "force" => any::<bool>().prop_map(Value::from).boxed(),
        "service" => select(vec!["web", "web", "x"]).prop_map(Value::from).boxed(),
        "clients" => {
            select(vec!["0.0.0.0/0", "::/0", "10.0.0.0/8", "10.0.0.0/33"]).prop_map(Value::from).boxed()
        }
        "share" => (0..=101u8).prop_map(Value::from).boxed(),
        "below" => prop_oneof![any::<f64>(), 0.0..10.0].prop_map(Value::from).boxed(),
        _ => number().prop_map(Value::from).boxed(),
    };
    let any_value = prop_oneof![
        number().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,9}".prop_map(Value::from),
        Just(Value::Null)
    ];
    move |runner| {
        let (what, names) = new(runner, &select(&KINDS[..]));
        let host = select(vec!["h1", "h1", "h1", "h2", "h2", "h2", "h3", "self", "@x", "@zone:y", ""]);
        let hosts = new(runner, &prop::collection::vec(host, 1..3));
        let mut fields = Fields::new();
        for name in names {
            match new(runner, &(0..8u8)) {
                0 | 1 => fields.push((name, new(runner, &of(name)))),
                2 if new(runner, &(0..8u8)) == 0 => fields.push((name, new(runner, &any_value))),
                _ => {}
            }
        }
        (what, hosts, fields)
    }
}

fn new<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

/// Over a connection that stays.
fn post(stream: &mut UnixStream, what: &str, body: &Value) -> u16 {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST /v1/{what} HTTP/1.1\r\nhost: s\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let (mut heard, mut buffer) = (Vec::new(), [0; 65_536]);
    loop {
        let more = stream.read(&mut buffer).unwrap();
        assert!(more > 0, "the connection ended at {what} {body}");
        heard.extend_from_slice(&buffer[..more]);
        let text = String::from_utf8_lossy(&heard);
        let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if rest.len() >= length.parse::<usize>().unwrap() {
            return head.split(' ').nth(1).unwrap().parse().unwrap();
        }
    }
}
