//! Wakes whoever waits in this process when something changed. Other replicas find out by
//! looking once a second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aegis_proto::ids::ScanId;
use tokio::sync::watch;

/// Who waits for what.
#[derive(Debug)]
pub(crate) struct Hub {
    queue: watch::Sender<()>,
    checks: watch::Sender<()>,
    /// One entry per scan that somebody listens to.
    scans: Mutex<HashMap<ScanId, watch::Sender<()>>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            queue: watch::Sender::new(()),
            checks: watch::Sender::new(()),
            scans: Mutex::default(),
        }
    }
}

impl Hub {
    /// Something may be leased.
    pub(crate) fn wake_queue(&self) {
        self.queue.send_replace(());
    }

    /// A run of some check ended.
    pub(crate) fn wake_checks(&self) {
        self.checks.send_replace(());
    }

    /// Something of this scan changed.
    pub(crate) fn wake_scan(&self, scan: ScanId) {
        if let Some(sender) = self.scans().get(&scan) {
            sender.send_replace(());
        }
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
        hub.wake_scan(scan);
        first.changed().await;
        assert_eq!(hub.listened_scans(), 1);
        drop(first);
        assert_eq!(hub.listened_scans(), 1);
        drop(second);
        assert_eq!(hub.listened_scans(), 0);
        hub.wake_scan(scan);
    }
}
