//! What the virtual machine is made of: Debian 12's kernel, QEMU and busybox, unpacked into the tools folder.
//!
//! Everything comes out of Debian's archive through an apt that has sources, lists and a (empty) list of installed packages
//! of its own, so that it can be had without root, changes nothing on the machine and does not meet what is installed:
//! QEMU comes with every library that it needs and starts by its own loader.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::modules;
use crate::command::{Cmd, which};
use crate::tools_folder::{self, ToolsFolder};
use crate::workspace::Workspace;

/// For people.
pub const NAME: &str = "Linux 6.1 of Debian 12 in QEMU";
/// What there is to download, for people.
pub const SIZE: &str = "85 MB";
/// The package that depends on the newest kernel.
pub const KERNEL: &str = "linux-image-cloud-amd64";

/// Name of the folder; to be changed with what is in it.
const FOLDER: &str = "vm-debian12-linux6.1-devices";
const KERNEL_PREFIX: &str = "linux-image-6.1.";
const EMULATOR: [&str; 2] = ["qemu-system-x86", "busybox-static"];
/// Folder of the modules that the suites need; the others are thrown away.
const MODULES: &str = "modules";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const SOURCES: [&str; 2] = [
    "http://deb.debian.org/debian bookworm main",
    "http://deb.debian.org/debian-security bookworm-security main",
];
/// MiB. The suites need half of it.
const MEMORY: &str = "1024";

pub struct Machine {
    folder: PathBuf,
    /// As `uname -r` says it.
    pub release: String,
}

impl Machine {
    /// The machine in one of the tools folders, if it is there and its QEMU starts.
    pub fn find(workspace: &Workspace) -> Option<Machine> {
        tools_folder::all(workspace).find_map(|tools| Self::in_folder(tools.join(FOLDER)))
    }

    fn in_folder(folder: PathBuf) -> Option<Machine> {
        let release = fs::read_dir(&folder)
            .ok()?
            .flatten()
            .find_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned()))?;
        let machine = Machine { folder, release };
        (machine.busybox().is_file() && machine.qemu().arg("--version").succeeds()).then_some(machine)
    }

    /// Downloads and unpacks it.
    ///
    /// # Errors
    /// Without apt or Debian's keys, and when apt fails.
    pub fn install(workspace: &Workspace) -> Result<()> {
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            if which(program).is_none() {
                bail!("there is no {program} here");
            }
        }
        if !Path::new(KEYRING).is_file() {
            bail!("there is no {KEYRING} to check Debian's packages with: install debian-archive-keyring");
        }
        let tools = ToolsFolder::lock(workspace)?;
        if Self::find(workspace).is_some() {
            return Ok(());
        }
        tools.install(FOLDER, |folder| {
            let apt = Apt::new(folder.join("apt"))?;
            apt.get(["-qq", "update"]).run()?;
            apt.get(["-qq", "install", "--download-only", "--no-install-recommends"]).args(EMULATOR).run()?;
            let kernel = newest_kernel(&apt.cache(["depends", KERNEL]).output()?)
                .with_context(|| format!("{KERNEL} depends on no {KERNEL_PREFIX}*"))?;
            apt.get(["-qq", "download", &kernel]).in_dir(&apt.archives()).run()?;
            unpack(&apt.archives(), folder)?;
            let release = kernel.trim_start_matches("linux-image-");
            let image = format!("vmlinuz-{release}");
            fs::rename(folder.join("kernel/boot").join(&image), folder.join(&image))
                .with_context(|| format!("the package {kernel} has no boot/{image}"))?;
            let kept = folder.join(MODULES);
            fs::create_dir(&kept)?;
            for module in modules::wanted(&folder.join("kernel/lib/modules").join(release))? {
                let name = module.file_name().context("a module has a name")?;
                fs::rename(&module, kept.join(name))?;
            }
            fs::remove_dir_all(folder.join("kernel"))?;
            fs::remove_dir_all(folder.join("apt"))?;
            if Self::in_folder(folder.to_owned()).is_none() {
                bail!("QEMU of Debian 12 does not start here");
            }
            Ok(())
        })
    }

    /// The kernel's modules for the suites, each after the ones that it needs.
    ///
    /// # Errors
    /// When one is not there.
    pub fn modules(&self) -> Result<Vec<PathBuf>> {
        modules::wanted(&self.folder.join(MODULES))
    }

    /// A shell and all else, in one static binary.
    pub fn busybox(&self) -> PathBuf {
        self.folder.join("debian/bin/busybox")
    }

    /// QEMU that boots the kernel with this initramfs, with the console on standard output. It ends with the process that
    /// started it, and takes no notice of `/dev/kvm`: where that is itself emulated, Debian's kernels may not boot.
    pub fn command(&self, initramfs: &Path) -> Cmd {
        self.qemu()
            .args(["-L", &self.debian("usr/share/qemu"), "-L", &self.debian("usr/share/seabios")])
            .args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .arg("-kernel")
            .arg(self.folder.join(format!("vmlinuz-{}", self.release)))
            .arg("-initrd")
            .arg(initramfs)
            .arg("-append")
            .arg("console=ttyS0 quiet loglevel=3 panic=-1 tsc=reliable mitigations=off nokaslr audit=0")
    }

    fn qemu(&self) -> Cmd {
        let libraries =
            ["lib", "usr/lib"].map(|lib| self.debian(&format!("{lib}/x86_64-linux-gnu"))).join(":");
        Cmd::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(self.debian("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"))
            .args(["--library-path", &libraries])
            .arg(self.debian("usr/bin/qemu-system-x86_64"))
            .env("QEMU_MODULE_DIR", self.debian("usr/lib/x86_64-linux-gnu/qemu"))
    }

    fn debian(&self, path: &str) -> String {
        self.folder.join("debian").join(path).to_string_lossy().into_owned()
    }
}

