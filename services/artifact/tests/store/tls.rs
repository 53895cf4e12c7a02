//! TLS, with an authority that nobody else knows.

use aegis_artifact::config::MinioConfig;
use aegis_artifact::store::{ObjectStore, S3Store};
use aegis_testkit::S3Server;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::bed::{Bed, config};

#[tokio::test]
async fn the_store_is_trusted_by_its_own_authority_alone() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let server = S3Server::seaweedfs_with_tls(&certificate.pem(), &key.serialize_pem());

    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca_file.path(), authority.pem()).unwrap();
    let known = MinioConfig {
        endpoint: format!("https://{}", server.address()),
        ca_file: Some(ca_file.path().to_owned()),
        ..config(&server)
    };
    let bed = Bed::s3(&known).await;
    bed.put("default/x", b"x").await.unwrap();
    assert_eq!(bed.read("default/x", 0..1).await.unwrap(), b"x");

    let unknown = MinioConfig {
        ca_file: None,
        ..known.clone()
    };
    let error = S3Store::open(&unknown).unwrap().check().await.unwrap_err();
    assert!(error.to_string().contains("MINIO_CA_FILE"), "{error}");
    let gone = MinioConfig {
        ca_file: Some("/nowhere/ca.pem".into()),
        ..known
    };
    let error = S3Store::open(&gone).unwrap_err().to_string();
    assert!(error.contains("MINIO_CA_FILE"), "{error}");
}
