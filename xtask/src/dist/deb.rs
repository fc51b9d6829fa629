//! The Debian package, by dpkg's own tools from a tree of files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::release::Release;
use super::tree::{FILE, PROGRAM, Tree};
use super::{changelog, stage};
use crate::command::Cmd;
use crate::workspace::Workspace;

/// Folder of what a Debian package has beside the files that are installed.
const DEBIAN: &str = "packaging/debian";
/// Scripts that dpkg runs (deb-postinst(5) and the like).
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// In `packaging/debian/control`.
const MAINTAINER: &str = "Maintainer: ";

/// What goes into a package.
pub struct Package<'a> {
    pub workspace: &'a Workspace,
    pub release: &'a Release,
    /// As dpkg compares it: that of the release, but for packages that a test upgrades to.
    pub version: &'a str,
    /// The built `sluice`.
    pub program: &'a Path,
}

impl Package<'_> {
    /// Makes it in `folder`; its file's name has version and architecture. `work`: a folder for what lies about meanwhile.
    ///
    /// # Errors
    /// When one of dpkg's tools fails.
    pub fn make(&self, work: &Path, folder: &Path) -> Result<PathBuf> {
        let tree = Tree::new(work.join("package"))?;
        self.fill(&tree)?;
        let architecture = architecture()?;
        self.control(&tree, &architecture, &dependencies(self.program, work)?)?;
        let file = folder.join(format!("sluice_{}_{architecture}.deb", self.version));
        // All files are root's, and none is newer than the commit.
        Cmd::new("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "--build"])
            .arg(tree.root())
            .arg(&file)
            .env("SOURCE_DATE_EPOCH", self.release.commit.time.to_string())
            .output()?;
        fs::remove_dir_all(tree.root()).context("cannot remove the package's tree")?;
        Ok(file)
    }

    fn fill(&self, tree: &Tree) -> Result<()> {
        stage::fill(tree, &stage::PACKAGE, self.workspace, self.program)?;
        let root = &self.workspace.root;
        tree.copy(&root.join("packaging/example.toml"), "etc/sluice/example.toml", FILE)?;
        let debian = root.join(DEBIAN);
        for (from, to) in [
            ("copyright", "share/doc/sluice/copyright"),
            ("README.Debian", "share/doc/sluice/README.Debian"),
            ("lintian-overrides", "share/lintian/overrides/sluice"),
        ] {
            tree.copy(&debian.join(from), Path::new("usr").join(to), FILE)?;
        }
        let maintainer = self.template()?;
        let maintainer = maintainer.lines().find_map(|line| line.strip_prefix(MAINTAINER));
        let maintainer = maintainer.with_context(|| format!("{DEBIAN}/control names no maintainer"))?;
        let Release { changelog, commit, .. } = self.release;
        let text = changelog::for_debian(changelog, self.version, commit.time, maintainer)?;
        tree.put_gzipped("usr/share/doc/sluice/changelog", text)
    }

    /// What dpkg reads, in `DEBIAN`.
    fn control(&self, tree: &Tree, architecture: &str, dependencies: &str) -> Result<()> {
        let files = tree.files()?;
        let sums = Cmd::new("md5sum").args(&files).in_dir(tree.root()).output()?;
        let size = tree.size()?.to_string();
        let fields = [
            ("@version@", self.version),
            ("@architecture@", architecture),
            ("@size@", &size),
            ("@dependencies@", dependencies),
        ];
        let control = fields.iter().fold(self.template()?, |text, (name, value)| text.replace(name, value));
        tree.put("DEBIAN/control", control, FILE)?;
        tree.put("DEBIAN/md5sums", sums, FILE)?;
        let configs = files.iter().filter(|path| path.starts_with("etc"));
        let configs: String = configs.map(|path| format!("/{}\n", path.display())).collect();
        tree.put("DEBIAN/conffiles", configs, FILE)?;
        for script in SCRIPTS {
            let from = self.workspace.root.join(DEBIAN).join(script);
            tree.copy(&from, format!("DEBIAN/{script}"), PROGRAM)?;
        }
        Ok(())
    }

    fn template(&self) -> Result<String> {
        let path = self.workspace.root.join(DEBIAN).join("control");
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// As dpkg calls this machine's.
fn architecture() -> Result<String> {
    Ok(Cmd::new("dpkg").arg("--print-architecture").output()?.trim().to_owned())
}

/// The packages with the libraries that a program is linked with, in the versions that it needs: a field of a control file.
fn dependencies(program: &Path, work: &Path) -> Result<String> {
    // The tool belongs to a way of making packages that has a folder of this name.
    let debian = work.join("debian");
    fs::create_dir_all(&debian).with_context(|| format!("cannot make {}", debian.display()))?;
    fs::write(debian.join("control"), "Source: sluice\n\nPackage: sluice\nArchitecture: any\n")?;
    let said =
        Cmd::new("dpkg-shlibdeps").arg("-O").arg(format!("-e{}", program.display())).in_dir(work).output()?;
    fs::remove_dir_all(&debian).with_context(|| format!("cannot remove {}", debian.display()))?;
    let found = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    found.map(str::to_owned).with_context(|| format!("dpkg-shlibdeps tells no dependencies: {said}"))
}
