//! Tables.

use aegis_proto::scan::v1::{Grades, ProbeResult, Scan, scan::State};
use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, Table,
    TableStyle, Width, presets,
};

/// Widest column where no terminal says how much room there is: a description wraps.
const WIDEST: u16 = 72;
/// Lines above, below and under the heading, none between rows.
const STYLE: TableStyle = presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());

/// A table with this heading.
pub(crate) fn table(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(
            heading
                .iter()
                .map(|h| Cell::new(h).add_attribute(Attribute::Bold)),
        );
    for column in table.column_iter_mut() {
        column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(WIDEST)));
    }
    table
}

/// What the detectors found, as given: worst first.
pub(crate) fn results(results: &[ProbeResult]) -> Table {
    let mut table = table(&[
        "probe",
        "detector",
        "passed",
        "failed",
        "pass rate",
        "DEFCON",
    ]);
    for result in results {
        let colour = match result.pass_rate {
            Some(rate) if rate >= 1.0 => Color::Green,
            Some(rate) if rate >= 0.8 => Color::Yellow,
            Some(_) => Color::Red,
            None => Color::Grey,
        };
        table.add_row([
            Cell::new(&result.probe),
            Cell::new(&result.detector),
            number(result.passed),
            number(result.failed),
            right(percent(result.pass_rate)).fg(colour),
            right(defcon(result.grades.as_ref())),
        ]);
    }
    table
}

/// One line a scan.
pub(crate) fn scans(scans: &[Scan]) -> Table {
    let mut table = table(&["scan", "state", "target", "evaluated", "pass rate", "name"]);
    for scan in scans {
        let target = scan.spec.as_ref().and_then(|spec| spec.target.as_ref());
        let coverage = scan.coverage.clone().unwrap_or_default();
        table.add_row([
            Cell::new(&scan.scan_id),
            Cell::new(state(scan.state())),
            Cell::new(target.map_or(String::new(), |t| format!("{} {}", t.r#type, t.name))),
            right(format!("{} of {}", coverage.evaluated, coverage.planned)),
            right(percent(
                scan.totals.as_ref().and_then(|totals| totals.pass_rate),
            )),
            Cell::new(&scan.display_name),
        ]);
    }
    table
}

/// A right-aligned number.
pub(crate) fn number(value: i64) -> Cell {
    right(value.to_string())
}

/// A right-aligned text.
pub(crate) fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// "83.3 %", or a dash where nothing was evaluated.
pub(crate) fn percent(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), |rate| format!("{:.1} %", rate * 100.0))
}

/// garak's own grade; a dash where garak gives none.
fn defcon(grades: Option<&Grades>) -> String {
    let grade = grades.and_then(|g| g.detector_defcon.or(g.absolute_defcon));
    grade.map_or("-".to_owned(), |grade| format!("DC-{grade}"))
}

/// A state in small letters.
pub(crate) fn state(state: State) -> String {
    state
        .as_str_name()
        .trim_start_matches("STATE_")
        .to_lowercase()
}
