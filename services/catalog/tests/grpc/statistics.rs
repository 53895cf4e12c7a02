//! StatisticsService and StatisticsFoldService: fields, pages, refusals.

use aegis_mesh::MeshChannel;
use aegis_proto::{
    internal::catalog::v1::{
        FoldStatisticsRequest, NewTask, statistics_fold_service_client::StatisticsFoldServiceClient,
    },
    scan::v1 as scan,
    statistics::v1::{
        self as statistics, Dimension, GetStatisticsRequest, ListStatisticsRequest,
        StatisticsFilter, StatisticsOrder, Window,
        statistics_service_client::StatisticsServiceClient,
    },
};

use crate::{Catalog, as_local, create, refused, tally};

impl Catalog {
    fn statistics(&self) -> StatisticsServiceClient<MeshChannel> {
        StatisticsServiceClient::new(self.channel.clone())
    }

    async fn list(
        &self,
        dimension: Dimension,
        filter: StatisticsFilter,
    ) -> Vec<statistics::StatisticsRow> {
        let request = ListStatisticsRequest {
            dimension: dimension.into(),
            filter: Some(filter),
            ..ListStatisticsRequest::default()
        };
        let listed = self.statistics().list_statistics(request).await;
        listed.unwrap().into_inner().rows
    }

    /// Runs a scan of one probe to its end, with a graded report.
    pub(super) async fn scan_once(&self, target: &str, tags: &[&str]) -> String {
        self.scan_with(target, tags, |part| part).await
    }

