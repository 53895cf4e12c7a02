//! The first two lines of a composed report, and its `completion`.

use super::checked::Checked;
use super::{Part, ScanIdentity};
use crate::error::{ComposeError, LineError};
use crate::index::SkeletonKind;
use crate::object::Object;

/// Fields of a setup line that must be the same in all parts, and what they
/// were called before 0.13.1. garak's own aggregation asserts the same.
const COMMON: [(&str, &str); 3] = [
    ("_config.version", "_config.version"),
    ("plugins.target_type", "plugins.model_type"),
    ("plugins.target_name", "plugins.model_name"),
];

/// Fields of a setup line that hold paths of the machine where the part ran.
const PATHS: [&str; 4] = [
    "_config.config_files",
    "transient.report_filename",
    "transient.log_filename",
    "reporting.report_dir",
];

/// What the parts say at their beginnings and ends.
pub(super) struct Heads {
    /// The first part's setup and `init` lines.
    setup: Vec<u8>,
    init: Vec<u8>,
    /// Earliest `start_time`; garak's times sort as strings.
    start_time: Option<String>,
    /// Latest `end_time`.
    end_time: Option<String>,
}

impl Heads {
    /// Reads them and makes sure that the parts belong together.
    pub(super) fn read(parts: &mut [Part<'_>]) -> Result<Self, ComposeError> {
        let mut heads: Option<Self> = None;
        for (number, part) in parts.iter_mut().enumerate() {
            let setup = part.required(number, SkeletonKind::Setup)?;
            let init = part.required(number, SkeletonKind::Init)?;
            let completion = part.last_line(SkeletonKind::Completion)?;
            let fail = |error| ComposeError::Line {
                part: number,
                error,
            };
            let start_time = string(&init, "start_time").map_err(fail)?;
            let end_time = match &completion {
                Some(line) => string(line, "end_time").map_err(fail)?,
                None => None,
            };
            let Some(heads) = &mut heads else {
                heads = Some(Self {
                    setup,
                    init,
                    start_time,
                    end_time,
                });
                continue;
            };
            if let Some(field) = differing(&heads.setup, &setup).map_err(fail)? {
                return Err(ComposeError::Differs {
                    part: number,
                    field,
                });
            }
            heads.start_time = [heads.start_time.take(), start_time]
                .into_iter()
                .flatten()
                .min();
            heads.end_time = heads.end_time.take().max(end_time);
        }
        heads.ok_or(ComposeError::NoParts)
    }

    /// Writes the setup and the `init` line.
    pub(super) fn write_start(
        &self,
        identity: &ScanIdentity,
        out: &mut Checked<'_>,
    ) -> Result<(), ComposeError> {
        out.put_object(&self.setup(identity).map_err(of_first)?)?;
        let mut init = Object::parse(&self.init).map_err(of_first)?;
        init.set("run", &identity.run_id).map_err(of_first)?;
        if let Some(start_time) = &self.start_time {
            init.set("start_time", start_time).map_err(of_first)?;
        }
        out.put_object(&init)
    }

    /// Writes the `completion` line, if a part has one.
    pub(super) fn write_end(
        &self,
        identity: &ScanIdentity,
        out: &mut Checked<'_>,
    ) -> Result<(), ComposeError> {
        let Some(end_time) = &self.end_time else {
            return Ok(());
        };
        let mut completion = Object::default();
        completion
            .set("entry_type", &"completion")
            .map_err(of_first)?;
        completion.set("end_time", end_time).map_err(of_first)?;
        completion.set("run", &identity.run_id).map_err(of_first)?;
        out.put_object(&completion)
    }

    fn setup(&self, identity: &ScanIdentity) -> Result<Object<'_>, LineError> {
        let mut setup = Object::parse(&self.setup)?;
        PATHS.iter().for_each(|path| setup.remove(path));
        if let Some(start_time) = &self.start_time {
            setup.set("transient.starttime_iso", start_time)?;
        }
        setup.set("transient.run_id", &identity.run_id)?;
        setup.set("transient.active_probes", &identity.active_probes)?;
        setup.set("run.spec", &identity.spec)?;
        setup.set("reporting.report_prefix", &identity.report_prefix)?;
        Ok(setup)
    }
}

impl Part<'_> {
    fn required(&mut self, part: usize, kind: SkeletonKind) -> Result<Vec<u8>, ComposeError> {
        let entry_type = kind.entry_type();
        self.last_line(kind)?
            .ok_or(ComposeError::Missing { part, entry_type })
    }

    /// The last line of a kind; garak writes one of those looked for here.
    fn last_line(&mut self, kind: SkeletonKind) -> Result<Option<Vec<u8>>, ComposeError> {
        let Some(entry) = self.index.header().lines_of(kind).last().copied() else {
            return Ok(None);
        };
        Ok(Some(self.line(&entry)?))
    }
}

fn of_first(error: LineError) -> ComposeError {
    ComposeError::Line { part: 0, error }
}

fn string(line: &[u8], field: &str) -> Result<Option<String>, LineError> {
    Ok(Object::parse(line)?.get_str(field))
}

/// The first field in which two setup lines must not differ and do.
fn differing(one: &[u8], other: &[u8]) -> Result<Option<&'static str>, LineError> {
    let (one, other) = (Object::parse(one)?, Object::parse(other)?);
    let differs = |(name, older): &&(&'static str, &'static str)| {
        let of = |setup: &Object<'_>| {
            setup
                .get(name)
                .or_else(|| setup.get(older))
                .unwrap_or("null")
                .to_owned()
        };
        of(&one) != of(&other)
    };
    Ok(COMMON.iter().find(differs).map(|(name, _)| *name))
}
