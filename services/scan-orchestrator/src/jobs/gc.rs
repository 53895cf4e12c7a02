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
        if !run.dry_run {
            delete(
                run,
                page.objects.iter().map(|o| o.object_key.clone()).collect(),
            )
            .await?;
        }
        tell(run, &page.objects);
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

/// Objects first, then their rows.
pub(super) async fn delete(run: &mut Run<'_>, keys: Vec<String>) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut objects = run.clients.objects.clone();
    let request = DeleteObjectsRequest {
        object_keys: keys.clone(),
    };
    run.step(async move {
        objects.delete_objects(request).await?;
        Ok(())
    })
    .await?;
    let mut keeping = run.clients.keeping.clone();
    let request = ForgetGarbageRequest { object_keys: keys };
    run.step(async move {
        keeping.forget_garbage(request).await?;
        Ok(())
    })
    .await
}
