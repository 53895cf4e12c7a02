//! Whatever the bytes: nothing panics, and nothing holds more than its bounds allow.
#![no_main]

use std::io::Cursor;

use aegis_report::attempt::any_text_matches;
use aegis_report::{
    Attempt, Grades, HitlogReader, Index, IndexHeader, Limits, Options, Reader, SeekSource,
    TextBounds, rebuild_hitlog,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        max_line_bytes: 1 << 16,
        ..Limits::default()
    };
    let mut reader = Reader::new(Options {
        limits,
        ..Options::default()
    });
    let pushed = bytes.chunks(4096).try_for_each(|chunk| reader.push(chunk));
    if pushed.is_ok()
        && let Ok(summary) = reader.finish()
    {
        let mut stored = Vec::new();
        summary
            .index
            .write_to(&mut stored, &mut SeekSource(Cursor::new(bytes)))
            .expect("memory can be written to");
        let back = Index::read_from(&*stored).expect("what was written can be read");
        assert_eq!(back.probes().count(), summary.index.probes().count());
        // What is taken in can be shown.
        for record in summary.index.probes().flat_map(|(_, records)| records) {
            let line = &bytes[record.offset as usize..][..record.length as usize];
            Attempt::parse_whole(line, 0.5, TextBounds::default()).expect("an attempt is shown");
            any_text_matches(line, |text| text.is_empty()).expect("an attempt is searched");
        }
        let mut source = SeekSource(Cursor::new(bytes));
        let _ = rebuild_hitlog(&summary.index, &mut source, 0.5, limits, &mut Vec::new());
    }
    let mut hitlog = HitlogReader::new(limits);
    let _ = bytes.chunks(4096).try_for_each(|chunk| hitlog.push(chunk));
    let _ = hitlog.finish();
    for line in bytes.split(|byte| *byte == b'\n') {
        let _ = Attempt::parse_whole(line, 0.5, TextBounds::default());
        let _ = any_text_matches(line, |text| text.is_empty());
        let _ = Grades::parse(line);
    }
    let _ = IndexHeader::parse(bytes);
    let _ = Index::read_from(bytes);
});
