//! The kernels of Debian's that virtual machines boot.

/// A series of Linux, and where Debian has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// `6.1`
    pub series: &'static str,
    /// Lines of apt's sources, without their beginnings.
    pub sources: &'static [&'static str],
}

/// The oldest first.
pub const KERNELS: [Kernel; 5] = [
    Kernel { series: "5.10", sources: &["http://deb.debian.org/debian-security bullseye-security main"] },
    Kernel {
        series: "6.1",
        sources: &[
            "http://deb.debian.org/debian bookworm main",
            "http://deb.debian.org/debian-security bookworm-security main",
        ],
    },
    Kernel { series: "6.12", sources: &["http://deb.debian.org/debian trixie main"] },
    Kernel { series: "6.18", sources: &["http://deb.debian.org/debian trixie-backports main"] },
    Kernel { series: "7.3", sources: &["http://deb.debian.org/debian trixie-backports main"] },
];

/// That of CI.
pub const CI: &Kernel = &KERNELS[1];

impl Kernel {
    /// The one of this series.
    pub fn of(series: &str) -> Option<&'static Kernel> {
        KERNELS.iter().find(|kernel| kernel.series == series)
    }

    /// Name of its folder; to be changed with what is in it.
    pub fn folder(&self) -> String {
        format!("vm-linux-{}-tunnels", self.series)
    }

    /// The package of the newest kernel of the series among those that `apt-cache search` lists.
    pub fn newest(&self, listed: &str) -> Option<String> {
        let begin = format!("linux-image-{}", self.series);
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
    }
}
