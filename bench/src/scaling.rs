//! One scan on 1, 2, 4 and 8 slots of a runner, against plain garak with as many calls in flight.

use std::time::Duration;

use aegis_demo_target::DemoTarget;
use anyhow::{Result, ensure};

use crate::{ours, plain, probes::FORTY, table::Table};

const SLOTS: [u32; 4] = [1, 2, 4, 8];
/// Of the target.
const BEHAVIOUR: &str = "latency/100";

/// Each slot has one call in flight, as plain garak has that asks one after the other; with
/// `parallel_attempts` it has as many as there are slots.
pub(crate) async fn measure(aegis: &std::path::Path, table: &mut Table) -> Result<()> {
    let mut alone: Option<Duration> = None;
    for slots in SLOTS {
        let (wall, cpu) = ours(aegis, slots).await?;
        let plain = plain(slots).await?;
        let alone = *alone.get_or_insert(wall);
        let speed_up = alone.as_secs_f64() / wall.as_secs_f64();
        println!("{slots} slots: {wall:.1?}, CPU {cpu:.1?}, speed-up {speed_up:.2}");
        table.fact(
            &format!("40 probes, 100 ms target, {slots} slots: speed-up over one"),
            format!("{speed_up:.2} ({:.1} s of CPU)", cpu.as_secs_f64()),
            &format!("≥ {:.1}, while the cores allow", 0.9 * f64::from(slots)),
        );
        table.ratio(
            &format!("40 probes, 100 ms target, {slots} calls in flight"),
            "wall",
            wall,
            plain,
            f64::INFINITY,
        );
    }
    Ok(())
}

async fn ours(aegis: &std::path::Path, slots: u32) -> Result<(Duration, Duration)> {
    let mesh = ours::Mesh::start_with(aegis, slots)?;
    mesh.warm().await?;
    let target = DemoTarget::start(([127, 0, 0, 1], 0).into()).await?;
    let run = mesh.scan(&target, BEHAVIOUR, &FORTY, 1, slots).await?;
    let peak = target.stats().peak_in_flight;
    ensure!(peak <= u64::from(slots), "{peak} calls in flight");
    println!("{slots} slots: {} calls", target.stats().calls);
    mesh.stop()?;
    Ok((run.wall, run.cpu))
}

async fn plain(in_flight: u32) -> Result<Duration> {
    let parallel = (in_flight > 1).then_some(in_flight);
    let target = DemoTarget::start(([127, 0, 0, 1], 0).into()).await?;
    let run = plain::run(&target, BEHAVIOUR, &FORTY, 1, parallel)?;
    println!(
        "plain garak, {in_flight} in flight: {:.1?}, CPU {:.1?}, {} calls",
        run.wall,
        run.cpu,
        target.stats().calls
    );
    Ok(run.wall)
}
