//! Follows a scan: what was missed, then what happens, until the scan has ended.

pub(crate) mod feed;

use std::{future::Future, sync::Arc, time::Duration};

use aegis_mesh::Error;
use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio::{sync::watch, time::Instant};

use self::feed::{Feed, Look, News};
use super::{Store, entity::scan_event, fault::Result, notify::Change, rows};
use crate::domain::{event::LoggedEvent, refusal, scan::ScanView};

/// Events that are read at once.
const EVENTS_PER_PAGE: u64 = 500;

/// Waits for a change, or until it is time to look anyway; `false` once `deadline` is past.
pub(crate) async fn wait<T>(
    changed: impl Future<Output = T>,
    poll: Duration,
    deadline: Instant,
) -> bool {
    let now = Instant::now();
    if now >= deadline {
        return false;
    }
    // Both ends of the wait mean the same: look again.
    let _ = tokio::time::timeout_at(deadline.min(now + poll), changed).await;
    true
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// Events, in order and without gaps.
    Events(Vec<LoggedEvent>),
    /// How far the scan is; best effort.
    Progress(Arc<ScanView>),
}

/// A watch of one scan.
#[derive(Debug)]
pub struct ScanWatch {
    store: Store,
    project: ProjectId,
    id: ScanId,
    looks: watch::Receiver<Look>,
    /// Events up to here were told.
    sequence: i64,
    /// The last event when the watch began: an older look says nothing about the end.
    began: i64,
    /// The progress that was last told, by its number.
    progress: u64,
    /// Keeps the looks coming.
    _feed: Arc<Feed>,
}

/// What one look has for a watcher.
enum Next {
    Tell(Update),
    Behind,
    End,
    Wait,
}

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
        let view = self.get(project, id).await?;
        let last = view.scan.last_sequence;
        if !(0..=last).contains(&after_sequence) {
            let description = format!("must be 0 to {last}, the scan's last event");
            return Err(refusal::invalid_field("after_sequence", description)
                .with("after_sequence", after_sequence));
        }
        let feed = self.feed(project, &view);
        let looks = feed.looks();
        let progress = looks.borrow().progress;
        // One that was begun by somebody else may not have heard of what this watcher knows.
        self.inner.hub.wake(Change::Scan(id));
        let watch = ScanWatch {
            store: self.clone(),
            project: project.clone(),
            id,
            looks,
            sequence: after_sequence,
            began: last,
            progress,
            _feed: feed,
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
            match self.look()? {
                Next::Tell(update) => return Ok(Some(update)),
                Next::End => return Ok(None),
                Next::Behind => {
                    if let Some(update) = self.catch_up().await? {
                        return Ok(Some(update));
                    }
                }
                Next::Wait => {
                    let ended = self.looks.changed().await.is_err();
                    // Its last look says why, if all is well.
                    if ended && self.looks.borrow().failed.is_none() {
                        return Err(Error::internal("the scan's feed ended without a word"));
                    }
                }
            }
        }
    }

    fn look(&mut self) -> aegis_mesh::Result<Next> {
        let look = self.looks.borrow_and_update();
        match look.after(self.sequence) {
            News::Behind => return Ok(Next::Behind),
            News::Events(events) => {
                self.sequence = events.last().map_or(self.sequence, |last| last.sequence);
                return Ok(Next::Tell(Update::Events(events)));
            }
            News::None => {}
        }
        if look.view.scan.last_sequence >= self.began && look.is_end_for(self.sequence) {
            return Ok(Next::End);
        }
        if let Some(error) = &look.failed {
            return Err(error.clone());
        }
        if look.progress != self.progress {
            self.progress = look.progress;
            return Ok(Next::Tell(Update::Progress(Arc::clone(&look.view))));
        }
        Ok(Next::Wait)
    }

    /// A page of what is not kept in the look any more.
    async fn catch_up(&mut self) -> aegis_mesh::Result<Option<Update>> {
        let events = self.store.events(&self.project, self.id, self.sequence);
        let events = events.await?;
        match events.last() {
            Some(last) => self.sequence = last.sequence,
            // The log was compacted: what it had there is gone.
            None => self.sequence = self.looks.borrow().sequence(),
        }
        Ok((!events.is_empty()).then_some(Update::Events(events)))
    }
}
