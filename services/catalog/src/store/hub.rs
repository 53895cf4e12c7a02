//! Wakes whoever waits in this process when something changed, and says so to the other replicas
//! (see [`super::notify`]); what that misses they find by looking now and then.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aegis_proto::ids::ScanId;
use tokio::sync::watch;

use super::notify::{Change, Outbox};
use crate::domain::waiting::WaitingReason;

/// Changes made by another replica are found within this.
pub(crate) const POLL: Duration = Duration::from_secs(1);

/// The same while other replicas say what they change: for what they fail to say.
const POLL_WHILE_HEARING: Duration = Duration::from_secs(5);

/// Whoever could not write tries again sooner. A failure that is older says nothing any more.
const ILL_FOR: Duration = Duration::from_secs(30);

/// Who waits for what.
#[derive(Debug)]
pub(crate) struct Hub {
    queue: watch::Sender<()>,
    checks: watch::Sender<()>,
    /// One entry per scan that somebody listens to.
    scans: Mutex<HashMap<ScanId, watch::Sender<()>>>,
    /// What the other replicas are still to be told.
    pub(crate) outbox: Outbox,
    /// Whether this process hears what others change.
    hears: AtomicBool,
    heard: AtomicU64,
    /// Why the last write failed, if for a reason that all writes have, and when.
    ill: Mutex<Option<(WaitingReason, Instant)>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            queue: watch::Sender::new(()),
            checks: watch::Sender::new(()),
            scans: Mutex::default(),
            outbox: Outbox::default(),
            hears: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            ill: Mutex::default(),
        }
    }
}

impl Hub {
    /// Something changed here: wakes who waits in this process, and the others in a moment.
    pub(crate) fn changed(&self, change: Change) {
        self.wake(change);
        self.outbox.put(change);
    }

    /// Another replica changed something, or may have.
    pub(crate) fn hear(&self, change: Change) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        self.wake(change);
    }

    /// Wakes who waits in this process.
    pub(crate) fn wake(&self, change: Change) {
        match change {
            Change::Queue => self.queue.send_replace(()),
            Change::Checks => self.checks.send_replace(()),
            Change::Scan(scan) => {
                if let Some(sender) = self.scans().get(&scan) {
                    sender.send_replace(());
                }
            }
            Change::Anything => {
                self.queue.send_replace(());
                self.checks.send_replace(());
                for sender in self.scans().values() {
                    sender.send_replace(());
                }
            }
        }
    }

    /// A write failed because the database takes none, or succeeded.
    pub(crate) fn set_ill(&self, ill: Option<WaitingReason>) {
        let ill = ill.map(|reason| (reason, Instant::now()));
        *self.ill.lock().unwrap_or_else(PoisonError::into_inner) = ill;
    }

    /// Why nothing can be written, as far as this process knows.
    pub(crate) fn ill(&self) -> Option<WaitingReason> {
        let (reason, at) = (*self.ill.lock().unwrap_or_else(PoisonError::into_inner))?;
        (at.elapsed() < ILL_FOR).then_some(reason)
    }

    /// Whether this process hears what others change from now on.
    pub(crate) fn set_hears(&self, hears: bool) {
        self.hears.store(hears, Ordering::Relaxed);
    }

    /// How often to look for what nobody said.
    pub(crate) fn poll(&self) -> Duration {
        match self.hears.load(Ordering::Relaxed) {
            true => POLL_WHILE_HEARING,
            false => POLL,
        }
    }

    /// Changes heard of from other replicas.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Listens for work.
    pub(crate) fn queue(&self) -> watch::Receiver<()> {
        self.queue.subscribe()
    }

    /// Listens for ends of checks.
    pub(crate) fn checks(&self) -> watch::Receiver<()> {
        self.checks.subscribe()
    }

    /// Listens to a scan.
    pub(crate) fn scan(self: &Arc<Self>, scan: ScanId) -> ScanListener {
        let receiver = self
            .scans()
            .entry(scan)
            .or_insert_with(|| watch::Sender::new(()))
            .subscribe();
        ScanListener {
            hub: Arc::clone(self),
            scan,
            receiver: Some(receiver),
        }
    }

    /// Scans that somebody listens to.
    pub(crate) fn listened_scans(&self) -> usize {
        self.scans().len()
    }

    // A panic between lock and unlock cannot leave the map half changed.
    fn scans(&self) -> MutexGuard<'_, HashMap<ScanId, watch::Sender<()>>> {
        self.scans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears of changes of one scan until it is dropped.
#[derive(Debug)]
pub(crate) struct ScanListener {
    hub: Arc<Hub>,
    scan: ScanId,
    receiver: Option<watch::Receiver<()>>,
}

impl ScanListener {
    /// Waits for a change since the last call, the first call: since it listens.
    pub(crate) async fn changed(&mut self) {
        let Some(receiver) = &mut self.receiver else {
            return;
        };
        if receiver.changed().await.is_err() {
            // The sender lives as long as a listener does; if not, the caller's clock wakes it.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for ScanListener {
    fn drop(&mut self) {
        let mut scans = self.hub.scans();
        self.receiver = None;
        if scans
            .get(&self.scan)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            scans.remove(&self.scan);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_between_two_waits_is_heard_and_no_entry_stays() {
        let hub = Arc::new(Hub::default());
        let scan = ScanId::generate();
        let mut first = hub.scan(scan);
        let second = hub.scan(scan);
        hub.changed(Change::Scan(scan));
        first.changed().await;
        hub.hear(Change::Anything);
        first.changed().await;
        assert_eq!(hub.heard(), 1);
        assert_eq!(hub.listened_scans(), 1);
        drop(first);
        assert_eq!(hub.listened_scans(), 1);
        drop(second);
        assert_eq!(hub.listened_scans(), 0);
        hub.changed(Change::Scan(scan));
    }
}
