#!/bin/sh
# A file from a web server on this machine, fetched by curl through circuits of 1, 2 and 3 hops.
# Run it with: sh examples/three-hops.sh
set -eu
cd "$(dirname "$0")/.."
exec cargo xtask net -- sh -c '
  set -eu
  folder=$(mktemp -d)
  head -c 100000000 /dev/urandom > "$folder/file"
  python3 -u -m http.server --bind 127.0.0.1 --directory "$folder" 0 > "$folder/log" 2>&1 &
  server=$!
  trap "kill $server; rm -r \"$folder\"" EXIT
  until grep -q port "$folder/log"; do sleep 0.1; done
  port=$(sed -n "s/.* port \([0-9]*\).*/\1/p" "$folder/log")
  for user in "$WARREN_SOCKS_USER_1" "$WARREN_SOCKS_USER_2" "$WARREN_SOCKS_USER_3"; do
    curl --silent --show-error --noproxy "" --socks5-hostname "$WARREN_SOCKS" --proxy-user "$user:$WARREN_SOCKS_PASS" \
      --output "$folder/got" --write-out "$user: %{size_download} bytes, %{speed_download} bytes/s\n" \
      "http://localhost:$port/file"
    cmp "$folder/file" "$folder/got"
  done'
