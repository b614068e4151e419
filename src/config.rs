//! The command line, the environment and the configuration file, merged into one checked [`Config`].
//!
//! **Invariant:** a `Config` that exists holds only values that make sense, and each came from the nearest of flag,
//! environment, file and default.

mod file;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, Resettable, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::access::Policy;
use crate::http::ice_url::{StunUrl, TurnUrl};
use crate::http::origin::AllowedOrigin;
use crate::http::turn_secret::TurnSecret;
use crate::http::webhook::{HookConfig, WebhookSecret, WebhookUrl};
use crate::hub::config::IceRole;
use crate::hub::record_rule::RecordRule;
use crate::net::addresses::PublicIp;

pub use values::{KeyframeInterval, LogFilter, Rate, Size, Span, VideoCodecs};

const EXAMPLES: &str = "\
Examples:
  onair                                 serve on port 8080, media on UDP port 8189
  onair --public-ip 203.0.113.7         behind 1:1 NAT or in Docker
  onair --public-ip 203.0.113.7:40000   the same, where UDP port 40000 is mapped to ours
  onair --record off --codecs vp8,h264  relay only, VP8 preferred
  onair --tls-self-signed               HTTPS for cameras on a LAN; browsers warn once
  onair --config /etc/onair.toml        its keys are the flags' names: http = \"0.0.0.0:80\"

A flag beats its environment variable, which beats the file, which beats the default. Lists are
separated by commas in the environment and are arrays in the file. An empty variable counts as none.

Browsers grant camera and microphone on https:// pages and on http://localhost only.";

