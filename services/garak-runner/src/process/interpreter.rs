//! Which Python has garak.

use std::path::{Path, PathBuf};

/// Where `make` installs the pinned garak, below the repository.
const INSTALLED: &str = ".tools/garak/bin/python";

/// The interpreter to use when the configuration names none: the installed one in any folder above
/// the executable or the working directory, else whatever `python3` is.
pub fn find_python() -> PathBuf {
    let starts = [std::env::current_exe().ok(), std::env::current_dir().ok()];
    starts
        .iter()
        .flatten()
        .find_map(|start| installed_above(start))
        .unwrap_or_else(|| PathBuf::from("python3"))
}

fn installed_above(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .map(|folder| folder.join(INSTALLED))
        .find(|python| python.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_installation_above_is_found() {
        let root = tempfile::tempdir().unwrap();
        let python = root.path().join(INSTALLED);
        std::fs::create_dir_all(python.parent().unwrap()).unwrap();
        std::fs::write(&python, "").unwrap();
        let deep = root.path().join("target/release/aegis");
        assert_eq!(installed_above(&deep), Some(python));
        assert_eq!(installed_above(Path::new("/nowhere/at/all")), None);
    }
}
