//! The socket of the real daemon, asked by real users: who may look, who may change, who neither; and what one who means ill can do
//! to the others.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, Uid, setgid, setgroups, setuid};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use sluice_tests::servers::SluiceDaemon;
use sluice_tests::site::without;
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
        assert!(began.elapsed() < sluice_tests::LIMIT, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let reader = somebody(47_130, &[READ]);
    for _ in 0..5 {
        let began = Instant::now();
        let status = reader.sluice(&daemon, &["status", "--json"]);
        assert!(status.status.success(), "{status:?}");
        daemon.cli_ok(&["drains"]).unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    // They are sent away after a while, and the first of them can look again.
    std::thread::sleep(Duration::from_secs(12));
    let status = somebody(47_120, &[READ]).sluice(&daemon, &["status", "--json"]);
    assert!(status.status.success(), "{status:?}");
    let log = daemon.log();
    let mut lines = log.lines().filter(|line| line.contains("refused") && line.contains("(uid 47120, "));
    assert!(lines.any(|line| line.contains("no whole request came from it within 10 s")), "{log}");
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
    let ask = || fast.curl(&daemon, &["-o", "/dev/null", "http://s/v1/drains?blockers=[1000-2000]"]);
    let answer = ask();
    let took = began.elapsed().as_secs_f64();
    let text = String::from_utf8(answer.stdout).unwrap();
    // The number is more than is allowed, which is said to those within their rate.
    let (served, refused) = (text.matches("400").count(), text.matches("429").count());
    assert_eq!(served + refused, 1001, "{text}");
    assert!(served >= 100 && served as f64 <= 101.0 + 50.0 * took, "{served} in {took} s");
    assert!(somebody(47_141, &[READ]).sluice(&daemon, &["status"]).status.success());
    // The log has who was refused, and how many that came too fast for a line each.
    let is_told = || {
        let log = daemon.log();
        let mut lines = log.lines().filter(|line| line.contains("(uid 47140, "));
        lines.any(|line| line.contains(": 429 ") && line.contains("times before this, too fast to log"))
    };
    while !is_told() {
        assert!(began.elapsed() < sluice_tests::LIMIT, "{}", daemon.log());
        ask();
    }
}

/// Whatever well-formed things are asked for, the daemon is alive after it, and has said no "internal error".
#[test]
fn the_daemon_outlives_any_request() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let config = config(&topology, "") + "[[services.checks]]\ntype = \"tcp\"\n";
    let daemon = SluiceDaemon::start(&topology, &config).unwrap();
    let pid = daemon.process().unwrap().pid();
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    let document = ask(&daemon.socket(), &mut stream, "GET", "/v1/openapi.json", None).1;
    let wishes = Wishes::of(&document, &topology, &config);
    let mut runner = TestRunner::default();
    let mut answers = BTreeMap::<&str, BTreeMap<u16, u32>>::new();
    for _ in 0..700 {
        let (what, path, body) = wishes.any(&mut runner);
        let (status, answer) = ask(&daemon.socket(), &mut stream, "POST", &path, Some(&body));
        assert!(status < 500, "{path} {body}: {status} {answer}\n{}", daemon.log());
        let said = &document["paths"][what]["post"]["responses"][status.to_string()];
        let (code, told) = (answer["code"].as_str(), said["description"].as_str().unwrap_or_default());
        let is_told = status == 200 || code.is_some_and(|code| told.contains(&format!("`{code}`")));
        assert!(is_told, "{path}: {status} {answer}, and the document says {said}");
        *answers.entry(what).or_default().entry(status).or_default() += 1;
    }
    println!("{answers:?}");
    // What is asked for makes sense often enough. Whether a run can be paused is the run's affair.
    assert_eq!(answers.len(), wishes.operations.len(), "{answers:?}");
    let done = answers.values().filter(|statuses| statuses.contains_key(&200)).count();
    assert!(done >= answers.len() / 2, "{answers:?}");
    assert!(daemon.process().unwrap().is_running());
    assert_eq!(daemon.cli_json(&["status", "--json"]).unwrap()["pid"], pid);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

/// All that can be posted, as the daemon's own document describes it.
struct Wishes {
    /// Path, and the schema of the body.
    operations: Vec<(String, Value)>,
    schemas: Value,
    vip: String,
    configs: Vec<String>,
}

const PLAN: &str = "name = \"x\"\nhosts = [\"h2\"]\n[run]\ncommand = \"true\"\n";

impl Wishes {
    fn of(document: &Value, topology: &Topology, config: &str) -> Self {
        let paths = document["paths"].as_object().unwrap();
        let body = |of: &Value| {
            Some(of["post"].get("requestBody")?["content"]["application/json"]["schema"].clone())
        };
        let operations: Vec<_> =
            paths.iter().filter_map(|(path, of)| Some((path.clone(), body(of)?))).collect();
        assert!(operations.len() >= 20, "{operations:?}");
        let short = config.replace("pins = 4096\n", "pins = 4096\n[timeouts]\nudp = \"9s\"\n");
        assert_ne!(short, config);
        Wishes {
            operations,
            schemas: document["components"]["schemas"].clone(),
            vip: format!("{}:80", topology.vip4()),
            configs: vec![
                config.to_owned(),
                config.to_owned(),
                format!("{config}# another\n"),
                without(config, "h1"),
                config.replace("interfaces = [", "interfaces = [\"none\", "),
                short,
            ],
        }
    }

    /// What is asked for, the path, and the body.
    fn any(&self, runner: &mut TestRunner) -> (&str, String, Value) {
        let (what, schema) = &self.operations[new(runner, &(0..self.operations.len()))];
        // What stands in braces is every other piece: the number of something.
        let pieces = what.split(['{', '}']).enumerate();
        let path = pieces.map(|(n, piece)| match n % 2 {
            0 => piece.to_owned(),
            _ => new(runner, &prop_oneof![4 => 1..9u64, 1 => any::<u64>()]).to_string(),
        });
        let path = path.collect();
        (what, path, self.value(runner, what, schema))
    }

    /// As often as not at the end of its range, and sometimes of another type.
    fn value(&self, runner: &mut TestRunner, name: &str, schema: &Value) -> Value {
        if let Some(reference) = schema["$ref"].as_str() {
            return self.value(runner, name, &self.schemas[reference.rsplit('/').next().unwrap()]);
        }
        let choice = ["anyOf", "oneOf", "enum"].into_iter().find_map(|kind| schema[kind].as_array());
        if let Some(choice) = choice {
            let chosen = &choice[new(runner, &(0..choice.len()))];
            return if chosen.is_object() { self.value(runner, name, chosen) } else { chosen.clone() };
        }
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        let number = || {
            prop_oneof![
                0..100u64,
                select(vec![u64::MAX, u64::MAX / 2, 1 << 53, 1 << 32, u64::from(u32::MAX), 101, 0])
            ]
        };
        let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
        // A body that is no object is well-formed for nobody.
        if kind != Some("object") && new(runner, &(0..40u8)) == 0 {
            let any_value = prop_oneof![
                number().prop_map(Value::from),
                any::<f64>().prop_map(Value::from),
                ".{0,9}".prop_map(Value::from),
                Just(Value::Null)
            ];
            return new(runner, &any_value);
        }
        match kind {
            Some("object") => {
                let required = schema["required"].as_array();
                let mut body = serde_json::Map::new();
                for (name, of) in schema["properties"].as_object().into_iter().flatten() {
                    let is_required = required.is_some_and(|names| names.iter().any(|of| of == name));
                    if new(runner, &(0..20u8)) < if is_required { 19 } else { 2 } {
                        body.insert(name.clone(), self.value(runner, name, of));
                    }
                }
                body.into()
            }
            Some("array") => {
                let usual: &[&str] = match name {
                    "from" => &["h1"],
                    "to" => &["h2"],
                    "steps" => &["50%", "100%"],
                    _ => &[],
                };
                if !usual.is_empty() && new(runner, &(0..4u8)) > 0 {
                    return usual.into();
                }
                let count = new(runner, &(0..3usize)).max(new(runner, &(0..2usize)));
                (0..count).map(|_| self.value(runner, name, &schema["items"])).collect()
            }
            Some("integer") => new(runner, &number()).into(),
            Some("number") => new(runner, &prop_oneof![any::<f64>(), 0.0..10.0]).into(),
            Some("boolean") => new(runner, &any::<bool>()).into(),
            Some("null") => Value::Null,
            Some("string") => self.text(runner, name).into(),
            _ => panic!("{name}: nobody knows what to send: {schema}"),
        }
    }

    /// For texts that mean something, mostly one that does.
    fn text(&self, runner: &mut TestRunner, name: &str) -> String {
        let hosts = ["h1", "h1", "h2", "h2", "h2", "h3", "self", "@x", "@zone:y", ""];
        let known: Vec<&str> = match name {
            "host" | "hosts" => hosts.to_vec(),
            // Of a packet, mostly, and of a shift.
            "from" => vec!["192.0.2.7:4711", "192.0.2.7:4711", "192.0.2.7:4711", "h1", "x"],
            "to" => vec![&self.vip, &self.vip, &self.vip, "h2", "@x", "[::1]:80"],
            "service" => vec!["web", "web", "x"],
            "clients" => vec!["0.0.0.0/0", "::/0", "10.0.0.0/8", "10.0.0.0/33"],
            "steps" => vec!["10%", "50%", "100%", "100%", "0%", "101%"],
            "abort_if" => vec!["errors > 5%", "unhealthy > 1", "fails: true", "x > 1"],
            "config" => self.configs.iter().map(String::as_str).collect(),
            "plan" => vec![PLAN, PLAN, "name = 3"],
            "frame" => vec!["", "00", "zz", "ffffffffffff02000000000108004500"],
            "interface" => vec!["eth0", "eth0", "none"],
            "flags" => vec!["syn", "ack", "fin,ack", "x"],
            _ => Vec::new(),
        };
        if known.is_empty() || new(runner, &(0..20u8)) == 0 {
            return new(runner, &".{0,40}");
        }
        known[new(runner, &(0..known.len()))].to_owned()
    }
}

fn new<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

/// Over a connection that stays: the status, and the body, which is JSON.
fn ask(
    socket: &Path,
    stream: &mut UnixStream,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: s\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let (mut heard, mut buffer) = (Vec::new(), [0; 65_536]);
    loop {
        let more = stream.read(&mut buffer).unwrap();
        assert!(more > 0, "the connection ended at {path} {body}");
        heard.extend_from_slice(&buffer[..more]);
        let text = String::from_utf8_lossy(&heard);
        let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) else {
            // A stream: what was asked for is under way, and ends with the connection.
            *stream = UnixStream::connect(socket).unwrap();
            return (status, Value::Null);
        };
        if rest.len() >= length.parse::<usize>().unwrap() {
            return (status, serde_json::from_str(rest).unwrap_or(Value::Null));
        }
    }
}
