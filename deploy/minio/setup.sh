#!/bin/sh
# Run by the job `setup` in an image that has `mc` and little else: shell builtins only. Makes what is missing, so it may run again and again.
# No key is ever an argument: mc takes the server's from the environment, those of new users from standard input.
set -eu
secrets=${SECRETS:-/run/secrets} deploy=${DEPLOY:-/deploy} work=${WORK:-/tmp}
export HOME="$work" MC_CONFIG_DIR="$work/mc"
read -r root_user <"$secrets/root_user" || [ -n "$root_user" ]
read -r root_password <"$secrets/root_password" || [ -n "$root_password" ]
export MC_HOST_store="http://$root_user:$root_password@$ENDPOINT_HOST"

mc mb --ignore-existing "store/$BUCKET"
mc version enable "store/$BUCKET"
# What is overwritten or deleted stays readable for 30 days, whoever did it; no user below may shorten this.
case $(mc ilm rule ls "store/$BUCKET" 2>/dev/null) in
  *Enabled*) ;;
  *) mc ilm rule add --noncurrent-expire-days 30 --expire-delete-marker "store/$BUCKET" ;;
esac

for user in host verifier pruner; do
  access='' secret=''
  while IFS=' =' read -r name value; do
    case $name in
      aws_access_key_id) access=$value ;;
      aws_secret_access_key) secret=$value ;;
    esac
  done <"$secrets/$user.credentials"
  while IFS= read -r line || [ -n "$line" ]; do
    while :; do
      case $line in
        *BUCKET*) line=${line%%BUCKET*}$BUCKET${line#*BUCKET} ;;
        *) break ;;
      esac
    done
    printf '%s\n' "$line"
  done <"$deploy/$user.json" >"$work/$user.json"
  mc admin policy create store "$BUCKET-$user" "$work/$user.json"
  printf '%s\n%s\n' "$access" "$secret" | mc admin user add store
  case $(mc admin user info store "$access") in
    *"$BUCKET-$user"*) ;;
    *) mc admin policy attach store "$BUCKET-$user" --user "$access" ;;
  esac
done
echo "bucket $BUCKET is ready: versions are kept, users host, verifier and pruner have their policies"
