//! What the virtual machine is made of: a kernel, QEMU and busybox, unpacked into the tools folder.
//!
//! Everything comes out of the archives of Debian and Ubuntu through an apt that has sources, lists and a (empty) list of installed packages
//! of its own, so that it can be had without root, changes nothing on the machine and does not meet what is installed:
//! QEMU comes with every library that it needs and starts by its own loader.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::kernels::{Distribution, Kernel};
use super::modules;
use crate::command::{Cmd, which};
use crate::tools_folder::{self, ToolsFolder};
use crate::workspace::Workspace;

/// The package that depends on the newest kernel of a suite.
pub const KERNEL: &str = "linux-image-cloud-amd64";

/// Name of the folder of QEMU and busybox; to be changed with what is in it.
const EMULATOR_FOLDER: &str = "vm-debian13-qemu";
/// QEMU before 8.1 now and then executes an instruction that another processor has just replaced: kernels, which replace theirs as
/// they run, die of it (`Oops: int3`).
const EMULATOR: [&str; 2] = ["qemu-system-x86", "busybox-static"];
const EMULATOR_SOURCES: [&str; 1] = ["http://deb.debian.org/debian trixie main"];
const BUSYBOX: &str = "debian/usr/bin/busybox";
/// Folder of the modules that the suites need; the others are thrown away.
const MODULES: &str = "modules";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Debian's package of Ubuntu's keys, and where they are in it.
const UBUNTU_KEYRING: (&str, &str) = ("ubuntu-keyring", "usr/share/keyrings/ubuntu-archive-keyring.gpg");
/// MiB. The suites of CI need half of it.
const MEMORY: &str = "1024";

/// A NIC whose driver joins packets on reception and takes VLAN tags off, as it comes, on a hub with nothing else. Without the ROM by which it could be
/// booted from.
const NIC: [&str; 4] = ["-netdev", "hubport,id=hub,hubid=0", "-device", "vmxnet3,netdev=hub,romfile="];

pub struct Machine {
    /// Of QEMU and busybox.
    emulator: PathBuf,
    /// Of the kernel and its modules.
    kernel: PathBuf,
    /// As `uname -r` says it.
    pub release: String,
}

impl Machine {
    /// The machine in the tools folders, if all of it is there and its QEMU starts.
    pub fn find(workspace: &Workspace, kernel: &Kernel) -> Option<Machine> {
        let emulator = find_emulator(workspace)?;
        let folders = tools_folder::all(workspace).map(|tools| tools.join(kernel.folder()));
        let (kernel, release) =
            folders.into_iter().find_map(|folder| Some((folder.clone(), release(&folder)?)))?;
        Some(Machine { emulator, kernel, release })
    }

    /// Downloads and unpacks what is missing of it.
    ///
    /// # Errors
    /// Without apt or Debian's keys, and when apt fails.
    pub fn install(workspace: &Workspace, kernel: &Kernel) -> Result<()> {
        for program in ["apt-get", "apt-cache", "dpkg-deb", "xz"] {
            if which(program).is_none() {
                bail!("there is no {program} here");
            }
        }
        if !Path::new(KEYRING).is_file() {
            bail!("there is no {KEYRING} to check Debian's packages with: install debian-archive-keyring");
        }
        let tools = ToolsFolder::lock(workspace)?;
        if find_emulator(workspace).is_none() {
            tools.install(EMULATOR_FOLDER, install_emulator)?;
        }
        if Self::find(workspace, kernel).is_none() {
            tools.install(&kernel.folder(), |folder| install_kernel(kernel, folder))?;
        }
        Ok(())
    }

    /// The kernel's modules for the suites, each after the ones that it needs.
    ///
    /// # Errors
    /// When one is not there.
    pub fn modules(&self) -> Result<Vec<PathBuf>> {
        modules::wanted(&self.kernel.join(MODULES))
    }

    /// A shell and all else, in one static binary.
    pub fn busybox(&self) -> PathBuf {
        self.emulator.join(BUSYBOX)
    }

