//! The virtual machine's only file system: busybox, kernel modules, the suites and programs that they call with their libraries,
//! and an init that runs them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{boot, systemd};
use crate::command::Cmd;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
/// Where programs are that suites call.
const PROGRAMS: &str = "/programs";
/// Name of the machine's own NIC: where there is an `eth0` already, no pair for another network namespace can be made with that name.
const NIC: &str = "nic0";
/// The format ends with a file of this name.
const TRAILER: &str = "TRAILER!!!";

/// An archive in the making: cpio's format "newc" (the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`).
#[derive(Default)]
pub struct Initramfs {
    archive: Vec<u8>,
    entries: u32,
    paths: BTreeSet<PathBuf>,
    suites: Vec<Suite>,
    /// In the order in which they are to be loaded.
    modules: Vec<String>,
    /// The first process is systemd, and not the init itself.
    systemd: bool,
}

/// A test binary that is run.
struct Suite {
    name: String,
    /// Names of its tests that are not.
    without: &'static [&'static str],
}

impl Initramfs {
    pub fn new(busybox: &Path) -> Result<Initramfs> {
        let mut initramfs = Initramfs::default();
        for folder in ["/proc", "/sys", "/dev", "/tmp", "/run", "/var/lib"] {
            initramfs.folder(Path::new(folder));
        }
        initramfs.copy(busybox, Path::new("/bin/busybox"))?;
        // Servers ask who they are to run as.
        initramfs.file("/etc/passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n");
        initramfs.file("/etc/group", "root:x:0:\nnogroup:x:65534:\n");
        Ok(initramfs)
    }

