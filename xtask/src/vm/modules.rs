//! Kernel modules, and what they need: a package of Debian's kernel has no `modules.dep`, which is made when it is installed,
//! but each module says it itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Devices of the suites: what veth pairs are plugged into, and what lies on top of them. Some need other modules.
const WANTED: [&str; 6] = ["veth", "bridge", "8021q", "bonding", "ipip", "ip6_tunnel"];

/// The wanted modules below a kernel's `lib/modules/RELEASE`, each after the ones that it needs.
///
/// # Errors
/// When one is not there.
pub fn wanted(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = BTreeMap::new();
    find(folder, &mut files)?;
    let mut found = Vec::new();
    for name in WANTED {
        add(name, &files, &mut found)?;
    }
    Ok(found)
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, found: &mut Vec<PathBuf>) -> Result<()> {
    let file = files.get(name).with_context(|| format!("the kernel has no module {name}"))?;
    if found.contains(file) {
        return Ok(());
    }
    let module = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    for needed in needs(&module) {
        add(&needed, files, found)?;
    }
    found.push(file.clone());
    Ok(())
}

/// Modules by name; in names of modules `-` and `_` are the same.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "ko")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            files.insert(name.replace('-', "_"), path);
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
        ];
        for (name, needs) in modules {
            let text = format!("\0depends={needs}\0");
            fs::write(folder.join("net").join(format!("{name}.ko")), text).expect("a file can be written");
        }
        let missing = wanted(&folder).expect_err("there is no bonding").to_string();
        fs::write(folder.join("bonding.ko"), "\0depends=\0").expect("a file can be written");
        let found = wanted(&folder);
        fs::remove_dir_all(&folder).expect("the folder can be removed");
        assert!(missing.contains("bonding"), "{missing}");
        let found = found.expect("all are there");
        let names: Vec<_> = found.iter().filter_map(|path| path.file_stem()?.to_str()).collect();
        let devices = ["veth", "stp", "bridge", "mrp", "garp", "8021q", "bonding"];
        assert_eq!(names, [&devices[..], &["ip_tunnel", "tunnel4", "ipip", "ip6_tunnel"]].concat());
    }
}
