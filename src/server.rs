//! Puts the rooms together, starts them in order and stops them in order.
//!
//! **Invariant:** the stop goes with the stream: first the hub's peers are told, then the doors close and the recordings are
//! finished, and the hub's thread has ended when [`run`] returns.

mod process;
mod recording;
mod samples;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::config::{Config, LogFormat, Switch};
use crate::handle::{HandleError, HubHandle, bridge};
use crate::http::ice_server::{IceServers, Turn};
use crate::http::listener;
use crate::http::metrics::Source;
use crate::http::policy::PolicyCell;
use crate::http::router::router;
use crate::http::state::{AppState, HttpConfig};
use crate::http::tls::{self, Acme, SelfSigned, Tls};
use crate::http::webhook::{Hook, Teller, WebhookMetrics};
use crate::hub::config::{HubConfig, Limits};
use crate::hub::io::Order;
use crate::net::addresses::interface_addresses;
use crate::net::driver::Driver;
use crate::record::Growing;
use crate::rtp::codec::CodecSet;
use crate::rtp::ntp::WallClock;

use self::process::Process;
use self::recording::Recording;
use self::samples::{net_samples, tls_sample};

/// How long recordings may take to be finished.
const FINISH_DEADLINE: Duration = Duration::from_secs(8);

/// How long open connections may take to end.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

/// How long everything may take.
const STOP_DEADLINE: Duration = Duration::from_millis(9_500);

/// How long the hub's thread may take to end after everything else.
const JOIN_DEADLINE: Duration = Duration::from_secs(1);

/// Sends the log to standard error.
///
/// # Errors
///
/// Where a log was set up before.
pub fn init_log(config: &Config) -> anyhow::Result<()> {
    let builder =
        tracing_subscriber::fmt().with_env_filter(config.log.build()?).with_writer(io::stderr).with_ansi(is_terminal());
    let set = match config.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    set.map_err(|error| anyhow::anyhow!("cannot set up the log: {error}"))
}

fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}

/// Checks the files that the configuration names.
///
/// # Errors
///
/// One line for a person where one of them is no good.
pub fn check(config: &Config) -> anyhow::Result<()> {
    match tls_source(config) {
        Some(source @ (tls::Source::Files { .. } | tls::Source::Acme(_))) => Ok(tls::check(&source)?),
        // It would be made, and there is nothing to be wrong with it.
        Some(tls::Source::SelfSigned(_)) | None => Ok(()),
    }
}