    pub(super) async fn scan_with(
        &self,
        target: &str,
        tags: &[&str],
        part: impl FnOnce(crate::catalog::Tally) -> crate::catalog::Tally,
    ) -> String {
        let mut request = create(1);
        request.tasks[0] = NewTask {
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..request.tasks[0].clone()
        };
        target.clone_into(&mut request.spec.as_mut().unwrap().target.as_mut().unwrap().name);
        let created = self.scans().create_scan(request).await.unwrap();
        let lease = self.lease().await.unwrap().lease.unwrap();
        let file = self.upload(&lease, "report.jsonl", part(tally(None))).await;
        self.finish(lease, vec![file]).await;
        let lease = self.lease().await.unwrap().lease.unwrap();
        let grades = scan::Grades {
            detector_defcon: Some(2),
            ..scan::Grades::default()
        };
        let report = self
            .upload(&lease, "report.jsonl", tally(Some(grades)))
            .await;
        self.finish(lease, vec![report]).await;
        created.into_inner().scan.unwrap().scan_id
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_are_told_before_and_after_the_fold() {
    let (catalog, _running) = Catalog::start().await;
    as_local(walk(&catalog)).await;
}

async fn walk(catalog: &Catalog) {
    catalog.scan_once("x", &["owasp:llm01", "cwe:1427"]).await;
    catalog.scan_once("y", &["owasp:llm01"]).await;
    told(catalog).await;
    let mut fold = StatisticsFoldServiceClient::new(catalog.channel.clone());
    let first = fold
        .fold_statistics(FoldStatisticsRequest { limit: 1 })
        .await;
    let first = first.unwrap().into_inner();
    assert_eq!((first.folded, first.more), (1, true));
    told(catalog).await;
    let rest = fold.fold_statistics(FoldStatisticsRequest::default()).await;
    let rest = rest.unwrap().into_inner();
    // Two ends, two results, two grades.
    assert_eq!((rest.folded, rest.more), (5, false));
    told(catalog).await;
}

async fn told(catalog: &Catalog) {
    let total = catalog
        .statistics()
        .get_statistics(GetStatisticsRequest::default())
        .await;
    let total = total.unwrap().into_inner().statistics.unwrap();
    assert_eq!(
        total,
        statistics::Statistics {
            scans_completed: 2,
            evaluations: 2,
            passed: 2,
            failed: 6,
            pass_rate: Some(0.25),
            defcon: vec![0, 2, 0, 0, 0],
            ..statistics::Statistics::default()
        }
    );
    let none = StatisticsFilter::default();
    let rows = catalog.list(Dimension::Tag, none.clone()).await;
    let tags: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.key.as_str(),
                row.statistics.as_ref().unwrap().evaluations,
            )
        })
        .collect();
    assert_eq!(tags, [("cwe:1427", 1), ("owasp:llm01", 2)]);
    let targets = catalog.list(Dimension::Target, none.clone()).await;
    assert_eq!(targets.len(), 2);
    assert_eq!(targets[0].key, "test.Repeat/x");
    assert_eq!(
        (
            targets[0].target_type.as_str(),
            targets[0].target_name.as_str()
        ),
        ("test.Repeat", "x")
    );
    let days = catalog.list(Dimension::Day, none.clone()).await;
    assert_eq!(days[0].key.len(), "2026-11-24".len());
    assert_eq!(days[0].statistics.as_ref().unwrap(), &total);
    assert_eq!(catalog.list(Dimension::Week, none.clone()).await.len(), 1);
    let months = catalog.list(Dimension::Month, none.clone()).await;
    assert!(days[0].key.starts_with(&months[0].key));
    for (dimension, key) in [
        (Dimension::Probe, "test.Probe0"),
        (Dimension::Module, "test"),
        (Dimension::Detector, "test.Detector"),
    ] {
        let rows = catalog.list(dimension, none.clone()).await;
        assert_eq!(rows[0].key, key);
        // A scan is not a probe's.
        assert_eq!(rows[0].statistics.as_ref().unwrap().scans_completed, 0);
    }
    let by_tag = StatisticsFilter {
        tag: "cwe:1427".to_owned(),
        ..none.clone()
    };
    let targets = catalog.list(Dimension::Target, by_tag).await;
    assert_eq!(targets.len(), 1);
    let elsewhere = GetStatisticsRequest {
        window: Some(Window {
            end_date: "2020-02-29".to_owned(),
            ..Window::default()
        }),
        filter: None,
    };
    let nothing = catalog
        .statistics()
        .get_statistics(elsewhere)
        .await
        .unwrap();
    let nothing = nothing.into_inner().statistics.unwrap();
    assert_eq!((nothing.pass_rate, nothing.defcon), (None, vec![0; 5]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_come_in_pages_in_the_order_asked_for() {
    let (catalog, _running) = Catalog::start().await;
    as_local(pages(&catalog)).await;
}

async fn pages(catalog: &Catalog) {
    // Failed and passed: a 6 and 2, b 3 and 1, c 3 and 9.
    for target in ["b", "a", "c", "a"] {
        catalog
            .scan_with(target, &[], |mut part| {
                if target == "c" {
                    part.rows[0].passed = 9;
                    part.rows[0].evaluated = 12;
                }
                part
            })
            .await;
    }
    for (order, expected) in [
        (StatisticsOrder::Unspecified, ["a", "b", "c"]),
        (StatisticsOrder::Key, ["a", "b", "c"]),
        (StatisticsOrder::Failed, ["a", "b", "c"]),
        (StatisticsOrder::Evaluated, ["c", "a", "b"]),
        (StatisticsOrder::PassRate, ["a", "b", "c"]),
    ] {
        let mut request = ListStatisticsRequest {
            dimension: Dimension::Target.into(),
            order_by: order.into(),
            page_size: 1,
            ..ListStatisticsRequest::default()
        };
        let mut names = Vec::new();
        loop {
            let page = catalog.statistics().list_statistics(request.clone()).await;
            let page = page.unwrap().into_inner();
            assert_eq!(page.rows.len(), 1);
            names.extend(page.rows.into_iter().map(|row| row.target_name));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(names, expected, "{order:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_questions_are_named() {
    let (catalog, _running) = Catalog::start().await;
    as_local(bad_questions(&catalog)).await;
}

async fn bad_questions(catalog: &Catalog) {
    let window = |start: &str, end: &str| ListStatisticsRequest {
        window: Some(Window {
            start_date: start.to_owned(),
            end_date: end.to_owned(),
        }),
        ..day()
    };
    let filter = |filter: StatisticsFilter| ListStatisticsRequest {
        filter: Some(filter),
        ..day()
    };
    let none = StatisticsFilter::default;
    let cases = [
        (window("2026-02-30", ""), "window.start_date"),
        (window("", "tomorrow"), "window.end_date"),
        (window("2026-11-24", "2026-11-23"), "window.end_date"),
        (
            filter(StatisticsFilter {
                target_type: "a".to_owned(),
                ..none()
            }),
            "filter.target_name",
        ),
        (
            filter(StatisticsFilter {
                target_name: "a".to_owned(),
                ..none()
            }),
            "filter.target_type",
        ),
        (
            filter(StatisticsFilter {
                probe: "a.B".to_owned(),
                tag: "t".to_owned(),
                ..none()
            }),
            "filter.tag",
        ),
        (
            filter(StatisticsFilter {
                module: "\0".to_owned(),
                ..none()
            }),
            "filter.module",
        ),
        (
            ListStatisticsRequest {
                dimension: 0,
                ..day()
            },
            "dimension",
        ),
        (
            ListStatisticsRequest {
                dimension: 99,
                ..day()
            },
            "dimension",
        ),
        (
            ListStatisticsRequest {
                order_by: 99,
                ..day()
            },
            "order_by",
        ),
        (
            ListStatisticsRequest {
                page_size: -1,
                ..day()
            },
            "page_size",
        ),
        (
            ListStatisticsRequest {
                page_token: "x".to_owned(),
                ..day()
            },
            "page_token",
        ),
        (
            ListStatisticsRequest {
                dimension: Dimension::Probe.into(),
                ..filter(StatisticsFilter {
                    tag: "t".to_owned(),
                    ..none()
                })
            },
            "filter",
        ),
    ];
    for (request, field) in cases {
        let (reason, fields) = refused(catalog.statistics().list_statistics(request).await);
        assert!(reason.starts_with("INVALID_ARGUMENT/"), "{reason}");
        assert_eq!(fields, [field]);
    }
    let mut fold = StatisticsFoldServiceClient::new(catalog.channel.clone());
    for limit in [-1, 2_001] {
        let (_, fields) = refused(fold.fold_statistics(FoldStatisticsRequest { limit }).await);
        assert_eq!(fields, ["limit"]);
    }
}

fn day() -> ListStatisticsRequest {
    ListStatisticsRequest {
        dimension: Dimension::Day.into(),
        ..ListStatisticsRequest::default()
    }
}
