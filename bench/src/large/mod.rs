//! History over many scans, through the gateway: how cost grows with history.

mod ask;
mod rows;
mod store;

use std::path::Path;

use anyhow::Result;

use crate::table::Table;
use store::Store;

pub(crate) use store::Backend;

/// Scans to grow to, one size after the other.
pub(crate) const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];

/// Measures each size on this backend; a size's rows are added to those of the one before.
pub(crate) async fn measure(
    aegis: &Path,
    backend: Backend,
    sizes: &[u64],
    table: &mut Table,
) -> Result<()> {
    let store = Store::make(aegis, backend).await?;
    let mut before = 0;
    for size in sizes {
        let rows = store.open().await?;
        rows::add(&rows, backend, before, *size).await?;
        rows.close().await?;
        before = *size;
        let mesh = store.start().await?;
        let label = format!("{} scans, {}", thousands(*size), backend.name());
        ask::measure(&mesh, &label, *size, table).await?;
        mesh.stop()?;
    }
    Ok(())
}

fn thousands(number: u64) -> String {
    match number {
        ..1_000_000 => format!("{} k", number / 1_000),
        _ => format!("{} M", number / 1_000_000),
    }
}
