//! This machine's systemd as the first process of the virtual machine: as little of it as starts, stops and watches a service.

/// Programs, with their libraries, where they are on both machines.
pub const PROGRAMS: [&str; 5] = [
    "/lib/systemd/systemd",
    "/usr/bin/systemctl",
    "/usr/bin/systemd-analyze",
    "/usr/bin/systemd-sysusers",
    "/usr/bin/systemd-tmpfiles",
];

/// Where its units are.
pub const FOLDER: &str = "/lib/systemd/system";

/// What services of the usual kind wait for.
pub const UNITS: [&str; 11] = [
    "basic.target",
    "local-fs.target",
    "multi-user.target",
    "network-pre.target",
    "paths.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "swap.target",
    "sysinit.target",
    "timers.target",
];

/// The script that runs the suites.
pub const SUITES: &str = "/suites/run";

/// Users, and the service that runs the suites: it is the machine's only purpose.
pub const FILES: [(&str, &str); 4] = [
    ("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n"),
    ("/etc/group", "root:x:0:\n"),
    ("/etc/machine-id", "uninitialized\n"),
    (
        "/lib/systemd/system/suites.service",
        "[Unit]\nDescription=Test suites\nDefaultDependencies=no\nAfter=basic.target\nWants=basic.target\n\
         [Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/suites/run\n\
         StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/console\nKillMode=process\nDelegate=yes\n",
    ),
];

/// The first process, until it becomes systemd. The kernel's BPF file system is mounted by systemd, as its own.
pub fn init() -> String {
    "#!/bin/busybox sh\n\
     /bin/busybox --install -s /bin\n\
     mkdir -p /usr/local/bin /root\n\
     mount -t proc proc /proc\n\
     mount -t sysfs sys /sys\n\
     mount -t devtmpfs dev /dev\n\
     export PATH=/usr/local/bin:/usr/bin:/bin\n\
     exec /lib/systemd/systemd --unit=suites.service --show-status=no --log-level=warning --log-target=console\n"
        .to_owned()
}