    /// Adds a test binary, whose tests are run but `without` those by these names.
    pub fn add_suite(
        &mut self,
        name: &str,
        binary: &Path,
        without: &'static [&'static str],
        folder: &Path,
    ) -> Result<()> {
        self.add_binary(binary, &Path::new("/suites").join(name), folder)?;
        self.suites.push(Suite { name: name.to_owned(), without });
        Ok(())
    }

    /// Adds a program that suites call by its name. It comes before an applet of busybox.
    pub fn add_program(&mut self, binary: &Path, folder: &Path) -> Result<()> {
        let name = binary.file_name().with_context(|| format!("{} has no name", binary.display()))?;
        self.add_binary(binary, &Path::new(PROGRAMS).join(name), folder)
    }

    /// Makes this machine's systemd the first process there, which starts the init's suites as a service.
    ///
    /// # Errors
    /// Where this machine has none.
    pub fn add_systemd(&mut self, folder: &Path) -> Result<()> {
        systemd::PROGRAMS.iter().map(Path::new).try_for_each(|program| {
            self.add_binary(program, program, folder)
                .with_context(|| format!("{} is needed", program.display()))
        })?;
        for name in systemd::UNITS {
            let unit = Path::new(systemd::FOLDER).join(name);
            self.copy(&unit, &unit)?;
        }
        for (path, content) in systemd::FILES {
            if let Some(folder) = Path::new(path).parent() {
                self.folder(folder);
            }
            self.entry(Path::new(path), FILE, content.as_bytes());
        }
        self.systemd = true;
        Ok(())
    }

    /// Adds a kernel module, to be loaded after those that were added before.
    pub fn add_module(&mut self, file: &Path) -> Result<()> {
        let name = file.file_name().with_context(|| format!("{} has no name", file.display()))?;
        self.copy(file, &Path::new("/modules").join(name))?;
        self.modules.push(name.to_string_lossy().into_owned());
        Ok(())
    }

    /// Adds an executable, without its debugging information, and the libraries that it is linked with.
    fn add_binary(&mut self, binary: &Path, to: &Path, folder: &Path) -> Result<()> {
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        let stripped = folder.join(format!("{name}-{}", std::process::id()));
        Cmd::new("strip").args(["--strip-debug", "-o"]).arg(&stripped).arg(binary).output()?;
        self.copy(&stripped, to)?;
        fs::remove_file(&stripped).with_context(|| format!("cannot remove {}", stripped.display()))?;
        for library in libraries(&Cmd::new("ldd").arg(binary).output()?) {
            self.copy(&library, &library)?;
        }
        Ok(())
    }

    /// Adds the init, which runs the suites' tests by the filter, for as long as `limit`, and writes all into a file, which stays: for
    /// who boots it by hand.
    pub fn write(mut self, filter: Option<&str>, limit: Duration, to: &Path) -> Result<()> {
        let mut init = init(&self.modules, &self.suites, filter, limit);
        if self.systemd {
            self.entry(Path::new(systemd::SUITES), PROGRAM, init.as_bytes());
            init = systemd::init();
        }
        self.entry(Path::new("/init"), PROGRAM, init.as_bytes());
        self.entry(Path::new(TRAILER), 0, &[]);
        // Another run may be about to boot the one that is there.
        let unfinished = to.with_extension(std::process::id().to_string());
        fs::write(&unfinished, &self.archive)
            .and_then(|()| fs::rename(&unfinished, to))
            .with_context(|| format!("cannot write {}", to.display()))
    }

    fn file(&mut self, path: &str, content: &str) {
        let path = Path::new(path);
        path.parent().into_iter().for_each(|folder| self.folder(folder));
        self.entry(path, 0o100_644, content.as_bytes());
    }

    fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        if self.paths.contains(to) {
            return Ok(());
        }
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        let mode = fs::metadata(from)?.permissions().mode();
        if let Some(folder) = to.parent() {
            self.folder(folder);
        }
        self.entry(to, mode, &content);
        Ok(())
    }

    /// Adds a folder after the ones above it.
    fn folder(&mut self, path: &Path) {
        let missing: Vec<PathBuf> = path
            .ancestors()
            .filter(|path| path.parent().is_some() && !self.paths.contains(*path))
            .map(Path::to_owned)
            .collect();
        for folder in missing.into_iter().rev() {
            self.entry(&folder, DIRECTORY, &[]);
        }
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) {
        self.entries += 1;
        let name = path.to_string_lossy();
        let name = name.trim_start_matches('/');
        self.archive.extend_from_slice(b"070701");
        // Inode, mode, owner, group, links, time, size, device (4), length of the name, checksum (unused).
        let (size, length) = (content.len() as u32, name.len() as u32 + 1);
        for field in [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0] {
            self.archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.archive.extend_from_slice(name.as_bytes());
        self.archive.push(0);
        self.pad();
        self.archive.extend_from_slice(content);
        self.pad();
        self.paths.insert(path.to_owned());
    }

    /// Names and contents end at multiples of 4.
    fn pad(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}

/// Paths in what `ldd` prints: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn libraries(ldd: &str) -> Vec<PathBuf> {
    ldd.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

/// The first process. The suites go on one after another, whatever their ends; the machine ends by itself if they do not.
fn init(modules: &[String], suites: &[Suite], filter: Option<&str>, limit: Duration) -> String {
    let filter = filter.map_or(String::new(), |filter| format!(" '{}'", filter.replace('\'', r"'\''")));
    let loads: String =
        modules.iter().map(|module| format!("insmod /modules/{module} || status=1\n")).collect();
    let run = |Suite { name, without }: &Suite| {
        let without: String = without.iter().map(|name| format!(" --skip {name}")).collect();
        // On the host `cargo test` leaves them out.
        let ignored = if name.starts_with("vm_") { " --include-ignored" } else { "" };
        format!("/suites/{name}{filter}{without}{ignored} || status=$?\n")
    };
    let runs: String = suites.iter().map(run).collect();
    format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH={PROGRAMS}:/usr/local/bin:/usr/bin:/bin HOME=/ TMPDIR=/tmp SLUICE_BIN={PROGRAMS}/sluice\n\
         if [ $$ = 1 ]; then\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sys /sys\n\
         mount -t devtmpfs dev /dev\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         mount -t tmpfs tmp /tmp\n\
         mount -t tmpfs run /run\n\
         fi\n\
         ip link set lo up\n\
         (sleep {limit}; poweroff -f) &\n\
         echo {begun}\n\
         status=0\n\
         {loads}\
         [ ! -e /sys/class/net/eth0 ] || ip link set eth0 name {NIC}\n\
         {runs}\
         echo {ended} $status\n\
         poweroff -f\n",
        limit = limit.as_secs(),
        begun = boot::BEGUN,
        ended = boot::ENDED,
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(9);

    fn suite(name: &str, without: &'static [&'static str]) -> Suite {
        Suite { name: name.to_owned(), without }
    }

    #[test]
    fn libraries_are_the_paths_that_ldd_prints() {
        let printed = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                       \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries(printed), expected);
    }

    #[test]
    fn entries_are_aligned_and_folders_come_first() {
        let mut initramfs = Initramfs::default();
        initramfs.folder(Path::new("/a/b"));
        initramfs.folder(Path::new("/a"));
        initramfs.entry(Path::new("/a/b/file"), PROGRAM, b"abcde");
        assert_eq!(initramfs.entries, 3);
        let text = String::from_utf8(initramfs.archive).expect("ASCII");
        // Header of 110 bytes, name with its zero, padding.
        assert_eq!(text.len(), 112 + (110 + 4 + 2) + (110 + 10) + 8);
        assert!(text.starts_with("0707010000000100"), "{text}");
        assert_eq!(&text[110..112], "a\0");
        assert_eq!(&text[112 + 116 + 54..112 + 116 + 62], "00000005");
        assert!(text.ends_with("a/b/file\0\0abcde\0\0\0"), "{text}");
    }

    /// A module that cannot be loaded fails the run, and what `cargo test` ignores elsewhere runs here.
    #[test]
    fn modules_are_loaded_before_the_suites_that_need_them() {
        let suites = [suite("kernel_x", &["a::"]), suite("vm_y", &["b::", "c::"])];
        let script = init(&["a.ko", "b.ko"].map(str::to_owned), &suites, Some("z"), LIMIT);
        let lines: Vec<&str> = script.lines().filter(|line| line.contains("|| status=")).collect();
        let expected = [
            "insmod /modules/a.ko || status=1",
            "insmod /modules/b.ko || status=1",
            "/suites/kernel_x 'z' --skip a:: || status=$?",
            "/suites/vm_y 'z' --skip b:: --skip c:: --include-ignored || status=$?",
        ];
        assert_eq!(lines, expected);
    }

    /// A status that is not 0 is kept, whatever the suite after it says, and a filter is one word.
    #[test]
    fn the_init_tells_the_status_of_a_suite_that_failed() {
        let script = init(&[], &[suite("one", &[]), suite("two", &[])], Some("it's"), LIMIT);
        let suites: String = script
            .lines()
            .filter(|line| line.contains("status") || line.contains("echo"))
            // This machine is none of the suites'.
            .filter(|line| !line.contains("ip link") && !line.contains("insmod"))
            .map(|line| format!("{line}\n"))
            .collect();
        let tried = suites.replace("/suites/one", "sh -c 'exit 101' ").replace("/suites/two", "echo");
        let mut shell =
            Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh runs");
        shell.stdin.take().expect("piped").write_all(tried.as_bytes()).expect("sh reads");
        let output = shell.wait_with_output().expect("sh ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text, format!("{}\nit's\n{} 101\n", boot::BEGUN, boot::ENDED));
    }
}
