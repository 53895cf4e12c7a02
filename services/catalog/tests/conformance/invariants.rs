//! What holds after anything.

use aegis_testkit::books::WRONG;

use crate::world::World;

/// Panics with all that is wrong.
pub(crate) async fn check(world: &World) {
    let counts: Vec<String> = WRONG
        .iter()
        .enumerate()
        .map(|(number, (_, sql))| {
            format!("SELECT {number} AS number, (SELECT COUNT(*) FROM ({sql}) AS rows) AS wrong")
        })
        .collect();
    let mut wrong = Vec::new();
    for row in world.sql(&counts.join(" UNION ALL "), vec![]).await {
        let number: i32 = row.try_get("", "number").unwrap();
        let rows: i64 = row.try_get("", "wrong").unwrap();
        if rows != 0 {
            wrong.push(format!("{}: {rows}", WRONG[number as usize].0));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
