//! Listing: each object once, over more than one answer of the server.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::bed::{Bed, key};
use crate::on_each_store;

on_each_store!(
    over_a_thousand_objects_come_once_each,
    a_walk_survives_the_deletion_of_its_last_key,
    order_is_by_key_where_it_is_promised,
);

async fn fill(bed: &Bed, names: &[String]) {
    stream::iter(names)
        .map(|name| bed.put(name, name.as_bytes()))
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await
        .unwrap();
}

/// Page by page, as the caller does.
async fn walk(bed: &Bed, prefix: &str, page: usize) -> Vec<String> {
    let mut listed: Vec<String> = Vec::new();
    loop {
        let after = listed.last().map(String::as_str);
        let objects = bed.store.list(prefix, after, page).await.unwrap();
        assert!(objects.len() <= page);
        for object in &objects {
            assert_eq!(object.size, object.key.as_str().len() as u64);
        }
        if objects.is_empty() {
            return listed;
        }
        listed.extend(
            objects
                .into_iter()
                .map(|object| object.key.as_str().to_owned()),
        );
    }
}

async fn over_a_thousand_objects_come_once_each(bed: Bed) {
    let names: Vec<String> = (0..1205)
        .map(|n| format!("default/scans/{:03}/{n}/report.jsonl", n % 7))
        .chain((0..3).map(|n| format!("other/scans/{n}")))
        .collect();
    fill(&bed, &names).await;
    let ours: BTreeSet<&str> = names[..1205].iter().map(String::as_str).collect();
    for page in [400, 1000, 1205, 5000] {
        let listed = walk(&bed, "default/", page).await;
        assert_eq!(listed.len(), 1205, "{page}");
        assert!(
            listed.iter().map(String::as_str).eq(ours.iter().copied()),
            "{page}"
        );
    }
    assert_eq!(walk(&bed, "", 500).await.len(), 1208);
    assert_eq!(walk(&bed, "default/scans/006/", 500).await.len(), 172);
    assert_eq!(walk(&bed, "none/", 500).await.len(), 0);
}

async fn a_walk_survives_the_deletion_of_its_last_key(bed: Bed) {
    let names: Vec<String> = (0..10).map(|n| format!("default/{n}/x")).collect();
    fill(&bed, &names).await;
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = bed
            .store
            .list("default/", after.as_deref(), 3)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key.as_str().to_owned());
        for object in page {
            seen.push(object.key.as_str().to_owned());
            bed.store.delete(&object.key).await.unwrap();
        }
    }
    assert_eq!(seen, names);
    assert_eq!(bed.store.list("", None, 100).await.unwrap(), []);
}

async fn order_is_by_key_where_it_is_promised(bed: Bed) {
    let names = ["p/a-1", "p/a.b", "p/a/1", "p/a/2", "p/a0", "p/b"].map(ToOwned::to_owned);
    fill(&bed, &names).await;
    let by_path = ["p/a/1", "p/a/2", "p/a-1", "p/a.b", "p/a0", "p/b"].map(ToOwned::to_owned);
    let wanted = if bed.by_key { &names } else { &by_path };
    for page in [1, 2, 4, 100] {
        assert_eq!(walk(&bed, "p/", page).await, wanted, "{page}");
    }
    assert_eq!(bed.stat(key("p/a.b").as_str()).await, Some(5));
}
