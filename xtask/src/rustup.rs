//! The Rust toolchain that builds the rest, and components that rustup can add to it.

use std::env;
use std::ffi::OsStr;
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
    component("add", components)
}

/// Adds `rust-src`. Where rustup counts it as installed but the files are gone, it is removed first, because
/// adding would do nothing.
///
/// # Errors
/// Without rustup, and when rustup cannot reach its server.
pub fn add_rust_src(has_source: impl Fn() -> bool) -> Result<()> {
    if which("rustup").is_none() {
        bail!("there is no rustup on PATH");
    }
    add_components(&["rust-src"]).run()?;
    if !has_source() {
        component("remove", &["rust-src"]).run()?;
        add_components(&["rust-src"]).run()?;
    }
    if !has_source() {
        bail!("rustup says that rust-src is installed, but the library's source is not there");
    }
    Ok(())
}

fn component<C: AsRef<OsStr>>(verb: &str, components: &[C]) -> Cmd {
    let cmd = Cmd::new("rustup").args(["component", verb]);
    // Cargo's stand-in sets the variable to the toolchain that it chose.
    let cmd = match env::var_os("RUSTUP_TOOLCHAIN") {
        Some(toolchain) => cmd.arg("--toolchain").arg(toolchain),
        None => cmd,
    };
    cmd.args(components)
}
