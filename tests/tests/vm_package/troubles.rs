//! Upgrades and removals at a bad moment: a version that does not start, a daemon that is just starting, a forwarding that cannot be ended.

use std::fs;
use std::path::Path;

use super::machine::{has_xdp, journal, pins, property, shell, until};
use super::site::Site;
use super::{HELD, POLICY, Packages, forbid_starts, install, nothing_is_held, pid, program_of_the_daemon};

/// A package whose daemon ends at once, whatever else its program can do.
fn broken(packages: &Packages) -> String {
    let (tree, deb) = ("/tmp/broken", "/tmp/sluice_broken.deb");
    shell(&format!("rm -rf {tree} && dpkg-deb -R {} {tree}", packages.next));
    shell(&format!("mv {tree}/usr/bin/sluice {tree}/usr/bin/sluice.real"));
    let script = "#!/bin/sh\nif [ \"$1\" = run ]; then echo 'it is broken' >&2; exit 1; fi\nexec /usr/bin/sluice.real \"$@\"\n";
    fs::write(format!("{tree}/usr/bin/sluice"), script).unwrap();
    shell(&format!(
        "chmod 755 {tree}/usr/bin/sluice && sed -i 's/^Version: .*/&broken/' {tree}/DEBIAN/control"
    ));
    shell(&format!("dpkg-deb -Znone -b {tree} {deb} >/dev/null"));
    deb.to_owned()
}

/// The version before runs again, and the next one takes over from it.
pub fn a_version_that_does_not_start(site: &Site, packages: &Packages) {
    let traffic = site.start_traffic();
    let first = pid();
    let said = install(&broken(packages));
    assert!(said.contains("That of the version before runs again"), "{said}");
    assert!(said.contains("the version before, too, which is kept as /usr/lib/sluice/held"), "{said}");
    assert!(journal().contains("it is broken"), "{}", journal());
    assert_ne!(pid(), first);
    assert_eq!((property("ActiveState"), program_of_the_daemon()), ("active".into(), HELD.into()));
    traffic.goes_on();
    let said = install(&packages.this);
    assert!(said.contains("has taken over"), "{said}");
    nothing_is_held();
    traffic.finish("an upgrade to a version that does not start, and one to a version that does");
}

/// It crashed, and its next start takes a while.
pub fn a_daemon_that_is_just_starting(site: &Site, packages: &Packages) {
    const SLOW: &str = "/run/systemd/system/sluice.service.d/slow.conf";
    let traffic = site.start_traffic();
    fs::create_dir_all(Path::new(SLOW).parent().unwrap()).unwrap();
    fs::write(SLOW, "[Service]\nExecStartPre=/bin/sleep 5\n").unwrap();
    shell(&format!("systemctl daemon-reload && kill -KILL {}", pid()));
    until("it is starting", || property("SubState") == "start-pre");
    let said = install(&packages.next);
    assert!(said.contains("has taken over") && !said.contains("policy"), "{said}");
    assert_eq!(
        (property("ActiveState"), program_of_the_daemon()),
        ("active".into(), "/usr/bin/sluice".into())
    );
    shell(&format!("rm {SLOW} && systemctl daemon-reload"));
    traffic.goes_on();
    install(&packages.this);
    nothing_is_held();
    traffic.finish("an upgrade while the daemon is starting");
}

/// A removal that cannot end forwarding says what is left to do, and a purge leaves no address behind all the same.
pub fn a_forwarding_that_cannot_be_ended(site: &Site) {
    let has_vip = || shell("ip -4 address show dev eth0").contains(&format!(" {}/32 ", site.vip()));
    assert!(has_vip());
    // Its daemon goes on.
    forbid_starts();
    let said = shell("apt-get remove -qy -o Dpkg::Use-Pty=0 sluice");
    fs::remove_file(POLICY).unwrap();
    assert!(said.contains("instance default is still forwarding"), "{said}");
    assert!(said.contains(&format!("    ip address del {}/32 dev eth0", site.vip())), "{said}");
    assert!(said.contains("    rm -r /sys/fs/bpf/sluice/default"), "{said}");
    shell("systemctl stop sluice");
    assert!(has_vip() && has_xdp("eth0"));
    shell("apt-get purge -qy -o Dpkg::Use-Pty=0 sluice");
    assert!(!has_vip(), "the VIP is left on the interface");
    assert_eq!((pins(), has_xdp("eth0")), (0, false));
}
