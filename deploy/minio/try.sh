#!/bin/sh
# Run by the job `try`: a backup to the server and a restore from it, compared. Everything of it but the objects in the bucket is thrown away with the container.
set -eu
export HOME=/tmp/home LC_ALL=C
mkdir -p "$HOME" /tmp/app/data
cd /tmp/app
i=0
while [ $i -lt 200 ]; do
  printf 'file %s\n' "$i" >"data/$i.txt"
  i=$((i + 1))
done
head -c 40000000 /dev/urandom >data/large.bin
# Credentials must be readable by their owner alone: the file of the secret has the modes of the host's.
install -m 0600 /run/secrets/host.credentials "$HOME/credentials"

backstay init --yes . --store /tmp/local
cat >>backstay.toml <<EOF

[[store]]
name = "minio"
url = "s3://$BUCKET/try-$(date +%s)"
endpoint = "$ENDPOINT"
allow_http = true
credentials_file = "$HOME/credentials"
EOF
backstay init --yes .
backstay backup
rm -rf /tmp/local
backstay --store minio restore latest --to /tmp/restored
diff -r data /tmp/restored/app/data
echo 'a backup went to the server and came back equal'
