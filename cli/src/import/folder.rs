//! What lies in a folder that the old system or garak left.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;
use walkdir::{DirEntry, WalkDir};

/// Folders within folders that are looked into.
const MAX_DEPTH: usize = 6;
/// Most files of one import: their names are kept.
const MAX_FILES: usize = 1_000_000;

/// What was found, by what it is.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) reports: Vec<ReportFiles>,
    pub(super) templates: Vec<PathBuf>,
    /// Python files.
    pub(super) probes: Vec<PathBuf>,
    /// `metadata.json` beside them.
    pub(super) probe_lists: Vec<PathBuf>,
    /// What cannot be taken, and why.
    pub(super) unusable: Vec<(PathBuf, String)>,
    /// Nothing that an import takes.
    pub(super) ignored: Vec<PathBuf>,
    companions: BTreeSet<PathBuf>,
    files: usize,
}

/// A report and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReportFiles {
    pub(super) report: PathBuf,
    pub(super) hitlog: Option<PathBuf>,
    pub(super) html: Option<PathBuf>,
    /// Of its name; a report that somebody else named has none.
    pub(super) scan_id: Option<Uuid>,
    /// Its name alone makes it a report, or somebody who named it did.
    pub(super) is_sure: bool,
}

impl Found {
    /// Looks through folders, and takes files as reports.
    pub(super) fn look(paths: &[PathBuf]) -> io::Result<Self> {
        let mut found = Self::default();
        let mut named = Vec::new();
        for path in paths {
            match std::fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => found.look_into(path),
                Ok(metadata) if metadata.is_file() => named.push(path.clone()),
                Ok(_) => found.leave(path, "neither a folder nor a file"),
                Err(error) => {
                    let shown = path.display();
                    return Err(io::Error::new(error.kind(), format!("{shown}: {error}")));
                }
            }
        }
        found.add_named(named);
        found.pair();
        Ok(found)
    }

    fn look_into(&mut self, folder: &Path) {
        let root = match folder.canonicalize() {
            Ok(root) => root,
            Err(error) => return self.leave(folder, &error.to_string()),
        };
        let walk = WalkDir::new(folder)
            .max_depth(MAX_DEPTH + 1)
            .sort_by_file_name();
        for entry in walk {
            match entry {
                Ok(entry) if self.files == MAX_FILES => {
                    let why = format!("more than {MAX_FILES} files; import it in parts");
                    return self.leave(entry.path(), &why);
                }
                Ok(entry) => self.entry(&root, &entry),
                Err(error) => {
                    let path = error.path().unwrap_or(folder).to_owned();
                    let why = error
                        .io_error()
                        .map_or(error.to_string(), ToString::to_string);
                    self.leave(&path, &why);
                }
            }
        }
    }

    fn entry(&mut self, root: &Path, entry: &DirEntry) {
        let path = entry.path();
        let kind = entry.file_type();
        if kind.is_dir() {
            if entry.depth() > MAX_DEPTH {
                self.leave(path, "too deep; name it itself");
            }
            return;
        }
        self.files += 1;
        if kind.is_symlink() {
            // A link to a file of the folder is read as that file. One to a folder might lead in a
            // circle, and one out of the folder to what nobody meant to show.
            match path.canonicalize() {
                Ok(target) if !target.starts_with(root) => {
                    self.leave(path, "a link that leads out of the folder is not followed")
                }
                Ok(target) if target.is_file() => self.file(path),
                Ok(target) if target.is_dir() => {
                    self.leave(path, "a link to a folder is not followed")
                }
                Ok(_) => self.leave(path, "a link to what is no file"),
                Err(error) => self.leave(path, &format!("a link that leads nowhere: {error}")),
            }
        } else if kind.is_file() {
            self.file(path);
        } else {
            self.leave(path, "neither a folder nor a file");
        }
    }

    fn file(&mut self, path: &Path) {
        let path = path.to_owned();
        let name = name_of(&path);
        let folder = path.parent().map(name_of).unwrap_or_default();
        let extension = path.extension().and_then(|extension| extension.to_str());
        match (folder.as_str(), extension) {
            ("config_templates", Some("json")) => self.templates.push(path),
            ("custom_probes", Some("json")) if name == "metadata.json" => {
                self.probe_lists.push(path)
            }
            ("custom_probes", Some("py")) if name != "__init__.py" => self.probes.push(path),
            _ if is_companion(&name) => {
                self.companions.insert(path);
            }
            (_, Some("jsonl")) => self.reports.push(report(path, false)),
            _ => self.ignored.push(path),
        }
    }

    /// Whoever names a file means it.
    fn add_named(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            let name = name_of(&path);
            if is_companion(&name) {
                self.companions.insert(path);
                continue;
            }
            let one = report(path, true);
            for companion in companions_of(&one.report) {
                if companion.is_file() {
                    self.companions.insert(companion);
                }
            }
            self.reports.push(one);
        }
    }

    /// Puts to each report what belongs to it; what is left belongs to none.
    fn pair(&mut self) {
        for one in &mut self.reports {
            let [hitlog, html, page] = companions_of(&one.report);
            one.hitlog = self.companions.take(&hitlog);
            one.html = self
                .companions
                .take(&html)
                .or_else(|| self.companions.take(&page));
        }
        for path in std::mem::take(&mut self.companions) {
            // Any page may lie there; only garak's names say that a report is missed.
            match name_of(&path).ends_with(".html") && !name_of(&path).ends_with(".report.html") {
                true => self.ignored.push(path),
                false => self.leave(&path, "its report is not beside it"),
            }
        }
    }

    fn leave(&mut self, path: &Path, why: &str) {
        self.unusable.push((path.to_owned(), why.to_owned()));
    }

    /// Takes out the files of each scan, by the name that its row has for its report, or by its id.
    pub(super) fn by_name(&self) -> BTreeMap<String, usize> {
        let reports = self.reports.iter().enumerate();
        reports
            .map(|(index, one)| (name_of(&one.report), index))
            .collect()
    }
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn is_companion(name: &str) -> bool {
    name.ends_with(".hitlog.jsonl") || name.ends_with(".html")
}

