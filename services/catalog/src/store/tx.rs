//! A transaction, and who is woken once it is committed.

use std::sync::Arc;

use aegis_mesh::spawn;
use aegis_proto::ids::ScanId;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, IsolationLevel, QueryResult,
    TransactionOptions, TransactionTrait, Value,
};
use tokio::sync::oneshot;

use super::{
    dialect::Dialect,
    fault::{Fault, Result},
    hub::Hub,
    notify::Change,
};

/// One transaction. Dropped without a commit, it is rolled back.
pub(crate) struct Tx {
    inner: DatabaseTransaction,
    dialect: Dialect,
    hub: Arc<Hub>,
    writes: bool,
    wake_queue: bool,
    wake_checks: bool,
    wake_scans: Vec<ScanId>,
}

impl Tx {
    /// Begins one that writes.
    pub(crate) async fn write(
        writer: &DatabaseConnection,
        dialect: Dialect,
        hub: &Arc<Hub>,
    ) -> Result<Self> {
        let inner = begin(writer, dialect.write_options()).await?;
        Ok(Self {
            inner,
            dialect,
            hub: Arc::clone(hub),
            writes: true,
            wake_queue: false,
            wake_checks: false,
            wake_scans: Vec::new(),
        })
    }

    /// Begins one that sees one state of the database throughout.
    pub(crate) async fn read(
        reader: &DatabaseConnection,
        dialect: Dialect,
        hub: &Arc<Hub>,
    ) -> Result<Self> {
        let options = TransactionOptions {
            isolation_level: (dialect == Dialect::Postgres)
                .then_some(IsolationLevel::RepeatableRead),
            ..TransactionOptions::default()
        };
        Ok(Self {
            inner: begin(reader, options).await?,
            dialect,
            hub: Arc::clone(hub),
            writes: false,
            wake_queue: false,
            wake_checks: false,
            wake_scans: Vec::new(),
        })
    }

    /// For SeaORM.
    pub(crate) fn conn(&self) -> &DatabaseTransaction {
        &self.inner
    }

    /// The database's clock, in unix milliseconds.
    pub(crate) async fn now(&self) -> Result<i64> {
        now(&self.inner, self.dialect).await
    }

    /// Runs a statement; the number of rows it changed.
    pub(crate) async fn execute(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64> {
        let statement = self.dialect.statement(sql, values);
        Ok(self.inner.execute_raw(statement).await?.rows_affected())
    }

    /// Runs a statement that gives at most one row.
    pub(crate) async fn one(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Option<QueryResult>> {
        let statement = self.dialect.statement(sql, values);
        Ok(self.inner.query_one_raw(statement).await?)
    }

    /// Runs a statement that gives rows.
    pub(crate) async fn all(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>> {
        let statement = self.dialect.statement(sql, values);
        Ok(self.inner.query_all_raw(statement).await?)
    }

    /// How the database runs a statement, in its own words: a line a step.
    pub(crate) async fn plan(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<String> {
        let (explain, column) = match self.dialect {
            Dialect::Sqlite => ("EXPLAIN QUERY PLAN", 3),
            Dialect::Postgres => (
                "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF)",
                0,
            ),
        };
        let mut plan = String::new();
        for row in self.all(&format!("{explain} {sql}"), values).await? {
            plan.push_str(&row.try_get_by_index::<String>(column)?);
            plan.push('\n');
        }
        Ok(plan)
    }

    /// The dialect, for statements that SeaORM maps to entities.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// After the commit, whoever waits for work looks again.
    pub(crate) fn wake_queue(&mut self) {
        self.wake_queue = true;
    }

    /// After the commit, whoever waits for a check looks again.
    pub(crate) fn wake_checks(&mut self) {
        self.wake_checks = true;
    }

    /// After the commit, whoever listens to this scan looks again.
    pub(crate) fn wake_scan(&mut self, scan: ScanId) {
        self.wake_scans.push(scan);
    }

    /// Commits, then wakes. What is committed shows that the database takes writes.
    pub(crate) async fn commit(self) -> Result<()> {
        self.inner.commit().await?;
        if self.writes {
            self.hub.set_ill(None);
        }
        if self.wake_queue {
            self.hub.changed(Change::Queue);
        }
        if self.wake_checks {
            self.hub.changed(Change::Checks);
        }
        for scan in self.wake_scans {
            self.hub.changed(Change::Scan(scan));
        }
        Ok(())
    }
}

/// Begins a transaction, also when whoever asked for it has gone meanwhile: then it is rolled back.
/// When its BEGIN was sent and not waited for, the driver (sqlx 0.9) takes the connection for one
/// without a transaction; it would wait in the pool with one that is open, for the next call's
/// statements.
async fn begin(
    pool: &DatabaseConnection,
    options: TransactionOptions,
) -> Result<DatabaseTransaction> {
    let pool = pool.clone();
    let (give, given) = oneshot::channel();
    let work = async move {
        if !give.is_closed() {
            // Where nobody takes it, it is dropped, which rolls it back.
            drop(give.send(pool.begin_with_options(options).await));
        }
    };
    spawn("begin", work).detach();
    let gone = |_| Fault::Corrupt("a transaction's beginning was ended".to_owned());
    Ok(given.await.map_err(gone)??)
}

/// The database's clock, in unix milliseconds.
pub(crate) async fn now(conn: &impl ConnectionTrait, dialect: Dialect) -> Result<i64> {
    let row = conn
        .query_one_raw(dialect.statement("SELECT {now} AS now", []))
        .await?
        .ok_or_else(|| sea_orm::DbErr::RecordNotFound("the clock gave no row".to_owned()))?;
    Ok(row.try_get("", "now")?)
}
