//! What `make demo`, `make demo-containers` and `make demo-picos` play: each checks what comes of its steps.

use std::process::Command;

use e2e::{BUILT, Output, binary, engine_unavailable, micropython_harness};

#[test]
fn the_demo_of_processes_plays() {
    let said = Output::of(&mut demo()).unwrap().expect(0).unwrap().stdout;
    assert!(said.contains("1.3.0    pi-canary  rolled_back  stale-code"), "{said}");
}

#[test]
fn the_demo_of_containers_plays() {
    if let Some(why) = engine_unavailable() {
        println!("skipped: {why}");
        return;
    }
    let said = Output::of(demo().arg("--containers")).unwrap().expect(0).unwrap().stdout;
    assert!(said.contains("incremental") && said.contains("stale-code"), "{said}");
}

#[test]
fn the_demo_of_picos_plays() {
    if micropython_harness("pico.py").is_none() {
        println!("skipped: needs MicroPython's unix port");
        return;
    }
    let mut picos = Command::new(binary("demo-picos").unwrap());
    let said = Output::of(picos.env(BUILT, "1")).unwrap().expect(0).unwrap().stdout;
    assert!(said.contains("failed 1.2.0: joint-apart"), "{said}");
}

fn demo() -> Command {
    let mut demo = Command::new(binary("demo").unwrap());
    demo.env(BUILT, "1");
    demo
}
