//! StatisticsService: sums over everything; StatisticsFoldService keeps them cheap.

use aegis_mesh::{PageTokens, Result, page_size, principal_of};
use aegis_proto::{
    internal::catalog::v1::{
        FoldStatisticsRequest, FoldStatisticsResponse,
        statistics_fold_service_server::StatisticsFoldService,
    },
    statistics::v1::{self as proto, statistics_service_server::StatisticsService},
};
use tonic::{Request, Response, Status};

use super::check;
use crate::{
    domain::{
        refusal::invalid_field,
        statistics::{
            Day, Dimension, Grouping, Line, LineCursor, LineKey, Order, Query, Scope, Sums, Target,
            Window, page,
        },
    },
    store::Store,
};

/// Rows of a page, when none are asked for.
const DEFAULT_ROWS: u32 = 100;
/// Changes of one fold, when none are asked for. On SQLite nobody else writes meanwhile.
const DEFAULT_FOLD: i32 = 250;

/// StatisticsService and StatisticsFoldService on a store.
#[derive(Clone)]
pub(crate) struct Statistics {
    pub(crate) store: Store,
    pub(crate) pages: PageTokens,
}

#[tonic::async_trait]
impl StatisticsService for Statistics {
    async fn get_statistics(
        &self,
        request: Request<proto::GetStatisticsRequest>,
    ) -> Result<Response<proto::GetStatisticsResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let query = query(request.window, request.filter)?;
        let scope = scope(&query, Grouping::None)?;
        let lines = self
            .store
            .statistics(&project, &query, Grouping::None, &scope)
            .await?;
        let sums = lines.first().map(|line| line.sums).unwrap_or_default();
        Ok(Response::new(proto::GetStatisticsResponse {
            statistics: Some(statistics(&sums)),
        }))
    }

    async fn list_statistics(
        &self,
        request: Request<proto::ListStatisticsRequest>,
    ) -> Result<Response<proto::ListStatisticsResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let grouping = grouping(request.dimension())?;
        let order = order(&request)?;
        let size = match request.page_size {
            0 => DEFAULT_ROWS,
            asked => page_size(asked)?,
        };
        let query = query(request.window, request.filter)?;
        let scope = scope(&query, grouping)?;
        let list = (
            ("ListStatistics", &project, grouping, order),
            (query.window.start.0, query.window.end.0),
            query
                .target
                .as_ref()
                .map(|target| (&target.kind, &target.name)),
            &query.by,
        );
        let after: Option<LineCursor> = self.pages.decode(&list, &request.page_token)?;
        let lines = self
            .store
            .statistics(&project, &query, grouping, &scope)
            .await?;
        let (lines, next) = page(lines, order, after.as_ref(), size as usize);
        let next_page_token = match next {
            Some(cursor) => self.pages.encode(&list, &cursor)?,
            None => String::new(),
        };
        Ok(Response::new(proto::ListStatisticsResponse {
            rows: lines.into_iter().map(row).collect(),
            next_page_token,
        }))
    }
}

#[tonic::async_trait]
impl StatisticsFoldService for Statistics {
    async fn fold_statistics(
        &self,
        request: Request<FoldStatisticsRequest>,
    ) -> Result<Response<FoldStatisticsResponse>, Status> {
        let project = principal_of(&request)?.project;
        let limit = match request.get_ref().limit {
            0 => DEFAULT_FOLD,
            limit => check::within("limit", limit, 1..=2_000)?,
        };
        let folded = self
            .store
            .fold_statistics(&project, limit.unsigned_abs())
            .await?;
        Ok(Response::new(FoldStatisticsResponse {
            folded: i32::try_from(folded.deltas).unwrap_or(i32::MAX),
            more: folded.more,
        }))
    }
}

fn query(window: Option<proto::Window>, filter: Option<proto::StatisticsFilter>) -> Result<Query> {
    let window = self::window(window.unwrap_or_default())?;
    let filter = filter.unwrap_or_default();
    Ok(Query {
        window,
        target: target(&filter)?,
        by: by(&filter)?,
    })
}

