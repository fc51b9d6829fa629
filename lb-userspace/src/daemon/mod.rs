//! `sluice run` and `sluice detach`: the daemon's life around the engine.

mod choice;
mod health;
mod local_vips;
mod lock;
pub(crate) mod machine;
mod page;
mod private;
pub(crate) mod privileges;
mod reload;
mod scrapes;
mod supervisor;
mod surroundings;
pub mod upgrade;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::api::server::{self, Doors};
use crate::bpffs;
use crate::cli::run::RunArgs;
use crate::dataplane::{self, Paths};
use crate::engine::{self, Clock, Engine, Handle, Running, Start, data_path_key};
use crate::events::hooks::Runner;
use crate::journal::{Journal, Lock};
use crate::model::Model;
use crate::netlink::{self, NextHopState};
use crate::plan::abilities;
use choice::Chosen;
use lock::InstanceLock;
use reload::Reloader;
use scrapes::Scrapes;
use supervisor::Supervisor;
use surroundings::Surroundings;

/// How long the daemon's end waits for the hooks of what happened last.
const HOOKS_PATIENCE: Duration = Duration::from_secs(5);
/// How long the last word to those who trace may take.
const TRACERS_PATIENCE: Duration = Duration::from_secs(5);

/// Where an instance keeps its journal.
const STATE: &str = "/var/lib/sluice";

fn journal_path(instance: &str) -> PathBuf {
    Path::new(STATE).join(format!("{instance}.db"))
}

/// Runs the daemon until SIGTERM or SIGINT. Forwarding goes on after it.
pub fn run(instance: &str, socket: &Path, args: &RunArgs) -> anyhow::Result<()> {
    env_logger::Builder::new()
        .filter_level(args.level())
        .parse_default_env()
        .format_target(false)
        .try_init()
        .map_err(|error| anyhow!(error))?;
    let file = choice::of_file(&args.config, choice::Lacking::Nothing);
    // An instance that has been in force before has something else to go by.
    let file = if journal_path(instance).exists() { file } else { Ok(file?) };
    privileges::check()?;
    bpffs::ensure_mounted(Path::new(Paths::BPFFS))?;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(instance, socket, args, file))
}

async fn serve(
    instance: &str,
    socket: &Path,
    args: &RunArgs,
    file: anyhow::Result<Chosen>,
) -> anyhow::Result<()> {
    // Whoever asks for the page on the command line is there to read why there is none.
    let spared = match &file {
        Err(_) if args.ui.is_none() => choice::of_file(&args.config, choice::Lacking::Page).ok(),
        _ => None,
    };
    let of_file = file.as_ref().ok().or(spared.as_ref()).map(|file| &file.loaded.model);
    let key = of_file.and_then(|model| Some((model.hash_key?, model.ring_size)));
    if let Some((key, ring_size)) = key {
        // The journal would take it for good.
        dataplane::check_key(instance, data_path_key(key), ring_size)?;
    }
    private::make_folder(Path::new(STATE)).with_context(|| format!("cannot make {STATE}"))?;
    let mut journal = Journal::open(&journal_path(instance), key.map(|(key, _)| key), unix_now())?;
    let clock = Clock::start();
    let set = journal.follow_clock(&clock.boot(), clock.monotonic())?;
    if set != 0 {
        log::warn!(
            "the wall clock was set by {set} s since the daemon before: deadlines and all else that is open moves with it"
        );
    }
    let applied = journal.applied()?;
    // So is whoever starts it for the first time.
    let goes_on = applied.is_some() && args.ui.is_none();
    let file = file.or_else(|error| spared.filter(|_| goes_on).ok_or(error));
    let file = file.or_else(|error| choice::as_before(&args.config, applied.as_ref()).ok_or(error));
    let chosen = choice::choose(file, applied, unix_now())?;
    let _instance = InstanceLock::acquire(instance)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangup = signal(SignalKind::hangup())?;

    // A symbolic link is followed with each look: it may lead to another file then.
    let own_file = std::path::absolute(&args.config).unwrap_or_else(|_| args.config.clone());
    let of = Of { instance, socket, own_file: &own_file, ui: args.ui, goes_on };
    let tried = chosen.text.text.clone();
    let begun = match begin(&of, chosen, journal).await? {
        Ok(begun) => begun,
        Err(error) if error.is_of_the_journal() => return Err(error.into()),
        Err(error) => {
            log::error!("{error}");
            let journal = Journal::open(&journal_path(instance), key.map(|(key, _)| key), unix_now())?;
            let before = choice::instead(&tried, journal.applied()?, &error.to_string());
            begin(&of, before.ok_or(error)?, journal).await??
        }
    };
    let Begun { mut engine, model, doors, listener, surroundings, scraped_at, page } = begun;
    let (table, rest) = engine.memory();
    log::info!(
        "flow table for {} pins: {} MiB; other maps: {} MiB; {}",
        model.flow_table.pins,
        table >> 20,
        rest >> 20,
        if engine.adopted() { "took over the data path of an earlier daemon" } else { "new data path" },
    );
    let (board, clock) = (engine.board(), engine.clock());
    let named = instance.to_owned();
    let failed = engine.announce_by(Box::new(move |model, wanted| local_vips::keep(&named, model, wanted)));
    // Their interface may be one that is awaited. It is tried again with each round, and the balancer is not ready until then.
    if let Some(failed) = failed.filter(|_| !goes_on) {
        bail!("the VIPs cannot be announced: {failed}");
    }
    let hooks = Runner::start(instance, surroundings.hooks(), engine.events());
    let supervisor = Supervisor::of_environment();
    let heart = supervisor.clone();
    // Whoever waits for it to be ready, and looks then, is to see what it does.
    supervisor.beat(&engine.summary());
    let (handle, Running { thread, ended: engine_ended, configs }) =
        engine.spawn(move |engine| heart.beat(&engine.summary()))?;
    supervisor.ready();
    let network = &surroundings.resolver;
    let follower = tokio::spawn(follow_network(handle.clone(), network.subscribe(), network.subscribe_own()));
    let page = page::Keeper::start(instance, Path::new(STATE), model.ui.clone(), page, handle.clone()).await;
    let reloader = Reloader {
        file: own_file,
        page,
        scrapes: Scrapes::start(scraped_at, handle.clone()).await,
        engine: handle.clone(),
        surroundings,
        supervisor: supervisor.clone(),
    };
    let reloader = tokio::spawn(reloader.run(configs, hangup));
    log::info!("ready: {} services, API on {}", model.services.len(), socket.display());
    health::start(board, clock, &handle)?;
    let teller = handle.clone();
    let ended = async move {
        tokio::select! {
            _ = terminate.recv() => log::info!("SIGTERM: the daemon ends, forwarding goes on"),
            _ = engine_ended => log::error!("the engine has failed: the daemon ends, forwarding goes on"),
            _ = interrupt.recv() => log::info!("SIGINT: the daemon ends, forwarding goes on"),
        }
        supervisor.stopping();
        // Who traces hears why it ends, unless somebody just begins to, which takes its time.
        let _ = tokio::time::timeout(TRACERS_PATIENCE, teller.tracers().stop(&teller)).await;
        // Streams of events end with it, and so can the server.
        if teller.ask(Engine::stopping).await.is_err() {
            teller.events().close();
        }
    };
    let served = server::serve(listener, doors, handle.clone(), ended).await;
    // With it ends the page.
    reloader.abort();
    // With the engine's thread ends the lock of the journal.
    handle.end();
    tokio::task::spawn_blocking(move || thread.join())
        .await?
        .map_err(|_| anyhow!("the engine has panicked"))?;
    hooks.finish(HOOKS_PATIENCE).await;
    let _ = std::fs::remove_file(socket);
    follower.abort();
    // With it end the tasks that follow the network.
    let _ = reloader.await;
    served.context("the API server failed")
}

