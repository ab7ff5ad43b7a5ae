//! One file for each command: reads what it needs, asks the pure modules, and carries out.

mod announce;
mod decode;
mod env;
mod images;
mod import;
mod init;
mod keys;
mod log;
mod logs;
mod node;
mod order;
mod ordering;
mod pack;
mod pico;
mod prune;
mod release;
mod request;
mod rollback;
mod rollout;
mod sign;
mod status;
mod user;
mod watch;
mod web_token;
mod why;
mod withdraw;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    cli::{Cli, Command, ReleaseCommand},
    exit::Exit,
    home::Home,
    problem::problem,
    screen::Screen,
};

/// Carries out a command line.
pub(crate) fn run(cli: Cli, screen: &Screen) -> Result<Exit> {
    let dir = home_dir(cli.home)?;
    let is_found = home_dir(None).is_ok_and(|found| found == dir);
    match cli.command {
        Command::Init(init) => init::run(&dir, is_found, init, screen),
        Command::Pack(pack) => pack::run(&dir, pack, screen),
        Command::Import(arguments) => import::run(&arguments, screen),
        Command::Decode(decode) => decode::run(&dir, &decode, screen),
        Command::Node(node) => node::run(&Home::open(&dir)?, node, screen),
        Command::Env(env) => env::run(&Home::open(&dir)?, env, screen),
        Command::Keys(keys) => keys::run(&dir, &keys, screen),
        Command::User(user) => user::run(&dir, user, screen),
        Command::Release(ReleaseCommand::Build(build)) => {
            block_on(release::build(&Home::open(&dir)?, build, screen))
        }
        Command::Sign(arguments) => sign::run(&dir, &arguments, screen),
        Command::Order(arguments) => block_on(order::run(&Home::open(&dir)?, &arguments, screen)),
        Command::Announce(announce) => block_on(announce::run(&Home::open(&dir)?, announce, screen)),
        Command::Rollback(rollback) => block_on(rollback::run(&Home::open(&dir)?, &rollback, screen)),
        Command::Withdraw(withdraw) => block_on(withdraw::run(&Home::open(&dir)?, &withdraw, screen)),
        Command::Rollout(command) => rollout::run(&Home::open(&dir)?, command, screen),
        Command::Why(arguments) => block_on(why::run(&Home::open(&dir)?, &arguments, screen)),
        Command::Pico(command) => pico::run(&Home::open(&dir)?, &command, screen),
        Command::Request(arguments) => block_on(request::run(&Home::open(&dir)?, &arguments, screen)),
        Command::Logs(arguments) => block_on(logs::run(&Home::open(&dir)?, &arguments, screen)),
        Command::Images(arguments) => block_on(images::run(&Home::open(&dir)?, &arguments, screen)),
        Command::Prune(arguments) => block_on(prune::run(&Home::open(&dir)?, &arguments, screen)),
        Command::Status => block_on(status::run(&Home::open(&dir)?, screen)),
        Command::Log(arguments) => block_on(log::run(&Home::open(&dir)?, &arguments, screen)),
        Command::WebToken => block_on(web_token::run(&Home::open(&dir)?, screen)),
        Command::Watch(arguments) => block_on(watch::run(&Home::open(&dir)?, &arguments, screen)),
    }
}

fn home_dir(given: Option<PathBuf>) -> Result<PathBuf> {
    let default = || std::env::home_dir().filter(|dir| dir.is_absolute()).map(|dir| dir.join(".deploybus"));
    let missing =
        || problem("this user has no home folder", "say where the fleet's settings are with --home");
    let told = || std::env::var_os("DEPLOYBUS_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let dir = given.or_else(told).or_else(default).ok_or_else(missing)?;
    std::path::absolute(&dir).with_context(|| format!("cannot find {}", dir.display()))
}

/// Runs a command that talks to bus or store.
fn block_on(command: impl Future<Output = Result<Exit>>) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(command)
}
