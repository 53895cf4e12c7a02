//! What /proc tells of processes (proc(5)).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    time::Duration,
};

use crate::domain::bounds::Usage;

/// The kernel's unit of processor time towards programs, the same on every architecture that we
/// know (USER_HZ).
const TICKS_PER_SECOND: u64 = 100;

/// A process as `/proc/PID/stat` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pid: u32,
    parent: u32,
    session: u32,
    is_dead: bool,
    /// Processor time, that of ended children included that it has waited for.
    ticks: u64,
}

/// Every process that there is.
pub(super) fn read() -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that cannot be read has ended meanwhile.
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        rows.extend(row(pid, &String::from_utf8_lossy(&stat)));
    }
    Ok(rows)
}

fn row(pid: u32, stat: &str) -> Option<Row> {
    // The name, in parentheses, may itself contain blanks and parentheses.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let number = |n: usize| fields.get(n)?.parse::<u64>().ok();
    Some(Row {
        pid,
        is_dead: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        // utime, stime, cutime, cstime
        ticks: (11..15).filter_map(number).sum(),
    })
}

/// The processes of a child: its session, its descendants, and whoever was one of these when we
/// looked before and has made itself a session of its own since.
#[derive(Debug)]
pub(super) struct Family {
    leader: u32,
    sessions: BTreeSet<u32>,
}

impl Family {
    /// The family of a child, which leads a session.
    pub(super) fn of(leader: u32) -> Self {
        Self {
            leader,
            sessions: BTreeSet::from([leader]),
        }
    }

    /// Those that there are now.
    fn members(&mut self, rows: &[Row]) -> Vec<Row> {
        let mut of_parent: BTreeMap<u32, Vec<&Row>> = BTreeMap::new();
        let mut found = BTreeMap::new();
        let mut open = Vec::new();
        for row in rows {
            of_parent.entry(row.parent).or_default().push(row);
            if row.pid == self.leader || self.sessions.contains(&row.session) {
                open.push(row);
            }
        }
        while let Some(row) = open.pop() {
            if found.insert(row.pid, *row).is_none() {
                open.extend(of_parent.get(&row.pid).into_iter().flatten());
            }
        }
        // A session that nobody is in any more may be anybody's tomorrow. One that the child has not
        // left yet, in its first moment, is the warm process's.
        let warm = found.get(&self.leader).map(|leader| leader.parent);
        let theirs = rows.iter().find(|row| Some(row.pid) == warm);
        self.sessions = found
            .values()
            .map(|row| row.session)
            .filter(|session| theirs.is_none_or(|warm| warm.session != *session))
            .chain([self.leader])
            .collect();
        found.into_values().collect()
    }

    /// What they use together. Memory is the proportional set size with swap: a page that several
    /// processes have in common is divided among them, so what garak's forked workers share counts
    /// once, and of what all children share with the warm process each bears a part. That is dear
    /// to ask for, so it is only asked for when the resident size, in which such a page counts in
    /// each process, is over `memory_bound`.
    pub(super) fn usage(&mut self, rows: &[Row], memory_bound: u64) -> Usage {
        let members = self.members(rows);
        let ticks: u64 = members.iter().map(|row| row.ticks).sum();
        let alive: Vec<u32> = members
            .iter()
            .filter(|row| !row.is_dead)
            .map(|row| row.pid)
            .collect();
        let mut memory = alive.iter().map(|pid| resident(*pid)).sum();
        if memory > memory_bound {
            memory = alive.iter().map(|pid| proportional(*pid)).sum();
        }
        Usage {
            memory,
            cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
            processes: alive.len() as u64,
        }
    }
}

/// Resident and swapped bytes of a process; none of one that is gone.
fn resident(pid: u32) -> u64 {
    sum(format!("/proc/{pid}/status"), &["VmRSS:", "VmSwap:"]).unwrap_or(0)
}

/// Its proportional part of them. A process that may not be asked, such as one that became another
/// user's, bears them all.
fn proportional(pid: u32) -> u64 {
    sum(format!("/proc/{pid}/smaps_rollup"), &["Pss:", "SwapPss:"]).unwrap_or_else(|| resident(pid))
}

/// The sum of these lines, which are in kB; None when the file has none of them.
fn sum(path: impl AsRef<Path>, names: &[&str]) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let values: Vec<u64> = text
        .lines()
        .filter_map(|line| {
            let value = names.iter().find_map(|name| line.strip_prefix(name))?;
            value.trim().strip_suffix(" kB")?.trim().parse().ok()
        })
        .collect();
    (!values.is_empty()).then(|| values.iter().sum::<u64>() * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, session: u32) -> Row {
        Row {
            pid,
            parent,
            session,
            is_dead: false,
            ticks: 1,
        }
    }

    fn pids(family: &mut Family, rows: &[Row]) -> Vec<u32> {
        family.members(rows).iter().map(|row| row.pid).collect()
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) R (b c) S 3 7 5 0 -1 0 0 0 0 0 250 30 20 10 20 0 1";
        let row = row(7, stat).unwrap();
        assert_eq!((row.parent, row.session, row.ticks), (3, 5, 310));
        assert!(!row.is_dead);
        assert_eq!(super::row(7, "7 (gone"), None);
    }

    #[test]
    fn a_process_that_left_its_session_and_lost_its_parent_is_still_known() {
        let warm = process(1, 0, 1);
        let neighbour = process(9, 1, 9);
        let mut family = Family::of(2);
        let tree = [
            process(2, 1, 2),
            process(3, 2, 2),
            process(4, 3, 4), // setsid
        ];
        let mut rows = vec![warm, neighbour];
        rows.extend(tree);
        assert_eq!(pids(&mut family, &rows), [2, 3, 4]);
        // Its parent has ended and the warm process has adopted it; it has a child by now.
        let rows = [warm, neighbour, process(4, 1, 4), process(5, 4, 4)];
        assert_eq!(pids(&mut family, &rows), [4, 5]);
        assert_eq!(pids(&mut family, &[warm, neighbour]), [0_u32; 0]);
        // The number of its session is another's by now.
        assert_eq!(pids(&mut family, &[warm, process(4, 1, 4)]), [0_u32; 0]);
    }

    #[test]
    fn a_child_that_has_no_session_yet_brings_nobody_with_it() {
        let rows = [process(1, 0, 1), process(2, 1, 1), process(3, 1, 1)];
        let mut family = Family::of(2);
        assert_eq!(pids(&mut family, &rows), [2]);
        assert_eq!(pids(&mut family, &rows), [2]);
    }

    #[test]
    fn this_process_uses_something() {
        let me = std::process::id();
        let rows = read().unwrap();
        let mut family = Family::of(me);
        let cheap = family.usage(&rows, u64::MAX);
        let exact = family.usage(&rows, 0);
        assert!(cheap.processes >= 1 && cheap.memory > 1 << 20);
        assert!(exact.memory > 0 && exact.memory <= cheap.memory * 2);
    }
}
