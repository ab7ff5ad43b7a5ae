//! What `make demo` and `make demo-containers` play: each checks what comes of its steps.

use std::process::Command;

use e2e::{BUILT, Output, binary, engine_unavailable};

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

fn demo() -> Command {
    let mut demo = Command::new(binary("demo").unwrap());
    demo.env(BUILT, "1");
    demo
}
