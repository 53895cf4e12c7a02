//! Objects as such: deleted with their index, listed with their age, held against what they should
//! be.

use std::time::Duration;

use aegis_artifact::domain::checksum::Checksum;
use aegis_artifact::domain::objects::{ObjectFault, Objects};
use aegis_proto::ids::ProjectId;
use sha2::{Digest, Sha256};

use crate::bed::{Bed, key};
use crate::on_each_store;

on_each_store!(
    a_report_goes_with_its_index,
    a_listing_has_sizes_and_ages_of_one_project,
    what_is_not_as_it_was_is_found,
);

const REPORT: &str = "default/scans/s/t/1/report.jsonl";

fn of(bytes: &[u8]) -> Checksum {
    Checksum {
        sha256: Sha256::digest(bytes).into(),
        size: bytes.len() as u64,
    }
}

fn objects(bed: &Bed) -> Objects {
    Objects::new(bed.store.clone())
}

async fn a_report_goes_with_its_index(bed: Bed) {
    let index = format!("{REPORT}.index");
    let html = "default/scans/s/t/1/report.html";
    for name in [REPORT, &index, html] {
        bed.put(name, b"bytes").await.unwrap();
    }
    let keys = || vec![key(REPORT), key("default/scans/s/t/1/none")];
    // The second time, as after a crash, there is nothing to do.
    for _ in 0..2 {
        objects(&bed).delete(keys()).await.unwrap();
        assert_eq!(bed.stat(REPORT).await, None);
        assert_eq!(bed.stat(&index).await, None);
    }
    assert_eq!(bed.stat(html).await, Some(5));
}

async fn a_listing_has_sizes_and_ages_of_one_project(bed: Bed) {
    bed.put("default/a", b"bytes").await.unwrap();
    bed.put("default/b", b"more bytes").await.unwrap();
    bed.put("other/c", b"not ours").await.unwrap();
    let project = ProjectId::default_project();
    let page = objects(&bed).list(&project, None, 1).await.unwrap();
    assert_eq!(page.len(), 1);
    let after = Some(page[0].key.as_str());
    let rest = objects(&bed).list(&project, after, 5).await.unwrap();
    let listed: Vec<_> = page
        .iter()
        .chain(&rest)
        .map(|object| (object.key.as_str(), object.size))
        .collect();
    assert_eq!(listed, [("default/a", 5), ("default/b", 10)]);
    let listed = bed.store.list("default/", None, 5).await.unwrap();
    assert!(listed.iter().all(|object| object.modified.is_some()));
    let hour = Duration::from_secs(3_600);
    assert!(page.iter().chain(&rest).all(|object| object.age < hour));
}

async fn what_is_not_as_it_was_is_found(bed: Bed) {
    bed.put("default/good", b"bytes").await.unwrap();
    bed.put("default/other", b"Bytes").await.unwrap();
    bed.put("default/short", b"byte").await.unwrap();
    bed.put(REPORT, b"bytes").await.unwrap();
    let names = [
        "default/good",
        "default/other",
        "default/short",
        "default/none",
        REPORT,
    ];
    let check = async |read| {
        let expected = names.map(|name| (key(name), of(b"bytes")));
        let faults = objects(&bed).check(expected.to_vec(), read).await.unwrap();
        let mut faults: Vec<_> = faults
            .into_iter()
            .map(|(key, fault)| (key.as_str().to_owned(), fault))
            .collect();
        faults.sort_by(|a, b| a.0.cmp(&b.0));
        faults
    };
    let fault = |name: &str, fault| (name.to_owned(), fault);
    let mut wanted = vec![
        fault("default/none", ObjectFault::Missing),
        fault(REPORT, ObjectFault::IndexMissing),
        fault("default/short", ObjectFault::Size(4)),
    ];
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(check(false).await, wanted);
    wanted.push(fault("default/other", ObjectFault::Sha256));
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(check(true).await, wanted);
}
