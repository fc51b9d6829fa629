//! Which Rust compiler and which `bpf-linker` build the XDP programs, and where they are looked for.
//!
//! Compiled into `xtask`, which installs the tools, and into `lb-userspace/build.rs`, which uses them, so that
//! both look in the same places; therefore only the standard library is used here.
//!
//! The compiler, the library source that it compiles `core` from and LLVM inside `bpf-linker` must be of one
//! piece: bitcode of a newer LLVM cannot be read by an older one. Two sets of tools meet that:
//!
//! - the compiler that builds the rest, with rustup's `rust-src`, and a `bpf-linker` that opens the `libLLVM`
//!   which rustup ships inside the toolchain;
//! - Debian's `rustc-web` and `rust-web-src`, and a `bpf-linker` that is linked against Debian's `libLLVM`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Folder that holds `bpf-linker`; looked at before all others, and nothing else is looked at if it is set.
pub const LINKER_DIR_VAR: &str = "SLUICE_BPF_LINKER_DIR";
/// The compiler for the XDP programs; no other is tried if it is set.
pub const RUSTC_VAR: &str = "SLUICE_BPF_RUSTC";
/// The compiler of Debian's package `rustc-web`.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A release of `bpf-linker` and the compilers that it goes with.
#[derive(Debug, PartialEq, Eq)]
pub struct LinkerRelease {
    pub version: &'static str,
    /// Major version of the LLVM that it reads bitcode with.
    pub llvm: u32,
    /// Opens the `libLLVM` inside the Rust toolchain at run time instead of being linked against a system's.
    pub llvm_of_rustc: bool,
    /// Arguments of `cargo install` that choose this kind.
    pub install_args: &'static [&'static str],
}

/// rustc 1.95 to 1.97 have LLVM 22. Releases of `bpf-linker` after 0.10 no longer open rustc's own LLVM.
const LINKERS: &[LinkerRelease] = &[
    LinkerRelease { version: "0.10.4", llvm: 22, llvm_of_rustc: true, install_args: &[] },
    LinkerRelease {
        version: "0.13.0",
        llvm: 22,
        llvm_of_rustc: false,
        install_args: &["--no-default-features", "--features", "llvm-22"],
    },
];

impl LinkerRelease {
    /// Name of the folder under a tools folder; the program is in `bin` below it.
    pub fn folder(&self) -> String {
        let of = if self.llvm_of_rustc { "rustc" } else { "system" };
        format!("bpf-linker-{}-{of}-llvm{}", self.version, self.llvm)
    }
}

/// What a compiler says of itself.
#[derive(Debug, Clone)]
pub struct Rustc {
    pub program: PathBuf,
    pub release: String,
    pub llvm: u32,
    pub sysroot: PathBuf,
}

impl Rustc {
    /// Asks `program`; the error says why it cannot be used.
    pub fn query(program: &Path) -> Result<Rustc, String> {
        let version = output_of(Command::new(program).arg("-vV"))?;
        let sysroot = output_of(Command::new(program).args(["--print", "sysroot"]))?;
        let (release, llvm) = parse_version(&version)
            .ok_or_else(|| format!("`{} -vV` names no release or no LLVM version", program.display()))?;
        Ok(Rustc { program: program.to_owned(), release, llvm, sysroot: PathBuf::from(sysroot.trim_end()) })
    }

    /// Where the standard library's source of this very compiler must lie for `-Z build-std`.
    pub fn library_source(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }

    /// The source really is there: rustup can count `rust-src` as installed when the files are gone.
    pub fn has_library_source(&self) -> bool {
        self.library_source().join("core/src/lib.rs").is_file()
    }

    /// The folder with the `libLLVM` that came with this compiler, if one did.
    pub fn own_llvm(&self) -> Option<PathBuf> {
        let folder = self.sysroot.join("lib");
        let has = fs::read_dir(&folder)
            .ok()?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libLLVM"));
        has.then_some(folder)
    }

    /// The release of `bpf-linker` that goes with this compiler.
    pub fn linker_release(&self) -> Option<&'static LinkerRelease> {
        let own = self.own_llvm().is_some();
        LINKERS.iter().find(|release| release.llvm == self.llvm && release.llvm_of_rustc == own)
    }

    /// `LD_LIBRARY_PATH` under which `bpf-linker` opens this compiler's LLVM and no other's.
    pub fn library_path(&self) -> Option<OsString> {
        let mut paths: Vec<PathBuf> = self.own_llvm().into_iter().collect();
        paths.extend(env::var_os("LD_LIBRARY_PATH").iter().flat_map(|paths| env::split_paths(paths)));
        paths.retain(|path| !path.as_os_str().is_empty());
        if paths.is_empty() { None } else { env::join_paths(paths).ok() }
    }
}

/// A compiler and a linker that fit together.
#[derive(Debug)]
pub struct Toolchain {
    pub rustc: Rustc,
    /// Full path of `bpf-linker`.
    pub linker: PathBuf,
}

