//! `cargo xtask dist --test`: the package's life on a Debian 12, by the suite `vm_package` of the integration tests, which runs in there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::deb::Package;
use super::debian::{self, Machine, SHARED};
use super::release::Release;
use crate::build;
use crate::command::Cmd;
use crate::suites;
use crate::vm::boot;
use crate::workspace::Workspace;

const SUITE: &str = "vm_package";
const PACKAGE: &str = "sluice-tests";
/// What the version that is upgraded to has behind that of the package: it comes after it.
const NEXT: &str = "+next";
/// Some ten times what it takes where nothing else runs.
const LIMIT: Duration = Duration::from_secs(600);

/// # Errors
/// When the package does not do what it is to, or Debian's own critic finds something.
pub fn run(workspace: &Workspace, release: &Release, deb: &Path, tarball: &Path) -> Result<()> {
    println!("\n== lintian");
    let critic = Cmd::new("lintian").args(["--fail-on", "error,warning", "--info"]).arg(deb).run();
    println!("\n== {} on {}", file_name(deb)?, debian::NAME);
    let shared = workspace.target.join("dist-test");
    if shared.exists() {
        fs::remove_dir_all(&shared).with_context(|| format!("cannot remove {}", shared.display()))?;
    }
    let work = shared.join("work");
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let next = next(workspace, release, &work, &shared)?;
    let old = shared.join(file_name(deb)?);
    fs::copy(deb, &old).with_context(|| format!("cannot copy {}", deb.display()))?;
    // The machine has no `xz`, which whoever unpacks the tarball needs.
    let bare = tarball.with_extension("");
    let bare = shared.join(bare.file_name().context("the tarball has no name")?);
    Cmd::new("sh")
        .args(["-c", "xz --decompress --stdout \"$0\" >\"$1\""])
        .arg(tarball)
        .arg(&bare)
        .output()?;
    let suite = suite(workspace)?;
    Cmd::new("strip").args(["--strip-debug", "-o"]).arg(shared.join(SUITE)).arg(suite).output()?;
    let script = shared.join("run");
    fs::write(&script, script_of(&file_name(&old)?, &file_name(&next)?, &file_name(&bare)?))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;

    let root = debian::find(workspace).context("the Debian to install packages on has gone")?;
    let machine = Machine { root: &root, shared: &shared }.command("run")?;
    let mut passed = 0;
    let status = boot::run(&machine, LIMIT, &mut |line| passed += u32::from(line.ends_with("... ok")));
    debian::tidy();
    let status = status?;
    if status != 0 || passed == 0 {
        bail!("the package does not live as it should: see above (status {status}, {passed} tests passed)");
    }
    fs::remove_dir_all(&shared).with_context(|| format!("cannot remove {}", shared.display()))?;
    critic.context("the package lives as it should, but Debian's critic finds something")
}

/// A package of a later version, whose program has another layout of the maps: what an upgrade has to take over.
fn next(workspace: &Workspace, release: &Release, work: &Path, folder: &Path) -> Result<PathBuf> {
    build::for_tests(workspace, &["sluice-next"])
        .args(["--features", "lb-userspace/layout-next"])
        .run_seeing(|_| ())?;
    let program = workspace.built("debug", "sluice-next")?;
    let version = format!("{}{NEXT}", release.debian);
    Package { workspace, release, version: &version, program: &program }.make(work, folder)
}

fn suite(workspace: &Workspace) -> Result<String> {
    let build = Cmd::cargo(&workspace.root).args(["test", "--no-run", "-p", PACKAGE, "--test", SUITE]);
    build.run_seeing(|_| ())?;
    suites::executable(&build.arg("--message-format=json").output()?, SUITE)
}

fn file_name(path: &Path) -> Result<String> {
    Ok(path
        .file_name()
        .with_context(|| format!("{} has no name", path.display()))?
        .to_string_lossy()
        .into_owned())
}

fn script_of(old: &str, next: &str, tarball: &str) -> String {
    format!(
        "#!/bin/sh\nexport HOME=/root SLUICE_DEB={SHARED}/{old} SLUICE_NEXT_DEB={SHARED}/{next} SLUICE_TARBALL={SHARED}/{tarball}\n\
         exec {SHARED}/{SUITE} --include-ignored --test-threads=1 --nocapture\n"
    )
}
