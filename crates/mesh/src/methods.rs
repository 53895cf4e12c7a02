//! Which methods stream: a stream may live for hours, so it gets no deadline by default.

use std::{collections::HashSet, sync::LazyLock};

use prost::Message;
use prost_types::FileDescriptorSet;

/// The paths (`/package.Service/Method`) of methods that stream in either direction.
pub(crate) type Paths = HashSet<String>;

/// Those of Aegis itself, gRPC health and reflection.
pub(crate) fn streaming() -> &'static Paths {
    static PATHS: LazyLock<Paths> = LazyLock::new(|| {
        [
            aegis_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        ]
        .into_iter()
        .flat_map(streaming_in)
        .collect()
    });
    &PATHS
}

/// Those in an encoded `FileDescriptorSet`; none if it cannot be decoded, which the server's
/// reflection refuses aloud.
pub(crate) fn streaming_in(descriptors: &[u8]) -> Paths {
    let set = FileDescriptorSet::decode(descriptors).unwrap_or_default();
    let mut paths = Paths::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                if method.client_streaming() || method.server_streaming() {
                    let (package, name) = (file.package(), service.name());
                    paths.insert(format!("/{package}.{name}/{}", method.name()));
                }
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_stream_and_checks_do_not() {
        let paths = streaming();
        assert!(paths.contains("/grpc.health.v1.Health/Watch"));
        assert!(!paths.contains("/grpc.health.v1.Health/Check"));
        assert!(paths.contains("/aegis.scan.v1.ScanService/WatchScan"));
    }
}
