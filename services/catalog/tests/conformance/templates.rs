//! Templates: names are taken once, versions are kept, and nobody's change is lost.

use aegis_catalog::domain::template::{NewTemplate, Template, TemplateChange};
use serde_json::json;

use crate::{
    on_both,
    world::{World, refused},
};

on_both!(
    a_name_is_taken_once,
    every_change_is_a_version_and_versions_stay,
    a_change_to_an_old_version_is_refused,
    of_two_changes_at_once_one_is_refused,
    a_deleted_name_goes_on_counting,
    lists_go_by_name_and_by_version,
);

const NOT_FOUND: &str = "NOT_FOUND/TEMPLATE_NOT_FOUND";

async fn make(world: &World, name: &str) -> aegis_mesh::Result<Template> {
    let new = NewTemplate {
        name: name.to_owned(),
        display_name: format!("the {name}"),
        description: "line 1\nline 2".to_owned(),
        spec: json!({"generations": 1, "include": ["probes.dan"]}),
        created_by: "local".to_owned(),
    };
    world.store.create_template(&world.project, &new).await
}

async fn change(
    world: &World,
    name: &str,
    generations: i32,
    etag: &str,
) -> aegis_mesh::Result<Template> {
    let change = TemplateChange {
        spec: Some(json!({"generations": generations})),
        ..TemplateChange::default()
    };
    let store = &world.store;
    store
        .update_template(&world.project, name, &change, etag)
        .await
}

async fn get(world: &World, name: &str, version: Option<i32>) -> aegis_mesh::Result<Template> {
    world.store.template(&world.project, name, version).await
}

async fn a_name_is_taken_once(world: &World) {
    let made = make(world, "nightly").await.unwrap();
    assert_eq!((made.version, made.etag().as_str()), (1, "v1"));
    assert_eq!(get(world, "nightly", None).await.unwrap(), made);
    let again = make(world, "nightly").await;
    assert_eq!(refused(again), "ALREADY_EXISTS/TEMPLATE_EXISTS");
    assert_eq!(refused(get(world, "other", None).await), NOT_FOUND);
    let (first, second) = tokio::join!(make(world, "both"), make(world, "both"));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
}

async fn every_change_is_a_version_and_versions_stay(world: &World) {
    let first = make(world, "nightly").await.unwrap();
    let second = change(world, "nightly", 7, "v1").await.unwrap();
    assert_eq!(second.version, 2);
    assert_eq!(second.spec, json!({"generations": 7}));
    assert_eq!(second.display_name, first.display_name);
    assert_eq!(second.created_at, first.created_at);
    assert_eq!(get(world, "nightly", Some(1)).await.unwrap(), first);
    assert_eq!(get(world, "nightly", None).await.unwrap(), second);
    assert_eq!(refused(get(world, "nightly", Some(3)).await), NOT_FOUND);
}

async fn a_change_to_an_old_version_is_refused(world: &World) {
    make(world, "nightly").await.unwrap();
    change(world, "nightly", 2, "v1").await.unwrap();
    let late = change(world, "nightly", 3, "v1").await;
    assert_eq!(refused(late), "ABORTED/TEMPLATE_CHANGED");
    let delete = async |etag| {
        let store = &world.store;
        store.delete_template(&world.project, "nightly", etag).await
    };
    assert_eq!(refused(delete("v1").await), "ABORTED/TEMPLATE_CHANGED");
    delete("v2").await.unwrap();
    assert_eq!(refused(change(world, "nightly", 3, "v2").await), NOT_FOUND);
    assert_eq!(refused(delete("").await), NOT_FOUND);
}

async fn of_two_changes_at_once_one_is_refused(world: &World) {
    make(world, "nightly").await.unwrap();
    let changes = tokio::join!(
        change(world, "nightly", 2, "v1"),
        change(world, "nightly", 3, "v1")
    );
    let kept = match changes {
        (Ok(kept), late) | (late, Ok(kept)) => {
            assert_eq!(refused(late), "ABORTED/TEMPLATE_CHANGED");
            kept
        }
        (Err(one), Err(_)) => panic!("both were refused: {one}"),
    };
    assert_eq!(get(world, "nightly", None).await.unwrap(), kept);
}

async fn a_deleted_name_goes_on_counting(world: &World) {
    let first = make(world, "nightly").await.unwrap();
    let store = &world.store;
    let deleted = store.delete_template(&world.project, "nightly", "").await;
    deleted.unwrap();
    assert_eq!(refused(get(world, "nightly", None).await), NOT_FOUND);
    // A scan that was made from it still finds what it was.
    let old = get(world, "nightly", Some(1)).await.unwrap();
    assert_eq!(old.spec, first.spec);
    let second = make(world, "nightly").await.unwrap();
    assert_eq!(second.version, 2);
    assert_eq!(
        refused(change(world, "nightly", 3, "v1").await),
        "ABORTED/TEMPLATE_CHANGED"
    );
}

async fn lists_go_by_name_and_by_version(world: &World) {
    for name in ["b", "a", "d", "c"] {
        make(world, name).await.unwrap();
    }
    let store = &world.store;
    store
        .delete_template(&world.project, "c", "")
        .await
        .unwrap();
    let names = async |after: &str, limit| {
        let page = store.templates(&world.project, after, limit).await.unwrap();
        page.into_iter().map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(names("", 2).await, ["a", "b"]);
    assert_eq!(names("b", 2).await, ["d"]);
    for version in 1..4 {
        let etag = format!("v{version}");
        change(world, "a", version, &etag).await.unwrap();
    }
    let versions = async |name: &str, before, limit| {
        let page = store.template_versions(&world.project, name, before, limit);
        Ok::<_, aegis_mesh::Error>(page.await?.iter().map(|v| v.version).collect::<Vec<_>>())
    };
    assert_eq!(versions("a", None, 2).await.unwrap(), [4, 3]);
    assert_eq!(versions("a", Some(3), 5).await.unwrap(), [2, 1]);
    assert!(versions("a", Some(1), 5).await.unwrap().is_empty());
    assert_eq!(refused(versions("c", None, 5).await), NOT_FOUND);
}
