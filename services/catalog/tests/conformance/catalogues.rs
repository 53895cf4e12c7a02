//! Plugin catalogues are immutable; what their runners allow is the newest word.

use aegis_catalog::store::PluginCatalogue;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    on_both,
    world::{World, refused},
};

on_both!(
    the_newest_is_given_and_its_content_only_when_unknown,
    a_wrong_checksum_is_refused
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
