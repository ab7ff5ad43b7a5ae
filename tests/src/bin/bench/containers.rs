//! What a change of a container costs: nothing changed, one line, another environment, and a bad release.

use std::{
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use e2e::{App, Engine, World, engine_unavailable, get, wait_until};
use schemas::report::Outcome;

use crate::figure::{Aim, Figures, Measured, Samples};

const ROUNDS: usize = 5;
/// How often somebody asks the app for something.
const ASK_EVERY: Duration = Duration::from_millis(5);

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    if let Some(why) = engine_unavailable() {
        println!("left out: containers: {why}");
        return Ok(());
    }
    let mut world = World::new()?;
    let engine = Engine::start(world.folder())?;
    let node = world.register_node("pi-1", &["canary"])?;
    node.use_engine(&engine)?;
    node.start()?;
    let port = node.port();
    let app = App::copy("container-app", &world.folder().join("app"))?;
    deploy(&world, &app, "1.0.0", 0)?;
    let [mut build, mut all, mut gap, mut hot, mut env, mut back] = [(); 6].map(|()| Samples::default());
    for round in 0..ROUNDS {
        let version = format!("1.1.{round}");
        let asker = Asker::start(port);
        let outcome = deploy(&world, &app, &version, 0)?;
        gap.push_ms(asker.longest_gap()?);
        all.0.push(outcome.took_ms as f64);
        build.0.push(outcome.built.context("nothing was built")?.took_ms as f64);

        // What ran before is there still: the image is hot.
        world.publisher(&["rollback", "--group", "canary"])?.expect(0)?;
        let before = if round == 0 { "1.0.0".to_owned() } else { format!("1.1.{}", round - 1) };
        hot.0.push(world.wait_outcome("pi-1", &before)?.built.context("nothing was decided")?.took_ms as f64);
        world.publisher(&["rollback", "--group", "canary", "--to", &version])?.expect(0)?;

        let began = Instant::now();
        world.publisher(&["env", "set", "pi-1", &format!("CAMPAIGN_NAME=c{round}")])?.expect(0)?;
        let says = || (get(port, "/version").ok()?.text("campaign")? == format!("c{round}")).then_some(());
        wait_until("the campaign", Duration::from_secs(30), says)?;
        env.push_ms(began.elapsed());
    }
    app.edit_file("app.sh", "HEALTHY=yes", "exit 3")?;
    for round in 0..ROUNDS {
        let asker = Asker::start(port);
        deploy(&world, &app, &format!("2.0.{round}"), 3)?;
        back.push_ms(asker.longest_gap()?);
    }
    let of = |what| Measured { bench: "container", what, unit: "ms" };
    figures.ours(of("nothing changed: to the decision, no build"), &hot, Aim::Most(1_000.0))?;
    figures.ours(of("one line changed: build and proof of the image"), &build, Aim::None)?;
    figures.ours(of("one line changed: order to kept, 500 ms of trial"), &all, Aim::None)?;
    figures.ours(of("one line changed: longest gap, stop first"), &gap, Aim::Most(1_600.0))?;
    figures.ours(of("environment changed: command to answer"), &env, Aim::Most(2_200.0))?;
    figures.ours(of("bad release rolled back: longest gap"), &back, Aim::Most(3_600.0))
}

/// Commits and announces a version, and gives how it ended.
fn deploy(world: &World, app: &App, version: &str, expected: i32) -> Result<Outcome> {
    app.commit(version)?;
    let (code, told) = world.announce(app, "canary")?;
    anyhow::ensure!(code == Some(expected), "{version}: {told}");
    world.wait_outcome("pi-1", version)
}

/// Asks the app all the time, and notices when it does not answer.
struct Asker {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Asker {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let heard = stop.clone();
        let thread = thread::spawn(move || {
            let (mut longest, mut answered) = (Duration::ZERO, Instant::now());
            while !heard.load(Ordering::Relaxed) {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() && get(port, "/version").is_ok() {
                    longest = longest.max(answered.elapsed());
                    answered = Instant::now();
                }
                thread::sleep(ASK_EVERY);
            }
            longest
        });
        Self { stop, thread }
    }

    fn longest_gap(self) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the asker ended early")
    }
}
