//! Plugin catalogues are immutable; what their runners allow is the newest word.

use aegis_catalog::store::{LeaseCall, PluginCatalogue};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    on_both,
    world::{World, call, refused},
};

on_both!(
    the_newest_is_given_and_its_content_only_when_unknown,
    a_wrong_checksum_is_refused,
    those_that_runners_came_with_of_late_are_present,
);

fn catalogue(content: &str, secret: &str) -> PluginCatalogue {
    PluginCatalogue {
        sha256: hex::encode(Sha256::digest(content)),
        garak_version: "0.17.1".to_owned(),
        json: content.as_bytes().to_vec(),
        allowance: json!({"secrets": [secret]}),
    }
}

async fn the_newest_is_given_and_its_content_only_when_unknown(world: &World) {
    let get = async |sha256: &str, known: &str| {
        world.store.catalogue(&world.project, sha256, known).await
    };
    let none = "FAILED_PRECONDITION/NO_PLUGIN_CATALOGUE";
    assert_eq!(refused(get("", "").await), none);
    let first = catalogue("{\"a\":1}", "A_KEY");
    let put = world.store.put_catalogue(&world.project, &first).await;
    put.unwrap();
    assert_eq!(get("", "").await.unwrap(), first);
    let known = get("", &first.sha256).await.unwrap();
    assert!(known.json.is_empty());
    assert_eq!(known.allowance, first.allowance);
    // The same content with another allowance: the newest word holds.
    let again = catalogue("{\"a\":1}", "B_KEY");
    world
        .store
        .put_catalogue(&world.project, &again)
        .await
        .unwrap();
    assert_eq!(get(&first.sha256, "").await.unwrap(), again);
    world
        .sql("UPDATE plugin_catalogues SET updated_at = 1", vec![])
        .await;
    let second = catalogue("{\"a\":2}", "A_KEY");
    world
        .store
        .put_catalogue(&world.project, &second)
        .await
        .unwrap();
    assert_eq!(get("", "").await.unwrap(), second);
    assert_eq!(get(&first.sha256, "").await.unwrap(), again);
    assert_eq!(refused(get(&"0".repeat(64), "").await), none);
}

async fn a_wrong_checksum_is_refused(world: &World) {
    let wrong = PluginCatalogue {
        sha256: "0".repeat(64),
        ..catalogue("{}", "A_KEY")
    };
    let put = world.store.put_catalogue(&world.project, &wrong).await;
    assert_eq!(refused(put), "INVALID_ARGUMENT/CHECKSUM_MISMATCH");
}

async fn those_that_runners_came_with_of_late_are_present(world: &World) {
    let present = async || {
        world
            .store
            .present_catalogues(&world.project)
            .await
            .unwrap()
    };
    assert!(present().await.is_empty());
    let mut published = Vec::new();
    for n in 0..3 {
        let catalogue = catalogue(&format!("{{\"n\":{n}}}"), "A_KEY");
        let put = world.store.put_catalogue(&world.project, &catalogue);
        put.await.unwrap();
        published.push(catalogue.sha256);
    }
    let order = "UPDATE plugin_catalogues SET updated_at = CASE sha256 WHEN $1 THEN 9 ELSE 5 END";
    world.sql(order, vec![published[0].as_str().into()]).await;
    assert!(present().await.is_empty(), "published, and nobody came");
    for n in [0, 1] {
        let poll = LeaseCall {
            runner_id: format!("runner-{n}"),
            plugin_catalogue: published[n].clone(),
            ..call()
        };
        assert_eq!(world.lease_as(&poll).await, None);
    }
    assert_eq!(present().await, published[..2]);
    let left = "UPDATE runners SET seen_at = 1 WHERE runner_id = 'runner-0'";
    world.sql(left, vec![]).await;
    assert_eq!(present().await, published[1..2]);
}
