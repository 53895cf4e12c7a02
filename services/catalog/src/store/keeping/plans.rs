//! How the database runs what the jobs ask for.

use aegis_proto::ids::ProjectId;
use sea_orm::Value;
use uuid::Uuid;

use super::{
    super::{Store, fault::Result},
    compact, forget, garbage, parts, purge, retention, scrub, sources, unfinished,
};

impl Store {
    /// The plan of each statement by which jobs find their work: for tests.
    ///
    /// # Errors
    /// Those of the database.
    #[doc(hidden)]
    pub async fn keeping_plans(
        &self,
        project: &ProjectId,
    ) -> aegis_mesh::Result<Vec<(&'static str, String)>> {
        Ok(self.explain(project).await?)
    }

    async fn explain(&self, project: &ProjectId) -> Result<Vec<(&'static str, String)>> {
        let (low, late) = (|| Value::from(i64::MIN), || Value::from(i64::MAX / 2));
        let (nil, text) = (|| Value::from(Uuid::nil()), || Value::from(""));
        let some = || Value::from(100_i64);
        let one = |statement: &str| statement.replace("{keys}", "$2");
        let files: Vec<Value> = vec![low(), nil(), some()];
        let asked: Vec<(&'static str, String, Vec<Value>)> = vec![
            ("unfinished", unfinished::CANDIDATES.to_owned(), files),
            ("scans with parts", parts::NEXT_SCAN.to_owned(), vec![nil()]),
            ("parts", parts::PARTS.to_owned(), vec![nil(), some()]),
            (
                "old sources",
                sources::NEXT_SOURCE.to_owned(),
                vec![late(), low(), text()],
            ),
            ("used sources", sources::USED.to_owned(), vec![text()]),
            (
                "scans to purge",
                purge::NEXT_SCAN.to_owned(),
                vec![late(), low(), nil()],
            ),
            (
                "old scans",
                retention::ENDED.to_owned(),
                vec![late(), low(), nil(), some()],
            ),
            (
                "targets",
                retention::NEXT_TARGET.to_owned(),
                vec![text(), text()],
            ),
            (
                "scans of a target",
                retention::OF_TARGET.to_owned(),
                vec![text(), text(), late(), nil(), some()],
            ),
            ("requests", forget::REQUESTS.select(), vec![low(), some()]),
            ("trials", forget::TRIALS.select(), vec![low(), some()]),
            ("runs", forget::RUNS.select(), vec![low(), some()]),
            (
                "scans to compact",
                compact::NEXT_SCAN.to_owned(),
                vec![late(), low(), nil()],
            ),
            ("events", compact::events(), vec![nil(), some()]),
            (
                "marked files",
                garbage::FILES.to_owned(),
                vec![late(), low(), nil(), some()],
            ),
            (
                "marked others",
                garbage::OTHERS.to_owned(),
                vec![late(), low(), text(), some()],
            ),
            ("known files", one(scrub::KNOWN[0]), vec![text()]),
            ("known sources", one(scrub::KNOWN[1]), vec![text()]),
            ("known garbage", one(scrub::KNOWN[2]), vec![text()]),
            (
                "committed files",
                scrub::COMMITTED.to_owned(),
                vec![nil(), some()],
            ),
            (
                "committed sources",
                scrub::SOURCES.to_owned(),
                vec![text(), some()],
            ),
        ];
        let tx = self.read().await?;
        let mut plans = Vec::new();
        for (what, sql, values) in asked {
            let project = Value::from(project.as_str());
            let values = [project].into_iter().chain(values);
            plans.push((what, tx.plan(&sql, values).await?));
        }
        Ok(plans)
    }
}
