//! The contracts of Aegis in Rust: generated code, the descriptor set that reflection
//! and the gateway's transcoder read, and typed ids.
//!
//! The modules follow the packages of `proto/`.

pub mod ids;
pub mod json;
pub mod overlay;

/// Every file of `proto/` and what it imports, as an encoded `google.protobuf.FileDescriptorSet`
/// that keeps the `google.api.http` annotations.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

/// `aegis.common.*`: what several packages share.
pub mod common {
    /// `aegis.common.v1`
    #[allow(missing_docs, clippy::all, reason = "generated; documented in proto/")]
    pub mod v1 {
        tonic::include_proto!("aegis.common.v1");
    }
}

/// `aegis.scan.*`: scans, their history and events.
pub mod scan {
    /// `aegis.scan.v1`
    #[allow(missing_docs, clippy::all, reason = "generated; documented in proto/")]
    pub mod v1 {
        tonic::include_proto!("aegis.scan.v1");
    }
}

/// `aegis.report.*`: what a scan left behind.
pub mod report {
    /// `aegis.report.v1`
    #[allow(missing_docs, clippy::all, reason = "generated; documented in proto/")]
    pub mod v1 {
        tonic::include_proto!("aegis.report.v1");
    }
}

/// `aegis.plugin.*`: what garak has.
pub mod plugin {
    /// `aegis.plugin.v1`
    #[allow(missing_docs, clippy::all, reason = "generated; documented in proto/")]
    pub mod v1 {
        tonic::include_proto!("aegis.plugin.v1");
    }
}

/// `aegis.statistics.*`: sums over everything.
pub mod statistics {
    /// `aegis.statistics.v1`
    #[allow(missing_docs, clippy::all, reason = "generated; documented in proto/")]
    pub mod v1 {
        tonic::include_proto!("aegis.statistics.v1");
    }
}

/// `aegis.template.*`: specifications to start from.
pub mod template {
    /// `aegis.template.v1`
    #[allow(missing_docs, clippy::all, reason = "generated; documented in proto/")]
    pub mod v1 {
        tonic::include_proto!("aegis.template.v1");
    }
}

/// `aegis.probe.*`: probes of one's own.
pub mod probe {
    /// `aegis.probe.v1`
    #[allow(missing_docs, clippy::all, reason = "generated; documented in proto/")]
    pub mod v1 {
        tonic::include_proto!("aegis.probe.v1");
    }
}

/// `aegis.admin.*`: the jobs that keep the store in order.
pub mod admin {
    /// `aegis.admin.v1`
    #[allow(missing_docs, clippy::all, reason = "generated; documented in proto/")]
    pub mod v1 {
        tonic::include_proto!("aegis.admin.v1");
    }
}

/// `aegis.internal.*`: between services only, never reachable through the gateway.
pub mod internal {
    /// `aegis.internal.task.*`
    pub mod task {
        /// `aegis.internal.task.v1`
        #[allow(missing_docs, clippy::all, reason = "generated; documented in proto/")]
        pub mod v1 {
            tonic::include_proto!("aegis.internal.task.v1");
        }
    }
    /// `aegis.internal.artifact.*`
    pub mod artifact {
        /// `aegis.internal.artifact.v1`
        #[allow(missing_docs, clippy::all, reason = "generated; documented in proto/")]
        pub mod v1 {
            tonic::include_proto!("aegis.internal.artifact.v1");
        }
    }
    /// `aegis.internal.catalog.*`
    pub mod catalog {
        /// `aegis.internal.catalog.v1`
        #[allow(missing_docs, clippy::all, reason = "generated; documented in proto/")]
        pub mod v1 {
            tonic::include_proto!("aegis.internal.catalog.v1");
        }
    }
    /// `aegis.internal.runner.*`
    pub mod runner {
        /// `aegis.internal.runner.v1`
        #[allow(missing_docs, clippy::all, reason = "generated; documented in proto/")]
        pub mod v1 {
            tonic::include_proto!("aegis.internal.runner.v1");
        }
    }
}