/// The directory of the authority that most of the web uses.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// A WebRTC broadcast server in one binary: publish, watch, record.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "onair", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Config {
    /// TOML file with keys of the same names as the flags
    #[arg(long, env = "ONAIR_CONFIG", value_name = "FILE", hide_env_values = true)]
    pub config: Option<PathBuf>,

    /// Check the configuration and the files it names, and end: with status 0 if all is well, else 2
    #[arg(long, env = "ONAIR_CHECK", hide_env_values = true)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub check: bool,

    /// Address of the web page, the WebSocket, WHIP/WHEP and the API; port 0 picks one
    #[arg(long, env = "ONAIR_HTTP", value_name = "ADDR", default_value = "0.0.0.0:8080", hide_env_values = true)]
    #[arg(help_heading = "Network", value_parser = values::listen_address)]
    pub http: SocketAddr,

    /// Address of the one UDP port for all media; port 0 picks one
    #[arg(long, env = "ONAIR_UDP", value_name = "ADDR", default_value = "0.0.0.0:8189", hide_env_values = true)]
    #[arg(help_heading = "Network", value_parser = values::listen_address)]
    pub udp: SocketAddr,

    /// What clients are told to send media to; may be given again
    ///
    /// Needed behind 1:1 NAT or in Docker. With a port where that differs from ours: `203.0.113.7:40000` or
    /// `[2001:db8::7]:40000`. Without it: the address bound to, or each interface's.
    #[arg(long, env = "ONAIR_PUBLIC_IP", value_name = "IP[:PORT]", value_delimiter = ',', hide_env_values = true)]
    #[arg(help_heading = "Network", action = ArgAction::Append)]
    pub public_ip: Vec<PublicIp>,

    /// Also take media by TCP, on the UDP port's number: for viewers whose firewalls let no UDP pass
    #[arg(long, env = "ONAIR_ICE_TCP", value_name = "SWITCH", default_value = "on", hide_env_values = true)]
    #[arg(help_heading = "Network")]
    pub ice_tcp: Switch,

    /// ICE role: `lite` suits a server that clients can reach, `full` also probes from this side
    #[arg(long, env = "ONAIR_ICE", value_name = "ROLE", default_value = "lite", hide_env_values = true)]
    #[arg(help_heading = "Network", value_parser = ice_role())]
    pub ice: IceRole,

    /// Web origin besides the server's own that may use the WebSocket, WHIP/WHEP and API; may be given again
    ///
    /// Like `https://example.com`, or `*` for any. Behind a proxy that speaks HTTPS, name the address in the browser's bar.
    #[arg(long, env = "ONAIR_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', hide_env_values = true)]
    #[arg(help_heading = "Network", action = ArgAction::Append)]
    pub allow_origin: Vec<AllowedOrigin>,

    /// STUN server that clients are told, like `stun:stun.example.org:3478`; may be given again
    #[arg(long, env = "ONAIR_STUN", value_name = "URL", value_delimiter = ',', hide_env_values = true)]
    #[arg(help_heading = "Network", action = ArgAction::Append)]
    pub stun: Vec<StunUrl>,

    /// TURN server that clients are told, with a login of their own; may be given again
    ///
    /// Like `turn:turn.example.org:3478` or `turns:turn.example.org:443?transport=tcp`. It has to share a secret with us.
    #[arg(long, env = "ONAIR_TURN", value_name = "URL", value_delimiter = ',', hide_env_values = true)]
    #[arg(help_heading = "Network", action = ArgAction::Append)]
    pub turn: Vec<TurnUrl>,

    /// Secret that the TURN server shares with us: coturn's static-auth-secret
    ///
    /// Better given by environment or file: other users of this machine see command lines.
    #[arg(long, env = "ONAIR_TURN_SECRET", value_name = "SECRET", hide_env_values = true, help_heading = "Network")]
    pub turn_secret: Option<TurnSecret>,

    /// Video codecs accepted, in order of preference
    #[arg(long, env = "ONAIR_CODECS", value_name = "LIST", default_value = "h264,vp9,vp8,av1,h265")]
    #[arg(help_heading = "Media", hide_env_values = true)]
    pub codecs: VideoCodecs,

    /// What broadcasters' browsers are asked to start with, in bit/s; 0 lets them feel their way
    #[arg(long, env = "ONAIR_START_BITRATE", value_name = "RATE", default_value = "2500k", hide_env_values = true)]
    #[arg(help_heading = "Media")]
    pub start_bitrate: Rate,

    /// What is recorded without a request: `all`, `off`, or broadcasts by patterns like stage/*,*/host
    ///
    /// A pattern is ROOM/USER, and `*` stands for any characters. The recording of a broadcast can be started and stopped
    /// on the page and by the API.
    #[arg(long, env = "ONAIR_RECORD", value_name = "WHAT", default_value = "all", hide_env_values = true)]
    #[arg(help_heading = "Recording")]
    pub record: RecordRule,

    /// Where the .mp4 files go
    #[arg(long, env = "ONAIR_RECORD_DIR", value_name = "DIR", default_value = "recordings", hide_env_values = true)]
    #[arg(help_heading = "Recording")]
    pub record_dir: PathBuf,

    /// With less free space no recording starts, and running ones are finished
    #[arg(long, env = "ONAIR_RECORD_MIN_FREE", value_name = "SIZE", default_value = "1GiB", hide_env_values = true)]
    #[arg(help_heading = "Recording")]
    pub record_min_free: Size,

    /// Remove recordings so long after they were finished, like 30d or 12h; for ever without it
    #[arg(long, env = "ONAIR_RECORD_KEEP", value_name = "TIME", hide_env_values = true, help_heading = "Recording")]
    pub record_keep: Option<Span>,

    /// Remove the oldest recordings when all together are bigger, like 100G
    #[arg(long, env = "ONAIR_RECORD_MAX_SIZE", value_name = "SIZE", hide_env_values = true)]
    #[arg(help_heading = "Recording", value_parser = values::max_size)]
    pub record_max_size: Option<Size>,

    /// Begin a new file after so long, from 1s to 24h, at the next keyframe
    #[arg(long, env = "ONAIR_RECORD_SEGMENT", value_name = "TIME", default_value = "6h", hide_env_values = true)]
    #[arg(help_heading = "Recording", value_parser = values::segment)]
    pub record_segment: Span,

    /// Ask the broadcaster for a keyframe when the latest one of a recording is so old; 0 for never
    ///
    /// A player can only jump to keyframes.
    #[arg(long, env = "ONAIR_RECORD_KEYFRAMES", value_name = "TIME", default_value = "5s", hide_env_values = true)]
    #[arg(help_heading = "Recording")]
    pub record_keyframes: KeyframeInterval,

    /// Sound of recordings: `copy` keeps Opus as it came, `aac` is for players that know no Opus in MP4
    #[arg(long, env = "ONAIR_RECORD_AUDIO", value_name = "FORM", default_value = "copy", hide_env_values = true)]
    #[arg(help_heading = "Recording")]
    pub record_audio: RecordAudio,

    /// Command that is run by `sh -c` for each finished file, with its path and facts in ONAIR_… variables
    #[arg(long, env = "ONAIR_ON_RECORDING", value_name = "COMMAND", hide_env_values = true)]
    #[arg(help_heading = "Recording", value_parser = NonEmptyStringValueParser::new())]
    pub on_recording: Option<String>,

    /// The ffmpeg binary
    #[arg(long, env = "ONAIR_FFMPEG", value_name = "PATH", default_value = "ffmpeg", hide_env_values = true)]
    #[arg(help_heading = "Recording")]
    pub ffmpeg: PathBuf,

    /// Certificate chain (PEM) to serve HTTPS/WSS with; read again when the file changes
    #[arg(long, env = "ONAIR_TLS_CERT", value_name = "FILE", hide_env_values = true, help_heading = "Access")]
    pub tls_cert: Option<PathBuf>,

    /// Private key (PEM) of the certificate
    #[arg(long, env = "ONAIR_TLS_KEY", value_name = "FILE", hide_env_values = true, help_heading = "Access")]
    pub tls_key: Option<PathBuf>,

    /// Serve HTTPS/WSS with a certificate made here, for trying it on a LAN
    #[arg(long, env = "ONAIR_TLS_SELF_SIGNED", hide_env_values = true, help_heading = "Access")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub tls_self_signed: bool,

    /// Serve HTTPS/WSS for this domain with a certificate that Let's Encrypt issues; may be given again
    ///
    /// The domain must lead here, and port 443 to --http. Whoever uses it agrees to the terms of the authority.
    #[arg(long, env = "ONAIR_TLS_ACME", value_name = "DOMAIN", value_delimiter = ',', hide_env_values = true)]
    #[arg(help_heading = "Access", action = ArgAction::Append, value_parser = values::domain)]
    pub tls_acme: Vec<String>,

    /// Where the authority may write to about the certificate
    #[arg(long, env = "ONAIR_TLS_ACME_EMAIL", value_name = "EMAIL", hide_env_values = true, help_heading = "Access")]
    pub tls_acme_email: Option<String>,

    /// Another authority than Let's Encrypt, by the address of its directory (RFC 8555)
    #[arg(long, env = "ONAIR_TLS_ACME_DIRECTORY", value_name = "URL", default_value = LETS_ENCRYPT)]
    #[arg(help_heading = "Access", hide_env_values = true)]
    pub tls_acme_directory: String,

    /// Certificates (PEM) that vouch for the authority's address, where browsers would not trust it
    #[arg(long, env = "ONAIR_TLS_ACME_CA", value_name = "FILE", hide_env_values = true, help_heading = "Access")]
    pub tls_acme_ca: Option<PathBuf>,

    /// Where certificates made here or issued are kept, so that browsers and authorities are not asked again
    ///
    /// Without it: a directory of systemd's (StateDirectory=), or onair in the user's directory for state.
    #[arg(long, env = "ONAIR_TLS_DIR", value_name = "DIR", hide_env_values = true, help_heading = "Access")]
    pub tls_dir: Option<PathBuf>,

    /// TOML file of tokens, and who may publish or watch what; without it everyone may do everything
    #[arg(long, env = "ONAIR_AUTH", value_name = "FILE", hide_env_values = true, help_heading = "Access")]
    pub auth: Option<PathBuf>,

    /// Address of an application that is asked before anyone publishes or plays, and told of broadcasts and recordings
    ///
    /// It must answer with a 2xx, or the client is not let in. Like `https://example.org/onair`.
    #[arg(long, env = "ONAIR_WEBHOOK", value_name = "URL", hide_env_values = true, help_heading = "Access")]
    pub webhook: Option<WebhookUrl>,

    /// Secret that signs what the webhook is sent: whsec_ and the base64 of 24 to 64 bytes
    ///
    /// Better given by environment or file: other users of this machine see command lines.
    #[arg(long, env = "ONAIR_WEBHOOK_SECRET", value_name = "SECRET", hide_env_values = true, help_heading = "Access")]
    pub webhook_secret: Option<WebhookSecret>,

    /// How long the webhook may take to answer
    #[arg(long, env = "ONAIR_WEBHOOK_TIMEOUT", value_name = "TIME", default_value = "5s", hide_env_values = true)]
    #[arg(help_heading = "Access", value_parser = values::webhook_timeout)]
    pub webhook_timeout: Span,

    /// What is logged to standard error: a level, or targets with levels like info,onair::hub=debug
    #[arg(long, env = "ONAIR_LOG", value_name = "FILTER", default_value = "info", hide_env_values = true)]
    #[arg(help_heading = "Logging")]
    pub log: LogFilter,

    /// Form of the log
    #[arg(long, env = "ONAIR_LOG_FORMAT", value_name = "FORM", default_value = "text", hide_env_values = true)]
    #[arg(help_heading = "Logging")]
    pub log_format: LogFormat,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// What the sound of recordings becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RecordAudio {
    /// Opus as it came.
    Copy,
    /// AAC.
    Aac,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there is no [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is bad; one line that names it.
    #[error("{0}")]
    Bad(String),
    /// Help or the version was asked for; not a failure.
    #[error("{0}")]
    Asked(clap::Error),
}