    /// QEMU that boots the kernel with this initramfs, with the console on standard output. It ends with the process that
    /// started it, and takes no notice of `/dev/kvm`: where that is itself emulated, Debian's kernels may not boot. Nor do they where this
    /// machine is so busy that their timer seems not to tick, unless they do not look.
    pub fn command(&self, initramfs: &Path) -> Cmd {
        self.qemu()
            .args(["-L", &self.debian("usr/share/qemu"), "-L", &self.debian("usr/share/seabios")])
            .args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .args(NIC)
            .arg("-kernel")
            .arg(self.kernel.join(format!("vmlinuz-{}", self.release)))
            .arg("-initrd")
            .arg(initramfs)
            .arg("-append")
            .arg("console=ttyS0 quiet loglevel=3 panic=-1 tsc=reliable mitigations=off nokaslr audit=0 no_timer_check")
    }

    fn qemu(&self) -> Cmd {
        qemu(&self.emulator)
    }

    fn debian(&self, path: &str) -> String {
        in_debian(&self.emulator, path)
    }
}

fn qemu(folder: &Path) -> Cmd {
    let debian = |path: &str| in_debian(folder, path);
    Cmd::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(debian("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"))
        .args(["--library-path", &debian("usr/lib/x86_64-linux-gnu")])
        .arg(debian("usr/bin/qemu-system-x86_64"))
        .env("QEMU_MODULE_DIR", debian("usr/lib/x86_64-linux-gnu/qemu"))
}

fn in_debian(folder: &Path, path: &str) -> String {
    folder.join("debian").join(path).to_string_lossy().into_owned()
}

fn find_emulator(workspace: &Workspace) -> Option<PathBuf> {
    tools_folder::all(workspace).map(|tools| tools.join(EMULATOR_FOLDER)).find(|folder| starts(folder))
}

fn starts(folder: &Path) -> bool {
    folder.join(BUSYBOX).is_file() && qemu(folder).arg("--version").succeeds()
}

/// Of the kernel in a folder, if there is one.
fn release(folder: &Path) -> Option<String> {
    let mut entries = fs::read_dir(folder).ok()?.flatten();
    entries.find_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned()))
}

fn install_emulator(folder: &Path) -> Result<()> {
    let apt = Apt::new(folder.join("apt"), &EMULATOR_SOURCES, Path::new(KEYRING))?;
    apt.get(["-qq", "update"]).run()?;
    apt.get(["-qq", "install", "--download-only", "--no-install-recommends"]).args(EMULATOR).run()?;
    unpack(&apt.archives(), &folder.join("debian"))?;
    fs::remove_dir_all(folder.join("apt"))?;
    if !starts(folder) {
        bail!("QEMU of Debian 13 does not start here");
    }
    Ok(())
}

