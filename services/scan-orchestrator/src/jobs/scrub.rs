//! Rows and objects held against each other. An object without a row is noted, and deleted by a
//! later run; a row without its object is an alarm, and nothing is ever deleted for it.

use std::{collections::HashMap, time::Duration};

use aegis_mesh::{Error, Result};
use aegis_proto::internal::{
    artifact::v1::{
        CheckObjectsRequest, ExpectedObject, FaultKind, ListObjectsRequest, ListedObject,
        ObjectFault,
    },
    catalog::v1::{
        CommittedObject, FindOrphansRequest, GarbageObject, ListCommittedRequest,
        ListCommittedResponse, Orphan,
    },
};

use super::{gc, run::Run};

/// Longest time to read an object.
const READ: Duration = Duration::from_secs(600);
/// Objects without a row that one run deletes at most.
const MAX_DELETED: usize = 10_000;
/// When so many objects have no row, and more than half, it is rather the rows that are missing.
const TOO_MANY: usize = 20;

pub(super) async fn scrub(run: &mut Run<'_>) -> Result<()> {
    orphans(run).await?;
    sizes(run).await?;
    contents(run).await
}

/// What of the old objects has no row, over all pages.
#[derive(Default)]
struct Orphans {
    old: usize,
    found: usize,
    /// Those that an earlier run reported.
    known: Vec<Orphan>,
}

impl Orphans {
    /// Whether it is rather the rows that are missing.
    fn are_too_many(&self) -> bool {
        self.found > 0
            && (self.found == self.old || self.found >= TOO_MANY && self.found * 2 > self.old)
    }
}

async fn orphans(run: &mut Run<'_>) -> Result<()> {
    let mut request = ListObjectsRequest::default();
    let mut orphans = Orphans::default();
    loop {
        let mut objects = run.clients.objects.clone();
        let asked = request.clone();
        let page = run.step(async move { Ok(objects.list_objects(asked).await?.into_inner()) });
        let page = page.await?;
        let Some(last) = page.objects.last() else {
            break;
        };
        request.after.clone_from(&last.object_key);
        let more = page.more;
        let oldest = Duration::from_secs(run.config.orphan_seconds);
        run.count("objects", page.objects.len() as i64);
        let old = page.objects.into_iter().filter(|o| is_old(o, oldest));
        orphans_among(run, old.collect(), &mut orphans).await?;
        if !more {
            break;
        }
    }
    delete(run, orphans).await
}

/// All of them were looked at before the first is deleted.
async fn delete(run: &mut Run<'_>, orphans: Orphans) -> Result<()> {
    let Orphans { old, found, .. } = orphans;
    if orphans.are_too_many() {
        run.count("withheld", found as i64);
        tracing::error!(job = "scrub", files = found, "most files have no row");
        run.alarm(format!(
            "ALARM {found} of {old} files have no row: none is deleted; is this the right database?"
        ));
        return Ok(());
    }
    let mut known = orphans.known;
    for orphan in &known {
        run.count("deleted", 1);
        run.tell(format!("delete {}: it has no row", orphan.object_key));
    }
    while !run.dry_run && !known.is_empty() {
        let rest = known.split_off(known.len().min(500));
        let keys = known.into_iter().map(|orphan| orphan.object_key);
        gc::delete(run, keys.collect()).await?;
        known = rest;
    }
    Ok(())
}

fn is_old(object: &ListedObject, oldest: Duration) -> bool {
    let age = object.age.unwrap_or_default();
    u64::try_from(age.seconds).is_ok_and(|seconds| seconds >= oldest.as_secs())
}

async fn orphans_among(
    run: &mut Run<'_>,
    old: Vec<ListedObject>,
    orphans: &mut Orphans,
) -> Result<()> {
    if old.is_empty() {
        return Ok(());
    }
    orphans.old += old.len();
    let request = FindOrphansRequest {
        objects: old
            .into_iter()
            .map(|object| GarbageObject {
                object_key: object.object_key,
                size_bytes: object.size_bytes,
            })
            .collect(),
        dry_run: run.dry_run,
    };
    let mut keeping = run.clients.keeping.clone();
    let found = run.step(async move { Ok(keeping.find_orphans(request).await?.into_inner()) });
    let found = found.await?.orphans;
    let grace = Duration::from_secs(run.config.grace_seconds);
    for orphan in found {
        orphans.found += 1;
        run.count("orphan_bytes", orphan.size_bytes);
        if !is_known(&orphan, grace) {
            run.count("orphans", 1);
            run.tell(format!("found {}: it has no row", orphan.object_key));
        } else if orphans.known.len() < MAX_DELETED {
            orphans.known.push(orphan);
        }
    }
    Ok(())
}

