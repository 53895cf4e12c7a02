//! SeaweedFS: master, volume server, filer and S3 in one process.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use super::{ADMIN, Keys, S3Server, policy, program};
use crate::guard::{Guarded, folder, free_ports};

/// Starts one; `tls` is a certificate and its key.
pub(super) fn start(tls: Option<(&str, &str)>) -> io::Result<S3Server> {
    let weed = program("weed")?;
    let folder = folder("aegis-seaweedfs-")?;
    std::fs::create_dir(folder.join("data"))?;
    std::fs::write(folder.join(IDENTITIES), identities(&policy::LIMITED))?;
    let [
        master,
        master_rpc,
        volume,
        volume_rpc,
        filer,
        filer_rpc,
        s3,
        s3_rpc,
    ] = free_ports()?;
    let mut arguments: Vec<String> = [
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-dir=data",
        "-filer",
        "-s3",
        "-s3.config=identities.json",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        // Each bucket takes some, and none has its bytes before they are written. By default the
        // free disk decides how many there may be.
        "-volume.max=1000",
        "-volume.minFreeSpace=100MiB",
        "-filer.localSocket=filer.sock",
        "-s3.localSocket=s3.sock",
    ]
    .map(ToOwned::to_owned)
    .into();
    for (name, port) in [
        ("master.port", master),
        ("master.port.grpc", master_rpc),
        ("volume.port", volume),
        ("volume.port.grpc", volume_rpc),
        ("filer.port", filer),
        ("filer.port.grpc", filer_rpc),
        ("s3.port", s3),
        ("s3.port.grpc", s3_rpc),
    ] {
        arguments.push(format!("-{name}={port}"));
    }
    if let Some((certificate, key)) = tls {
        std::fs::write(folder.join("tls.crt"), certificate)?;
        std::fs::write(folder.join("tls.key"), key)?;
        arguments.extend(["-s3.cert.file=tls.crt", "-s3.key.file=tls.key"].map(Into::into));
    }
    let command = [weed.into_os_string()]
        .into_iter()
        .chain(arguments.into_iter().map(OsString::from));
    // It listens there, too, and has no option for it.
    let socket = |(name, port)| format!("/tmp/seaweedfs-{name}-grpc-{port}.sock").into();
    let sockets = [
        ("master", master_rpc),
        ("volume", volume_rpc),
        ("filer", filer_rpc),
        ("s3", s3_rpc),
    ];
    let sockets: Vec<PathBuf> = sockets.map(socket).into();
    // Its log is a file of its own, beside what it says.
    let temporary = folder.display().to_string();
    let guard = Guarded::spawn(folder, &sockets, command, &[("TMPDIR", &temporary)])?;
    let refusal = if tls.is_some() { " 400 " } else { " 403 " };
    // It answers before it has a volume to write to.
    let signs = vec![(master, "/dir/assign", "\"fid\""), (s3, "/", refusal)];
    S3Server::new(s3, guard, signs)
}

/// Where they lie in its folder.
pub(super) const IDENTITIES: &str = "identities.json";

/// Who may what: the admin everything, these what the documentation's policy has but one action.
pub(super) fn identities(limited: &[(Keys, &str)]) -> String {
    let all = r#""Admin", "Read", "Write", "List", "Tagging""#;
    let admin = identity(ADMIN, &format!(r#""actions": [{all}]"#));
    let named = |keys: &Keys| identity(*keys, &format!(r#""policyNames": ["{}"]"#, keys.access));
    let identities = limited.iter().map(|(keys, _)| named(keys));
    let policies = limited.iter().map(|(keys, action)| {
        // As text within JSON. A policy has no other characters that need it.
        let policy = policy::without(keys.access, action);
        let policy = policy.replace('"', "\\\"").replace('\n', " ");
        format!(r#"{{"name": "{}", "content": "{policy}"}}"#, keys.access)
    });
    format!(
        r#"{{"identities": [{}], "policies": [{}]}}"#,
        [admin]
            .into_iter()
            .chain(identities)
            .collect::<Vec<_>>()
            .join(", "),
        policies.collect::<Vec<_>>().join(", ")
    )
}

fn identity(keys: Keys, rights: &str) -> String {
    let Keys { access, secret } = keys;
    let credentials = format!(r#"{{"accessKey": "{access}", "secretKey": "{secret}"}}"#);
    format!(r#"{{"name": "{access}", "credentials": [{credentials}], {rights}}}"#)
}
