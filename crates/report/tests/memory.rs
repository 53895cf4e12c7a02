//! No input makes the readers allocate beyond their bound. One test, for what it counts is the whole
//! process.

mod common;

use aegis_report::attempt::any_text_matches;
use aegis_report::{
    Attempt, Grades, HitlogReader, Index, IndexHeader, Limits, Options, Reader, SeekSource,
    TextBounds, rebuild_hitlog,
};
use common::PLAIN;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MAX_LINE_BYTES: usize = 1 << 19;
/// The buffer of an unfinished line doubles as it grows, a line with numbers that are no JSON is
/// copied for them, and of lists so many items are kept at most.
const BOUND: usize = 6 * MAX_LINE_BYTES;

/// The most memory that it took, beyond what there was.
fn peak(work: impl FnOnce()) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    work();
    MEMORY.peak_usage().saturating_sub(before)
}

fn everything(input: &[u8]) {
    let limits = Limits {
        max_line_bytes: MAX_LINE_BYTES,
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..Options::default()
    };
    let mut reader = Reader::new(options);
    let pushed = input.chunks(4096).try_for_each(|chunk| reader.push(chunk));
    if pushed.is_ok()
        && let Ok(summary) = reader.finish()
    {
        let mut source = SeekSource(std::io::Cursor::new(input));
        let mut nowhere = std::io::sink();
        let _ = rebuild_hitlog(&summary.index, &mut source, 0.5, limits, &mut nowhere);
        let _ = summary.whole_tally();
    }
    let mut hitlog = HitlogReader::new(limits);
    let _ = input.chunks(4096).try_for_each(|chunk| hitlog.push(chunk));
    let _ = hitlog.finish();
    for line in input.split(|byte| *byte == b'\n') {
        let _ = Attempt::parse_whole(line, 0.5, TextBounds::default());
        let _ = any_text_matches(line, str::is_empty);
        let _ = Grades::parse(line);
    }
    let _ = IndexHeader::parse(input);
    let _ = Index::read_from(input);
}

/// A line of the longest length that there may be.
fn filled(start: &str, item: &str, end: &str) -> Vec<u8> {
    let items = (MAX_LINE_BYTES - start.len() - end.len() - 1) / item.len();
    let mut line = String::with_capacity(MAX_LINE_BYTES);
    line.push_str(start);
    (0..items).for_each(|_| line.push_str(item));
    line.push_str(end);
    line.push('\n');
    line.into_bytes()
}

fn attempt(fields: &str) -> String {
    format!(
        r#"{{"entry_type": "attempt", "status": 2, "probe_classname": "a.A", "uuid": "u", {fields}"#
    )
}

/// Lines that are as bad as they can be.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let scores = r#""detector_results": {"d.D": [1"#;
    let list = |start: &str, item: &str, end: &str| filled(&attempt(start), item, end);
    let mut inputs = vec![
        ("an endless line", vec![b'x'; 3 * MAX_LINE_BYTES]),
        ("nothing but line breaks", vec![b'\n'; MAX_LINE_BYTES]),
        ("zero bytes", vec![0; MAX_LINE_BYTES]),
        ("no UTF-8", vec![0xff; MAX_LINE_BYTES]),
        ("scores", list(scores, ",1", "]}}")),
        ("outputs", list(r#""outputs": ["""#, r#","""#, "]}")),
        ("null outputs", list(r#""outputs": [null"#, ",null", "]}")),
        ("turns", list(r#""prompt": {"turns": [{}"#, ",{}", "]}}")),
        (
            "conversations",
            list(r#""conversations": [[]"#, ",[]", "]}"),
        ),
        (
            "one conversation",
            list(r#""messages": [[{}"#, ",{}", "]]}"),
        ),
        ("triggers", list(r#""notes": {"triggers": [0"#, ",0", "]}}")),
        ("nested lists", list(r#""x": "#, "[", "")),
        ("nested objects", list(r#""prompt": "#, r#"{"a":"#, "")),
        ("a huge number", list(r#""seq": 1"#, "0", "}")),
        ("numbers that are none", list(r#""x": [NaN"#, ",NaN", "]}")),
        ("a huge prompt", list(r#""prompt": ""#, "é", "\"}")),
        ("escapes", list(r#""prompt": ""#, r"\u0001", "\"}")),
        ("surrogates", list(r#""prompt": ""#, r"\ud83d\ude00", "\"}")),
    ];
    let many = |item: &str| vec![item; 1000].join(",");
    let hits = attempt(&format!(
        r#""outputs": [{}], "detector_results": {{"d.D": [{}]}}, "prompt": ""#,
        many("1"),
        many("1")
    ));
    inputs.push(("hits that repeat a prompt", filled(&hits, "x", "\"}")));
    let setup = r#"{"entry_type": "start_run setup", "run.spec": {"include": [0"#;
    inputs.push(("a specification", filled(setup, ",0", "]}}")));
    let words = r#"{"entry_type": "start_run setup", "plugins.probe_spec": "a"#;
    inputs.push(("words", filled(words, ",a", "\"}")));
    let digest = r#"{"entry_type": "digest", "eval": {"a":0"#;
    inputs.push(("a digest", filled(digest, r#","":{}"#, "}}")));
    let mut index = b"AEGISIX2\xff\xff\xff\x01(\0\0\0".to_vec();
    index.extend_from_slice(br#"{"report_bytes":1,"lines":1,"probes":[]}"#);
    inputs.push(("an index that says that it is long", index));
    inputs
}

/// Reads are bounded by what they look at; an index says how long its header is, and that is bounded
/// by itself.
#[test]
fn memory_is_bounded_whatever_comes() {
    for (what, input) in hostile() {
        let bound = match what {
            "an index that says that it is long" => aegis_report::index::MAX_HEADER_BYTES + BOUND,
            _ => BOUND,
        };
        let taken = peak(|| everything(&input));
        assert!(taken <= bound, "{what}: {taken} bytes");
    }
    let cut = PLAIN.len() / 7;
    for part in 0..7 {
        let mut report = PLAIN.to_vec();
        report.truncate(part * cut);
        report.extend(std::iter::repeat_n(b'[', 200_000));
        assert!(
            peak(|| everything(&report)) <= BOUND,
            "cut at {}",
            part * cut
        );
    }
}
