//! A program that stands for `docker`, with its compose: what it is asked is written down, and what it says is given.

use std::fs;
use std::path::{Path, PathBuf};

/// What it does, in shell, beside writing down in `asked` what it was asked.
pub(crate) struct Docker {
    /// `docker compose version` ends with this; not 0: only the older `docker-compose` is there.
    pub(crate) plugin: i32,
    pub(crate) ps: &'static str,
    pub(crate) stop: &'static str,
    pub(crate) up: &'static str,
    pub(crate) inspect: &'static str,
}

/// One container, which runs while there is `up`, and whose starts are counted in `starts`.
pub(crate) const OBEYS: Docker = Docker {
    plugin: 0,
    ps: "if [ -e up ]; then echo 0c1; fi",
    stop: "rm -f up",
    up: "touch up; echo x >> starts",
    inspect: "echo \"true false 0c1 start-$(wc -l < starts)\"",
};

impl Docker {
    /// Puts it into a folder of its own below `top`, and starts its container in `dir`, where it is run; gives the folder.
    pub(crate) fn install(&self, top: &Path, dir: &Path) -> PathBuf {
        let Self { plugin, ps, stop, up, inspect } = self;
        let script = format!(
            r#"#!/bin/sh
echo "$*" >> asked
case "$1" in
compose|older)
    [ "$1 $2" != "compose version" ] || exit {plugin}
    shift
    while [ "$1" = -f ] || [ "$1" = -p ]; do shift 2; done
    case "$1" in
    ps) {ps};;
    stop) {stop};;
    up) {up};;
    *) exit 9;;
    esac;;
inspect) {inspect};;
*) exit 9;;
esac
"#
        );
        let bin = top.join("docker-bin");
        let older = "#!/bin/sh\nexec docker older \"$@\"\n";
        for (name, text) in [("docker", script.as_str()), ("docker-compose", older)] {
            crate::lab::put(&bin.join(name), text.as_bytes());
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(bin.join(name), mode).unwrap();
        }
        fs::write(dir.join("up"), "").unwrap();
        fs::write(dir.join("starts"), "x\n").unwrap();
        bin
    }
}

/// What was asked that changes something, without the options before it.
pub(crate) fn orders(dir: &Path) -> Vec<String> {
    let asked = fs::read_to_string(dir.join("asked")).unwrap_or_default();
    let order =
        |line: &str| line.find(" stop").or_else(|| line.find(" up ")).map(|at| line[at + 1..].to_owned());
    asked.lines().filter_map(order).collect()
}

/// `PATH` with `bin` before all else.
pub(crate) fn path_with(bin: &Path) -> String {
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}
