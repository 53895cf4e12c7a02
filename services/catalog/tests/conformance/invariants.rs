//! What holds after anything.

use aegis_testkit::books::WRONG;

use crate::world::World;

/// Panics with all that is wrong.
pub(crate) async fn check(world: &World) {
    let mut wrong = Vec::new();
    for (what, sql) in WRONG {
        let count = format!("SELECT COUNT(*) FROM ({sql}) wrong");
        let rows = world.number(&count).await;
        if rows != 0 {
            wrong.push(format!("{what}: {rows}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
