//! Every command line in the documents: those of `sluice`, and those that ask its API, run against a daemon in the order in which they stand
//! there; all others in a host's namespace, or there is a reason why not. And the example of the library.

#[path = "../../../lb-userspace/tests/documents/lines.rs"]
mod lines;
mod others;
mod shells;

use std::fmt::Write;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lines::{documents, of_sluice, typed, words};
use sluice_tests::servers::{SluiceDaemon, sluice_binary};
use sluice_tests::topology::Topology;

/// Another `curl` is that of a client, which asks a VIP.
fn asks_the_api(words: &[String]) -> bool {
    words.first().is_some_and(|word| word == "curl") && words.iter().any(|word| word == "--unix-socket")
}

struct Terminal {
    daemon: SluiceDaemon,
    topology: Topology,
    folder: tempfile::TempDir,
}

fn config(topology: &Topology, weight: u32) -> String {
    // Drains without flows are done when flows would have been idle for so long.
    let mut text = "interfaces = [\"eth0\"]\nring_size = 1009\n[flow_table]\npins = 4096\n[timeouts]\n\
                    half_open = \"1s\"\nestablished = \"1s\"\nclosing = \"1s\"\nudp = \"1s\"\nudp_gap = \"1s\"\n"
        .to_owned();
    for (number, host) in topology.hosts().iter().enumerate() {
        let name = format!("web-{}", number + 1);
        let group = if number == 0 { "blue" } else { "green" };
        let address = host.ipv4[0];
        writeln!(
            text,
            "[hosts.{name}]\naddresses = [\"{address}\"]\nweight = {weight}\ngroups = [\"{group}\"]"
        )
        .unwrap();
    }
    for (name, port) in [("web", 80), ("api", 443)] {
        let vip = topology.vip4();
        writeln!(text, "[[services]]\nname = \"{name}\"\nvip = \"{vip}\"\nprotocol = \"tcp\"\nport = {port}")
            .unwrap();
    }
    text + "[[services.checks]]\ntype = \"command\"\ncommand = \"true\"\n"
}

/// A plan whose host has so many seconds of work.
fn plan(seconds: f32) -> String {
    format!(
        "name = \"upgrade\"\nhosts = [\"web-3\"]\n[run]\ncommand = \"sleep {seconds}\"\n[healthy]\nfor = \"1s\"\n\
         [undrain]\nwatch = \"1s\"\n"
    )
}

/// A file of captured packets (draft-ietf-opsawg-pcapng) with a frame of zeros.
fn capture() -> Vec<u8> {
    let section = [0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28];
    let (interface, packet, length) = ([1, 20, 1, 0, 20], [6, 92, 0, 0, 0, 60, 60], [92]);
    let words = section.into_iter().chain(interface).chain(packet).chain([0; 15]).chain(length);
    words.flat_map(u32::to_ne_bytes).collect()
}