/// The tools that are ready for use: `rustc`, which builds the rest, or else Debian's compiler.
///
/// # Errors
/// A sentence for each compiler that was tried, saying what is missing.
pub fn find(rustc: &Path, target_tools: &[PathBuf]) -> Result<Toolchain, Vec<String>> {
    let mut reasons = Vec::new();
    for program in compilers(rustc) {
        match complete(&program, target_tools) {
            Ok(toolchain) => return Ok(toolchain),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons)
}

/// The compilers to try, the best first.
pub fn compilers(rustc: &Path) -> Vec<PathBuf> {
    match env::var_os(RUSTC_VAR) {
        Some(named) if !named.is_empty() => vec![PathBuf::from(named)],
        _ if rustc == Path::new(DEBIAN_RUSTC) => vec![rustc.to_owned()],
        _ => vec![rustc.to_owned(), PathBuf::from(DEBIAN_RUSTC)],
    }
}

fn complete(program: &Path, target_tools: &[PathBuf]) -> Result<Toolchain, String> {
    let rustc = Rustc::query(program)?;
    let name = format!("{} ({})", program.display(), rustc.release);
    let release = rustc
        .linker_release()
        .ok_or_else(|| format!("{name}: no known bpf-linker goes with its LLVM {}", rustc.llvm))?;
    if !rustc.has_library_source() {
        return Err(format!(
            "{name}: the library's source is missing at {}",
            rustc.library_source().display()
        ));
    }
    let linker = find_linker(&rustc, release, target_tools)
        .ok_or_else(|| format!("{name}: bpf-linker {} is not installed", release.version))?;
    Ok(Toolchain { rustc, linker })
}

/// A `bpf-linker` of this release that runs: in the folder that the user names, else in the user's cache, in
/// `target_tools`, or on `PATH`, where it has to prove that it links what `rustc` emits.
pub fn find_linker(rustc: &Rustc, release: &LinkerRelease, target_tools: &[PathBuf]) -> Option<PathBuf> {
    if let Some(named) = env::var_os(LINKER_DIR_VAR).filter(|named| !named.is_empty()) {
        let linker = PathBuf::from(named).join("bpf-linker");
        return runs(&linker).is_ok().then_some(linker);
    }
    let installed = cache_tools()
        .iter()
        .chain(target_tools)
        .map(|tools| tools.join(release.folder()).join("bin/bpf-linker"))
        .find(|linker| runs(linker).is_ok_and(|version| version == release.version));
    installed.or_else(|| {
        env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join("bpf-linker")).find(|linker| {
            linker.is_file()
                && runs(linker).is_ok_and(|version| version == release.version)
                && links(rustc, linker).is_ok()
        })
    })
}

/// The tools folder in the user's cache; it outlives a clone. `None` without a home.
pub fn cache_tools() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("sluice/tools"))
}

/// Version that a `bpf-linker` prints; the error says why it does not run.
pub fn runs(linker: &Path) -> Result<String, String> {
    let printed = output_of(Command::new(linker).arg("--version"))?;
    printed
        .trim()
        .strip_prefix("bpf-linker ")
        .map(str::to_owned)
        .ok_or_else(|| format!("{} is not bpf-linker: it says `{}`", linker.display(), printed.trim()))
}

/// Lets `linker` link a small module that `rustc` compiled, which fails when their LLVMs do not fit.
pub fn links(rustc: &Rustc, linker: &Path) -> Result<(), String> {
    let folder = env::temp_dir().join(format!("sluice-link-probe-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let result = link_probe(rustc, linker, &folder);
    // A folder that stays behind under the temporary folder harms nobody, so its removal may fail.
    fs::remove_dir_all(&folder).ok();
    result
}

fn link_probe(rustc: &Rustc, linker: &Path, folder: &Path) -> Result<(), String> {
    let source = "#![no_std]\n#[unsafe(no_mangle)]\npub extern \"C\" fn probe() -> u32 { 2 }\n";
    fs::write(folder.join("probe.rs"), source).map_err(|error| format!("cannot write a probe: {error}"))?;
    output_of(
        Command::new(&rustc.program)
            .current_dir(folder)
            .args(["--edition=2024", "--crate-type=lib", "--emit=llvm-bc", "-Cpanic=abort", "-Copt-level=2"])
            .args(["-o", "probe.bc", "probe.rs"]),
    )?;
    let mut link = Command::new(linker);
    if let Some(path) = rustc.library_path() {
        link.env("LD_LIBRARY_PATH", path);
    }
    output_of(link.current_dir(folder).args([
        "--target=bpfel",
        "--export=probe",
        "-o",
        "probe.o",
        "probe.bc",
    ]))
    .map(|_| ())
}

/// Release and LLVM's major version from `rustc -vV`.
pub fn parse_version(text: &str) -> Option<(String, u32)> {
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let llvm = field("LLVM version:")?.split('.').next()?.parse().ok()?;
    Some((field("release:")?.to_owned(), llvm))
}

fn output_of(command: &mut Command) -> Result<String, String> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {shown}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{shown} failed ({}): {}", output.status, said.trim()))
    }
}