fn report(path: PathBuf, is_named: bool) -> ReportFiles {
    let name = name_of(&path);
    ReportFiles {
        scan_id: scan_id_of(&name),
        is_sure: is_named || name.ends_with(".report.jsonl"),
        report: path,
        hitlog: None,
        html: None,
    }
}

/// "garak.{uuid}.report.jsonl"
pub(super) fn scan_id_of(name: &str) -> Option<Uuid> {
    let id = name.strip_prefix("garak.")?.strip_suffix(".report.jsonl")?;
    Uuid::try_parse(id).ok()
}

/// Where a report's hitlog and its page lie, if they are there.
fn companions_of(report: &Path) -> [PathBuf; 3] {
    let name = name_of(report);
    let stem = name.strip_suffix(".jsonl").unwrap_or(&name);
    let stem = stem.strip_suffix(".report").unwrap_or(stem);
    ["hitlog.jsonl", "report.html", "html"]
        .map(|end| report.with_file_name(format!("{stem}.{end}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const ID: &str = "0b2c8e0e-0000-4000-8000-000000000009";

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        }
        folder
    }

    fn names(paths: &[PathBuf]) -> Vec<String> {
        paths.iter().map(|path| name_of(path)).collect()
    }

    #[test]
    fn each_file_is_found_as_what_it_is() {
        let report = format!("garak.{ID}.report.jsonl");
        let folder = folder(&[
            &report,
            &format!("garak.{ID}.hitlog.jsonl"),
            &format!("garak.{ID}.report.html"),
            "deep/er/own.report.jsonl",
            "deep/er/own.report.html",
            "loose.jsonl",
            "lost.hitlog.jsonl",
            "garak.log",
            "index.html",
            "config_templates/nightly.json",
            "custom_probes/metadata.json",
            "custom_probes/my_probe.py",
            "custom_probes/__init__.py",
        ]);
        let found = Found::look(&[folder.path().to_owned()]).unwrap();
        let reports: Vec<_> = found
            .reports
            .iter()
            .map(|one| name_of(&one.report))
            .collect();
        assert_eq!(reports, ["own.report.jsonl", &report, "loose.jsonl"]);
        let whole = &found.reports[1];
        assert_eq!(whole.scan_id.unwrap().to_string(), ID);
        assert!(whole.hitlog.is_some() && whole.html.is_some() && whole.is_sure);
        assert!(found.reports[0].html.is_some() && found.reports[0].scan_id.is_none());
        assert!(!found.reports[2].is_sure);
        assert_eq!(names(&found.templates), ["nightly.json"]);
        assert_eq!(names(&found.probes), ["my_probe.py"]);
        assert_eq!(found.probe_lists.len(), 1);
        assert_eq!(found.unusable.len(), 1, "{:?}", found.unusable);
        assert!(found.unusable[0].0.ends_with("lost.hitlog.jsonl"));
        let mut ignored = names(&found.ignored);
        ignored.sort_unstable();
        assert_eq!(ignored, ["__init__.py", "garak.log", "index.html"]);
        assert_eq!(found.by_name()[&report], 1);
    }

    #[test]
    fn links_are_followed_to_files_only_and_bad_ones_named() {
        let outside = folder(&["real.report.jsonl"]);
        let folder = folder(&["x.log", "deep/own.txt"]);
        let at = |name: &str| folder.path().join(name);
        symlink(at("deep/own.txt"), at("linked.report.jsonl")).unwrap();
        symlink(
            outside.path().join("real.report.jsonl"),
            at("outside.report.jsonl"),
        )
        .unwrap();
        symlink(at("deep"), at("circle")).unwrap();
        symlink("/nowhere/at/all", at("broken.report.jsonl")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let found = Found::look(&[folder.path().to_owned()]).unwrap();
        assert_eq!(found.reports.len(), 1);
        let left: Vec<_> = found
            .unusable
            .iter()
            .map(|(path, _)| name_of(path))
            .collect();
        assert_eq!(
            left,
            [
                "broken.report.jsonl",
                "circle",
                "outside.report.jsonl",
                "socket"
            ]
        );
    }

    #[test]
    fn a_file_that_is_named_is_taken_for_a_report_with_its_companions() {
        let folder = folder(&["a.txt", "b.jsonl", "b.hitlog.jsonl", "b.html"]);
        let paths = ["a.txt", "b.jsonl"].map(|name| folder.path().join(name));
        let found = Found::look(&paths).unwrap();
        assert!(found.reports.iter().all(|one| one.is_sure));
        assert_eq!(found.reports.len(), 2);
        assert!(found.reports[1].hitlog.is_some() && found.reports[1].html.is_some());
        let error = Found::look(&[folder.path().join("none")]).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }
}
