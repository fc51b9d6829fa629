//! `cargo xtask dist`: what is shipped. A Debian package, a tarball, a list of what is in the program, and checksums of these.

mod again;
pub mod changelog;
mod deb;
pub mod debian;
mod folders;
mod release;
mod sbom;
mod stage;
mod tarball;
mod third_party;
mod tree;
mod try_out;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::Cmd;
use crate::commit;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;
pub use again::run as again;
use deb::Package;
use folders::Folders;
pub use release::Release;

/// File with the checksums of the others.
const SUMS: &str = "SHA256SUMS";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask dist                  what is shipped, in target/dist
  cargo xtask dist --test           then the package's life on a Debian 12 that is booted for it: installed, configured, upgraded
                                    and downgraded under traffic, removed, purged (root; some minutes)

The same commit gives the same files, byte for byte, where compiler and dpkg are the same. A commit that the tag vVERSION names
gives VERSION, every other one VERSION~gitTIME.COMMIT, which comes before it.")]
pub struct Options {
    /// Then install, upgrade, downgrade, remove and purge the package on a Debian 12, under traffic (needs root)
    #[arg(long)]
    test: bool,
}

impl Options {
    /// With `--test`.
    pub fn tested() -> Options {
        Options { test: true }
    }
}

/// # Errors
/// When something cannot be made, or the package does not live as it should.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.test && !setup::is_root() {
        bail!("--test boots a Debian and makes network namespaces in it: run it as root");
    }
    setup::ensure(workspace, if options.test { Purpose::ShipAndTry } else { Purpose::Ship })?;
    let release = Release::of(workspace)?;
    let shipped = Shipped::make(workspace, &release)?;
    shipped.show()?;
    if options.test {
        try_out::run(workspace, &release, &shipped.deb, &shipped.tarball)?;
    }
    Ok(())
}

/// Files that are shipped, in a folder without others.
struct Shipped {
    folder: PathBuf,
    deb: PathBuf,
    tarball: PathBuf,
}

impl Shipped {
    fn make(workspace: &Workspace, release: &Release) -> Result<Shipped> {
        let folder = workspace.target.join("dist");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let work = folder.with_file_name("dist-work");
        for folder in [&folder, &work] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let program = build(workspace, release)?;
        let package = Package { workspace, release, version: &release.debian, program: &program };
        let deb = package.make(&work, &folder)?;
        let name = format!("sluice-{}-{}-linux", release.debian, std::env::consts::ARCH);
        let tarball = tarball::make(workspace, release, &program, &work.join(&name), &folder)?;
        let list = folder.join(format!("{name}.cdx.json"));
        fs::write(&list, sbom::make(workspace, release)?)
            .with_context(|| format!("cannot write {}", list.display()))?;
        let names = names(&folder)?;
        let sums = Cmd::new("sha256sum").args(&names).in_dir(&folder).output()?;
        fs::write(folder.join(SUMS), sums).with_context(|| format!("cannot write {SUMS}"))?;
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
        Ok(Shipped { folder, deb, tarball })
    }

    fn show(&self) -> Result<()> {
        println!("\n{}:", self.folder.display());
        for name in names(&self.folder)? {
            let size = fs::metadata(self.folder.join(&name))?.len();
            println!("  {:>9.1} KiB  {}", size as f64 / 1024.0, name.to_string_lossy());
        }
        println!("check them with: cd {} && sha256sum --check {SUMS}", self.folder.display());
        Ok(())
    }
}

fn names(folder: &Path) -> Result<Vec<OsString>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Compiles `sluice` as it is shipped, without symbols: it names its commit, and no folder of this machine.
fn build(workspace: &Workspace, release: &Release) -> Result<PathBuf> {
    let target = workspace.target.join("dist-build");
    let folders = Folders::of(workspace)?;
    let begun = Instant::now();
    Cmd::cargo(&workspace.root)
        .args([
            "build",
            "--locked",
            "--release",
            "--package",
            "lb-userspace",
            "--bin",
            "sluice",
            "--target-dir",
        ])
        .arg(&target)
        .env(commit::VAR, &release.commit.name)
        // Unlike RUSTFLAGS, it takes folders with blanks in their names.
        .env("CARGO_ENCODED_RUSTFLAGS", folders.flags().join("\x1f"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .run_seeing(|_| ())?;
    println!("built in {:.0} s", begun.elapsed().as_secs_f64());
    let program = target.join("sluice");
    Cmd::new("strip")
        .args(["--strip-all", "-o"])
        .arg(&program)
        .arg(target.join("release/sluice"))
        .output()?;
    let said = Cmd::new(&program).arg("--version").output()?;
    print!("{said}");
    if !said.contains(&release.commit.name) {
        bail!("it does not name its commit, {}", release.commit.name);
    }
    let bytes = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    folders.absent_from(&bytes)?;
    Ok(program)
}
