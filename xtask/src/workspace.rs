//! Where the checkout is, where cargo puts what it builds, and which test targets exist.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::Cmd;

pub struct Workspace {
    pub root: PathBuf,
    /// Cargo's target folder, as the environment or a cargo configuration file sets it.
    pub target: PathBuf,
    metadata: Value,
}

impl Workspace {
    /// # Errors
    /// When cargo cannot read the workspace.
    pub fn find() -> Result<Workspace> {
        // `cargo run` sets the variable; without it, the program was started by hand.
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest_dir).parent().context("xtask has no folder above it")?.to_owned();
        let printed = Cmd::cargo(&root).args(["metadata", "--no-deps", "--format-version=1"]).output()?;
        let metadata: Value = serde_json::from_str(&printed).context("cargo metadata is not JSON")?;
        let target =
            metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
        Ok(Workspace { target: PathBuf::from(target), root, metadata })
    }

    /// The same one in another folder, with a target folder of its own there.
    pub fn elsewhere(&self, root: PathBuf) -> Workspace {
        Workspace { target: root.join("target"), root, metadata: self.metadata.clone() }
    }

    /// Tools folders under the target folder, for when the user has no cache folder.
    pub fn target_tools(&self) -> Vec<PathBuf> {
        vec![self.target.join("tools")]
    }

    /// That of all packages.
    ///
    /// # Errors
    /// When cargo tells none.
    pub fn version(&self) -> Result<String> {
        let packages = self.metadata["packages"].as_array().into_iter().flatten();
        let mut versions = packages.filter_map(|package| package["version"].as_str());
        versions.next().map(str::to_owned).context("cargo metadata tells no version")
    }

    /// Names of the targets of one kind (`test`, `bin`, …) in a package, sorted.
    pub fn targets(&self, package: &str, kind: &str) -> Vec<String> {
        let packages = self.metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let targets = packages
            .iter()
            .filter(|candidate| candidate["name"] == package)
            .flat_map(|package| package["targets"].as_array().map(Vec::as_slice).unwrap_or_default());
        let mut names: Vec<String> = targets
            .filter(|target| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind)))
            .filter_map(|target| target["name"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        names
    }

    /// The built `sluice` of a profile's folder, `debug` or `release`.
    pub fn built(&self, profile: &str, bin: &str) -> Result<PathBuf> {
        let path = self.target.join(profile).join(bin);
        if !path.is_file() {
            bail!(
                "{} was not built there; is `build.target` set? then unset CARGO_BUILD_TARGET",
                path.display()
            );
        }
        Ok(path)
    }
}
