//! OpenSSH: a command, a session that is silent for a while, and files in both directions.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use sluice_tests::LIMIT;
use sluice_tests::servers::pattern;
use sluice_tests::site::{Extra, Plan, Site, served};
use sluice_tests::topology::{Node, Process};

use crate::site::{bracketed, folder, serve, until};

/// Bytes of the file that is copied.
const COPIED: usize = 3 << 20;

fn make_key(path: &Path) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "sluice test", "-f"]).arg(path);
    assert!(command.status().unwrap().success());
}

fn start_server(site: &Site, plan: &Plan, host: &Node, folder: &Path) -> Process {
    let listen: String = served(&site.topology, host, plan)
        .iter()
        .map(|address| format!("ListenAddress {address}\n"))
        .collect();
    let shown = folder.display();
    let config = format!(
        "{listen}Port 22\nHostKey {shown}/server\nAuthorizedKeysFile {shown}/client.pub\nStrictModes no\n\
         PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n\
         PidFile none\nSetEnv SLUICE_HOST={}\nSubsystem sftp internal-sftp\n",
        host.name
    );
    let file = folder.join(format!("{}.conf", host.name));
    std::fs::write(&file, config).unwrap();
    // Where the unprivileged part of the server is shut in; Debian makes it at boot.
    std::fs::create_dir_all("/run/sshd").unwrap();
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(file);
    let log = folder.join(format!("{}.txt", host.name));
    let server = serve(host, command, &log);
    for address in served(&site.topology, host, plan) {
        let is_up = || host.ns.shell("ss -Hltn sport = :22").unwrap().contains(&bracketed(address));
        until(LIMIT, is_up, || std::fs::read_to_string(&log));
    }
    server
}

/// `ssh` or `scp` with the test's keys and nobody's settings.
fn client(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    let known = format!("UserKnownHostsFile={}/known", folder.display());
    let options = ["BatchMode=yes", "StrictHostKeyChecking=accept-new", "ConnectTimeout=20", &known];
    command.args(["-F", "none", "-q", "-i"]).arg(folder.join("client"));
    command.args(options.iter().flat_map(|option| ["-o", option]));
    command
}

fn commands_and_files(site: &Site, vip: IpAddr, folder: &Path) {
    let ns = &site.topology.client().ns;
    let user = format!("root@{vip}");
    let mut command = client("ssh", folder);
    command.arg(&user).arg("echo $SLUICE_HOST; sleep 1; echo end");
    let told = ns.run(command).unwrap();
    assert!(["h1\nend\n", "h2\nend\n"].contains(&told.as_str()), "{vip}: {told:?}");

    let (local, copy, back) = (folder.join("local"), folder.join("copy"), folder.join("back"));
    std::fs::write(&local, pattern(COPIED)).unwrap();
    let remote = |path: &Path| format!("root@{}:{}", bracketed(vip), path.display());
    let mut command = client("scp", folder);
    command.arg(&local).arg(remote(&copy));
    ns.run(command).unwrap();
    // Namespaces are of the network only: what a host wrote lies here.
    let mut command = client("scp", folder);
    command.arg(remote(&copy)).arg(&back);
    ns.run(command).unwrap();
    for path in [copy, back] {
        assert!(std::fs::read(&path).unwrap() == pattern(COPIED), "{vip}: {}", path.display());
        std::fs::remove_file(path).unwrap();
    }
}

pub fn service() -> Extra {
    Extra { name: "ssh", protocol: "\"tcp\"", port: "22", more: "" }
}

/// Commands and copies.
pub fn work(site: &Site, plan: &Plan) {
    let folder = folder(site, "ssh");
    ["server", "client"].iter().for_each(|name| make_key(&folder.path().join(name)));
    let hosts = site.topology.hosts();
    let servers: Vec<Process> =
        hosts.iter().map(|host| start_server(site, plan, host, folder.path())).collect();
    site.vips().into_iter().for_each(|vip| commands_and_files(site, vip, folder.path()));
    drop((servers, folder));
}
