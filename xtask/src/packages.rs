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
    Tool { program: "ps", package: "procps", why: "a look at processes, and sysctl" },
    Tool { program: "nsenter", package: "util-linux", why: "commands inside a namespace" },
    Tool { program: "mount", package: "mount", why: "the BPF file system" },
];

/// For a virtual machine; that itself comes with all it needs.
pub const BOOTING: &[Tool] = &[
    Tool { program: "strip", package: "binutils", why: "test binaries without what only a debugger reads" },
    Tool { program: "ldd", package: "libc-bin", why: "the libraries of test binaries" },
    Tool { program: "setpriv", package: "util-linux", why: "a virtual machine that ends with its starter" },
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
    let had_nginx = which("nginx").is_some();
    if let Err(error) = Cmd::new("apt-get").args(["-q", "update"]).run() {
        println!("{error:#}\nsetup: going on with the package lists that are here");
    }
    install_command(packages).run().context(
        "packages could not be installed: mend what apt complains of (`dpkg --configure -a`, network, sources)",
    )?;
    if !had_nginx && which("nginx").is_some() {
        stop_nginx();
    }
    Ok(())
}

/// The package starts a server on port 80, which nobody asked for: only the program is wanted.
fn stop_nginx() {
    let stop = if Path::new("/run/systemd/system").is_dir() {
        Cmd::new("systemctl").args(["disable", "--now", "nginx.service"])
    } else if Path::new("/run/nginx.pid").is_file() {
        Cmd::new("nginx").args(["-s", "stop"])
    } else {
        return;
    };
    if let Err(error) = stop.run() {
        println!("{error:#}\nsetup: the nginx that came with its package may still listen on port 80");
    }
}