fn install_kernel(kernel: &Kernel, folder: &Path) -> Result<()> {
    let keyring = match kernel.distribution {
        Distribution::Debian => PathBuf::from(KEYRING),
        Distribution::Ubuntu => ubuntu_keyring(folder)?,
    };
    let apt = Apt::new(folder.join("apt"), kernel.sources, &keyring)?;
    apt.get(["-qq", "update"]).run()?;
    let package = kernel.newest(&apt.cache(["search", "--names-only", &kernel.pattern()]).output()?);
    let package =
        package.with_context(|| format!("{} has no Linux {}", kernel.sources.join(", "), kernel.series))?;
    // Ubuntu's, and Debian's from 7.2 on, depend on others, which have what is in them.
    let depends = apt.cache(["depends", &package]).output()?;
    apt.get(["-qq", "download", &package]).args(parts(&depends)).in_dir(&apt.archives()).run()?;
    let unpacked = folder.join("unpacked");
    unpack(&apt.archives(), &unpacked)?;
    let release = package.trim_start_matches(kernel.prefix());
    let image = format!("vmlinuz-{release}");
    let boot =
        [unpacked.join("boot").join(&image), unpacked.join("usr/lib/modules").join(release).join("vmlinuz")];
    let found = boot.iter().find(|path| path.is_file());
    let found = found.with_context(|| format!("the package {package} has no {image}"))?;
    fs::rename(found, folder.join(&image))?;
    let modules = ["lib/modules", "usr/lib/modules"].map(|path| unpacked.join(path).join(release));
    let modules = modules.iter().find(|path| path.is_dir());
    let modules = modules.with_context(|| format!("the package {package} has no modules"))?;
    for (ending, program) in [("*.ko.xz", "xz"), ("*.ko.zst", "unzstd")] {
        let unpack = [program, "-q", "-d", "{}", "+"];
        Cmd::new("find").arg(modules).args(["-name", ending, "-exec"]).args(unpack).run()?;
    }
    let kept = folder.join(MODULES);
    fs::create_dir(&kept)?;
    for module in modules::wanted(modules)? {
        let name = module.file_name().context("a module has a name")?;
        fs::rename(&module, kept.join(name))?;
    }
    let built_in = modules.join(modules::BUILT_IN);
    fs::rename(&built_in, kept.join(modules::BUILT_IN))
        .with_context(|| format!("the package {package} has no {}", built_in.display()))?;
    for temporary in ["unpacked", "apt", "keys", "keyring"].map(|name| folder.join(name)) {
        if temporary.exists() {
            fs::remove_dir_all(temporary)?;
        }
    }
    Ok(())
}

/// Ubuntu's keys, as Debian has them.
fn ubuntu_keyring(folder: &Path) -> Result<PathBuf> {
    let apt = Apt::new(folder.join("keys"), &EMULATOR_SOURCES, Path::new(KEYRING))?;
    apt.get(["-qq", "update"]).run()?;
    let (package, file) = UBUNTU_KEYRING;
    apt.get(["-qq", "download", package]).in_dir(&apt.archives()).run()?;
    let unpacked = folder.join("keyring");
    unpack(&apt.archives(), &unpacked)?;
    Ok(unpacked.join(file))
}

/// An apt that knows nothing of this machine but its way into the network.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: PathBuf, sources: &[&str], keyring: &Path) -> Result<Apt> {
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("cache/archives/partial"))?;
        fs::write(folder.join("status"), "")?;
        let keyring = keyring.display();
        let sources = sources.iter().map(|source| format!("deb [arch=amd64 signed-by={keyring}] {source}\n"));
        fs::write(folder.join("sources.list"), sources.collect::<String>())?;
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

/// The packages that have what is in a kernel, among those that `apt-cache depends` lists.
fn parts(depends: &str) -> Vec<String> {
    let names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let is_part = |name: &&str| {
        ["linux-base-", "linux-binary-", "linux-modules-"].iter().any(|part| name.starts_with(part))
    };
    names.filter(is_part).map(str::to_owned).collect()
}

/// Unpacks all packages into one folder.
fn unpack(archives: &Path, into: &Path) -> Result<()> {
    println!("setup: unpacking into {}", into.display());
    for entry in fs::read_dir(archives)? {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            Cmd::new("dpkg-deb").arg("-x").arg(&package).arg(into).output()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn a_kernel_in_parts_is_found_whole() {
        let whole = "linux-image-6.1.0-9-cloud-amd64\n  Depends: kmod\n  Recommends: firmware-linux-free\n";
        assert!(parts(whole).is_empty());
        let split = "linux-image-7.3-cloud-amd64\n  PreDepends: linux-base\n  Depends: linux-base-7.3-cloud-amd64\n\
                     \x20 Depends: linux-binary-7.3-cloud-amd64\n  Depends: linux-modules-7.3-cloud-amd64\n  Depends: kmod\n";
        let names = ["base", "binary", "modules"].map(|part| format!("linux-{part}-7.3-cloud-amd64"));
        assert_eq!(parts(split), names);
    }
}
