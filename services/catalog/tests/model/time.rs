//! Time passes for the store's rows: each moment that they name lies that much further back. To
//! the database's own clock, which the store goes by, that is the same as to have waited.

use crate::world::World;

/// Every column that has a time.
pub(crate) struct Times(Vec<(String, Vec<String>)>);

const COLUMNS: &str = "
    SELECT t.name AS place, c.name AS moment FROM sqlite_master t
    JOIN pragma_table_info(t.name) c
    WHERE t.type = 'table' AND t.name NOT LIKE 'seaql%' AND (
        c.name = 'at' OR c.name LIKE '%\\_at' ESCAPE '\\'
        OR c.name IN ('not_before', 'paused_until', 'backpressure_since', 'upload_deadline'))
    ORDER BY t.name";

impl Times {
    pub(crate) async fn of(world: &World) -> Self {
        let mut tables: Vec<(String, Vec<String>)> = Vec::new();
        for row in world.sql(COLUMNS, vec![]).await {
            let table: String = row.try_get("", "place").unwrap();
            let column: String = row.try_get("", "moment").unwrap();
            match tables.last_mut().filter(|last| last.0 == table) {
                Some(last) => last.1.push(column),
                None => tables.push((table, vec![column])),
            }
        }
        Self(tables)
    }

    /// So many milliseconds pass, for all rows at once.
    pub(crate) async fn pass(&self, world: &World, ms: i64) {
        let mut all = "BEGIN IMMEDIATE;".to_owned();
        for (table, columns) in &self.0 {
            let back: Vec<String> = columns
                .iter()
                .map(|column| format!("{column} = {column} - {ms}"))
                .collect();
            all.push_str(&format!("UPDATE {table} SET {};", back.join(", ")));
        }
        all.push_str("COMMIT");
        world.run(&all).await;
    }
}
