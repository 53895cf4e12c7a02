//! Which runners were seen of late, so that a scan can say that none fits.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use aegis_proto::ids::ProjectId;
use sea_orm::Value;

use super::{Store, fault::Result, lease::LeaseCall};

/// A runner's row is written at most this often: a poll that finds nothing stays a read.
const WRITTEN_EVERY: Duration = Duration::from_secs(10);

/// A runner that was seen within this is there.
pub(crate) const PRESENT_FOR_MS: i64 = 60_000;

/// Runners whose writes are remembered; beyond it old ones are forgotten, which costs a write.
const REMEMBERED: usize = 10_000;

const SEEN: &str = "
    INSERT INTO runners (project_id, runner_id, plugin_catalogue, slots, seen_at)
    VALUES ($1, $2, $3, $4, {now})
    ON CONFLICT (project_id, runner_id) DO UPDATE SET
        plugin_catalogue = excluded.plugin_catalogue, slots = excluded.slots, seen_at = excluded.seen_at";

/// Which catalogue a runner came with, and when that was written.
type Seen = HashMap<(ProjectId, String), (String, Instant)>;

/// When this process last wrote each runner's row.
#[derive(Debug, Default)]
pub(crate) struct SeenRunners(Mutex<Seen>);

impl SeenRunners {
    /// Whether the row is due to be written; if so it counts as written.
    fn is_due(&self, project: &ProjectId, call: &LeaseCall) -> bool {
        self.note(project, &call.runner_id, Some(&call.plugin_catalogue))
    }

    /// Without a catalogue the one that it came with holds.
    fn note(&self, project: &ProjectId, runner: &str, catalogue: Option<&String>) -> bool {
        let now = Instant::now();
        // A panic between lock and unlock cannot leave the map half changed.
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.retain(|_, (_, at)| now.duration_since(*at) < WRITTEN_EVERY);
        }
        let key = (project.clone(), runner.to_owned());
        let known = seen.get(&key);
        let fresh = known.is_some_and(|(known, at)| {
            catalogue.is_none_or(|catalogue| catalogue == known)
                && now.duration_since(*at) < WRITTEN_EVERY
        });
        if !fresh {
            let known = known.map(|(known, _)| known.clone());
            let catalogue = catalogue.cloned().or(known).unwrap_or_default();
            seen.insert(key, (catalogue, now));
        }
        !fresh
    }
}

/// One that works does not ask, and is there all the same.
const STILL_THERE: &str = "
    UPDATE runners SET seen_at = {now} WHERE project_id = $1 AND runner_id = $2";

impl Store {
    /// Notes that a runner works.
    pub(crate) async fn heard_of_runner(&self, project: &ProjectId, runner: &str) -> Result<()> {
        if !self.inner.seen.note(project, runner, None) {
            return Ok(());
        }
        let values = [project.as_str().into(), runner.into()];
        self.write_row(STILL_THERE, values).await
    }

    /// Notes that a runner asked for work.
    pub(crate) async fn saw_runner(
        &self,
        project: &ProjectId,
        call: &LeaseCall,
    ) -> aegis_mesh::Result<()> {
        if !self.inner.seen.is_due(project, call) {
            return Ok(());
        }
        let values: [Value; 4] = [
            project.as_str().into(),
            call.runner_id.as_str().into(),
            call.plugin_catalogue.as_str().into(),
            call.slots.into(),
        ];
        self.writing(|| self.write_row(SEEN, values.clone())).await
    }
}
