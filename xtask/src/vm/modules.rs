//! Kernel modules, and what they need: a package of Debian's kernel has no `modules.dep`, which is made when it is installed,
//! but each module says it itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Devices of the suites: what veth pairs are plugged into, what lies on top of them, and the machine's NIC. Some need other modules.
const WANTED: [&str; 10] =
    ["veth", "bridge", "8021q", "bonding", "ipip", "ip6_tunnel", "fou", "fou6", "sch_netem", "vmxnet3"];

/// The wanted modules below a kernel's `lib/modules/RELEASE`, each after the ones that it needs.
///
/// # Errors
/// When one is neither there nor in the kernel itself.
pub fn wanted(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = BTreeMap::new();
    find(folder, &mut files)?;
    // What is a part of the kernel needs no file.
    let built_in = fs::read_to_string(folder.join(BUILT_IN)).unwrap_or_default();
    let mut found = Vec::new();
    let mut known: BTreeSet<String> =
        built_in.lines().filter_map(|line| module_name(Path::new(line))).collect();
    for name in WANTED {
        add(name, &files, &mut known, &mut found)?;
    }
    Ok(found)
}

/// A kernel's list of what would be modules, had they not become parts of it.
pub const BUILT_IN: &str = "modules.builtin";

/// `a_b` of `…/a-b.ko`; in names of modules `-` and `_` are the same.
fn module_name(path: &Path) -> Option<String> {
    let is_module = path.extension().is_some_and(|extension| extension == "ko");
    is_module.then(|| path.file_stem()?.to_str().map(|name| name.replace('-', "_")))?
}

/// Adds a module that is not `known` yet.
fn add(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    known: &mut BTreeSet<String>,
    found: &mut Vec<PathBuf>,
) -> Result<()> {
    if !known.insert(name.to_owned()) {
        return Ok(());
    }
    let file = files.get(name).with_context(|| format!("the kernel has no module {name}"))?;
    let module = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    for needed in needs(&module) {
        add(&needed, files, known, found)?;
    }
    found.push(file.clone());
    Ok(())
}

/// Modules by name.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// What a module says that it needs: `depends=a,b` among the strings of its section `.modinfo`.
fn needs(module: &[u8]) -> Vec<String> {
    let said = module.split(|&byte| byte == 0).find_map(|string| string.strip_prefix(b"depends="));
    let said = String::from_utf8_lossy(said.unwrap_or_default());
    said.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_what_the_module_says() {
        assert_eq!(needs(b"\x7fELF\0license=GPL\0depends=mrp,garp-x\0name=8021q\0"), ["mrp", "garp_x"]);
        assert_eq!(needs(b"license=GPL\0depends=\0name=veth\0"), [""; 0]);
        assert_eq!(needs(b"\x7fELF"), [""; 0]);
    }

    #[test]
    fn a_module_comes_after_what_it_needs() {
        let folder = std::env::temp_dir().join(format!("sluice-modules-{}", std::process::id()));
        fs::create_dir_all(folder.join("net")).expect("a folder can be made");
        let modules = [
            ("8021q", "mrp,garp"),
            ("garp", "stp"),
            ("mrp", ""),
            ("stp", ""),
            ("bridge", "stp"),
            ("veth", ""),
            ("ipip", "ip_tunnel,tunnel4"),
            ("ip_tunnel", ""),
            ("tunnel4", ""),
            ("ip6_tunnel", ""),
            ("fou6", "fou"),
            ("vmxnet3", ""),
        ];
        for (name, needs) in modules {
            let text = format!("\0depends={needs}\0");
            fs::write(folder.join("net").join(format!("{name}.ko")), text).expect("a file can be written");
        }
        fs::write(folder.join(BUILT_IN), "kernel/net/sched/sch_netem.ko\nkernel/net/ipv4/fou.ko\n")
            .expect("a file can be written");
        let missing = wanted(&folder).expect_err("there is no bonding").to_string();
        fs::write(folder.join("bonding.ko"), "\0depends=\0").expect("a file can be written");
        let found = wanted(&folder);
        fs::remove_dir_all(&folder).expect("the folder can be removed");
        assert!(missing.contains("bonding"), "{missing}");
        let found = found.expect("all are there");
        let names: Vec<_> = found.iter().filter_map(|path| path.file_stem()?.to_str()).collect();
        let devices = ["veth", "stp", "bridge", "mrp", "garp", "8021q", "bonding"];
        assert_eq!(
            names,
            [&devices[..], &["ip_tunnel", "tunnel4", "ipip", "ip6_tunnel", "fou6", "vmxnet3"]].concat()
        );
    }
}