impl Config {
    /// Merges `args` (the program's name first), the environment and the file that either names.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn load<I, T>(args: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let command = without_empty_variables(Self::command());
        let config = Self::parse_with(command.clone(), &args).map_err(|error| from_clap(error, &args))?;
        let Some(path) = config.config.clone() else { return config.checked() };
        let in_file = |reason: String| ConfigError::Bad(format!("{}: {reason}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| in_file(error.to_string()))?;
        let command = file::with_defaults(command, &text).map_err(in_file)?;
        // Flags and environment have passed once: whatever is wrong now stands in the file.
        Self::parse_with(command, &args).map_err(|error| in_file(one_line(&error)))?.checked()
    }

    /// Whether anyone who can reach the server may use it, and others than this machine can reach it.
    #[must_use]
    pub fn is_open_to_the_network(&self) -> bool {
        self.auth.is_none() && !self.http.ip().is_loopback()
    }

    /// Where certificates made here or issued are kept; `None` where this user has no directory for it.
    #[must_use]
    pub fn state_dir(&self) -> Option<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // systemd lists several with colons between them.
        let of_systemd = || {
            let all = variable("STATE_DIRECTORY")?.into_os_string().into_string().ok()?;
            all.split(':').next().map(PathBuf::from)
        };
        let of_user = || {
            let state = variable("XDG_STATE_HOME").filter(|dir| dir.is_absolute());
            Some(state.or_else(|| Some(variable("HOME")?.join(".local/state")))?.join("onair"))
        };
        self.tls_dir.clone().or_else(of_systemd).or_else(of_user)
    }

