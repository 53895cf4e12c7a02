//! The Python package `aegis_garak`, carried in this binary.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

#[derive(RustEmbed)]
#[folder = "python/"]
#[include = "aegis_garak/*.py"]
struct Package;

/// Puts the package under `folder` and returns the directory to import it from. A package that is
/// there already is taken as it is: its directory's name is the hash of its content, and it only
/// gets that name when it is whole.
pub(crate) fn unpack(folder: &Path) -> io::Result<PathBuf> {
    let home = folder.join(format!("aegis_garak-{}", hash()));
    if home.try_exists()? {
        return Ok(home);
    }
    let unfinished = folder.join(format!(".aegis_garak-{}", uuid::Uuid::new_v4()));
    for (name, content) in files() {
        let path = unfinished.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, content)?;
    }
    match fs::rename(&unfinished, &home) {
        // Another runner with this data directory may have been quicker.
        Err(_) if home.try_exists()? => fs::remove_dir_all(&unfinished)?,
        renamed => renamed?,
    }
    Ok(home)
}

fn files() -> impl Iterator<Item = (String, Vec<u8>)> {
    let mut names: Vec<String> = Package::iter().map(|name| name.into_owned()).collect();
    names.sort();
    names.into_iter().filter_map(|name| {
        let file = Package::get(&name)?;
        Some((name, file.data.into_owned()))
    })
}

fn hash() -> String {
    let mut sha256 = Sha256::new();
    for (name, content) in files() {
        sha256.update(name.as_bytes());
        sha256.update([0]);
        sha256.update((content.len() as u64).to_be_bytes());
        sha256.update(&content);
    }
    hex::encode(&sha256.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_unpacked_whole_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let home = unpack(folder.path()).unwrap();
        let warm = home.join("aegis_garak/warm.py");
        assert!(warm.is_file());
        assert!(
            fs::read_dir(home.join("aegis_garak"))
                .unwrap()
                .all(|entry| { entry.unwrap().path().extension().is_some_and(|e| e == "py") })
        );
        assert_eq!(unpack(folder.path()).unwrap(), home);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
