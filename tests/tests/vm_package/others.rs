//! Beside what was there before: a config that somebody has placed, a user of the same name, and an installation by the tarball.

use std::fs;
use std::path::Path;

use super::machine::{Stock, property, shell, try_shell};
use super::site::Site;
use super::{CONFIG, Packages, hosts_are_found, install, pid, program_of_the_daemon};

/// It is started with that config at once; and a user that is not the package's stays.
pub fn a_config_and_a_user_that_were_there(site: &Site, packages: &Packages, config: &str) {
    shell("useradd --uid 1500 --home-dir /srv/sluice sluice");
    shell("mkdir -p /etc/sluice");
    fs::write(CONFIG, config).unwrap();
    let said = install(&packages.this);
    assert!(!said.contains("not started") && !said.contains("no config yet"), "{said}");
    assert_eq!((property("ActiveState"), property("UnitFileState")), ("active".into(), "enabled".into()));
    assert_eq!(fs::read_to_string(CONFIG).unwrap(), config, "it is as it was placed");
    hosts_are_found();
    site.start_traffic().finish("a config that was there before the package");
    shell("apt-get purge -qy -o Dpkg::Use-Pty=0 sluice");
    let user = shell("getent passwd sluice");
    assert!(user.contains(":1500:") && user.contains("/srv/sluice"), "{user}");
    assert_ne!(try_shell("getent group sluice-read").0, 0, "this one was the package's");
    shell("userdel sluice");
}

/// The tarball, as its document says; then the package over it, which does not claim what is not so.
pub fn the_tarball_and_the_package_over_it(site: &Site, packages: &Packages, config: &str) {
    let before = Stock::take();
    let listed = shell(&format!("tar -tf {} | head -n 1", packages.tarball));
    let top = listed.trim().trim_end_matches('/').to_owned();
    let document = format!("tar -xOf {} {top}/share/doc/sluice/operations.md", packages.tarball);
    let document = String::from_utf8(super::output("sh", &["-c", &document]).stdout).unwrap();
    let mut lines = document.lines().filter_map(|line| line.strip_prefix("# "));
    let unpack = lines.by_ref().find(|line| line.starts_with("tar -C /usr/local")).unwrap();
    let (unpack, _) = unpack.split_once("sluice-").unwrap();
    shell(&format!("{unpack}{}", packages.tarball));
    lines.by_ref().take(2).for_each(|line| drop(shell(line)));
    assert!(fs::read_to_string(CONFIG).unwrap().contains("What must be there"));
    fs::write(CONFIG, config).unwrap();
    shell(&format!("sluice check {CONFIG} && systemctl start sluice && sluice status"));
    assert_eq!(program_of_the_daemon(), "/usr/local/bin/sluice");
    shell("man -w sluice");
    hosts_are_found();
    let traffic = site.start_traffic();
    another_tarball(lines, packages, &top);
    let first = pid();
    let said = install(&packages.this);
    assert!(!said.contains("has taken over"), "{said}");
    let unit = "/usr/local/lib/systemd/system/sluice.service";
    assert!(said.contains(&format!("that of another installation, by {unit}")), "{said}");
    assert_eq!((pid(), program_of_the_daemon()), (first, "/usr/local/bin/sluice".into()));
    // As it says.
    let follow = said.lines().filter_map(|line| line.strip_prefix("    "));
    let follow: Vec<&str> = follow
        .filter(|line| line.contains("upgrade --check") || line.contains("rm ") || line.contains("systemctl"))
        .collect();
    assert_eq!(follow.len(), 3, "{follow:?}");
    follow.into_iter().for_each(|line| drop(shell(line)));
    assert_eq!(
        (program_of_the_daemon(), property("ActiveState")),
        ("/usr/bin/sluice".into(), "active".into())
    );
    traffic.finish("the tarball's daemon, and the package's");
    for path in Stock::take().more(&before).iter().filter(|path| path.starts_with("/usr/local/")) {
        if Path::new(path).is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    shell("find /usr/local -mindepth 2 -type d -empty -delete");
}

/// The tarball over itself, and back, as its document says.
fn another_tarball<'a>(mut lines: impl Iterator<Item = &'a str>, packages: &Packages, top: &str) {
    let mut type_next = |begins: &str| {
        let line = lines.next().unwrap();
        assert!(line.starts_with(begins), "{line}");
        let first = pid();
        let archive = line.split_whitespace().find(|word| word.ends_with(".tar.xz"));
        let line = archive.map_or(line.to_owned(), |name| line.replace(name, &packages.tarball));
        let said = shell(&line.replace("sluice-0.1.0-x86_64-linux/", &format!("{top}/")));
        assert_eq!(pid() != first, line.contains("restart"), "{line}: {said}");
        // Of the file of before the kernel says that it is deleted.
        assert!(program_of_the_daemon().starts_with("/usr/local/bin/sluice"), "{line}: {said}");
        said
    };
    type_next("cp -a /usr/local/bin/sluice ");
    type_next("tar -C /tmp ");
    let said = type_next("/tmp/sluice-");
    assert!(said.contains("ready"), "{said}");
    type_next("tar -C /usr/local ");
    type_next("systemctl daemon-reload && systemctl restart sluice");
    type_next("mv /usr/local/bin/sluice.before ");
    assert!(shell("journalctl -u sluice -n 20").contains("took over the data path"));
    shell(&format!("rm -r /tmp/{top}"));
}
