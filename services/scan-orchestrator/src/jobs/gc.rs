//! Garbage is marked, and what was marked long enough ago is deleted: the object first, then its
//! row. What is cut short in between is found again by its row.

use aegis_mesh::{Error, Result};
use aegis_proto::internal::{
    artifact::v1::DeleteObjectsRequest,
    catalog::v1::{ForgetGarbageRequest, GarbageObject, ListGarbageRequest, SweepKind},
};

use super::run::Run;

pub(super) async fn collect(run: &mut Run<'_>) -> Result<()> {
    run.sweep(SweepKind::Purge).await?;
    run.sweep(SweepKind::Unfinished).await?;
    run.sweep(SweepKind::Parts).await?;
    let age = std::time::Duration::from_secs(run.config.source_seconds);
    run.sweep_older(SweepKind::Sources, age).await?;
    aegis_mesh::failpoint!(MARKED);
    delete_marked(run).await?;
    // Of those whose last file is gone now the last row goes, too.
    if !run.dry_run {
        run.sweep(SweepKind::Purge).await?;
    }
    Ok(())
}

async fn delete_marked(run: &mut Run<'_>) -> Result<()> {
    let grace = std::time::Duration::from_secs(run.config.grace_seconds);
    let mut request = ListGarbageRequest {
        grace: Some(grace.try_into().map_err(Error::internal)?),
        ..ListGarbageRequest::default()
    };
    loop {
        let mut keeping = run.clients.keeping.clone();
        let asked = request.clone();
        let page = run.step(async move { Ok(keeping.list_garbage(asked).await?.into_inner()) });
        let page = page.await?;
        let mut objects = page.objects;
        if !run.dry_run {
            let keys = objects.iter().map(|o| o.object_key.clone()).collect();
            let failed = delete(run, keys).await?;
            objects.retain(|object| !failed.contains(&object.object_key));
        }
        tell(run, &objects);
        if page.next.is_empty() {
            return Ok(());
        }
        request.after = page.next;
    }
}

fn tell(run: &mut Run<'_>, objects: &[GarbageObject]) {
    for object in objects {
        run.count("deleted", 1);
        run.count("deleted_bytes", object.size_bytes);
        run.tell(format!("delete {}", object.object_key));
    }
}

/// Objects first, then their rows. Those that could not be deleted come back: they keep their rows,
/// and are tried again by the next run.
pub(super) async fn delete(run: &mut Run<'_>, mut keys: Vec<String>) -> Result<Vec<String>> {
    if keys.is_empty() {
        return Ok(keys);
    }
    let mut objects = run.clients.objects.clone();
    let request = DeleteObjectsRequest {
        object_keys: keys.clone(),
    };
    let deleted = run.step(async move { Ok(objects.delete_objects(request).await?.into_inner()) });
    let failed = deleted.await?.failed_keys;
    for key in &failed {
        run.count("undeletable", 1);
        run.alarm(format!("ALARM {key}: it cannot be deleted"));
    }
    keys.retain(|key| !failed.contains(key));
    let mut keeping = run.clients.keeping.clone();
    let request = ForgetGarbageRequest { object_keys: keys };
    run.step(async move {
        keeping.forget_garbage(request).await?;
        Ok(())
    })
    .await?;
    Ok(failed)
}
