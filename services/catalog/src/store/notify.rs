//! Replicas on PostgreSQL tell each other what they changed, with NOTIFY.
//!
//! Not in the transactions that change it: a NOTIFY takes a lock on the whole database while its
//! transaction commits (src/backend/commands/async.c, PreCommit_Notify), so all commits would wait
//! for each other. What was changed is collected for a moment and told at once. What is lost on the
//! way, others find by looking (see [`super::hub`]).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aegis_proto::ids::ScanId;
use sea_orm::{ConnectionTrait, DatabaseConnection, sqlx::postgres::PgListener};
use tokio::{sync::Notify, time::sleep};

use super::{
    connect::{DatabaseOptions, Purpose, connect},
    dialect::Dialect,
    hub::Hub,
};

/// All replicas of all projects; one database belongs to one installation.
const CHANNEL: &str = "aegis_changes";
/// What changes within this is told at once.
const COLLECTED_FOR: Duration = Duration::from_millis(10);
/// Changes of one message: PostgreSQL takes less than 8,000 bytes.
const PER_MESSAGE: usize = 200;
/// More than this many are told as one: anything may have changed.
const MOST: usize = 1_000;
/// Between two tries to listen.
const AGAIN: Duration = Duration::from_secs(1);

const TELL: &str = "SELECT pg_notify($1, $2)";

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Not known: whoever waits looks.
    Anything,
    /// Something may be leased.
    Queue,
    /// A run of some check ended.
    Checks,
    /// Something of this scan.
    Scan(ScanId),
}

impl Change {
    fn text(self) -> String {
        match self {
            Self::Anything => "*".to_owned(),
            Self::Queue => "q".to_owned(),
            Self::Checks => "c".to_owned(),
            Self::Scan(scan) => scan.0.simple().to_string(),
        }
    }

    /// What another version may say that is not known here is anything.
    fn of(text: &str) -> Self {
        match text {
            "q" => Self::Queue,
            "c" => Self::Checks,
            other => other
                .parse()
                .map_or(Self::Anything, |id| Self::Scan(ScanId(id))),
        }
    }
}

/// What is still to be told. Each change is in it once, however often it happens.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    changes: Mutex<BTreeSet<Change>>,
    some: Notify,
}

impl Outbox {
    pub(crate) fn put(&self, change: Change) {
        // A panic between lock and unlock cannot leave the set half changed.
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.len() >= MOST {
            changes.clear();
            changes.insert(Change::Anything);
        }
        changes.insert(change);
        self.some.notify_one();
    }

    fn take(&self) -> Vec<Change> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = std::mem::take(&mut *changes);
        match changes.contains(&Change::Anything) {
            true => vec![Change::Anything],
            false => changes.into_iter().collect(),
        }
    }
}

/// Tells others what changes here, and hears what changes there; never ends.
pub(crate) async fn run(options: DatabaseOptions, hub: Arc<Hub>) {
    // One's own words come back, too.
    let own = format!("{:016x}", rand::random::<u64>());
    // Not of the pool that work waits for.
    let connection = loop {
        match connect(&options, Purpose::Listen).await {
            Ok(connection) => break connection,
            Err(error) => tracing::debug!(%error, "changes of other replicas are not heard"),
        }
        again().await;
    };
    tokio::join!(tell(&connection, &hub, &own), hear(&connection, &hub, &own));
}

async fn again() {
    sleep(AGAIN.mul_f64(0.5 + rand::random::<f64>())).await;
}

async fn tell(connection: &DatabaseConnection, hub: &Hub, own: &str) {
    loop {
        hub.outbox.some.notified().await;
        sleep(COLLECTED_FOR).await;
        for changes in hub.outbox.take().chunks(PER_MESSAGE) {
            let words: Vec<String> = changes.iter().map(|change| change.text()).collect();
            let message = format!("{own}:{}", words.join(","));
            let values = [CHANNEL.into(), message.into()];
            let statement = Dialect::Postgres.statement(TELL, values);
            if let Err(error) = connection.query_one_raw(statement).await {
                // Others find it a little later; that the database is away is said elsewhere.
                tracing::debug!(%error, "other replicas are not told of changes");
            }
        }
    }
}

async fn hear(connection: &DatabaseConnection, hub: &Hub, own: &str) {
    loop {
        let lost = listen(connection, hub, own).await;
        hub.set_hears(false);
        if let Err(error) = lost {
            tracing::debug!(%error, "changes of other replicas are not heard");
        }
        again().await;
    }
}

/// Until the connection is lost.
async fn listen(
    connection: &DatabaseConnection,
    hub: &Hub,
    own: &str,
) -> Result<(), sea_orm::sqlx::Error> {
    let pool = connection.get_postgres_connection_pool();
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    hub.set_hears(true);
    // Whatever was said before.
    hub.hear(Change::Anything);
    while let Some(message) = listener.try_recv().await? {
        let Some((sender, changes)) = message.payload().split_once(':') else {
            continue;
        };
        if sender != own {
            changes
                .split(',')
                .for_each(|text| hub.hear(Change::of(text)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_many_are_told_as_one() {
        let outbox = Outbox::default();
        let scan = Change::Scan(ScanId::generate());
        for _ in 0..3 {
            outbox.put(scan);
            outbox.put(Change::Queue);
        }
        assert_eq!(outbox.take(), [Change::Queue, scan]);
        assert_eq!(outbox.take(), []);
        for _ in 0..=MOST {
            outbox.put(Change::Scan(ScanId::generate()));
        }
        assert_eq!(outbox.take(), [Change::Anything]);
    }

    #[test]
    fn what_is_told_is_what_is_heard() {
        let scan = Change::Scan(ScanId::generate());
        for change in [Change::Anything, Change::Queue, Change::Checks, scan] {
            assert_eq!(Change::of(&change.text()), change);
        }
        assert_eq!(Change::of("a word of tomorrow"), Change::Anything);
    }
}