/// Whose start it is.
struct Of<'a> {
    instance: &'a str,
    socket: &'a Path,
    own_file: &'a Path,
    /// Where the page is to be, whatever the config says.
    ui: Option<SocketAddr>,
    /// Without the page and metrics, if those cannot be served.
    goes_on: bool,
}

/// A config is in force, and what it needs is there.
struct Begun {
    engine: Engine,
    model: Model,
    doors: Doors,
    listener: UnixListener,
    surroundings: Surroundings,
    scraped_at: scrapes::Outcome,
    page: page::Outcome,
}

/// Puts the config of a start in force. The inner error is the engine's, to which a config may be to blame.
async fn begin(
    of: &Of<'_>,
    chosen: Chosen,
    journal: Journal,
) -> anyhow::Result<Result<Begun, engine::Error>> {
    let Chosen { loaded, machine, text, problem } = chosen;
    let model = loaded.model;
    let doors = Doors::of(&model.api)?;
    // Before anything is changed, and under the locks.
    let listener = server::listen(of.socket, doors)
        .with_context(|| format!("cannot listen on {}", of.socket.display()))?;
    let scraped_at =
        scrapes::Outcome::of(model.metrics.listen, of.goes_on).context("metrics cannot be served")?;
    let page = page::prepare(of.instance, Path::new(STATE), &model.ui, of.ui);
    let page = page::Outcome::of(page, of.goes_on)?;
    let surroundings = Surroundings::start(&model).await?;
    let start = Start {
        instance: of.instance.to_owned(),
        config: of.own_file.to_owned(),
        text: Some(text),
        model: model.clone(),
        journal,
        next_hops: surroundings.resolver.subscribe(),
        abilities: abilities(&model, &machine),
        own: surroundings.resolver.subscribe_own(),
        awaited: machine.awaited,
        relay: surroundings.relay(),
    };
    Ok(start.start().map(|mut engine| {
        engine.note_reload(problem);
        Begun { engine, model, doors, listener, surroundings, scraped_at, page }
    }))
}

/// Wakes the engine when something about the network has changed; it would look by itself only once a second.
async fn follow_network(
    engine: Handle,
    mut hops: watch::Receiver<BTreeMap<IpAddr, NextHopState>>,
    mut own: watch::Receiver<netlink::Own>,
) {
    loop {
        let changed = tokio::select! {
            changed = hops.changed() => changed,
            changed = own.changed() => changed,
        };
        if changed.is_err() || engine.ask(Engine::network_changed).await.is_err() {
            return;
        }
    }
}

/// Ends the forwarding of an instance whose daemon has ended, and removes what it pinned. The journal stays.
pub fn detach(instance: &str, socket: &Path) -> anyhow::Result<bool> {
    privileges::check()?;
    let path = journal_path(instance);
    let _lock =
        path.exists().then(|| Lock::acquire(Path::new(STATE), instance)).transpose().with_context(|| {
            format!("the daemon of instance {instance} runs: end it first (SIGTERM), then detach")
        })?;
    let _instance = InstanceLock::acquire(instance)?;
    // First nobody is told to send packets here any more. What stands in the way of that keeps nobody from ending the rest.
    let removed = local_vips::remove(instance);
    let found = dataplane::detach_all(&Paths::of(instance))?;
    let removed = removed?;
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", socket.display()));
        }
        _ => {}
    }
    Ok(found || removed)
}

fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