/// An earlier run reported it.
fn is_known(orphan: &Orphan, grace: Duration) -> bool {
    orphan.known_for.is_some_and(|known| {
        u64::try_from(known.seconds).is_ok_and(|seconds| seconds >= grace.as_secs())
    })
}

/// Whether each file that there should be is there.
async fn sizes(run: &mut Run<'_>) -> Result<()> {
    let mut after = String::new();
    loop {
        let page = committed(run, &after, 0).await?;
        run.count("rows", page.objects.len() as i64);
        check(run, page.objects, false).await?;
        if !page.more {
            return Ok(());
        }
        after = page.last;
    }
}

/// Some are read as a whole; the next run goes on where this one ends, and begins anew after the
/// last.
async fn contents(run: &mut Run<'_>) -> Result<()> {
    let mut bytes = 0;
    for _ in 0..run.config.scrub_reads {
        if bytes >= run.config.scrub_read_bytes {
            break;
        }
        let page = committed(run, &run.position.clone(), 1).await?;
        let Some(object) = page.objects.first() else {
            run.position.clear();
            break;
        };
        bytes += u64::try_from(object.size_bytes).unwrap_or(0);
        run.count("read", 1);
        run.count("read_bytes", object.size_bytes);
        // Before it is read: one that takes too long does not keep the next run from the others.
        run.position = page.last;
        check(run, page.objects, true).await?;
    }
    Ok(())
}

async fn committed(run: &mut Run<'_>, after: &str, limit: i32) -> Result<ListCommittedResponse> {
    let request = ListCommittedRequest {
        after: after.to_owned(),
        limit,
    };
    let mut keeping = run.clients.keeping.clone();
    run.step(async move { Ok(keeping.list_committed(request).await?.into_inner()) })
        .await
}

async fn check(run: &mut Run<'_>, expected: Vec<CommittedObject>, read: bool) -> Result<()> {
    if expected.is_empty() {
        return Ok(());
    }
    let mut owners = HashMap::new();
    let mut objects = Vec::new();
    for object in expected {
        owners.insert(object.object_key.clone(), (object.owner, object.imported));
        objects.push(ExpectedObject {
            object_key: object.object_key,
            size_bytes: object.size_bytes,
            sha256: object.sha256,
        });
    }
    let mut client = run.clients.objects.clone();
    let mut request = tonic::Request::new(CheckObjectsRequest { objects, read });
    request.set_timeout(READ);
    let checked = async move { Ok(client.check_objects(request).await?.into_inner()) };
    for fault in run.step_within(READ, checked).await?.faults {
        if let Some((owner, imported)) = owners.get(&fault.object_key) {
            tell(run, &fault, (owner, *imported), read)?;
        }
    }
    Ok(())
}

fn tell(
    run: &mut Run<'_>,
    fault: &ObjectFault,
    (owner, imported): (&str, bool),
    read: bool,
) -> Result<()> {
    let key = &fault.object_key;
    let (what, problem) = match fault.kind() {
        FaultKind::Missing => ("missing", "it is not there".to_owned()),
        FaultKind::Size => ("wrong_size", format!("it has {} bytes", fault.size_bytes)),
        FaultKind::Sha256 => ("corrupt", "its bytes are not what was stored".to_owned()),
        FaultKind::IndexMissing => ("index_missing", "its index is not there".to_owned()),
        FaultKind::Unreadable => ("unreadable", "the store cannot read it".to_owned()),
        FaultKind::Unspecified => return Err(Error::internal("a fault of no kind")),
    };
    // The look at sizes found the others already.
    if read && !matches!(fault.kind(), FaultKind::Sha256 | FaultKind::Unreadable) {
        return Ok(());
    }
    run.count(what, 1);
    if is_made_again(fault, imported) {
        tracing::warn!(job = "scrub", object_key = %key, %owner, what, "a file that its first reader makes again");
        run.tell(format!(
            "lost {key}: {problem}; its first reader makes it again"
        ));
        return Ok(());
    }
    tracing::error!(job = "scrub", object_key = %key, %owner, what, "a stored file is not what it was");
    run.alarm(format!("ALARM {owner} ({key}): {problem}"));
    Ok(())
}

/// All that an index or a hitlog says is in its report; but a hitlog that was imported is somebody
/// else's, and no other is taken for it.
fn is_made_again(fault: &ObjectFault, imported: bool) -> bool {
    match fault.kind() {
        FaultKind::IndexMissing => true,
        FaultKind::Missing | FaultKind::Size => {
            !imported && fault.object_key.ends_with("/hitlog.jsonl")
        }
        FaultKind::Sha256 | FaultKind::Unreadable | FaultKind::Unspecified => false,
    }
}
