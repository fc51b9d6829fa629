//! The list of what is in the program (SBOM), in the format CycloneDX 1.5: all packages that are compiled into `sluice` and into the XDP programs
//! in it, with the compiler's own libraries, versions, licences, and who depends on whom. The same source and compiler give the same list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use cyclonedx_bom::models::component::Classification;
use cyclonedx_bom::models::dependency::{Dependencies, Dependency};
use cyclonedx_bom::models::license::{LicenseChoice, Licenses};
use cyclonedx_bom::prelude::{
    Bom, Component, Components, DateTime, Metadata, Purl, SpdxExpression, SpecVersion, Validate as _,
};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::release::Release;
use crate::bpf_toolchain::{self, Rustc};
use crate::command::Cmd;
use crate::rustup;
use crate::workspace::Workspace;

const SLUICE: &str = "lb-userspace";
const EBPF: &str = "lb-ebpf";
const EBPF_TARGET: &str = "bpfel-unknown-none";
/// The package that has the source of SQLite in it.
const SQLITE: &str = "libsqlite3-sys";
/// What `cargo tree` is to print of a package, behind its depth.
const FORMAT: &str = "{p}|{l}";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// An SPDX expression, or the like.
    pub license: String,
    /// Of this repository, and not of the registry.
    pub is_own: bool,
}

/// Packages by what the list calls them, and whom each depends on.
#[derive(Debug, Default)]
pub struct Graph {
    pub packages: BTreeMap<String, Package>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

/// The list as JSON.
///
/// # Errors
/// When cargo fails, or the list would not be valid.
pub fn make(workspace: &Workspace, release: &Release) -> Result<Vec<u8>> {
    let compilers = Compilers::of(workspace)?;
    let mut graph = Graph::of(workspace, &compilers)?;
    let (main, programs) = (graph.reference(SLUICE)?, graph.reference(EBPF)?);
    // Compiled on its own, and embedded.
    graph.edges.entry(main.clone()).or_default().insert(programs.clone());
    let mut bom = bom(&graph, &main, release)?;
    add(&mut bom, &graph.reference(SQLITE)?, sqlite(workspace)?);
    add(&mut bom, &main, compilers.library("std", &compilers.host.release)?);
    add(&mut bom, &programs, compilers.library("core", &compilers.bpf.release)?);
    print(bom)
}

/// Those that compile the program, and the XDP programs in it: their libraries are linked, too.
pub struct Compilers {
    /// What the program runs on, as the compiler calls it.
    pub target: String,
    pub host: Rustc,
    bpf: Rustc,
}

impl Compilers {
    /// # Errors
    /// When one does not say what it is.
    pub fn of(workspace: &Workspace) -> Result<Compilers> {
        let rustc = rustup::rustc();
        let host = Rustc::query(&rustc).map_err(anyhow::Error::msg)?;
        let bpf = bpf_toolchain::find(&rustc, &workspace.target_tools());
        let bpf = bpf.map_err(|reasons| anyhow!("run `cargo xtask setup`: {}", reasons.join("; ")))?.rustc;
        let said = Cmd::new(&rustc).arg("-vV").output()?;
        let target = said.lines().find_map(|line| line.strip_prefix("host: "));
        let target = target.context("`rustc -vV` names no host")?.to_owned();
        Ok(Compilers { target, host, bpf })
    }

    fn library(&self, name: &str, release: &str) -> Result<Component> {
        let purl = Purl::new("generic", "rust", release)?;
        Ok(Component {
            purl: Some(purl),
            licenses: licenses("MIT OR Apache-2.0"),
            ..Component::new(Classification::Library, name, release, Some(format!("rust-{name}@{release}")))
        })
    }
}

/// # Errors
/// It is not valid.
fn print(bom: Bom) -> Result<Vec<u8>> {
    let result = bom.validate_version(SpecVersion::V1_5);
    if result.has_errors() {
        bail!("the list of what is in the program is not valid: {result:?}");
    }
    let mut json = Vec::new();
    bom.output_as_json_v1_5(&mut json)?;
    json.push(b'\n');
    Ok(json)
}

impl Graph {
    /// Of the program and of the XDP programs in it.
    ///
    /// # Errors
    /// When cargo fails.
    pub fn of(workspace: &Workspace, compilers: &Compilers) -> Result<Graph> {
        let mut graph = Graph::default();
        for (package, target) in [(SLUICE, compilers.target.as_str()), (EBPF, EBPF_TARGET)] {
            let tree = Cmd::cargo(&workspace.root)
                .args(["tree", "--locked", "--edges", "normal", "--prefix", "depth", "--format", FORMAT])
                .args(["--package", package, "--target", target])
                .output()?;
            graph.add(&tree).with_context(|| format!("what `cargo tree` says of {package}"))?;
        }
        Ok(graph)
    }

