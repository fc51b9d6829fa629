//! Debian packages of the programs that tests, demo and benchmark call; looked for by program, so that it does
//! not matter where one came from.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::{Cmd, which};

/// A program, the Debian package that has it, and what it is for.
pub struct Tool {
    pub program: &'static str,
    pub package: &'static str,
    pub why: &'static str,
}

/// For namespaces, servers and traffic.
pub const RUNNING: &[Tool] = &[
    Tool { program: "ip", package: "iproute2", why: "network namespaces and veth pairs" },
    Tool { program: "ethtool", package: "ethtool", why: "full checksums on the packets of veth pairs" },
    Tool { program: "nft", package: "nftables", why: "what the veth benchmark compares with" },
    Tool { program: "ping", package: "iputils-ping", why: "checks that the namespaces reach each other" },
    Tool { program: "curl", package: "curl", why: "requests through the balancer" },
    Tool { program: "nginx", package: "nginx-light", why: "backends" },
    Tool { program: "h2load", package: "nghttp2-client", why: "many requests in one HTTP/2 connection" },
    Tool { program: "sshd", package: "openssh-server", why: "sessions through the balancer" },
    Tool { program: "ssh", package: "openssh-client", why: "the same" },
    Tool { program: "dnsmasq", package: "dnsmasq-base", why: "answers in fragments" },
    Tool { program: "dig", package: "bind9-dnsutils", why: "the same" },
    Tool { program: "iperf3", package: "iperf3", why: "transfers at full speed" },
    Tool { program: "bird", package: "bird2", why: "routers that learn of VIPs by BGP" },
    Tool { program: "prometheus", package: "prometheus", why: "a scrape of the metrics" },
    Tool { program: "promtool", package: "prometheus", why: "checks of alert rules" },
    Tool { program: "pg_ctlcluster", package: "postgresql", why: "a database with a standby" },
    Tool { program: "tshark", package: "tshark", why: "a look into capture files" },
    Tool { program: "traceroute", package: "traceroute", why: "the balancer as a hop" },
    Tool { program: "tmux", package: "tmux", why: "a terminal that a test looks at" },
    Tool { program: "zsh", package: "zsh", why: "completions where users have them" },
    Tool { program: "fish", package: "fish", why: "the same" },
    Tool { program: "chromium", package: "chromium", why: "a browser that shows the page" },
    Tool { program: "chromedriver", package: "chromium-driver", why: "what drives it" },
    Tool { program: "openssl", package: "openssl", why: "a certificate for the page" },
    Tool {
        program: "faketime",
        package: "faketime",
        why: "a wall clock that a test sets for the daemon alone",
    },
    Tool { program: "ps", package: "procps", why: "a look at processes, and sysctl" },
    Tool { program: "setpriv", package: "util-linux", why: "servers that refuse to run as root" },
    Tool { program: "nsenter", package: "util-linux", why: "commands inside a namespace" },
    Tool { program: "mount", package: "mount", why: "the BPF file system" },
];

/// A server that begins to run when its package is installed.
struct Server {
    program: &'static str,
    units: &'static [&'static str],
    /// The first one that there is counts.
    pid_files: &'static [&'static str],
}

const SERVERS: [Server; 5] = [
    Server {
        program: "prometheus",
        units: &["prometheus.service"],
        pid_files: &["/run/prometheus/prometheus.pid"],
    },
    Server { program: "nginx", units: &["nginx.service"], pid_files: &["/run/nginx.pid"] },
    Server { program: "bird", units: &["bird.service"], pid_files: &["/run/bird/bird.pid"] },
    Server { program: "sshd", units: &["ssh.service", "ssh.socket"], pid_files: &["/run/sshd.pid"] },
    // By its version, of Debian 12 and 13.
    Server {
        program: "pg_ctlcluster",
        units: &["postgresql.service"],
        pid_files: &["/run/postgresql/15-main.pid", "/run/postgresql/17-main.pid"],
    },
];

