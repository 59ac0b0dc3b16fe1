#!/bin/sh
# Makes the keys of the server and of its three users in deploy/minio/secrets, once: what is there is kept. There are no default keys.
#   root_user, root_password   the server's own
#   host.credentials           for hosts that make backups: put, get, list
#   verifier.credentials       for whoever verifies: read everything, put verdicts
#   pruner.credentials         for whoever prunes: also delete, but no old versions
#   seaweedfs.json             the same users for SeaweedFS in MinIO's place (deploy/compose-test.yml)
set -eu
umask 077
cd "$(dirname "$0")"
bucket=${BACKUP_BUCKET:-backups}
mkdir -p secrets
random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
make() { # make FILE COMMAND…: whole or not at all, and never over an older one
  [ -s "secrets/$1" ] && return
  name=$1; shift
  "$@" >"secrets/.$name.new"
  mv "secrets/.$name.new" "secrets/$name"
  echo "made deploy/minio/secrets/$name"
}
user() { printf '%s-%s' "$1" "$(random 4)"; }
credentials() { printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$(user "$1")" "$(random 24)"; }
make root_user user root
make root_password random 24
make host.credentials credentials host
make verifier.credentials credentials verifier
make pruner.credentials credentials pruner

value() { sed -n "s/^$2 = //p" "secrets/$1.credentials"; }
key() { printf '"credentials":[{"accessKey":"%s","secretKey":"%s"}]' "$1" "$2"; }
policy() { sed "s/BUCKET/$bucket/g; s/\"/\\\\\"/g" "$1.json" | tr -d '\n'; }
identities() {
  printf '{"identities":[\n'
  printf '{"name":"root",%s,"actions":["Admin","Read","Write","List","Tagging"]},\n' "$(key "$(cat secrets/root_user)" "$(cat secrets/root_password)")"
  for user in host verifier; do
    printf '{"name":"%s",%s,"policyNames":["%s"]},\n' $user "$(key "$(value $user aws_access_key_id)" "$(value $user aws_secret_access_key)")" $user
  done
  printf '{"name":"pruner",%s,"policyNames":["pruner"]}\n],\n' "$(key "$(value pruner aws_access_key_id)" "$(value pruner aws_secret_access_key)")"
  printf '"policies":[{"name":"host","content":"%s"},\n{"name":"verifier","content":"%s"},\n{"name":"pruner","content":"%s"}]}\n' "$(policy host)" "$(policy verifier)" "$(policy pruner)"
}
make seaweedfs.json identities
