#!/bin/sh
# Run by the job `prepare`, as root of its container, at every `up`: gives the volumes to the user that the other containers run as, and the first time
# makes configuration, keys and store; what is there it leaves as it is. `prepare.sh recover`, the job `recover`, brings all of it back from /run/kit.txt.
set -eu
export HOME=/tmp LC_ALL=C XDG_CONFIG_HOME=/etc XDG_STATE_HOME=/var/lib
user=65532 config=/etc/backstay/backstay.toml
own() { setpriv --reuid $user --regid $user --clear-groups -- "$@"; }
chown $user:$user /etc/backstay /var/lib/backstay /srv/demo
chmod 0700 /etc/backstay /var/lib/backstay
# Credentials must be readable by their owner alone; the file of the secret has owner and modes of the host's.
install -o $user -g $user -m 0600 /run/secrets/host.credentials /etc/backstay/host.credentials
# Whoever asks for the status page shows it. It is in no snapshot, and made anew after a recovery.
[ -e /etc/backstay/page-token ] || own sh -c 'umask 077; od -An -N24 -tx1 /dev/urandom | tr -d " \n" >/etc/backstay/page-token'
if [ "${1:-}" = recover ]; then
  install -o $user -g $user -m 0600 /run/kit.txt /tmp/kit.txt
  AWS_SHARED_CREDENTIALS_FILE=/etc/backstay/host.credentials own backstay recover /tmp/kit.txt --in-place --yes
else
  # The first time, or after a first time that was cut off: keys, and a configuration that names them, with the store that is meant in the place of one
  # in a folder. All that is thrown away lies in /tmp/new. Keys of a first try are taken up by the next one; nothing is removed but its new.toml.
  if [ ! -e $config ]; then
    rm -rf /tmp/new /etc/backstay/new.toml
    own mkdir -p /tmp/new/demo
    own env XDG_STATE_HOME=/tmp/new/state backstay -q init --yes -c /etc/backstay/new.toml --store /tmp/new/store --kit /tmp/new/not-a-kit.txt /tmp/new/demo
    own sed -i -e 's|"/tmp/new/state/backstay/|"/var/lib/backstay/|' -e 's|^name = "local"|name = "minio"|' -e "s|^path = \"/tmp/new/store\"|url = \"s3://$BUCKET/demo\"\nendpoint = \"$ENDPOINT\"\nallow_http = true\ncredentials_file = \"/etc/backstay/host.credentials\"\nprune = \"elsewhere\"|" /etc/backstay/new.toml
    own sh -c "cat >>/etc/backstay/new.toml" <<EOF

[[component]]
name = "db"
sqlite = "/srv/demo/data/demo.db"

[[component]]
name = "files"
path = "/srv/demo/data/files"

[schedule]
backup = ["${SCHEDULE:-*/15 * * * *}"]
verify = "30 5 * * *"

[agent]
textfile = "/var/lib/backstay/demo.prom"
page = "0.0.0.0:9317"
token_file = "/etc/backstay/page-token"
EOF
    own mv /etc/backstay/new.toml $config
    rm -rf /tmp/new
  fi
  # Each time: it makes the store where that could not be made before, and changes nothing that is there.
  own backstay -q init --yes -c $config /srv/demo
fi
echo "ready"
