//! `aegis import` from the old system's database, and its bucket.

use aegis_testkit::{Postgres, S3Server};
use aegis_tests::mesh::Mesh;
use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use crate::{
    import_cli::{about, command, counts, import, said},
    old_system::{OldBucket, OldFolder, OldRow, Schema, fill, report_of},
    support::text,
};

crate::cases![
    databases_bring_what_no_report_says,
    a_bucket_is_taken_in_with_its_database,
];

fn rows(scans: &[Uuid; 5]) -> [OldRow; 5] {
    let stats = r#"{"dan": {"passed": 1, "failed": 2}}"#;
    let row = |index: usize, status, error, stats| OldRow {
        id: scans[index],
        status,
        error,
        stats,
    };
    [
        row(0, "completed", "", stats),
        row(1, "completed", "", stats),
        row(2, "running", "", "{}"),
        row(3, "failed", "401 for sk-thisMustNotBeTakenAlong", "{}"),
        row(4, "cancelled", "", "{}"),
    ]
}

async fn databases_bring_what_no_report_says(mesh: &Mesh) -> Result<()> {
    let files = tempfile::tempdir()?;
    let postgres = Postgres::shared().create_database();
    for (name, schema) in [
        ("old.db", Schema::Old),
        ("new.db", Schema::New),
        ("postgres", Schema::New),
    ] {
        let (filled, url) = match name {
            "postgres" => (postgres.url(), postgres.url()),
            name => {
                let file = files.path().join(name).display().to_string();
                (
                    format!("sqlite:{file}?mode=rwc"),
                    format!("sqlite:///{file}"),
                )
            }
        };
        from_database(mesh, &filled, &url, schema)
            .await
            .with_context(|| name.to_owned())?;
    }
    Ok(())
}

async fn from_database(mesh: &Mesh, filled: &str, url: &str, schema: Schema) -> Result<()> {
    let mut old = OldFolder::empty()?;
    old.add_probe()?;
    let with_report = old.add_report(&report_of("0.13.1")?)?;
    let [lost, running, failed, cancelled] = [(); 4].map(|()| Uuid::new_v4());
    let rows = rows(&[with_report, lost, running, failed, cancelled]);
    fill(filled, schema, &rows, &old.template, &old.probe).await?;
    let args = [&*old.shown(), "--database", url];
    let summary = import(mesh, 0, &args, &[])?;
    ensure!(counts(&summary, "scans") == [5, 0, 0], "{summary:#}");
    ensure!(counts(&summary, "templates") == [1, 0, 0], "{summary:#}");
    ensure!(counts(&summary, "customProbes") == [1, 0, 0], "{summary:#}");
    for row in &rows {
        let notes = about(&summary, "warnings", &row.id.to_string()).concat();
        ensure!(notes.contains("config_json.api_key"), "{notes}");
    }
    let scan = async |id: Uuid| mesh.client().scan(&id.to_string()).await;
    let whole = scan(with_report).await?;
    ensure!(whole["state"] == "STATE_COMPLETED", "{whole:#}");
    ensure!(
        text(&whole["createTime"]) == "2024-05-01T09:59:59Z",
        "{whole:#}"
    );
    ensure!(
        text(&whole["endTime"]) == "2024-05-01T10:09:00Z",
        "{whole:#}"
    );
    ensure!(
        whole["spec"]["target"]["type"] == "ollama",
        "the row says so: {whole:#}"
    );
    let counted = scan(lost).await?;
    if schema == Schema::New {
        ensure!(counted["totals"]["passed"] == "1", "{counted:#}");
        ensure!(counted["totals"]["failed"] == "2", "{counted:#}");
    }
    let dead = scan(running).await?;
    ensure!(dead["state"] == "STATE_FAILED", "{dead:#}");
    ensure!(
        text(&dead["failure"]["message"]).contains("running"),
        "{dead:#}"
    );
    let failed = scan(failed).await?;
    ensure!(
        text(&failed["failure"]["message"]).contains("401 for ***"),
        "{failed:#}"
    );
    ensure!(scan(cancelled).await?["state"] == "STATE_CANCELLED");
    let again = import(mesh, 0, &args, &[])?;
    ensure!(counts(&again, "scans") == [0, 5, 0], "{again:#}");
    ensure!(counts(&again, "templates") == [0, 1, 0], "{again:#}");
    // Without its folder the report and the probe's source are missed, and the scan stays as it is.
    let alone = import(mesh, 1, &["--database", url], &[])?;
    ensure!(counts(&alone, "scans") == [0, 5, 0], "{alone:#}");
    let notes = about(&alone, "warnings", &with_report.to_string()).concat();
    ensure!(notes.contains("with a report already"), "{notes}");
    let whole = scan(with_report).await?;
    ensure!(whole["report"]["state"] == "STATE_READY", "{whole:#}");
    Ok(())
}

async fn a_bucket_is_taken_in_with_its_database(mesh: &Mesh) -> Result<()> {
    let bucket = OldBucket::new().await?;
    let database = Postgres::shared().create_database();
    let [known, unknown, lost] = [(); 3].map(|()| Uuid::new_v4());
    bucket.add(known, &report_of("0.14.0")?).await?;
    bucket.add(unknown, &report_of("0.13.1")?).await?;
    let row = |id| OldRow {
        id,
        status: "completed",
        error: "",
        stats: r#"{"dan": {"passed": 3, "failed": 1}}"#,
    };
    let old = OldFolder::empty()?;
    let rows = [row(known), row(lost)];
    fill(
        &database.url(),
        Schema::New,
        &rows,
        &old.template,
        &old.probe,
    )
    .await?;
    let before = bucket.keys().await?;
    let server = S3Server::seaweedfs();
    let endpoint = server.endpoint();
    let keys = [
        ("MINIO_ACCESS_KEY", server.admin().access),
        ("MINIO_SECRET_KEY", server.admin().secret),
    ];
    let url = database.url();
    let args = [
        "--database",
        &url,
        "--bucket",
        &bucket.name,
        "--s3-endpoint",
        &endpoint,
    ];
    // The probe's source is not there.
    let summary = import(mesh, 1, &args, &keys)?;
    ensure!(counts(&summary, "scans") == [3, 0, 0], "{summary:#}");
    ensure!(counts(&summary, "customProbes") == [0, 0, 1], "{summary:#}");
    for (id, version) in [(known, "0.14.0"), (unknown, "0.13.1")] {
        let scan = mesh.client().scan(&id.to_string()).await?;
        ensure!(scan["garakVersion"] == version, "{scan:#}");
        let path = format!("/v1/scans/{id}/artifacts/report.jsonl");
        let request = mesh.client().request(reqwest::Method::GET, &path);
        let report = request.send().await?.text().await?;
        ensure!(report == report_of(version)?, "{id}: not the same");
    }
    let again = import(mesh, 1, &args, &keys)?;
    ensure!(counts(&again, "scans") == [0, 3, 0], "{again:#}");
    ensure!(bucket.keys().await? == before, "the bucket was changed");
    let nobody = [
        ("MINIO_ACCESS_KEY", "x"),
        ("MINIO_SECRET_KEY", "wrong-secret"),
    ];
    let output = tokio::task::block_in_place(|| {
        let mut command = command(mesh, &[&["import"], &args[..]].concat())?;
        command.envs(nobody).output().map_err(anyhow::Error::from)
    })?;
    ensure!(
        output.status.code() == Some(2) && said(&output).contains("IMPORT_BUCKET_UNUSABLE"),
        "{}",
        said(&output)
    );
    Ok(())
}
