//! Folders of the machine that a program is built on, which the program must not name: two machines make the same bytes, and nobody learns
//! who built it where.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::bpf_toolchain::{self, Rustc};
use crate::rustup;
use crate::workspace::Workspace;

/// Letters around a folder that was found, to tell by what it got there.
const AROUND: usize = 60;

/// Each with the name that stands for it, those inside of others behind these: the compiler goes by the last that fits.
pub struct Folders(Vec<(PathBuf, &'static str)>);

impl Folders {
    /// # Errors
    /// When the compiler does not say where it is.
    pub fn of(workspace: &Workspace) -> Result<Folders> {
        let rustc = rustup::rustc();
        let mut folders = vec![
            (workspace.root.clone(), "/sluice"),
            (workspace.target.clone(), "/sluice/target"),
            (cargo_home(), "/cargo"),
        ];
        let host = Rustc::query(&rustc).map_err(anyhow::Error::msg)?;
        // The XDP programs may have a compiler of their own; without any the build says what to do.
        let bpf = bpf_toolchain::find(&rustc, &workspace.target_tools()).ok().map(|tools| tools.rustc);
        // Where Debian puts it is no secret.
        let toolchains = std::iter::once(host).chain(bpf).filter(|rustc| rustc.sysroot != Path::new("/usr"));
        folders.extend(toolchains.map(|rustc| (rustc.sysroot, "/rust")));
        Ok(Folders::sorted(folders))
    }

    fn sorted(mut folders: Vec<(PathBuf, &'static str)>) -> Folders {
        folders.sort_by_key(|(folder, _)| folder.components().count());
        folders.dedup();
        Folders(folders)
    }

    /// For the compiler.
    pub fn flags(&self) -> Vec<String> {
        let flag = |(folder, name): &(PathBuf, _)| format!("--remap-path-prefix={}={name}", folder.display());
        self.0.iter().map(flag).collect()
    }

    /// # Errors
    /// A program names one of them: which, and with what.
    pub fn absent_from(&self, program: &[u8]) -> Result<()> {
        for (folder, _) in &self.0 {
            let name = folder.as_os_str().as_encoded_bytes();
            let Some(at) = program.windows(name.len()).position(|bytes| bytes == name) else { continue };
            let around = &program[at.saturating_sub(AROUND)..program.len().min(at + name.len() + AROUND)];
            bail!(
                "the program names {}, a folder of this machine, in {:?}: xtask/src/dist/folders.rs has names for such folders",
                folder.display(),
                String::from_utf8_lossy(around)
            );
        }
        Ok(())
    }
}

/// Where the sources of libraries are.
fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or("/root".into())).join(".cargo");
    env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> Folders {
        let folders = [
            ("/home/eve/sluice/target", "/sluice/target"),
            ("/home/eve", "/e"),
            ("/home/eve/sluice", "/sluice"),
        ];
        Folders::sorted(folders.map(|(folder, name)| (PathBuf::from(folder), name)).into())
    }

    #[test]
    fn a_folder_inside_of_another_has_the_last_word() {
        assert_eq!(
            folders().flags(),
            [
                "--remap-path-prefix=/home/eve=/e",
                "--remap-path-prefix=/home/eve/sluice=/sluice",
                "--remap-path-prefix=/home/eve/sluice/target=/sluice/target",
            ]
        );
    }

    #[test]
    fn a_program_that_names_one_is_found_out() {
        assert!(folders().absent_from(b"\x7fELF /sluice/src/main.rs /home/adam\0").is_ok());
        let told =
            folders().absent_from(b"\x7fELF\0\xff/home/eve/.cargo/registry\0").expect_err("it names one");
        assert!(
            told.to_string().contains("names /home/eve,") && told.to_string().contains("registry"),
            "{told}"
        );
    }

    /// With the compiler of this very build.
    #[test]
    fn the_compilers_own_folder_is_among_them() {
        let workspace = Workspace::find().expect("this is a workspace");
        let flags = Folders::of(&workspace).expect("the compiler says where it is").flags();
        let sysroot = Rustc::query(&rustup::rustc()).expect("it runs").sysroot;
        let has = |name: &str| flags.iter().any(|flag| flag.ends_with(name));
        assert!(has("=/sluice") && has("=/sluice/target") && has("=/cargo"), "{flags:?}");
        assert_eq!(has("=/rust"), sysroot != Path::new("/usr"), "{flags:?}");
    }
}