/// An apt that knows nothing of this machine but its way into the network.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: PathBuf) -> Result<Apt> {
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("cache/archives/partial"))?;
        fs::write(folder.join("status"), "")?;
        let sources = SOURCES.map(|source| format!("deb [arch=amd64 signed-by={KEYRING}] {source}\n"));
        fs::write(folder.join("sources.list"), sources.concat())?;
        let path = |name: &str| folder.join(name).display().to_string();
        let settings = [
            ("Dir::State", path("")),
            ("Dir::State::status", path("status")),
            ("Dir::Cache", path("cache")),
            ("Dir::Etc::SourceList", path("sources.list")),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("Dir::Etc::Preferences", "/dev/null".to_owned()),
            ("Dir::Etc::PreferencesParts", "/dev/null".to_owned()),
            ("APT::Architecture", "amd64".to_owned()),
            // apt's own user cannot write to a home.
            ("APT::Sandbox::User", "root".to_owned()),
        ];
        let settings = settings.map(|(name, value)| format!("{name} \"{value}\";\n"));
        fs::write(folder.join("apt.conf"), settings.concat())?;
        Ok(Apt { folder })
    }

    fn archives(&self) -> PathBuf {
        self.folder.join("cache/archives")
    }

    fn get<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Cmd {
        self.isolated("apt-get").args(arguments)
    }

    fn cache<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Cmd {
        self.isolated("apt-cache").args(arguments)
    }

    fn isolated(&self, program: &str) -> Cmd {
        // After the machine's own settings, of which proxies are to be kept.
        Cmd::new(program)
            .arg("-c")
            .arg(self.folder.join("apt.conf"))
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
    }
}

/// The kernel among the packages that `apt-cache depends` lists.
fn newest_kernel(depends: &str) -> Option<String> {
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with(KERNEL_PREFIX))
        .map(str::to_owned)
}

/// Unpacks the kernel into `kernel` and everything else into `debian`.
fn unpack(archives: &Path, folder: &Path) -> Result<()> {
    println!("setup: unpacking into {}", folder.display());
    for entry in fs::read_dir(archives)? {
        let package = entry?.path();
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        if !name.ends_with(".deb") {
            continue;
        }
        let into = if name.starts_with(KERNEL_PREFIX) { "kernel" } else { "debian" };
        Cmd::new("dpkg-deb").arg("-x").arg(&package).arg(folder.join(into)).output()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::newest_kernel;

    #[test]
    fn the_kernel_is_found_among_the_dependencies() {
        let depends =
            "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Recommends: x\n";
        assert_eq!(newest_kernel(depends).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(
            newest_kernel("linux-image-cloud-amd64\n  Depends: linux-image-6.12.9-cloud-amd64\n"),
            None
        );
        assert_eq!(newest_kernel(""), None);
    }
}