impl Terminal {
    fn start() -> Self {
        let topology = Topology::builder().hosts(3).build().unwrap();
        let text = config(&topology, 100);
        let daemon = SluiceDaemon::start(&topology, &text).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("sluice.toml", text),
            ("plan.toml", plan(0.1)),
            ("nginx.toml", plan(0.1)),
            ("long.toml", plan(60.0)),
            ("short.toml", plan(5.0)),
        ];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::fs::write(folder.path().join("clients.pcapng"), capture()).unwrap();
        Terminal { daemon, topology, folder }
    }

    /// As it would be typed, in a folder with the files that documents speak of, for so many seconds.
    fn run(&self, seconds: u32, args: &[String]) -> Output {
        let mut command = Command::new("timeout");
        command
            .arg(seconds.to_string())
            .arg(self.daemon.binary())
            .args(args)
            .args(["--instance", self.daemon.instance()])
            .current_dir(self.folder.path());
        self.topology.balancer().ns.output(command).unwrap()
    }

    fn quietly(&self, line: &str) {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        self.run(20, &args);
    }

    /// Asks the API as a line says that was cut into words, for so many seconds.
    fn curl(&self, seconds: u32, words: &[String]) -> Output {
        let socket = self.daemon.socket().display().to_string();
        let mut command = Command::new("timeout");
        command.arg(seconds.to_string()).args(["curl", "-s", "-w", "\n%{http_code}"]);
        for word in &words[1..] {
            match serde_json::from_str::<serde_json::Value>(word) {
                // What has another size of the flow table is refused.
                Ok(mut body) if body.get("config").is_some() => {
                    body["config"] = config(&self.topology, 100).into();
                    command.arg(body.to_string());
                }
                _ => {
                    let mut word = word.replace("/run/sluice/default.sock", &socket);
                    for (path, list, name) in [
                        ("/maintain/", ["maintain", "runs"], "run"),
                        ("/shifts/", ["shift", "shifts"], "shift"),
                    ] {
                        if word.contains(&format!("{path}7")) {
                            word = word
                                .replace(&format!("{path}7"), &format!("{path}{}", self.last(list, name)));
                        }
                    }
                    command.arg(word.replace("/kicks/7", "/kicks/1"));
                }
            }
        }
        self.topology.balancer().ns.output(command).unwrap()
    }

    /// What must be so before the API is asked for something.
    fn prepare_api(&self, url: &str, count: u32) {
        let path = url.trim_start_matches("http://sluice");
        match path {
            "/v1/drain" => self.quietly("undrain web-1 web-2 web-3"),
            "/v1/undrain" => self.quietly("drain web-2"),
            "/v1/apply" => self.quietly("confirm"),
            "/v1/ready" => self.quietly("undrain self"),
            "/v1/confirm" => {
                std::fs::write(self.folder.path().join("new.toml"), config(&self.topology, 101 + count))
                    .unwrap();
                self.quietly("apply new.toml --confirm 60s");
            }
            "/v1/maintain/plan" | "/v1/maintain/runs" | "/v1/maintain/7/abort" | "/v1/maintain/7/pause" => {
                self.quietly("maintain abort");
                self.quietly("undrain web-1 web-2 web-3");
                self.wait_until_none_is_under_way(["maintain", "runs"]);
                if path.contains('7') {
                    self.quietly("maintain start short.toml");
                }
            }
            "/v1/shifts" | "/v1/shifts/7/abort" | "/v1/shifts/7/pause" => {
                self.quietly("shift abort");
                self.wait_until_none_is_under_way(["shift", "shifts"]);
                if path.contains('7') {
                    self.quietly("shift web --from blue --to green --steps 1%,100% --every 5m");
                }
            }
            _ => {}
        }
    }

    /// Number of the last of something.
    fn last(&self, list: [&str; 2], name: &str) -> String {
        let answer = self.daemon.cli_json(&[list[0], "status", "--json"]).unwrap();
        let all = answer[list[1]].as_array().unwrap();
        all.iter().filter_map(|one| one[name].as_u64()).max().expect("there is one").to_string()
    }

    fn wait_until_none_is_under_way(&self, list: [&str; 2]) {
        let end = Instant::now() + sluice_tests::LIMIT;
        let all = || self.daemon.cli_json(&[list[0], "status", "--json"]).unwrap()[list[1]].clone();
        let is_over = |one: &serde_json::Value| {
            !["running", "paused", "ending", "returning"].contains(&one["state"].as_str().unwrap())
        };
        while !all().as_array().unwrap().iter().all(is_over) {
            assert!(Instant::now() < end, "{}", all());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Numbers in the documents are those of a run or a shift that there is here.
    fn number(&self, words: &mut [String]) {
        let (list, name) = match words[0].as_str() {
            "maintain" => (["maintain", "runs"], "run"),
            "shift" => (["shift", "shifts"], "shift"),
            _ => return,
        };
        for word in words.iter_mut().filter(|word| *word == "7") {
            *word = self.last(list, name);
        }
    }

    /// What must be so before a line makes sense.
    fn prepare(&self, line: &str, count: u32) {
        let is_drain = line.starts_with("drain web") || line.starts_with("plan drain web");
        if is_drain || line.starts_with("undrain web") && line.contains("--ramp") {
            self.quietly("undrain web-1 web-2 web-3");
        }
        if line.starts_with("undrain web") || line.contains("--for drained") {
            self.quietly("drain web-2");
        }
        if line.contains("--for up") {
            self.quietly("undrain web-2 web-3");
        }
        match line.split(' ').take(2).collect::<Vec<_>>()[..] {
            ["maintain", "plan" | "start"] => {
                self.quietly("maintain abort");
                self.quietly("undrain web-1 web-2 web-3");
                self.wait_until_none_is_under_way(["maintain", "runs"]);
            }
            ["maintain", "status" | "pause" | "resume" | "abort"] => self.quietly("maintain start long.toml"),
            ["shift", "web"] => {
                self.quietly("shift abort");
                self.wait_until_none_is_under_way(["shift", "shifts"]);
            }
            _ => {}
        }
        if line.starts_with("apply") || line.starts_with("rollback") {
            self.quietly("confirm");
            std::fs::write(self.folder.path().join("new.toml"), config(&self.topology, 101 + count)).unwrap();
        }
    }
}

/// Those that go on until somebody ends them, or until a minute without traffic has passed.
fn goes_on(line: &str) -> bool {
    line.contains("--watch") || line.starts_with("events --new") || line.starts_with("drain self")
}

#[test]
fn what_the_documents_say_can_be_typed() {
    let terminal = Terminal::start();
    // So that there are receipts and revisions of the numbers in the documents.
    for _ in 0..9 {
        terminal.quietly("drain web-1");
        terminal.quietly("undrain web-1");
    }
    let (mut count, mut asked) = (0, 0);
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in typed(&text) {
            let Some(mut words) = of_sluice(&line) else {
                let words = words(&line);
                if asks_the_api(&words) {
                    let url = words.last().unwrap();
                    terminal.prepare_api(url, count);
                    let goes_on = words.contains(&"-N".to_owned());
                    let output = terminal.curl(if goes_on { 1 } else { 20 }, &words);
                    let said = String::from_utf8_lossy(&output.stdout);
                    let is_right = match goes_on {
                        true => output.status.code() == Some(124),
                        false => output.status.success() && said.ends_with("\n200"),
                    };
                    assert!(is_right, "{}: {line}: {output:?}", path.display());
                    asked += 1;
                }
                continue;
            };
            words.remove(0);
            // The daemon here was started so.
            if words[0] == "run" {
                continue;
            }
            for word in &mut words {
                match word.as_str() {
                    "/etc/sluice/sluice.toml" => "sluice.toml".clone_into(word),
                    "/usr/local/share/man/man1" => "man1".clone_into(word),
                    "db-1" => "web-1".clone_into(word),
                    "db-2" => "web-2".clone_into(word),
                    _ => {}
                }
            }
            let said = words.join(" ");
            terminal.prepare(&said, count);
            terminal.number(&mut words);
            let seconds = if goes_on(&said) { 1 } else { 20 };
            let output = terminal.run(seconds, &words);
            let expected = match words[0].as_str() {
                // There is no terminal here, which it says; `veth_top` has one.
                "top" => 2,
                // It asks for what the documents' services serve, and their hosts here serve nothing: it says so; `veth_doctor` has hosts that do.
                "doctor" => 1,
                // `timeout` ends with 124 what goes on.
                _ if goes_on(&said) => 124,
                _ => 0,
            };
            assert_eq!(output.status.code(), Some(expected), "{}: {said}: {output:?}", path.display());
            count += 1;
        }
    }
    assert!(count > 45, "only {count} lines");
    assert!(asked > 40, "only {asked} questions to the API");
}

#[test]
fn the_example_of_the_library_drains_a_host_and_brings_it_back() {
    let terminal = Terminal::start();
    let example = sluice_binary().unwrap().parent().unwrap().join("examples/drain");
    assert!(example.is_file(), "cargo build -p lb-userspace --example drain");
    let run = |host: &str| {
        let mut command = Command::new(&example);
        command.arg(host).arg(terminal.daemon.socket()).stdin(std::process::Stdio::null());
        terminal.topology.balancer().ns.output(command).unwrap()
    };
    let done = run("web-2");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    for words in ["web-2: 0 flows are left", "web-2 is empty: 0 ended", "web-2 is back"] {
        assert!(said.contains(words), "{said}");
    }
    let receipts = terminal.daemon.cli_json(&["receipts", "--host", "web-2", "--json"]).unwrap();
    assert!(receipts.to_string().contains("maintenance by the example"), "{receipts}");
    let wrong = run("web-7");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("web-7"), "{wrong:?}");
}
