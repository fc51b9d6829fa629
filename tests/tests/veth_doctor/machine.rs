//! The machine: what the kernel has, and what the daemon may.

use crate::{Patient, is};

#[test]
fn traps_of_the_machine() {
    let patient = Patient::new();
    let doctor = patient.doctor(&patient.usual(""));
    let less = "setpriv --bounding-set=-bpf,-perfmon,-sys_admin";
    is(&patient.findings("error", &format!("{less} {doctor}"))[0], "capabilities", "CAP_BPF", "root");
    let quiet = "setpriv --bounding-set=-net_raw";
    is(&patient.only("warning", &format!("{quiet} {doctor}")), "capabilities", "CAP_NET_RAW", "CAP_NET_RAW");
    let unmounted = format!("unshare -m sh -c 'umount /sys/fs/bpf && {doctor}'");
    let found = patient.findings("note", &unmounted);
    assert!(
        found.iter().any(|found| found.starts_with("bpffs : ") && found.contains("mount -t bpf")),
        "{found:#?}"
    );
}

/// Files that the kernel would have on such a machine, in place of its own, for the doctor alone.
#[test]
fn traps_of_the_kernel() {
    let patient = Patient::new();
    let doctor = patient.doctor(&patient.usual(""));
    let with = |path: &str, text: &str| {
        let file = patient.folder.path().join("instead");
        std::fs::write(&file, text).unwrap();
        format!("unshare -m sh -c 'mount --bind {} {path} && {doctor}'", file.display())
    };
    // The first namespace alone has it: here its folder is another, for the doctor alone.
    let with_own = |path: &str, text: &str| {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let own = format!("mount -t tmpfs none {folder} && echo {text} > {folder}/{name}");
        format!("unshare -m sh -c '{own} && {doctor}'")
    };
    let old = with("/proc/sys/kernel/osrelease", "5.10.0-28-amd64\n");
    is(&patient.only("error", &old), "kernel", "Linux 5.10", "boot Linux 5.15 or later");
    // Red Hat's has BPF of later versions.
    let perhaps = with("/proc/sys/kernel/osrelease", "5.14.0-503.el9.x86_64\n");
    is(&patient.only("warning", &perhaps), "kernel", "Linux 5.14", "boot Linux 5.15 or later");
    let interpreted = with_own("/proc/sys/net/core/bpf_jit_enable", "0");
    is(&patient.only("warning", &interpreted), "jit", "interprets", "net.core.bpf_jit_enable=1");
    let measured = with("/proc/sys/kernel/bpf_stats_enabled", "1\n");
    is(&patient.only("warning", &measured), "bpf_stats", "measures", "kernel.bpf_stats_enabled=0");
    // 4096 pins are not much, and more than nothing.
    let full = with("/proc/meminfo", "MemTotal: 2048 kB\nMemFree: 1024 kB\nMemAvailable: 1024 kB\n");
    is(&patient.only("error", &full), "memory", "1 MiB can be had", "flow_table.pins");
    let without = format!("unshare -m sh -c 'mount -t tmpfs none /sys/kernel/btf && {doctor}'");
    is(
        &patient.only("error", &without),
        "btf",
        "/sys/kernel/btf/vmlinux is not there",
        "CONFIG_DEBUG_INFO_BTF",
    );
}