/// Serves until `shutdown` is ready, then stops everything within ten seconds.
///
/// # Errors
///
/// One line for a person where something cannot start.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    process::raise_descriptors();
    let (handle, port, new_recordings) = bridge().context("cannot make an eventfd")?;
    let (stop, stopping) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    let (tls, keeper) = tls_source(&config).map(Tls::new).transpose()?.unzip();
    let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let listener = listener::bind(config.http).map_err(|error| cannot_listen(config.http, "http", &error))?;

    // ---- media: the hub's thread and its UDP socket -----------------------------------------------------------------
    // A clock that stands before 1970 counts from there.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let hub = HubConfig {
        candidates: Vec::new(),
        tcp_candidates: Vec::new(),
        ice: config.ice,
        codecs: config.codecs.as_slice().to_vec(),
        start_bitrate_bps: config.start_bitrate.bps(),
        record: config.record.clone(),
        recordable: CodecSet::EMPTY,
        limits: Limits::default(),
        clock: WallClock::new(std::time::Instant::now(), since_epoch),
        seed: getrandom::u64().context("no randomness")?,
    };
    let mut driver = Driver::start(config.udp, config.ice_tcp == Switch::On, &config.public_ip, hub, port)
        .map_err(|error| cannot_listen(config.udp, "udp", &error))?;
    let (candidates, has_tcp) = (driver.candidates(), driver.has_tcp());
    tracing::info!(?candidates, tcp = has_tcp, "clients are told to send media here");

    // ---- recorder ----------------------------------------------------------------------------------------------------
    // It tells the hub by itself what it can record.
    let growing = Growing::default();
    let starting = Recording::start(&config, growing.clone(), handle.clone(), new_recordings, stopping.clone());
    let recording = tokio::select! {
        biased;
        // It may wait a minute for an ffmpeg or a disk that hangs.
        () = &mut shutdown => return stop_at_start(&handle, driver).await,
        started = starting => started?,
    };

    // ---- access ------------------------------------------------------------------------------------------------------
    let policy = PolicyCell::new(config.policy()?);

    // ---- the operator's application ----------------------------------------------------------------------------------
    let webhook = config.webhook().map(|webhook| Hook::new(webhook, WebhookMetrics::default())).transpose()?;
    let teller = match webhook.clone() {
        Some(hook) => Some(tokio::spawn(Teller::new(hook).run(handle.notices()?, stopping.clone()))),
        None => None,
    };

    // ---- doors -------------------------------------------------------------------------------------------------------
    // What others count comes in here.
    let net_metrics = driver.metrics();
    let process = Process::new(SystemTime::now());
    let mut sources: Vec<Source> =
        vec![Arc::new(move || net_samples(&net_metrics)), Arc::new(move || process.samples())];
    let recorder = Arc::clone(&recording);
    sources.push(Arc::new(move || recorder.samples()));
    if let Some(tls) = tls.clone() {
        sources.push(Arc::new(move || vec![tls_sample(&tls)]));
    }
    let http_config = HttpConfig {
        tls: tls.is_some(),
        allowed_origins: config.allow_origin.clone(),
        record_dir: config.record_dir.clone(),
        growing,
        ice_servers: ice_servers(&config),
        policy: policy.clone(),
        webhook,
        recorder: Some({
            let recording = Arc::clone(&recording);
            Arc::new(move || {
                let recording = Arc::clone(&recording);
                Box::pin(async move {
                    recording.ensure().await.map_err(|error| {
                        tracing::error!(%error, "the recorder does not start");
                        error.reason().to_owned()
                    })
                })
            })
        }),
    };
    let http_address = listener.local_addr()?;
    let state = AppState::new(http_config, handle.clone(), sources, stopping.clone());
    let scheme = state.scheme();
    if let Some(keeper) = keeper {
        tokio::spawn(keeper.run(stopping.clone()));
    }
    tokio::spawn(read_again(hangup, config.clone(), policy, tls.clone()));
    let doors = tokio::spawn(listener::serve(listener, tls, router(state.clone()), state, stopping, DRAIN_DEADLINE));

    announce(scheme, http_address, driver.local_addr());
    if config.is_open_to_the_network() {
        tracing::warn!(
            address = %http_address,
            "everyone who reaches this address may publish and watch: listen on 127.0.0.1 to keep it to this machine"
        );
    }
    let died = tokio::select! {
        () = &mut shutdown => false,
        () = driver.ended() => true,
    };

    // ---- the stop ----------------------------------------------------------------------------------------------------
    tracing::info!("stopping");
    let begun = Instant::now();
    // The hub hears of it first: a session that its door drops would count as one that left.
    let ordered = handle.order(Order::Shutdown);
    let _ = stop.send(true);
    if ordered == Err(HandleError::Busy) {
        stop_hub(&handle, begun + JOIN_DEADLINE).await;
    }
    // The recordings are finished while the last downloads run.
    let (doors, ()) = tokio::join!(doors, recording.finish(begun + FINISH_DEADLINE));
    doors.context("the accept loop failed")?;
    join_hub(&mut driver, begun + FINISH_DEADLINE + JOIN_DEADLINE).await?;
    // Its last words come with the end of the hub's thread.
    if let Some(mut teller) = teller
        && timeout_at(begun + STOP_DEADLINE, &mut teller).await.is_err()
    {
        tracing::warn!("the webhook takes too long to be told of the stop");
        teller.abort();
    }
    anyhow::ensure!(!driver.has_panicked(), "the hub's thread panicked");
    anyhow::ensure!(!died, "the hub's thread ended by itself");
    tracing::info!(took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), "stopped");
    Ok(())
}

