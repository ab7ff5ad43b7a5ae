//! `kill -9` in the middle of writing. The writer is this test program, started again with a variable set.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Command as Process, Stdio},
};

use super::*;

/// Names the folder to write to, for the process that is to be killed.
const FOLDER: &str = "DEPLOYBUS_TEST_LOG";

#[test]
fn a_chain_that_is_killed_while_it_is_written_is_whole_and_has_what_was_flushed() {
    if let Some(folder) = env::var_os(FOLDER) {
        return write_until_killed(Path::new(&folder));
    }
    let folder = TempDir::new().unwrap();
    let mut flushed = 0;
    for round in 0..4 {
        let mut child = Process::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "log::tests::crash::a_chain_that_is_killed_while_it_is_written_is_whole_and_has_what_was_flushed"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let until = flushed + 30 + round;
        while flushed < until {
            let line = lines.next().unwrap();
            flushed = line.strip_prefix("flushed ").map_or(flushed, |seq| seq.parse().unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        flushed =
            lines.filter_map(|line| line.strip_prefix("flushed ")?.parse().ok()).last().unwrap_or(flushed);
        let log = Log::open(folder.path(), &forever()).unwrap();
        log.flush();
        assert!(all(&log).len() as u64 >= flushed);
        log.close();
    }
}

fn write_until_killed(folder: &Path) {
    let log = Log::open(folder, &forever()).unwrap();
    let first = log.state().unwrap().seq + 1;
    println!();
    for seq in first.. {
        log.append(vec![told("pi-1", seq)]).unwrap();
        if seq.is_multiple_of(3) {
            log.flush();
            println!("flushed {seq}");
        }
    }
}
