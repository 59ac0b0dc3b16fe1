//! `[notify]`: who is told what.

use crate::config::block::{At, Block};
use crate::config::mail::{MAIL_KEYS, Mail, mail};
use crate::config::places::Role;
use crate::config::render::Found;
use crate::config::resolve::Work;
use crate::config::settings::CommandLine;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A target that takes longer is given up.
const WITHIN: Duration = Duration::from_secs(30);
/// What [`Tell`] is called in the file.
pub(super) const EVENTS: [&str; 6] = ["failure", "recovery", "stale", "shrink", "damage", "kit"];

/// Who is told what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notify {
    /// Who is told of trouble and its end, in the order of the file.
    pub targets: Vec<Target>,
    /// A dead-man service: it raises the alarm when it hears nothing.
    pub ping: Option<Ping>,
    /// No backup that went well for so long is trouble.
    pub stale: Option<Duration>,
}

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tell {
    /// A run failed, or did less than was asked.
    Failure,
    /// What was told of is over.
    Recovery,
    /// No backup went well for too long.
    Stale,
    /// Retention lets nothing go, because a component shrank or something else looks wrong.
    Shrink,
    /// Damage, a forgery, missing history.
    Damage,
    /// No recovery kit was ever proved, or keys changed since.
    Kit,
}

impl Tell {
    /// All, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Failure, Self::Recovery, Self::Stale, Self::Shrink, Self::Damage, Self::Kit];

    /// Its word.
    pub fn word(self) -> &'static str {
        let place = Self::ALL.iter().position(|tell| *tell == self).unwrap_or(0);
        EVENTS[place]
    }
}

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// How.
    pub way: Way,
    /// Sent as a bearer token.
    pub token: Option<Secret>,
    /// Only these; all when empty.
    pub events: Vec<Tell>,
    /// It is given up after this time.
    pub within: Duration,
}

/// How somebody is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By a POST.
    Post {
        /// In which form.
        form: PostForm,
        /// Where to.
        to: Address,
    },
    /// By a command that gets it in its environment.
    Command(CommandLine),
    /// By e-mail.
    Mail(Mail),
}

/// The form of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostForm {
    /// A JSON document of ours.
    Json,
    /// As Slack takes it, and what imitates it.
    Slack,
    /// As Discord takes it.
    Discord,
    /// As ntfy takes it.
    Ntfy,
}

/// An address that is no secret, or a place where one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Stands in the file.
    Plain(String),
    /// Is read when it is needed.
    Secret(Secret),
}

/// Where a secret is. The secret itself is never part of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// The first line of a file that others cannot read.
    File(PathBuf),
    /// A credential that systemd passed to the service.
    Credential(String),
    /// A variable of the environment.
    Variable(String),
}

/// A dead-man service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// The address that means success.
    pub url: Secret,
    /// `/start` and `/fail` behind it are known there, too.
    pub all: bool,
    /// It is given up after this time.
    pub within: Duration,
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Credential(name) => write!(f, "credential:{name}"),
            Self::Variable(name) => write!(f, "env:{name}"),
        }
    }
}

/// As messages name it; holds no secret.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = |form: &PostForm| match form {
            PostForm::Json => "webhook",
            PostForm::Slack => "slack",
            PostForm::Discord => "discord",
            PostForm::Ntfy => "ntfy",
        };
        match &self.way {
            Way::Post { form: of, to: Address::Plain(url) } => write!(f, "{} {url}", form(of)),
            Way::Post { form: of, to: Address::Secret(place) } => write!(f, "{} of {place}", form(of)),
            Way::Command(CommandLine::Args(args)) => {
                write!(f, "command {}", args.first().map_or("", String::as_str))
            }
            // A line may hold anything; its first word is enough to know it by.
            Way::Command(CommandLine::Shell(line)) => {
                write!(f, "command {}", line.split_whitespace().next().unwrap_or_default())
            }
            Way::Mail(mail) => write!(f, "email {}", mail.to),
        }
    }
}

/// What stands behind a key that says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// An address for a POST.
    Plain(PostForm),
    /// A place where such an address is.
    Secret(PostForm),
    Command,
    Mail,
}

/// The ways, by their keys.
const WAYS: [(&str, Behind); 8] = [
    ("webhook", Behind::Plain(PostForm::Json)),
    ("ntfy", Behind::Plain(PostForm::Ntfy)),
    ("webhook_file", Behind::Secret(PostForm::Json)),
    ("slack_file", Behind::Secret(PostForm::Slack)),
    ("discord_file", Behind::Secret(PostForm::Discord)),
    ("ntfy_file", Behind::Secret(PostForm::Ntfy)),
    ("email", Behind::Mail),
    ("command", Behind::Command),
];

/// What `[notify]` says.
pub(super) fn notify(work: &mut Work<'_>, mut block: Block) -> Notify {
    let targets = block.blocks("failure").into_iter().filter_map(|b| target(work, b)).collect();
    let ping = block.block("ping").and_then(|mut block| {
        let url = block.text("url_file").and_then(|at| secret(work, "the address of `ping`", at));
        let all = block.flag_if_any("start_and_fail").unwrap_or(true);
        let within = block.time("within").unwrap_or(WITHIN);
        Some(Ping { url: url?, all, within })
    });
    Notify { targets, ping, stale: block.time("stale") }
}

