//! Who there is, and who calls whom.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use aegis_testkit::{Keys, Proxy};
use anyhow::Result;

use crate::{mesh, process::garak_python};

/// How many processes there are of each service.
const REPLICAS: [(&str, usize); 5] = [
    ("catalog", 2),
    ("artifact", 2),
    ("scan-orchestrator", 2),
    ("gateway", 2),
    ("garak-runner", 3),
];
pub(super) const PROCESSES: usize = 11;

/// Whom each service calls, and the setting that says where.
const CALLS: [(&str, &[(&str, &str)]); 5] = [
    ("catalog", &[(DATABASE, "DATABASE_URL")]),
    (
        "artifact",
        &[("catalog", "CATALOG__ADDRESS"), (STORE, "MINIO__ENDPOINT")],
    ),
    (
        "scan-orchestrator",
        &[
            ("catalog", "CATALOG__ADDRESS"),
            ("artifact", "ARTIFACT__ADDRESS"),
        ],
    ),
    (
        "gateway",
        &[
            ("scan-orchestrator", "ORCHESTRATOR__ADDRESS"),
            ("catalog", "CATALOG__ADDRESS"),
            ("artifact", "ARTIFACT__ADDRESS"),
        ],
    ),
    (
        "garak-runner",
        &[
            ("scan-orchestrator", "ORCHESTRATOR__ADDRESS"),
            ("artifact", "ARTIFACT__ADDRESS"),
        ],
    ),
];

/// Services whose scratch is a disk of their own, in `DATA_DIR`.
const WITH_DISK: [&str; 2] = ["artifact", "garak-runner"];
const DATABASE: &str = "database";
const STORE: &str = "store";
/// From whoever uses the HTTP API.
pub(super) const ENTRANCE: &str = "user > gateway";

/// Names of all processes: `catalog-1`.
pub fn members() -> Vec<String> {
    let all = REPLICAS.iter().flat_map(|(service, number)| {
        (1..=*number).map(move |number| format!("{service}-{number}"))
    });
    all.collect()
}

/// Names of all arrows: `gateway-1 > catalog`.
pub fn arrows() -> Vec<String> {
    let mut arrows = vec![ENTRANCE.to_owned()];
    for member in members() {
        let callees = calls(service_of(&member)).iter();
        arrows.extend(callees.map(|(callee, _)| format!("{member} > {callee}")));
    }
    arrows
}

/// Whether this process has a disk that can be full.
pub fn has_disk(member: &str) -> bool {
    WITH_DISK.contains(&service_of(member))
}

pub(super) fn service_of(member: &str) -> &str {
    member
        .rsplit_once('-')
        .map_or(member, |(service, _)| service)
}

fn calls(service: &str) -> &'static [(&'static str, &'static str)] {
    let calls = CALLS.iter().find(|(of, _)| *of == service);
    calls.map_or(&[], |(_, calls)| calls)
}

/// A proxy for each arrow, to all processes of the service that it leads to.
pub(super) fn proxies(
    members: &BTreeMap<String, SocketAddr>,
    database: SocketAddr,
    store: SocketAddr,
) -> BTreeMap<String, Proxy> {
    let to = |callee: &str| match callee {
        DATABASE => vec![database],
        STORE => vec![store],
        service => {
            let of_service = members
                .iter()
                .filter(|(member, _)| service_of(member) == service);
            of_service.map(|(_, address)| *address).collect()
        }
    };
    let arrows = arrows().into_iter();
    arrows
        .map(|arrow| {
            let callee = arrow.rsplit_once(" > ").map_or("", |(_, callee)| callee);
            let proxy = Proxy::to_any(&to(callee));
            (arrow, proxy)
        })
        .collect()
}

/// Where a process finds those whom it calls.
pub(super) fn arrows_of(
    member: &str,
    proxies: &BTreeMap<String, Proxy>,
) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for (callee, key) in calls(service_of(member)) {
        let Some(proxy) = proxies.get(&format!("{member} > {callee}")) else {
            continue;
        };
        let address = match *callee {
            DATABASE => format!("postgres://postgres@{}/postgres", proxy.address()),
            _ => proxy.endpoint(),
        };
        settings.insert((*key).to_owned(), address);
    }
    settings
}

/// What a process needs besides.
pub(super) fn own(
    member: &str,
    data: &Path,
    bucket: &str,
    keys: Keys,
) -> Result<Vec<(String, String)>> {
    let folder = data.join(member).display().to_string();
    let settings = match service_of(member) {
        "artifact" => vec![
            ("DATA_DIR", folder),
            ("STORAGE_BACKEND", "minio".to_owned()),
            ("MINIO__ACCESS_KEY", keys.access.to_owned()),
            ("MINIO__SECRET_KEY", keys.secret.to_owned()),
            ("MINIO__BUCKET", bucket.to_owned()),
        ],
        "garak-runner" => vec![
            ("DATA_DIR", folder),
            ("CATALOGUE_DIR", mesh::catalogue_dir().display().to_string()),
            ("GARAK_PYTHON", garak_python()?.display().to_string()),
            ("SLOTS", "2".to_owned()),
            // Its disk has 16 MiB in all.
            ("MIN_FREE_BYTES", (2 << 20).to_string()),
        ],
        _ => Vec::new(),
    };
    let settings = settings.into_iter();
    Ok(settings
        .map(|(key, value)| (key.to_owned(), value))
        .collect())
}

pub(super) fn of_service<'a>(
    settings: &'a [(&'static str, &'static str, &'static str)],
    member: &str,
) -> impl Iterator<Item = &'a (&'static str, &'static str, &'static str)> {
    let service = service_of(member).to_owned();
    settings.iter().filter(move |(of, ..)| *of == service)
}
