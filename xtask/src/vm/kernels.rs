//! The kernels that virtual machines boot: Debian's, and those of Ubuntu that are between them.

/// Who makes a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    Debian,
    Ubuntu,
}

/// A series of Linux, and where it is to be had.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// `6.1`
    pub series: &'static str,
    pub distribution: Distribution,
    /// What names of its packages end with: for virtual machines, where there is such a kernel.
    flavour: &'static str,
    /// Lines of apt's sources, without their beginnings.
    pub sources: &'static [&'static str],
    /// It is known to refuse the programs, or not to have what the daemon and the tests need; it is tried with nothing but `load`.
    pub is_too_old: bool,
}

const fn debian(series: &'static str, sources: &'static [&'static str]) -> Kernel {
    Kernel { series, distribution: Distribution::Debian, flavour: "cloud-amd64", sources, is_too_old: false }
}

const fn ubuntu(series: &'static str, flavour: &'static str, sources: &'static [&'static str]) -> Kernel {
    Kernel { series, distribution: Distribution::Ubuntu, flavour, sources, is_too_old: false }
}

const fn too_old(kernel: Kernel) -> Kernel {
    Kernel { is_too_old: true, ..kernel }
}

/// The oldest first. The only 5.14 that is to be had is none to judge by: its BTF is malformed, so it takes no program that has some.
pub const KERNELS: [Kernel; 8] = [
    too_old(debian("5.10", &["http://deb.debian.org/debian-security bullseye-security main"])),
    too_old(ubuntu("5.13", "generic", &["http://archive.ubuntu.com/ubuntu focal-updates main"])),
    ubuntu("5.15", "generic", &["http://archive.ubuntu.com/ubuntu jammy-updates main"]),
    debian(
        "6.1",
        &[
            "http://deb.debian.org/debian bookworm main",
            "http://deb.debian.org/debian-security bookworm-security main",
        ],
    ),
    ubuntu("6.8", "generic", &["http://archive.ubuntu.com/ubuntu noble-updates main"]),
    debian("6.12", &["http://deb.debian.org/debian trixie main"]),
    debian("6.18", &["http://deb.debian.org/debian trixie-backports main"]),
    debian("7.3", &["http://deb.debian.org/debian trixie-backports main"]),
];

/// That of CI.
pub const CI: &Kernel = &KERNELS[3];

impl Kernel {
    /// The one of this series.
    pub fn of(series: &str) -> Option<&'static Kernel> {
        KERNELS.iter().find(|kernel| kernel.series == series)
    }

    /// Name of its folder; to be changed with what is in it.
    pub fn folder(&self) -> String {
        format!("vm-linux-{}-nic", self.series)
    }

    /// What names of packages of kernels begin with, before what `uname -r` says.
    pub fn prefix(&self) -> &'static str {
        match self.distribution {
            Distribution::Debian => "linux-image-",
            Distribution::Ubuntu => "linux-image-unsigned-",
        }
    }

    /// Of names of packages among which the kernel is, for `apt-cache search`.
    pub fn pattern(&self) -> String {
        format!("^{}.*-{}$", self.prefix(), self.flavour)
    }

    /// The package of the newest kernel of the series among those that `apt-cache search` lists.
    pub fn newest(&self, listed: &str) -> Option<String> {
        let begin = format!("{}{}", self.prefix(), self.series);
        let packages = listed.lines().filter_map(|line| line.split_whitespace().next());
        let ours = packages.filter(|name| {
            // 6.1 is not 6.12, and a name without a number is one that depends on others.
            name.strip_prefix(&begin).is_some_and(|rest| rest.starts_with(['.', '+']))
        });
        ours.max_by_key(|name| numbers(name)).map(str::to_owned)
    }
}

/// The numbers in a name, in their order.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_series_is_by_number() {
        let listed = "linux-image-6.1-cloud-amd64 - Linux for x86-64 cloud (meta-package)\n\
                      linux-image-6.1.0-9-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)\n\
                      linux-image-6.1.0-56-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)\n\
                      linux-image-6.12.107+deb13-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)\n\
                      linux-image-6.12.95+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)\n";
        let newest = |series: &str| Kernel::of(series)?.newest(listed);
        assert_eq!(newest("6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(newest("6.12").as_deref(), Some("linux-image-6.12.107+deb13-cloud-amd64"));
        assert_eq!((newest("6.18"), newest("5.15")), (None, None));
        assert_eq!(CI.series, "6.1");
        let listed = "linux-image-unsigned-5.15.0-99-generic - Linux kernel image for version 5.15.0\n\
                      linux-image-unsigned-5.15.0-204-generic - Linux kernel image for version 5.15.0\n";
        let ubuntu = Kernel::of("5.15").expect("it is one of them");
        assert_eq!(ubuntu.newest(listed).as_deref(), Some("linux-image-unsigned-5.15.0-204-generic"));
        assert_eq!(ubuntu.pattern(), "^linux-image-unsigned-.*-generic$");
    }
}
