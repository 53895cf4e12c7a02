//! Sources of custom probes: named by what they are, whole or not at all.

use aegis_mesh::{Code, Result};
use aegis_proto::internal::artifact::v1 as pb;
use aegis_proto::internal::task::v1::Lease;

use crate::support::{Service, call, checksum, is};

const SOURCE: &[u8] = b"\"\"\"Leaks.\"\"\"\n\nfrom garak.probes.base import Probe\n";

async fn put(service: &Service, source: &[u8]) -> Result<String> {
    let source = source.to_vec();
    let mut client = service.sources();
    let request = pb::PutSourceRequest { source };
    Ok(call(client.put_source(request)).await?.sha256)
}

async fn get(service: &Service, sha256: &str) -> Result<Vec<u8>> {
    let sha256 = sha256.to_owned();
    let mut client = service.sources();
    Ok(call(client.get_source(pb::GetSourceRequest { sha256 }))
        .await?
        .source)
}

async fn read(service: &Service, lease: &Lease, sha256: &str) -> Result<Vec<u8>> {
    let request = pb::ReadTaskSourceRequest {
        lease: Some(lease.clone()),
        sha256: sha256.to_owned(),
    };
    let mut client = service.sources();
    Ok(call(client.read_task_source(request)).await?.source)
}

fn object(service: &Service, sha256: &str) -> std::path::PathBuf {
    service.path(&format!("default/sources/{sha256}.py"))
}

#[tokio::test]
async fn a_source_is_kept_under_its_checksum_once() {
    let service = Service::start().await;
    let sha256 = put(&service, SOURCE).await.unwrap();
    assert_eq!(sha256, checksum(SOURCE).sha256);
    assert_eq!(std::fs::read(object(&service, &sha256)).unwrap(), SOURCE);
    assert_eq!(put(&service, SOURCE).await.unwrap(), sha256);
    assert_eq!(service.catalog.state().sources.commits, 1);
    assert_eq!(get(&service, &sha256).await.unwrap(), SOURCE);
    let missing = get(&service, &"0".repeat(64)).await.unwrap_err();
    is(&missing, Code::NotFound, "SOURCE_NOT_FOUND");
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn what_is_no_source_is_refused_before_any_row() {
    let service = Service::start().await;
    let large = vec![b'#'; (256 << 10) + 1];
    let refusal = put(&service, &large).await.unwrap_err();
    is(&refusal, Code::InvalidArgument, "SOURCE_TOO_LARGE");
    for bad in [&b""[..], b"ok\xff"] {
        let refusal = put(&service, bad).await.unwrap_err();
        is(&refusal, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(refusal.fields()[0].path, "source");
    }
    assert!(service.catalog.state().sources.rows.is_empty());
    assert!(put(&service, &large[1..]).await.is_ok());
}

#[tokio::test]
async fn a_put_that_was_interrupted_is_made_whole_by_the_next() {
    let service = Service::start().await;
    service.store.set_full(true);
    let full = put(&service, SOURCE).await.unwrap_err();
    is(&full, Code::Unavailable, "STORAGE_FULL");
    let sha256 = checksum(SOURCE).sha256;
    // The row is there, the bytes are not: nobody sees it.
    assert!(!service.catalog.state().sources.rows[&sha256].committed);
    let missing = get(&service, &sha256).await.unwrap_err();
    is(&missing, Code::NotFound, "SOURCE_NOT_FOUND");
    service.store.set_full(false);
    put(&service, SOURCE).await.unwrap();
    assert_eq!(get(&service, &sha256).await.unwrap(), SOURCE);
}

#[tokio::test]
async fn other_bytes_than_were_stored_are_never_given_out() {
    let service = Service::start().await;
    let sha256 = put(&service, SOURCE).await.unwrap();
    let mut changed = SOURCE.to_vec();
    changed[5] ^= 1;
    for bytes in [&changed[..], &SOURCE[1..]] {
        std::fs::remove_file(object(&service, &sha256)).unwrap();
        std::fs::write(object(&service, &sha256), bytes).unwrap();
        let corrupt = get(&service, &sha256).await.unwrap_err();
        is(&corrupt, Code::DataLoss, "ARTIFACT_CORRUPT");
    }
    // An object that was lost comes back with the same source.
    std::fs::remove_file(object(&service, &sha256)).unwrap();
    let corrupt = get(&service, &sha256).await.unwrap_err();
    is(&corrupt, Code::DataLoss, "ARTIFACT_CORRUPT");
    put(&service, SOURCE).await.unwrap();
    assert_eq!(get(&service, &sha256).await.unwrap(), SOURCE);
}

#[tokio::test]
async fn a_runner_reads_what_its_lease_is_for() {
    let service = Service::start().await;
    let sha256 = put(&service, SOURCE).await.unwrap();
    let other = put(&service, b"# another").await.unwrap();
    // Of a check: its lease has no scan.
    let lease = service.catalog.lease("");
    let pin = (lease.task_id.clone(), sha256.clone());
    service.catalog.state().sources.pinned.extend([pin]);
    assert_eq!(read(&service, &lease, &sha256).await.unwrap(), SOURCE);
    let refusal = read(&service, &lease, &other).await.unwrap_err();
    is(&refusal, Code::PermissionDenied, "SOURCE_NOT_LEASED");
    service.catalog.fence(&lease);
    let lost = read(&service, &lease, &sha256).await.unwrap_err();
    is(&lost, Code::Aborted, "LEASE_LOST");
}

#[tokio::test]
async fn a_row_of_another_project_is_not_followed() {
    let service = Service::start().await;
    service.catalog.state().sources.key_prefix = Some("other".to_owned());
    let refusal = put(&service, SOURCE).await.unwrap_err();
    is(&refusal, Code::Internal, "INTERNAL");
    assert!(!service.path("other").try_exists().unwrap());
}