/// The stop before the doors are open: only the hub's thread runs.
async fn stop_at_start(handle: &HubHandle, mut driver: Driver) -> anyhow::Result<()> {
    tracing::info!("stopping before the start is over");
    let begun = Instant::now();
    stop_hub(handle, begun + JOIN_DEADLINE).await;
    join_hub(&mut driver, begun + FINISH_DEADLINE).await?;
    anyhow::ensure!(!driver.has_panicked(), "the hub's thread panicked");
    tracing::info!("stopped");
    Ok(())
}

async fn join_hub(driver: &mut Driver, deadline: Instant) -> anyhow::Result<()> {
    timeout_at(deadline, driver.ended()).await.context("the hub's thread does not end")
}

/// Where the certificate comes from, if there is to be one.
fn tls_source(config: &Config) -> Option<tls::Source> {
    if let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) {
        return Some(tls::Source::Files { cert: cert.clone(), key: key.clone() });
    }
    if !config.tls_acme.is_empty() {
        return Some(tls::Source::Acme(Acme {
            domains: config.tls_acme.clone(),
            email: config.tls_acme_email.clone(),
            directory: config.tls_acme_directory.clone(),
            ca: config.tls_acme_ca.clone(),
            dir: config.state_dir()?,
        }));
    }
    let signed = || {
        let mut addresses: Vec<_> = config.public_ip.iter().map(|public| public.ip).collect();
        match config.http.ip() {
            any if any.is_unspecified() => addresses.extend(interface_addresses()),
            one => addresses.push(one),
        }
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        tls::Source::SelfSigned(SelfSigned { addresses, host, dir: config.state_dir() })
    };
    config.tls_self_signed.then(signed)
}

/// What clients are told to find their way here with.
fn ice_servers(config: &Config) -> IceServers {
    let turn = config.turn_secret.clone().map(|secret| Turn { urls: config.turn.clone(), secret });
    IceServers { stun: config.stun.clone(), turn }
}

/// Reads tokens and certificate again whenever the operator asks for it by SIGHUP. What is bad is not put in force.
async fn read_again(mut hangup: Signal, config: Config, policy: PolicyCell, tls: Option<Tls>) {
    let config = Arc::new(config);
    while hangup.recv().await.is_some() {
        if config.auth.is_none() && tls.is_none() {
            tracing::info!("SIGHUP: there is nothing to read again");
        }
        let reader = Arc::clone(&config);
        // A disk that hangs must not hold a worker. The next SIGHUP is heard when it has answered.
        match tokio::task::spawn_blocking(move || reader.policy()).await {
            Ok(Ok(newer)) if config.auth.is_some() => {
                policy.replace(newer);
                tracing::info!("SIGHUP: the tokens were read again");
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "SIGHUP: the tokens stay as they were"),
            Err(error) => tracing::error!(%error, "SIGHUP: the tokens could not be read"),
        }
        if let Some(tls) = &tls {
            tls.read_again();
        }
    }
}

/// Has every peer closed; a full queue is tried again until `deadline`.
async fn stop_hub(handle: &HubHandle, deadline: Instant) {
    let ordered = async {
        while handle.order(Order::Shutdown) == Err(HandleError::Busy) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout_at(deadline, ordered).await.is_err() {
        tracing::warn!("the hub is too busy to be told of the stop: its peers will find out by themselves");
    }
}

/// Standard output says where the server listens, and nothing else. A reader that has gone is none of our concern.
fn announce(scheme: &str, http: SocketAddr, udp: SocketAddr) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "listening {scheme}://{http}").and_then(|()| writeln!(out, "listening udp {udp}"));
    let _ = out.flush();
}

fn cannot_listen(address: SocketAddr, what: &str, error: &io::Error) -> anyhow::Error {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "address in use: stop the other program or choose another".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: choose another".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied: choose a port above 1023".to_owned(),
        _ => format!("{error}: choose another"),
    };
    anyhow::anyhow!("cannot listen on {address} ({what}): {why} with --{what}")
}