    /// Adds lines such as `1anyhow v1.0.104|MIT OR Apache-2.0`, each below the one that it is a dependency of.
    fn add(&mut self, tree: &str) -> Result<()> {
        let mut above: Vec<String> = Vec::new();
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let malformed = || format!("`{line}` is of another form than `1anyhow v1.0.104|MIT`");
            let digits = line.len() - line.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (depth, rest) = line.split_at(digits);
            let depth: usize = depth.parse().with_context(malformed)?;
            let (package, license) = rest.split_once('|').with_context(malformed)?;
            let mut words = package.split(' ');
            let name = words.next().with_context(malformed)?.to_owned();
            let version =
                words.next().and_then(|version| version.strip_prefix('v')).with_context(malformed)?;
            // Below one that was listed before, there is a star, and nothing more.
            let license = license.trim_end_matches(" (*)").to_owned();
            let is_own = words.any(|word| word.starts_with("(/"));
            let reference = format!("{name}@{version}");
            above.truncate(depth);
            if let Some(parent) = above.last() {
                self.edges.entry(parent.clone()).or_default().insert(reference.clone());
            }
            above.push(reference.clone());
            self.packages.insert(reference, Package { name, version: version.to_owned(), license, is_own });
        }
        Ok(())
    }

    fn reference(&self, name: &str) -> Result<String> {
        let mut found = self.packages.iter().filter(|(_, package)| package.name == name);
        match (found.next(), found.next()) {
            (Some((reference, _)), None) => Ok(reference.clone()),
            _ => bail!("{name} is not there once"),
        }
    }
}

fn bom(graph: &Graph, main: &str, release: &Release) -> Result<Bom> {
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(release.commit.time)?)?.format(&Rfc3339)?;
    let mut components = Vec::new();
    for (reference, package) in graph.packages.iter().filter(|(reference, _)| *reference != main) {
        components.push(component(reference, package)?);
    }
    let license = &graph.packages[main].license;
    let program = Component {
        licenses: licenses(license),
        ..Component::new(Classification::Application, "sluice", &release.debian, Some(main.to_owned()))
    };
    let dependencies = graph.packages.keys().map(|reference| Dependency {
        dependency_ref: reference.clone(),
        dependencies: graph.edges.get(reference).into_iter().flatten().cloned().collect(),
    });
    Ok(Bom {
        // Another one each time would tell equal lists apart.
        serial_number: None,
        spec_version: SpecVersion::V1_5,
        metadata: Some(Metadata {
            timestamp: Some(DateTime::try_from(time)?),
            component: Some(program),
            ..Metadata::default()
        }),
        components: Some(Components(components)),
        dependencies: Some(Dependencies(dependencies.collect())),
        ..Bom::default()
    })
}

fn component(reference: &str, package: &Package) -> Result<Component> {
    let Package { name, version, license, is_own } = package;
    let purl = (!is_own).then(|| Purl::new("cargo", name, version)).transpose()?;
    Ok(Component {
        purl,
        licenses: licenses(license),
        ..Component::new(Classification::Library, name, version, Some(reference.to_owned()))
    })
}

/// An expression if it is one, such as those with a slash of old; else the words as they are.
fn licenses(text: &str) -> Option<Licenses> {
    let choice = match SpdxExpression::parse_lax(text.to_owned()) {
        _ if text.is_empty() => return None,
        Ok(expression) => LicenseChoice::Expression(expression),
        Err(_) => LicenseChoice::license(text),
    };
    Some(Licenses(vec![choice]))
}

/// SQLite is written in C, so cargo does not know it, and lists of vulnerabilities do.
fn sqlite(workspace: &Workspace) -> Result<Component> {
    let metadata =
        Cmd::cargo(&workspace.root).args(["metadata", "--locked", "--format-version=1"]).output()?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is not JSON")?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages.find(|package| package["name"] == SQLITE);
    let manifest = manifest.and_then(|package| package["manifest_path"].as_str());
    let manifest = Path::new(manifest.with_context(|| format!("cargo knows no {SQLITE}"))?);
    let header = manifest.with_file_name("sqlite3").join("sqlite3.h");
    let text = fs::read_to_string(&header).with_context(|| format!("cannot read {}", header.display()))?;
    let version = sqlite_version(&text);
    let version = version.with_context(|| format!("{} tells no version", header.display()))?;
    Ok(Component {
        purl: Some(Purl::new("generic", "sqlite", version)?),
        licenses: Some(Licenses(vec![LicenseChoice::license("Public Domain")])),
        ..Component::new(Classification::Library, "sqlite", version, Some(format!("sqlite@{version}")))
    })
}

