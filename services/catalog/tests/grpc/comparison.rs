//! ComparisonService: what changed, pages, refusals.

use aegis_mesh::MeshChannel;
use aegis_proto::scan::v1::{
    Change, CompareScansRequest, CompareScansResponse,
    comparison_service_client::ComparisonServiceClient,
};
use tonic::Status;

use crate::{Catalog, as_local, catalog as internal, refused};

impl Catalog {
    async fn compare(&self, request: CompareScansRequest) -> Result<CompareScansResponse, Status> {
        let mut client = ComparisonServiceClient::<MeshChannel>::new(self.channel.clone());
        Ok(client.compare_scans(request).await?.into_inner())
    }

    /// A scan of 100 outputs of one detector, and what another one made of them.
    async fn scan_of(&self, target: &str, passed: i64, other: Option<&str>) -> String {
        let part = |mut part: internal::Tally| {
            let row = &mut part.rows[0];
            (row.passed, row.failed, row.evaluated) = (passed, 100 - passed, 100);
            let more = other.map(|detector| internal::ProbeDetectorTally {
                detector: detector.to_owned(),
                ..part.rows[0].clone()
            });
            part.rows.extend(more);
            part
        };
        self.scan_with(target, &[], part).await
    }
}

fn of(ids: &[&String]) -> CompareScansRequest {
    CompareScansRequest {
        scan_ids: ids.iter().map(|id| (*id).clone()).collect(),
        ..CompareScansRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_are_compared_with_the_first() {
    let (catalog, _running) = Catalog::start().await;
    as_local(walk(&catalog)).await;
}

async fn walk(catalog: &Catalog) {
    let baseline = catalog.scan_of("x", 50, Some("a.Old")).await;
    let fixed = catalog.scan_of("x", 100, None).await;
    let worse = catalog.scan_of("y", 10, Some("a.New")).await;
    let request = of(&[&baseline, &fixed, &worse]);
    let compared = catalog.compare(request.clone()).await.unwrap();

    assert_eq!(
        compared.method,
        "Fisher's exact test, two-sided; Benjamini-Hochberg"
    );
    let difference = &compared.differences[0];
    assert_eq!(compared.differences.len(), 1);
    assert_eq!(
        (difference.field.as_str(), difference.blocking),
        ("target.name", false)
    );
    assert_eq!(difference.values, [r#""x""#, r#""x""#, r#""y""#]);
    let [one, two] = &compared.summaries[..] else {
        panic!("{compared:?}")
    };
    assert_eq!(
        (one.scan_id == fixed, one.fixed_count, one.gone_count),
        (true, 1, 1)
    );
    assert_eq!(
        (two.scan_id == worse, two.worse_count, two.new_count),
        (true, 1, 1)
    );

    let row = &compared.rows[0];
    assert_eq!(
        (row.probe.as_str(), row.detector.as_str()),
        ("test.Probe0", "test.Detector")
    );
    let changes: Vec<_> = row.cells.iter().map(|cell| cell.change()).collect();
    assert_eq!(changes, [Change::Unspecified, Change::Fixed, Change::Worse]);
    assert_eq!(row.cells[1].pass_rate_difference, Some(0.5));
    assert!(row.cells[2].q_value < Some(1e-6) && row.cells[0].p_value.is_none());
    assert_eq!(row.cells[2].result.as_ref().unwrap().failed, 90);

    // The same in pages, and one of the changes alone.
    let mut page = CompareScansRequest {
        page_size: 1,
        ..request.clone()
    };
    let mut rows = Vec::new();
    loop {
        let answer = catalog.compare(page.clone()).await.unwrap();
        assert_eq!(
            (answer.rows.len(), &answer.summaries),
            (1, &compared.summaries)
        );
        rows.extend(answer.rows);
        page.page_token = answer.next_page_token;
        if page.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(rows, compared.rows);
    let only_new = CompareScansRequest {
        changes: vec![Change::New.into()],
        ..request
    };
    let only_new = catalog.compare(only_new).await.unwrap();
    assert_eq!(
        (only_new.rows.len(), only_new.rows[0].detector.as_str()),
        (1, "a.New")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_compared_is_refused() {
    let (catalog, _running) = Catalog::start().await;
    as_local(refusals(&catalog)).await;
}

async fn refusals(catalog: &Catalog) {
    let one = catalog.scan_of("x", 50, None).await;
    let two = catalog.scan_of("x", 50, None).await;
    let nobody = uuid::Uuid::now_v7().to_string();
    let eleven: Vec<String> = (0..11).map(|_| uuid::Uuid::now_v7().to_string()).collect();
    let pair = of(&[&one, &two]);
    let cases = [
        (of(&[&one]), "scan_ids"),
        (of(&eleven.iter().collect::<Vec<_>>()), "scan_ids"),
        (of(&[&one, &one]), "scan_ids[1]"),
        (of(&[&one, &"x".to_owned()]), "scan_ids[1]"),
        (
            CompareScansRequest {
                significance: 1.0,
                ..pair.clone()
            },
            "significance",
        ),
        (
            CompareScansRequest {
                significance: -0.1,
                ..pair.clone()
            },
            "significance",
        ),
        (
            CompareScansRequest {
                significance: f64::NAN,
                ..pair.clone()
            },
            "significance",
        ),
        (
            CompareScansRequest {
                changes: vec![99],
                ..pair.clone()
            },
            "changes[0]",
        ),
        (
            CompareScansRequest {
                changes: vec![0],
                ..pair.clone()
            },
            "changes[0]",
        ),
        (
            CompareScansRequest {
                page_size: -1,
                ..pair.clone()
            },
            "page_size",
        ),
        (
            CompareScansRequest {
                page_token: "x".to_owned(),
                ..pair
            },
            "page_token",
        ),
    ];
    for (request, field) in cases {
        let (reason, fields) = refused(catalog.compare(request).await);
        assert!(reason.starts_with("INVALID_ARGUMENT/"), "{reason}");
        assert_eq!(fields, [field]);
    }
    let unknown = refused(catalog.compare(of(&[&one, &nobody])).await);
    assert_eq!(unknown.0, "NOT_FOUND/SCAN_NOT_FOUND");
    let running = catalog.create(1).await.scan_id;
    let running = refused(catalog.compare(of(&[&one, &running])).await);
    assert_eq!(running.0, "FAILED_PRECONDITION/SCAN_NOT_TERMINAL");
}