/// For a virtual machine; that itself comes with all it needs.
pub const BOOTING: &[Tool] = &[
    Tool { program: "strip", package: "binutils", why: "test binaries without what only a debugger reads" },
    Tool { program: "ldd", package: "libc-bin", why: "the libraries of test binaries" },
    Tool { program: "ip", package: "iproute2", why: "devices in a virtual machine, where it is copied to" },
    Tool { program: "ethtool", package: "ethtool", why: "their settings" },
    Tool {
        program: "systemctl",
        package: "systemd",
        why: "the unit of the daemon in a virtual machine, where it is copied to",
    },
    Tool { program: "setpriv", package: "util-linux", why: "a virtual machine that ends with its starter" },
];

/// For what is shipped.
pub const SHIPPING: &[Tool] = &[
    Tool { program: "dpkg-deb", package: "dpkg", why: "makes the Debian package" },
    Tool { program: "dpkg-shlibdeps", package: "dpkg-dev", why: "finds the packages that the program needs" },
    Tool { program: "strip", package: "binutils", why: "the program without what only a debugger reads" },
    Tool { program: "xz", package: "xz-utils", why: "compresses the tarball" },
];

/// For the Debian that packages are tried on.
pub const TRYING: &[Tool] = &[
    Tool { program: "lintian", package: "lintian", why: "Debian's own critic of packages" },
    Tool { program: "mmdebstrap", package: "mmdebstrap", why: "makes a Debian to install packages on" },
    Tool { program: "systemd-nspawn", package: "systemd-container", why: "boots it" },
    Tool { program: "script", package: "bsdutils", why: "the terminal that it has for a console" },
];

/// For fuzzing.
pub const FUZZING: &[Tool] =
    &[Tool { program: "g++", package: "g++", why: "compiles libFuzzer for the fuzz targets" }];

/// Which of the tools this machine lacks.
pub fn missing(tools: &'static [Tool]) -> Vec<&'static Tool> {
    tools.iter().filter(|tool| which(tool.program).is_none()).collect()
}

/// The command that installs packages; it waits for another apt, and removes nothing.
pub fn install_command<P: AsRef<str>>(packages: &[P]) -> Cmd {
    Cmd::new("apt-get")
        .args(["install", "-qy", "--no-install-recommends", "--no-remove"])
        .args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"])
        .args(packages.iter().map(|package| package.as_ref()))
        .env("DEBIAN_FRONTEND", "noninteractive")
}

/// Installs packages; starts no service that was not there before.
///
/// # Errors
/// Where apt is missing or fails.
pub fn install<P: AsRef<str>>(packages: &[P]) -> Result<()> {
    if which("apt-get").is_none() {
        let names: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
        bail!("there is no apt-get here: install what Debian calls {} by hand", names.join(", "));
    }
    let new: Vec<&Server> = SERVERS.iter().filter(|server| which(server.program).is_none()).collect();
    if let Err(error) = Cmd::new("apt-get").args(["-q", "update"]).run() {
        println!("{error:#}\nsetup: going on with the package lists that are here");
    }
    install_command(packages).run().context(
        "packages could not be installed: mend what apt complains of (`dpkg --configure -a`, network, sources)",
    )?;
    new.into_iter().filter(|server| which(server.program).is_some()).for_each(stop);
    Ok(())
}

/// Nobody asked for the server that a package starts: only the program is wanted.
fn stop(server: &Server) {
    let stop = if Path::new("/run/systemd/system").is_dir() {
        Cmd::new("systemctl").args(["disable", "--now"]).args(server.units)
    } else if let Some(pid) = server.pid_files.iter().find_map(|path| std::fs::read_to_string(path).ok()) {
        Cmd::new("kill").args([pid.trim()])
    } else {
        return;
    };
    if let Err(error) = stop.run() {
        println!("{error:#}\nsetup: the {} that came with its package may still run", server.program);
    }
}
