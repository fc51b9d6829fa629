//! Writes the frames that fuzzing begins with into a folder, a file each: `sluice-seeds FOLDER`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use sluice_tests::seeds;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        bail!("one argument is wanted: the folder to write into");
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, frame) in seeds::frames().into_iter().chain(seeds::encapsulated()) {
        let path = folder.join(name);
        fs::write(&path, frame).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
