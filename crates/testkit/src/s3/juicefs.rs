//! JuiceFS's gateway, which is MinIO's front over a file system whose blocks are files.

use std::ffi::OsString;
use std::io;
use std::process::{Command, Stdio};

use super::{ADMIN, S3Server, program};
use crate::guard::{Guarded, folder, free_ports};

const META: &str = "sqlite3://meta.db";

pub(super) fn start() -> io::Result<S3Server> {
    let juicefs = program("juicefs")?;
    let folder = folder("aegis-juicefs-")?;
    let blocks = format!("{}/", folder.join("blocks").display());
    let output = Command::new(&juicefs)
        .current_dir(&folder)
        .args(["format", "--storage", "file", "--trash-days", "0"])
        .args(["--bucket", &blocks, META, "aegis"])
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("juicefs format: {said}")));
    }
    let [port] = free_ports()?;
    let address = format!("127.0.0.1:{port}");
    let command = [juicefs.into_os_string()].into_iter().chain(
        [
            "gateway",
            "--no-usage-report",
            "--multi-buckets",
            "--keep-etag",
            "--object-tag",
            "--object-meta",
            "--cache-dir=memory",
            "--metrics=127.0.0.1:0",
            META,
            &address,
        ]
        .map(OsString::from),
    );
    let credentials = [
        ("MINIO_ROOT_USER", ADMIN.access),
        ("MINIO_ROOT_PASSWORD", ADMIN.secret),
    ];
    let guard = Guarded::spawn(folder, &[], command, &credentials)?;
    S3Server::new(port, guard, vec![(port, "/", " 403 ")])
}
