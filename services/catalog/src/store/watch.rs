//! Follows a scan: what was missed, then what happens, until the scan has ended.

use std::{future::Future, time::Duration};

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio::time::Instant;

use super::{Store, entity::scan_event, fault::Result, hub::ScanListener, rows};
use crate::domain::{event::LoggedEvent, refusal, scan::ScanView};

/// Changes made by another replica are found within this.
const POLL: Duration = Duration::from_secs(1);

/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Events that are read at once.
const EVENTS_PER_PAGE: u64 = 500;

/// Waits for a change, or until it is time to look anyway; `false` once `deadline` is past.
pub(crate) async fn wait<T>(changed: impl Future<Output = T>, deadline: Instant) -> bool {
    let now = Instant::now();
    if now >= deadline {
        return false;
    }
    // Both ends of the wait mean the same: look again.
    let _ = tokio::time::timeout_at(deadline.min(now + POLL), changed).await;
    true
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// Events, in order and without gaps.
    Events(Vec<LoggedEvent>),
    /// How far the scan is; best effort.
    Progress(Box<ScanView>),
}

/// A watch of one scan.
#[derive(Debug)]
pub struct ScanWatch {
    store: Store,
    project: ProjectId,
    id: ScanId,
    listener: ScanListener,
    /// Events up to here were told.
    sequence: i64,
    /// What was last told of the progress.
    progress: Option<Told>,
    looked_at: Instant,
    /// The scan may have ended since it was looked at.
    look: bool,
}

/// What makes a progress worth telling.
#[derive(Debug, PartialEq)]
struct Told(i64, i64, i32, Vec<crate::domain::scan::ProbeProgress>);

impl Store {
    /// Begins a watch after this event: the scan as it is, and what follows.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND; INVALID_ARGUMENT for a sequence that is not reached yet.
    pub async fn watch(
        &self,
        project: &ProjectId,
        id: ScanId,
        after_sequence: i64,
    ) -> aegis_mesh::Result<(ScanView, ScanWatch)> {
        let listener = self.inner.hub.scan(id);
        let view = self.get(project, id).await?;
        let last = view.scan.last_sequence;
        if !(0..=last).contains(&after_sequence) {
            let description = format!("must be 0 to {last}, the scan's last event");
            return Err(refusal::invalid_field("after_sequence", description)
                .with("after_sequence", after_sequence));
        }
        let watch = ScanWatch {
            store: self.clone(),
            project: project.clone(),
            id,
            listener,
            sequence: after_sequence,
            progress: Some(told(&view)),
            looked_at: Instant::now(),
            look: true,
        };
        Ok((view, watch))
    }

    async fn events(
        &self,
        project: &ProjectId,
        id: ScanId,
        after_sequence: i64,
    ) -> Result<Vec<LoggedEvent>> {
        let events = scan_event::Entity::find()
            .filter(scan_event::Column::ProjectId.eq(project.as_str()))
            .filter(scan_event::Column::ScanId.eq(id.0))
            .filter(scan_event::Column::Sequence.gt(after_sequence))
            .order_by_asc(scan_event::Column::Sequence)
            .limit(EVENTS_PER_PAGE)
            .all(&self.inner.database.reader)
            .await?;
        events.into_iter().map(rows::event_of).collect()
    }
}

impl ScanWatch {
    /// The next update; `None` once the scan has ended and all was told.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND when the scan was deleted, and those of the database.
    pub async fn next(&mut self) -> aegis_mesh::Result<Option<Update>> {
        loop {
            let events = self
                .store
                .events(&self.project, self.id, self.sequence)
                .await?;
            if let Some(last) = events.last() {
                self.sequence = last.sequence;
                self.look = true;
                return Ok(Some(Update::Events(events)));
            }
            if self.look || self.looked_at.elapsed() >= PROGRESS_EVERY {
                let view = self.store.get(&self.project, self.id).await?;
                if view.scan.last_sequence > self.sequence {
                    continue;
                }
                if view.scan.state.is_terminal() {
                    return Ok(None);
                }
                if self.is_news(&view) {
                    return Ok(Some(Update::Progress(Box::new(view))));
                }
            }
            self.wait().await;
        }
    }

    /// Whether the progress changed and may be told by now.
    fn is_news(&mut self, view: &ScanView) -> bool {
        self.look = false;
        if self.looked_at.elapsed() < PROGRESS_EVERY {
            return false;
        }
        self.looked_at = Instant::now();
        let now = Some(told(view));
        let news = now != self.progress;
        self.progress = now;
        news
    }

    /// Until something changed. Heartbeats come faster than they are told: a change is looked
    /// for at once, but progress only when it is due, so wait until then at most.
    async fn wait(&mut self) {
        let due = self.looked_at + PROGRESS_EVERY;
        let until = if Instant::now() < due {
            due
        } else {
            Instant::now() + POLL
        };
        wait(self.listener.changed(), until).await;
    }
}

fn told(view: &ScanView) -> Told {
    Told(
        view.attempts_done,
        view.attempts_total,
        view.scan.evaluated + view.scan.not_evaluated,
        view.probes.clone(),
    )
}
