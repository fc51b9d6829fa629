//! The Rust toolchain that builds the rest, and components that rustup can add to it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::command::{Cmd, which};

/// The compiler that cargo uses for the host's crates.
pub fn rustc() -> PathBuf {
    if let Some(named) = env::var_os("RUSTC").filter(|named| !named.is_empty()) {
        return PathBuf::from(named);
    }
    let beside_cargo = env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustc"));
    beside_cargo.filter(|rustc| rustc.is_file()).unwrap_or_else(|| PathBuf::from("rustc"))
}

/// Whether cargo's subcommand of this name works, such as `fmt`: rustup puts a stand-in for it on `PATH` even
/// if the component is not there.
pub fn has_subcommand(root: &Path, name: &str) -> bool {
    Cmd::cargo(root).args([name, "--version"]).succeeds()
}

/// The command that adds components to the toolchain that runs this program.
pub fn add_components<C: AsRef<OsStr>>(components: &[C]) -> Cmd {
    let cmd = Cmd::new("rustup").args(["component", "add"]);
    let cmd = match toolchain() {
        Some(toolchain) => cmd.arg("--toolchain").arg(toolchain),
        None => cmd,
    };
    cmd.args(components)
}

/// Adds `rust-src`.
///
/// # Errors
/// Without rustup, when rustup cannot reach its server, and when it counts `rust-src` as installed although the
/// files are gone: then it will neither add nor remove the component.
pub fn add_rust_src(has_source: impl Fn() -> bool) -> Result<()> {
    if which("rustup").is_none() {
        bail!("there is no rustup on PATH");
    }
    add_components(&["rust-src"]).run()?;
    if !has_source() {
        let name = toolchain().unwrap_or("stable".into()).to_string_lossy().into_owned();
        bail!(
            "rustup counts rust-src as installed, but its files are gone; this mends it: \
             rustup toolchain uninstall {name} && rustup toolchain install {name} --component rust-src"
        );
    }
    Ok(())
}

/// Cargo's stand-in sets the variable to the toolchain that it chose.
fn toolchain() -> Option<OsString> {
    env::var_os("RUSTUP_TOOLCHAIN")
}
