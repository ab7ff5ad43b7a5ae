//! A fleet whose bus speaks TLS, with a Pico W in it: its own program, unchanged, in MicroPython's unix port.

use std::{fs, path::PathBuf};

use e2e::{BusKind, Mqtt, PicoW, World};
use schemas::report::{Outcome, Report};
use serde_json::Value;

use crate::pico_w::PATIENCE;

/// An app that feeds the watchdog.
pub(super) const LOOP: &str =
    "import deploy_guard, time\nwhile True:\n    deploy_guard.alive()\n    time.sleep_ms(2)\n";

/// The fleet, its Pico and the app that is announced to it.
pub(super) struct PicoWorld {
    /// Ends before the fleet does.
    pico: PicoW,
    pub(super) world: World,
}

impl PicoWorld {
    /// With the Pico `pico-w` of the group canary, which runs. Nothing where MicroPython is missing.
    pub(super) fn new() -> Option<Self> {
        let world = World::on(BusKind::Tls).unwrap();
        let Some(pico) = PicoW::new(&world, "pico-w", "canary").unwrap() else {
            println!("skipped: needs MicroPython's unix port");
            return None;
        };
        let mut pico = Self { pico, world };
        pico.power_on();
        Some(pico)
    }

    /// What people copied onto it.
    pub(super) fn tree(&self) -> PathBuf {
        self.pico.tree()
    }

    /// What its flash holds.
    pub(super) fn flash(&self) -> PathBuf {
        self.pico.flash()
    }

    /// Starts the Pico, with what is on its flash.
    pub(super) fn power_on(&mut self) {
        self.power_on_with(&[]);
    }

    /// The same with something of its surroundings changed.
    pub(super) fn power_on_with(&mut self, env: &[(&str, &str)]) {
        self.pico.power_on(env).unwrap();
    }

    /// Takes its power away.
    pub(super) fn power_off(&mut self) {
        self.pico.power_off().unwrap();
    }

    /// What it said on USB.
    pub(super) fn said(&self) -> String {
        self.pico.said()
    }

    /// Waits until it says so on USB.
    pub(super) fn wait_said(&self, what: &str) {
        self.wait_said_times(what, 1);
    }

    /// Waits until it has said so this many times.
    pub(super) fn wait_said_times(&self, what: &str, times: usize) {
        self.pico.wait_said(what, times).unwrap();
    }

    /// A folder with an app of this version, `main.py`, and more files.
    pub(super) fn app(&self, version: &str, main: &str, more: &[(&str, &[u8])]) -> PathBuf {
        self.app_for(PicoW::PLATFORM, version, main, more)
    }

    /// The same for another platform.
    pub(super) fn app_for(
        &self,
        platform: &str,
        version: &str,
        main: &str,
        more: &[(&str, &[u8])],
    ) -> PathBuf {
        let folder = self.world.folder().join("blink");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let settings = format!(
            "[app]\nname = \"blink\"\nversion = \"{version}\"\nplatform = \"{platform}\"\n\n[pico]\n\n[trial]\nmin_healthy = \"1s\"\ndeadline = \"5s\"\n"
        );
        fs::write(folder.join("deploybus.toml"), settings).unwrap();
        fs::write(folder.join("main.py"), main).unwrap();
        for (path, content) in more {
            fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
            fs::write(folder.join(path), content).unwrap();
        }
        folder
    }

    /// Announces it to a group and follows it to its end: exit code and what was printed.
    pub(super) fn announce(&self, folder: &std::path::Path, group: &str) -> (Option<i32>, Value) {
        let folder = folder.to_str().unwrap();
        let args = ["announce", folder, "--group", group, "--json", "--timeout", "1m"];
        let output = self.world.publisher(&args).unwrap();
        let told = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{}", output.stderr));
        (output.code, told)
    }

    /// Announces it and goes on.
    pub(super) fn announce_only(&self, folder: &std::path::Path, group: &str) {
        let args = ["announce", folder.to_str().unwrap(), "--group", group, "--no-wait"];
        self.world.publisher(&args).unwrap().expect(0).unwrap();
    }

    /// Hears what the Pico asks for.
    pub(super) fn questions(&self) -> Mqtt {
        let mut bus = self.world.raw_publisher().unwrap();
        bus.subscribe("deploybus/v1/chunk/want/pico-w").unwrap();
        bus
    }

    /// Waits until it has asked so often.
    pub(super) fn wait_questions(&self, mut bus: Mqtt, times: usize) {
        for number in 0..times {
            assert!(bus.next(PATIENCE).unwrap().is_some(), "{number} questions\n{}", self.said());
        }
    }

    /// Waits for a signed report of which `wanted` makes something.
    pub(super) fn report<T>(&self, what: &str, wanted: impl Fn(&Report) -> Option<T>) -> T {
        let found = self.world.wait_report("pico-w", what, wanted);
        found.map_err(|error| error.context(self.said())).unwrap()
    }

    /// Waits for the verdict on a version.
    pub(super) fn outcome(&self, version: &str) -> Outcome {
        let found = self.world.wait_outcome("pico-w", version);
        found.map_err(|error| error.context(self.said())).unwrap()
    }

    /// The version that is installed, once a report says one.
    pub(super) fn installed(&self) -> String {
        self.report("what is installed", |report| {
            Some(report.apps.first()?.installed.as_ref()?.version.clone())
        })
    }
}