fn window(window: proto::Window) -> Result<Window> {
    let day = |field: &str, text: &str, open: Day| {
        if text.is_empty() {
            return Ok(open);
        }
        let day = Day::parse(text);
        day.ok_or_else(|| invalid_field(field, "must be a day such as 2026-11-24"))
    };
    let start = day("window.start_date", &window.start_date, Day::FIRST)?;
    let end = day("window.end_date", &window.end_date, Day::LAST)?;
    if start > end {
        let why = "must not be before window.start_date";
        return Err(invalid_field("window.end_date", why));
    }
    Ok(Window { start, end })
}

fn target(filter: &proto::StatisticsFilter) -> Result<Option<Target>> {
    let (kind, name) = (&filter.target_type, &filter.target_name);
    if kind.is_empty() && name.is_empty() {
        return Ok(None);
    }
    if kind.is_empty() {
        return Err(invalid_field("filter.target_type", "is needed with a name"));
    }
    if name.is_empty() {
        return Err(invalid_field("filter.target_name", "is needed with a type"));
    }
    Ok(Some(Target {
        kind: check::required("filter.target_type", kind, 256)?,
        name: check::required("filter.target_name", name, 256)?,
    }))
}

fn by(filter: &proto::StatisticsFilter) -> Result<Option<(Dimension, String)>> {
    let fields = [
        (Dimension::Probe, "filter.probe", &filter.probe),
        (Dimension::Module, "filter.module", &filter.module),
        (Dimension::Tag, "filter.tag", &filter.tag),
        (Dimension::Detector, "filter.detector", &filter.detector),
    ];
    let mut given = fields.into_iter().filter(|(_, _, key)| !key.is_empty());
    let Some((dimension, field, key)) = given.next() else {
        return Ok(None);
    };
    if let Some((_, other, _)) = given.next() {
        return Err(invalid_field(
            other,
            format_args!("cannot be combined with {field}"),
        ));
    }
    Ok(Some((dimension, check::required(field, key, 256)?)))
}

fn scope(query: &Query, grouping: Grouping) -> Result<Scope> {
    Scope::of(query, grouping).ok_or_else(|| {
        let why = "rows of one of probes, modules, tags and detectors are not kept by another";
        invalid_field("filter", why)
            .hint("ask for days, weeks, months or targets with this filter, or leave it out")
    })
}

fn grouping(dimension: proto::Dimension) -> Result<Grouping> {
    Ok(match dimension {
        proto::Dimension::Unspecified => {
            return Err(invalid_field("dimension", "must be one that is known"));
        }
        proto::Dimension::Day => Grouping::Day,
        proto::Dimension::Week => Grouping::Week,
        proto::Dimension::Month => Grouping::Month,
        proto::Dimension::Target => Grouping::Target,
        proto::Dimension::Probe => Grouping::Key(Dimension::Probe),
        proto::Dimension::Module => Grouping::Key(Dimension::Module),
        proto::Dimension::Tag => Grouping::Key(Dimension::Tag),
        proto::Dimension::Detector => Grouping::Key(Dimension::Detector),
    })
}

fn order(request: &proto::ListStatisticsRequest) -> Result<Order> {
    use proto::StatisticsOrder as By;
    match By::try_from(request.order_by) {
        Ok(By::Unspecified | By::Key) => Ok(Order::Key),
        Ok(By::Failed) => Ok(Order::Failed),
        Ok(By::PassRate) => Ok(Order::PassRate),
        Ok(By::Evaluated) => Ok(Order::Evaluated),
        Err(_) => Err(invalid_field("order_by", "must be one that is known")),
    }
}

fn row(line: Line) -> proto::StatisticsRow {
    let key = line.key.to_string();
    let (target_type, target_name) = match line.key {
        LineKey::Target(target) => (target.kind, target.name),
        _ => Default::default(),
    };
    proto::StatisticsRow {
        key,
        statistics: Some(statistics(&line.sums)),
        target_type,
        target_name,
    }
}

fn statistics(sums: &Sums) -> proto::Statistics {
    proto::Statistics {
        scans_completed: sums.scans_completed,
        scans_failed: sums.scans_failed,
        scans_cancelled: sums.scans_cancelled,
        evaluations: sums.evaluations,
        passed: sums.passed,
        failed: sums.failed,
        nones: sums.nones,
        pass_rate: sums.pass_rate(),
        defcon: sums.defcon.to_vec(),
    }
}
