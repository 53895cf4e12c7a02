//! A whole mesh dies at each named point, is started again, and goes on by itself.
//!
//! A story is a scan that lives through several deaths. After each its rows are looked at; in the
//! end every probe has one result, and every file its row. Two stories run at a time.

mod books;
mod life;
mod stories;

#[path = "../e2e/support.rs"]
#[allow(dead_code, reason = "the end-to-end suite has more use for it")]
mod support;

use std::{collections::BTreeSet, process::ExitCode};

use aegis_mesh::failpoint::ALL;
use libtest_mimic::{Arguments, Failed, Trial};

use stories::STORIES;

/// Each has garak of its own.
const AT_A_TIME: usize = 2;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let mut trials = vec![Trial::test("every_point_has_its_death", every_point)];
    for story in STORIES {
        trials.push(Trial::test(story.name, move || {
            let runtime = tokio::runtime::Runtime::new()?;
            let told = runtime.block_on(life::live(story));
            told.map_err(|error| Failed::from(format!("{error:#}")))
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A point that no story reaches shows nothing.
fn every_point() -> Result<(), Failed> {
    let deaths = STORIES.iter().flat_map(|story| story.deaths);
    let met: BTreeSet<&str> = deaths
        .map(|death| death.point.split(':').next().unwrap_or_default())
        .collect();
    let all: BTreeSet<&str> = ALL.iter().copied().collect();
    if met == all {
        return Ok(());
    }
    let differ: Vec<_> = met.symmetric_difference(&all).collect();
    Err(Failed::from(format!(
        "without a point or a death: {differ:?}"
    )))
}
