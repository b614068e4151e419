//! The binary: reads the configuration, runs the server, and turns signals and failures into exit statuses.
//!
//! **Invariant:** a failure is one line on standard error and a status that is not 0: 2 for a bad value, 1 for whatever
//! keeps the server from running, 130 for a second signal.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use onair::config::{Config, ConfigError};
use onair::server;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Tasks that still run when the server has stopped get so long.
const LAST_TASKS: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let config = match Config::load(std::env::args_os()) {
        Ok(config) => config,
        Err(ConfigError::Asked(text)) => {
            let _ = text.print();
            return ExitCode::SUCCESS;
        }
        Err(error @ ConfigError::Bad(_)) => return fail(&error, 2),
    };
    if let Err(error) = server::check(&config) {
        return fail(&error, 2);
    }
    if config.check {
        let _ = writeln!(std::io::stdout(), "the configuration is sound");
        return ExitCode::SUCCESS;
    }
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format_args!("{error:#}"), 1),
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    server::init_log(&config)?;
    // Two threads are plenty: media has a thread of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        server::run(config, async move {
            either(&mut interrupt, &mut terminate).await;
            tokio::spawn(async move {
                either(&mut interrupt, &mut terminate).await;
                std::process::exit(130);
            });
        })
        .await
    });
    runtime.shutdown_timeout(LAST_TASKS);
    served
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn fail(error: &dyn std::fmt::Display, status: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "onair: {error}");
    ExitCode::from(status)
}
