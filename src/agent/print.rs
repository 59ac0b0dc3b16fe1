//! What has to be put where so that something runs the schedule.

use std::path::Path;

/// For what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A service of systemd that stays.
    Systemd,
    /// A service and a timer of systemd that run what is due.
    Timer,
    /// A line for cron.
    Cron,
}

/// What the agent is started with.
#[derive(Debug, Clone, Copy, Default)]
pub struct With<'a> {
    /// Configurations.
    pub configs: &'a [&'a Path],
    /// Identities for its jobs, beside those of the configurations: a drill needs one.
    pub identities: &'a [&'a Path],
}

impl With<'_> {
    /// As arguments, each file as `quoted` writes it.
    fn words(&self, quoted: &dyn Fn(&Path) -> String) -> String {
        let word = |option: &'static str| move |path: &&Path| format!(" {option} {}", quoted(path));
        let configs = self.configs.iter().map(word("--config"));
        configs.chain(self.identities.iter().map(word("--identity"))).collect()
    }
}

/// The text for `form`, for this program at `exe`, started with all that.
pub fn print(form: Form, exe: &Path, with: With<'_>, state_dirs: &[&Path]) -> String {
    let quoted = |path: &Path| {
        // systemd reads % and $ in command lines; what it would change is doubled.
        let text = path.display().to_string().replace('%', "%%").replace('$', "$$");
        if text.contains(char::is_whitespace) { format!("\"{text}\"") } else { text }
    };
    let command = format!("{} agent{}", quoted(exe), with.words(&quoted));
    match form {
        Form::Systemd => service(&command, state_dirs),
        Form::Timer => timer(&command, state_dirs),
        Form::Cron => cron(exe, with),
    }
}

/// With the default, a service that a job started again after a capture would die with the run that started it.
const KILL_MODE: &str = "# Only the agent is asked to end, and asks its job: a second SIGTERM would end that at once. What a job started (a service, say) outlives it.\n\
    KillMode=process\n";

/// What both services say of what they may do. Folders that are written stay the user's to name: a store may lie anywhere.
fn hardening(state_dirs: &[&Path]) -> String {
    let dirs: Vec<String> = state_dirs.iter().map(|dir| dir.display().to_string()).collect();
    format!(
        "Nice=10\nIOSchedulingClass=idle\nUMask=0077\nNoNewPrivileges=yes\nPrivateTmp=yes\nProtectKernelTunables=yes\nProtectKernelModules=yes\nProtectControlGroups=yes\nRestrictSUIDSGID=yes\nLockPersonality=yes\n\
         # To let it write nowhere else, name the stores here beside the state, and uncomment:\n# ProtectSystem=strict\n# ReadWritePaths={}\n",
        dirs.join(" ")
    )
}

fn service(command: &str, state_dirs: &[&Path]) -> String {
    format!(
        "# /etc/systemd/system/backstay.service; then: systemctl daemon-reload && systemctl enable --now backstay\n\
         [Unit]\nDescription=backstay: runs the schedule of backstay.toml\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nType=notify\nNotifyAccess=main\nExecStart={command}\nExecReload=/bin/kill -HUP $MAINPID\nRestart=on-failure\nRestartSec=30s\nWatchdogSec=5min\n\
         # It ends within 10 s, and takes what it was doing up again when it is started; while services are down for a capture it asks for more time, until\n\
         # they run again.\nTimeoutStopSec=30s\n{KILL_MODE}{}\n\
         [Install]\nWantedBy=multi-user.target\n",
        hardening(state_dirs)
    )
}

fn timer(command: &str, state_dirs: &[&Path]) -> String {
    format!(
        "# /etc/systemd/system/backstay-due.service\n[Unit]\nDescription=backstay: runs what is due\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nType=oneshot\nExecStart={command} --once\n{KILL_MODE}{}\n\
         # /etc/systemd/system/backstay-due.timer; then: systemctl daemon-reload && systemctl enable --now backstay-due.timer\n\
         [Unit]\nDescription=backstay: looks what is due\n\n[Timer]\nOnCalendar=*:0/5\nPersistent=yes\n\n[Install]\nWantedBy=timers.target\n",
        hardening(state_dirs)
    )
}

fn cron(exe: &Path, with: With<'_>) -> String {
    let quoted = |path: &Path| {
        // In a crontab a % ends the command.
        let text = path.display().to_string().replace('\'', "'\\''").replace('%', "\\%");
        if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) {
            text
        } else {
            format!("'{text}'")
        }
    };
    let words = with.words(&quoted);
    format!(
        "# crontab -e: every 5 minutes it looks what of the schedule in backstay.toml is due; a time that was missed is made up for. -q: only problems and results are mailed.\n*/5 * * * * {} -q agent{words} --once\n",
        quoted(exe)
    )
}