    /// Reads the file of `--auth`, and the key files that it names: their paths are relative to it.
    ///
    /// # Errors
    ///
    /// One line that names the file and what is wrong with it.
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        let Some(path) = &self.auth else {
            return Ok(Policy::open());
        };
        let in_file = |reason: String| ConfigError::Bad(format!("--auth {}: {reason}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| in_file(error.to_string()))?;
        let beside = |name: &str| {
            let path = path.parent().unwrap_or(Path::new("")).join(name);
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Policy::parse_beside(&text, &beside).map_err(|error| in_file(error.to_string()))
    }

    /// The webhook, if there is one.
    #[must_use]
    pub fn webhook(&self) -> Option<HookConfig> {
        let (url, secret) = (self.webhook.clone()?, self.webhook_secret.clone()?);
        Some(HookConfig { url, secret, timeout: self.webhook_timeout.duration() })
    }

    fn parse_with(command: clap::Command, args: &[OsString]) -> Result<Self, clap::Error> {
        let mut matches = command.try_get_matches_from(args)?;
        Self::from_arg_matches_mut(&mut matches)
    }

    fn checked(self) -> Result<Self, ConfigError> {
        let bad = |line: &str| Err(ConfigError::Bad(line.to_owned()));
        match (&self.tls_cert, &self.tls_key, self.tls_self_signed) {
            (Some(_), None, _) => bad("--tls-cert: its private key is missing: give it with --tls-key"),
            (None, Some(_), _) => bad("--tls-key: its certificate is missing: give it with --tls-cert"),
            (Some(_), Some(_), true) => bad("--tls-self-signed: there is a certificate already, by --tls-cert"),
            (Some(_), ..) if !self.tls_acme.is_empty() => {
                bad("--tls-acme: there is a certificate already, by --tls-cert")
            }
            (.., true) if !self.tls_acme.is_empty() => bad("--tls-acme: --tls-self-signed makes another: choose one"),
            _ if !self.tls_acme_directory.starts_with("https://") => {
                bad("--tls-acme-directory: must begin with https://")
            }
            _ if !self.tls_acme.is_empty() && self.state_dir().is_none() => {
                bad("--tls-acme: say with --tls-dir where the certificate is to be kept")
            }
            _ if !self.turn.is_empty() && self.turn_secret.is_none() => {
                bad("--turn: clients need a login: give the secret that it shares with us with --turn-secret")
            }
            _ if self.turn.is_empty() && self.turn_secret.is_some() => {
                bad("--turn-secret: its server is missing: name it with --turn")
            }
            _ if self.webhook.is_some() != self.webhook_secret.is_some() => {
                bad("--webhook and --webhook-secret: give both, for what the webhook is sent is signed")
            }
            _ => self.policy().map(|_| self),
        }
    }
}

/// The hub knows no command line, so its type is parsed here.
fn ice_role() -> impl TypedValueParser<Value = IceRole> {
    PossibleValuesParser::new(["lite", "full"]).map(|role| if role == "full" { IceRole::Full } else { IceRole::Lite })
}

/// Compose files and unit files often pass a variable on though it has no value.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| {
        let empty = arg.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
        if empty { arg.env(Resettable::Reset) } else { arg }
    })
}