fn sqlite_version(header: &str) -> Option<&str> {
    header.lines().find_map(|line| line.strip_prefix("#define SQLITE_VERSION ")?.split('"').nth(1))
}

/// Adds what cargo does not know.
fn add(bom: &mut Bom, parent: &str, component: Component) {
    let reference = component.bom_ref.clone().unwrap_or_default();
    if let Some(Dependencies(all)) = &mut bom.dependencies {
        let parent = all.iter_mut().find(|dependency| dependency.dependency_ref == parent);
        parent.into_iter().for_each(|parent| parent.dependencies.push(reference.clone()));
        all.push(Dependency { dependency_ref: reference, dependencies: Vec::new() });
    }
    bom.components.get_or_insert(Components(Vec::new())).0.push(component);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::Commit;

    const TREE: &str = "0lb-userspace v0.1.0 (/src/lb-userspace)|MIT OR Apache-2.0\n1anyhow v1.0.1|MIT/Apache-2.0\n\
                        1libsqlite3-sys v0.37.0|MIT\n2odd v1.0.0 (proc-macro)|see LICENCE\n1anyhow v1.0.1|MIT/Apache-2.0 (*)\n";

    fn graph() -> Graph {
        let mut graph = Graph::default();
        graph.add(TREE).expect("it is well formed");
        graph
    }

    fn compiler(release: &str) -> Rustc {
        Rustc { program: "rustc".into(), release: release.to_owned(), llvm: 22, sysroot: "/usr".into() }
    }

    #[test]
    fn a_tree_becomes_a_graph() {
        let graph = graph();
        assert_eq!(graph.packages.len(), 4);
        assert!(graph.packages["lb-userspace@0.1.0"].is_own && !graph.packages["odd@1.0.0"].is_own);
        let edges =
            |of: &str| graph.edges.get(of).into_iter().flatten().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(edges("lb-userspace@0.1.0"), ["anyhow@1.0.1", "libsqlite3-sys@0.37.0"]);
        assert_eq!(edges("libsqlite3-sys@0.37.0"), ["odd@1.0.0"]);
        assert_eq!(graph.reference("anyhow").expect("once"), "anyhow@1.0.1");
        assert!(graph.reference("tokio").is_err());
        assert!(Graph::default().add("anyhow v1|MIT").is_err());
    }

    #[test]
    fn the_list_is_valid_and_the_same_each_time() {
        let commit = Commit { name: "c".to_owned(), time: 1_790_000_000, described: String::new() };
        let release = Release {
            version: "0.1.0".to_owned(),
            debian: "0.1.0~git1".to_owned(),
            commit,
            changelog: Vec::new(),
        };
        let made = || {
            let mut bom = bom(&graph(), "lb-userspace@0.1.0", &release).expect("made");
            let version =
                sqlite_version("/* */\n#define SQLITE_VERSION        \"3.51.1\"\n").expect("it is there");
            let sqlite =
                Component::new(Classification::Library, "sqlite", version, Some(format!("sqlite@{version}")));
            add(&mut bom, "libsqlite3-sys@0.37.0", sqlite);
            let compilers =
                Compilers { target: String::new(), host: compiler("1.95.0"), bpf: compiler("1.96.0") };
            for (name, of) in [("std", &compilers.host), ("core", &compilers.bpf)] {
                let library = compilers.library(name, &of.release).expect("made");
                add(&mut bom, "lb-userspace@0.1.0", library);
            }
            print(bom).expect("it is valid")
        };
        let list: Value = serde_json::from_slice(&made()).expect("JSON");
        assert_eq!(list["metadata"]["component"]["version"], "0.1.0~git1");
        let of = |name: &str| {
            let components = list["components"].as_array().expect("a list");
            components.iter().find(|component| component["name"] == name).expect("it is there").clone()
        };
        assert_eq!(of("anyhow")["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(of("anyhow")["purl"], "pkg:cargo/anyhow@1.0.1");
        assert_eq!(of("odd")["licenses"][0]["license"]["name"], "see LICENCE");
        assert_eq!(of("sqlite")["version"], "3.51.1");
        assert_eq!((&of("std")["version"], &of("core")["version"]), (&"1.95.0".into(), &"1.96.0".into()));
        assert_eq!(made(), made());
    }

    #[test]
    fn what_hangs_in_the_air_is_not_valid() {
        let dependency = Dependency { dependency_ref: "nobody@1".to_owned(), dependencies: Vec::new() };
        let bom = Bom { dependencies: Some(Dependencies(vec![dependency])), ..Bom::default() };
        assert!(print(bom).is_err());
    }
}
