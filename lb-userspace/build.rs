//! Builds the XDP programs of `lb-ebpf` for the BPF target and leaves the objects in `OUT_DIR`, from where
//! `src/objects.rs` embeds them.
//!
//! A cargo of its own does it: the target needs `core` compiled from source and flags that must not reach the
//! host's crates. It gets a target folder of its own, because the outer cargo holds the lock of the usual one.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

#[allow(dead_code, reason = "xtask uses the rest")]
#[path = "../xtask/src/bpf_toolchain.rs"]
mod bpf_toolchain;

use bpf_toolchain::{LINKER_DIR_VAR, RUSTC_VAR, Toolchain};

const OBJECTS: [&str; 4] = ["sluice-lb", "sluice-decap", "sluice-feeder", "sluice-generator"];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let root = variable("CARGO_MANIFEST_DIR").map(PathBuf::from)?;
    let root = root.parent().ok_or("lb-userspace has no folder above it")?.to_owned();
    for path in ["Cargo.toml", "lb-ebpf/Cargo.toml", "lb-ebpf/src", "lb-common/Cargo.toml", "lb-common/src"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    for name in [LINKER_DIR_VAR, RUSTC_VAR] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.to_str() {
        Some("little") => "bpfel-unknown-none",
        _ => return Err("sluice runs on little-endian machines only".to_owned()),
    };

    let out = PathBuf::from(variable("OUT_DIR")?);
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE/out, or has the triple after TARGET when one was asked for.
    let tools: Vec<PathBuf> = out.ancestors().skip(4).take(2).map(|target| target.join("tools")).collect();
    let rustc = PathBuf::from(variable("RUSTC")?);
    let toolchain = bpf_toolchain::find(&rustc, &tools).map_err(|reasons| {
        format!(
            "the tools that build the XDP programs are missing: run `cargo xtask setup`\n{}",
            reasons.join("\n")
        )
    })?;

    let target_dir = out.join("bpf");
    compile(&root, target, &toolchain, &target_dir)?;
    for object in OBJECTS {
        let from = target_dir.join(target).join("release").join(object);
        fs::copy(&from, out.join(object))
            .map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
    }
    Ok(())
}

fn compile(root: &Path, target: &str, toolchain: &Toolchain, target_dir: &Path) -> Result<(), String> {
    let arch = variable("CARGO_CFG_TARGET_ARCH")?.to_string_lossy().into_owned();
    // v3 (kernel 5.1) has 32-bit jumps and, since 5.12, the atomics that the flow table needs. aya reads the
    // layout of maps from BTF, which the linker makes from the debug information.
    let mut flags = vec![
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
        format!("--cfg=bpf_target_arch=\"{arch}\""),
    ];
    flags.extend(remaps());
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(root)
        .args(["build", "--quiet", "--release", "--package=lb-ebpf", "--bins", "-Zbuild-std=core"])
        .args(log_feature())
        .args(layout_feature())
        .arg(format!("--target={target}"))
        .arg("--target-dir")
        .arg(target_dir)
        .env("RUSTC", &toolchain.rustc.program)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("PATH", path_with(&toolchain.linker)?);
    if let Some(path) = toolchain.rustc.library_path() {
        cargo.env("LD_LIBRARY_PATH", path);
    }
    // What the outer cargo or `cargo clippy` set for the host's crates.
    for name in
        ["RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS", "CLIPPY_CONF_DIR", "RUSTFLAGS", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(name);
    }
    let output = cargo
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run cargo for the XDP programs: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!(
            "the XDP programs do not build ({}):\n{said}\nby hand: cd {} && PATH={}:$PATH RUSTC={} RUSTC_BOOTSTRAP=1 \
             RUSTFLAGS='{}' cargo build --release -p lb-ebpf --bins -Zbuild-std=core --target={target} \
             --target-dir=target/bpf",
            output.status,
            root.display(),
            toolchain.linker.parent().unwrap_or(root).display(),
            toolchain.rustc.program.display(),
            flags.join(" "),
        ));
    }
    Ok(())
}

/// Of the flags for the host's crates, those that give folders other names: BTF and debug information name sources, and what is shipped must
/// not name folders of the machine that it was built on.
fn remaps() -> Vec<String> {
    const FLAG: &str = "--remap-path-prefix";
    let given = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let mut given = given.split('\x1f');
    let mut found = Vec::new();
    while let Some(flag) = given.next() {
        if flag == FLAG {
            found.extend(given.next().map(|value| format!("{FLAG}={value}")));
        } else if flag.starts_with(FLAG) {
            found.push(flag.to_owned());
        }
    }
    found
}

/// `PATH` with the linker's folder in front: the BPF target names its linker `bpf-linker`, without a folder.
fn path_with(linker: &Path) -> Result<OsString, String> {
    let folder = linker.parent().unwrap_or(Path::new("/")).to_owned();
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(folder).chain(env::split_paths(&path)))
        .map_err(|error| format!("cannot put bpf-linker on PATH: {error}"))
}

/// The data path of a debug build logs what must never happen, through aya-log.
fn log_feature() -> &'static [&'static str] {
    if env::var_os("PROFILE").is_some_and(|profile| profile == "debug") { &["--features=log"] } else { &[] }
}

/// The objects have the layout of the program that loads them.
fn layout_feature() -> &'static [&'static str] {
    if env::var_os("CARGO_FEATURE_LAYOUT_NEXT").is_some() { &["--features=layout-next"] } else { &[] }
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set; cargo sets it for build scripts"))
}