fn from_clap(error: clap::Error, args: &[OsString]) -> ConfigError {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return ConfigError::Asked(error);
    }
    let line = one_line(&error);
    match variable_of(&error, args) {
        Some(variable) => ConfigError::Bad(format!("{variable}: {line}")),
        None => ConfigError::Bad(line),
    }
}

/// The environment variable a bad value came from, where the flag itself was not given.
fn variable_of(error: &clap::Error, args: &[OsString]) -> Option<String> {
    let ContextValue::String(usage) = error.get(ContextKind::InvalidArg)? else { return None };
    let flag = usage.split([' ', '=']).next()?;
    let given = args.iter().any(|arg| {
        let arg = arg.to_string_lossy();
        arg == flag || arg.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))
    });
    let variable = format!("ONAIR_{}", flag.strip_prefix("--")?.to_uppercase().replace('-', "_"));
    (!given && std::env::var_os(&variable).is_some()).then_some(variable)
}

/// clap's message without its usage and with its tip, on one line.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut line = String::new();
    for part in text.lines().map(str::trim) {
        if part.starts_with("Usage:") || part.starts_with("For more information") {
            break;
        }
        if !part.is_empty() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(part);
        }
    }
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_toml(text: &str) -> Result<Config, String> {
        let command = file::with_defaults(Config::command(), text)?;
        Config::parse_with(command, &["onair".into()]).map_err(|error| one_line(&error))
    }

    #[test]
    fn the_command_is_sound() {
        Config::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_variable() {
        for arg in Config::command().get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            let variable = format!("ONAIR_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(variable.as_str()), "--{long}");
        }
    }

    #[test]
    fn the_file_takes_arrays_words_numbers_and_truths() {
        let config = with_toml(
            "http = '127.0.0.1:0'\npublic-ip = ['192.0.2.1', '[::1]:9']\ncodecs = ['vp8', 'av1']\n\
             record = ['stage/*', '*/host']\nstart-bitrate = 0\nallow-origin = 'https://a.example, https://b.example'\ntls-self-signed = false",
        )
        .unwrap();
        assert_eq!(config.http, "127.0.0.1:0".parse().unwrap());
        assert_eq!(config.public_ip, ["192.0.2.1".parse().unwrap(), "[::1]:9".parse().unwrap()]);
        assert_eq!(config.codecs, "vp8,av1".parse().unwrap());
        assert_eq!(config.record, "stage/*,*/host".parse().unwrap());
        assert_eq!(with_toml("record = 'stage/*'").unwrap().record, "stage/*".parse().unwrap());
        assert_eq!(config.start_bitrate.bps(), 0);
        assert_eq!(config.allow_origin.len(), 2);
    }

    const EXAMPLE: &str = include_str!("../deploy/onair.example.toml");

    #[test]
    fn the_example_as_it_stands_says_what_the_defaults_say() {
        assert_eq!(with_toml(EXAMPLE), with_toml(""));
    }

    #[test]
    fn each_line_of_the_example_holds_when_it_is_taken() {
        let settings: Vec<&str> = EXAMPLE.lines().filter_map(|line| line.strip_prefix('#')).collect();
        let settings: Vec<&str> =
            settings.into_iter().filter(|line| !line.starts_with(' ') && !line.is_empty()).collect();
        for setting in &settings {
            // Its secrets are everyone's.
            let filled = match setting.split_once("\"whsec_replace-me\"").or(setting.split_once("\"replace-me\"")) {
                Some((key, _)) => {
                    let error = with_toml(setting).unwrap_err();
                    assert!(error.contains("openssl rand"), "{setting}: {error}");
                    format!("{key}\"whsec_bm9ib2R5IGVsc2Uga25vd3MgdGhpcyBvbmU=\"")
                }
                None => (*setting).to_owned(),
            };
            if let Err(error) = with_toml(&filled) {
                panic!("{setting}: {error}");
            }
        }
        let mut named: Vec<&str> = settings.iter().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
        let command = Config::command();
        let flags = command.get_arguments().filter_map(clap::Arg::get_long);
        let mut flags: Vec<&str> = flags.filter(|flag| !file::NOT_IN_FILE.contains(flag)).collect();
        named.sort_unstable();
        flags.sort_unstable();
        assert_eq!(named, flags, "each flag once");
    }

    #[test]
    fn flags_beat_the_file_for_every_form_of_value() {
        let text = "tls-self-signed = true\nallow-origin = ['https://a.example']\ncodecs = ['vp8']\nudp = '127.0.0.2:0'\n\
                    record-keep = '30d'";
        let in_file = with_toml(text).unwrap();
        assert!(in_file.tls_self_signed && in_file.record_keep.is_some());
        let args =
            ["onair", "--allow-origin=https://b.example", "--codecs=av1", "--udp=127.0.0.3:0", "--record-keep=1d"];
        let command = file::with_defaults(Config::command(), text).unwrap();
        let config = Config::parse_with(command, &args.map(OsString::from)).unwrap();
        assert_eq!(config.allow_origin, ["https://b.example".parse().unwrap()]);
        assert_eq!(config.codecs, "av1".parse().unwrap());
        assert_eq!(config.udp, "127.0.0.3:0".parse().unwrap());
        assert_eq!(config.record_keep, Some("1d".parse().unwrap()));
        assert!(config.tls_self_signed, "what no flag says");
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        for (text, named) in [
            ("htpp = 'x'", "unknown key `htpp`"),
            ("record_dir = 'x'", "write `record-dir`"),
            ("config = 'other.toml'", "unknown key `config`"),
            ("udp = 'nowhere'", "--udp"),
            ("udp = ['0.0.0.0:1', '0.0.0.0:2']", "`udp` takes one value"),
            ("[http]\na = 1", "`http` cannot be a table"),
            ("http = 'x'\n= 7", "line 2"),
            ("codecs = []", "--codecs"),
            ("record = []", "--record"),
            ("record = ['stage']", "room/user"),
            ("record-max-size = 100", "100 has no unit: write 100M"),
            ("record-keep = 0", "longer than 0"),
        ] {
            let error = with_toml(text).unwrap_err();
            assert!(error.contains(named), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error:?}");
        }
    }
}