fn target(work: &mut Work<'_>, mut block: Block) -> Option<Target> {
    if block.later {
        return None;
    }
    let named: Vec<_> = WAYS.iter().filter(|(key, _)| block.has(key)).collect();
    let [(key, behind)] = named[..] else {
        let what = match named.len() {
            0 => "nothing says how this target is told".to_owned(),
            _ => "a target is told in one way".to_owned(),
        };
        let keys: Vec<String> = WAYS.iter().map(|(key, _)| format!("`{key}`")).collect();
        work.mistake(Found::at(&block.span, what).hint(format!("give exactly one of {}", keys.join(", "))));
        return None;
    };
    needless(work, &block, key, *behind);
    let token = block.text("token_file").and_then(|at| secret(work, "the token of a target", at));
    let way = match behind {
        Behind::Command => block.command(key).map(|at| Way::Command(at.value)),
        Behind::Mail => mail(work, &mut block).map(Way::Mail),
        Behind::Secret(form) => {
            let place = block.text(key).and_then(|at| secret(work, "the address of a target", at));
            place.map(|place| Way::Post { form: *form, to: Address::Secret(place) })
        }
        Behind::Plain(form) => {
            let url = block.text(key).and_then(|at| address(work, key, at, token.is_some()));
            url.map(|url| Way::Post { form: *form, to: Address::Plain(url) })
        }
    };
    let events = block.texts("events");
    let events =
        Tell::ALL.into_iter().filter(|tell| events.iter().any(|at| at.value == tell.word())).collect();
    Some(Target { way: way?, token, events, within: block.time("within").unwrap_or(WITHIN) })
}

/// Keys that mean nothing beside the one that says how.
fn needless(work: &mut Work<'_>, block: &Block, way: &str, behind: Behind) {
    let mail = behind == Behind::Mail;
    let posts = matches!(behind, Behind::Plain(_) | Behind::Secret(_));
    let wrong = MAIL_KEYS.into_iter().filter(|_| !mail).chain(["token_file"].into_iter().filter(|_| !posts));
    for key in wrong {
        let Some(span) = block.named.get(key) else { continue };
        let hint = match behind {
            Behind::Command => "a command reads its secrets itself; remove it",
            Behind::Mail => "the password of a mail server is named by `password_file`",
            Behind::Plain(_) | Behind::Secret(_) => "it belongs to `email`; remove it",
        };
        work.mistake(Found::at(span, format!("`{key}` means nothing beside `{way}`")).hint(hint));
    }
}

/// An address that stands in the file goes into every snapshot, and everybody who reads the file sees it.
fn address(work: &mut Work<'_>, key: &str, At { value, span }: At<String>, token: bool) -> Option<String> {
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let secret = host.contains('@') || value.contains(['?', '#']);
    let plain = value.starts_with("http://") && !is_here(host);
    let (what, hint) = match () {
        () if host.is_empty() || value.contains(char::is_whitespace) => (
            format!("`{key}` must be an address: https://…"),
            "for example \"https://ntfy.example/backups\"".to_owned(),
        ),
        () if secret => (
            format!("the address of `{key}` has a part that may be secret"),
            format!("put the address into a file that only you can read, and name that: {key}_file = \"…\""),
        ),
        () if plain && token => (
            "a token would go over the network in the clear".to_owned(),
            "use an https:// address".to_owned(),
        ),
        () => return Some(value),
    };
    // The text itself is not shown: it may hold a secret.
    work.mistake(Found::at(&span, what).hint(hint));
    None
}

pub(super) fn is_here(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    ["localhost", "127.0.0.1", "[::1]"].contains(&name)
}

/// A file, `credential:NAME` or `env:NAME`.
pub(super) fn secret(work: &mut Work<'_>, label: &str, at: At<String>) -> Option<Secret> {
    let fits = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && name != ".."
    };
    let (what, hint) = if let Some(name) = at.value.strip_prefix("credential:") {
        if fits(name) {
            return Some(Secret::Credential(name.to_owned()));
        }
        ("this is no name of a credential", "credential:NAME, as in LoadCredential=NAME:… of the unit")
    } else if let Some(name) = at.value.strip_prefix("env:") {
        // Only such variables are kept from hooks and dump commands.
        if fits(name) && name.starts_with("BACKSTAY_") {
            return Some(Secret::Variable(name.to_owned()));
        }
        ("a variable for a secret must begin with BACKSTAY_", "hooks and dump commands do not get those")
    } else if at.value.contains("://") {
        (
            "this is an address, and a file that holds one is asked for",
            "put it into a file that only you can read",
        )
    } else {
        return work.site(Role::Key, label, Some(at)).map(Secret::File);
    };
    work.mistake(Found::at(&at.span, what).hint(hint));
    None
}
