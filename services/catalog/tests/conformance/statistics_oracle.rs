//! Statistics by the book: a plain walk over all results and scans, for comparison.

use std::collections::{BTreeMap, BTreeSet};

use aegis_catalog::domain::statistics::{
    Day, Dimension, Grouping, LineKey, Query, Scope, Sums, Target,
};

use crate::world::World;

/// Something that counts.
struct Counted {
    target: Target,
    day: Day,
    /// Probe, detector and tags; `None` for the end of a scan.
    result: Option<(String, String, Vec<String>)>,
    sums: Sums,
}

/// Everything in the database that counts.
pub(crate) struct Oracle {
    counted: Vec<Counted>,
}

const RESULTS: &str = "
    SELECT s.target_type, s.target_name, r.evaluated_at AS at, r.probe, r.detector, r.passed,
        r.failed, r.nones, r.detector_defcon, (SELECT CAST(t.tags AS TEXT) FROM tasks t
            WHERE t.scan_id = r.scan_id AND t.probe = r.probe LIMIT 1) AS tags
    FROM probe_results r JOIN scans s ON s.id = r.scan_id";
const ENDS: &str = "
    SELECT target_type, target_name, ended_at AS at, state FROM scans WHERE ended_at IS NOT NULL";

impl Oracle {
    pub(crate) async fn of(world: &World) -> Self {
        let mut counted = Vec::new();
        for row in world.sql(RESULTS, vec![]).await {
            let tags: String = row.try_get("", "tags").unwrap();
            let mut sums = Sums {
                evaluations: 1,
                passed: row.try_get("", "passed").unwrap(),
                failed: row.try_get("", "failed").unwrap(),
                nones: row.try_get("", "nones").unwrap(),
                ..Sums::default()
            };
            let grade: Option<i32> = row.try_get("", "detector_defcon").unwrap();
            if let Some(grade) = grade {
                sums.defcon[grade as usize - 1] = 1;
            }
            counted.push(Counted {
                target: target(&row),
                day: day(&row),
                result: Some((
                    row.try_get("", "probe").unwrap(),
                    row.try_get("", "detector").unwrap(),
                    serde_json::from_str(&tags).unwrap(),
                )),
                sums,
            });
        }
        for row in world.sql(ENDS, vec![]).await {
            let state: String = row.try_get("", "state").unwrap();
            let mut sums = Sums::default();
            match state.as_str() {
                "COMPLETED" => sums.scans_completed = 1,
                "FAILED" => sums.scans_failed = 1,
                "CANCELLED" => sums.scans_cancelled = 1,
                other => panic!("{other} has ended"),
            }
            counted.push(Counted {
                target: target(&row),
                day: day(&row),
                result: None,
                sums,
            });
        }
        Self { counted }
    }

    /// Days of anything.
    pub(crate) fn days(&self) -> Vec<Day> {
        self.counted.iter().map(|counted| counted.day).collect()
    }

    pub(crate) fn lines(&self, query: &Query, grouping: Grouping) -> BTreeMap<LineKey, Sums> {
        let mut lines = BTreeMap::<_, Sums>::new();
        for counted in &self.counted {
            let of_target = query.target.as_ref().is_none_or(|t| *t == counted.target);
            let of_filter = query
                .by
                .as_ref()
                .is_none_or(|(dimension, key)| counted.keys(*dimension).contains(key));
            if !of_target || !of_filter || !query.window.contains(counted.day) {
                continue;
            }
            let mut keys = counted.lines(grouping);
            // A probe has several tags: asked for one tag's lines, the others' are not told.
            if let (Grouping::Key(of), Some((dimension, only))) = (grouping, &query.by)
                && of == *dimension
            {
                keys.retain(|key| *key == LineKey::Key(only.clone()));
            }
            for key in keys {
                *lines.entry(key).or_default() += counted.sums;
            }
        }
        lines
    }
}

impl Counted {
    fn keys(&self, dimension: Dimension) -> Vec<String> {
        let Some((probe, detector, tags)) = &self.result else {
            return Vec::new();
        };
        match dimension {
            Dimension::Total => vec![],
            Dimension::Probe => vec![probe.clone()],
            Dimension::Module => vec![probe.split('.').next().unwrap().to_owned()],
            // A tag that stands there twice is one tag.
            Dimension::Tag => tags
                .iter()
                .cloned()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            Dimension::Detector => vec![detector.clone()],
        }
    }

    fn lines(&self, grouping: Grouping) -> Vec<LineKey> {
        match grouping {
            Grouping::None => vec![LineKey::All],
            Grouping::Day => vec![LineKey::Day(self.day)],
            Grouping::Week => vec![LineKey::Day(self.day.monday())],
            Grouping::Month => vec![LineKey::Month(self.day.month())],
            Grouping::Target => vec![LineKey::Target(self.target.clone())],
            Grouping::Key(dimension) => {
                let keys = self.keys(dimension).into_iter();
                keys.map(LineKey::Key).collect()
            }
        }
    }
}

fn target(row: &sea_orm::QueryResult) -> Target {
    Target {
        kind: row.try_get("", "target_type").unwrap(),
        name: row.try_get("", "target_name").unwrap(),
    }
}

fn day(row: &sea_orm::QueryResult) -> Day {
    Day::of_time(row.try_get("", "at").unwrap())
}

/// Panics unless the store tells the same as the book.
pub(crate) async fn compare(world: &World, oracle: &Oracle, query: &Query, grouping: Grouping) {
    let Some(scope) = Scope::of(query, grouping) else {
        return;
    };
    let lines = world
        .store
        .statistics(&world.project, query, grouping, &scope)
        .await
        .unwrap();
    let told: BTreeMap<_, _> = lines
        .into_iter()
        .map(|line| (line.key, line.sums))
        .collect();
    let book = oracle.lines(query, grouping);
    assert_eq!(told, book, "{query:?} by {grouping:?}");
}
