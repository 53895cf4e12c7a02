//! A page of a directory's objects, by the bytes of their keys.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Object;
use crate::domain::key::ObjectKey;

/// Up to `limit` objects whose keys begin with `prefix` and come after `after`, in order. Folders
/// that can have none are not opened, and no more than `limit` names of a folder are in memory,
/// whatever the store holds.
pub(super) fn list(
    root: &Path,
    prefix: &str,
    after: &str,
    limit: usize,
) -> io::Result<Vec<Object>> {
    let mut page = Page {
        root,
        prefix,
        after,
        limit,
        found: Vec::new(),
    };
    page.walk("")?;
    Ok(page.found)
}

struct Page<'a> {
    root: &'a Path,
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: Vec<Object>,
}

impl Page<'_> {
    /// `folder` is empty, or ends with a slash: so a folder sorts where its keys do.
    fn walk(&mut self, folder: &str) -> io::Result<()> {
        let mut last = String::new();
        loop {
            let names = self.names(folder, &last)?;
            for name in &names {
                if self.found.len() == self.limit {
                    return Ok(());
                }
                match name.ends_with('/') {
                    true => self.walk(name)?,
                    false => self.take(name)?,
                }
            }
            match names.last() {
                Some(name) if names.len() == self.limit => last.clone_from(name),
                _ => return Ok(()),
            }
        }
    }

    /// The first names of a folder after `last` that are of objects of this page, or of folders
    /// that may have some.
    fn names(&self, folder: &str, last: &str) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        let entries = match fs::read_dir(self.path(folder)) {
            // It was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            // What is no key was not put here by this store.
            let Ok(mut name) = entry.file_name().into_string() else {
                continue;
            };
            name.insert_str(0, folder);
            if entry.file_type()?.is_dir() {
                name.push('/');
            }
            if name.as_str() <= last || !self.may_have(&name) {
                continue;
            }
            names.insert(name);
            if names.len() > self.limit {
                names.pop_last();
            }
        }
        Ok(names)
    }

    fn may_have(&self, name: &str) -> bool {
        let is_folder = name.ends_with('/');
        let begins = name.starts_with(self.prefix) || is_folder && self.prefix.starts_with(name);
        begins && (name > self.after || is_folder && self.after.starts_with(name))
    }

    fn take(&mut self, name: &str) -> io::Result<()> {
        let Ok(key) = ObjectKey::parse(name) else {
            return Ok(());
        };
        let metadata = match fs::metadata(self.path(name)) {
            // It was deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            metadata => metadata?,
        };
        self.found.push(Object {
            key,
            size: metadata.len(),
            modified: metadata.modified().ok(),
        });
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}
