#!/bin/sh
# Prints the folder of a Go that is new enough for all of cluster/modules. Go is a module like others: since 1.21 it fetches the one
# that a go.mod asks for by itself. An older one, as Debian's may be, is made to fetch it here, into the cache.
set -eu
cd "$(dirname "$0")/.."

PATH=$PATH:/usr/local/go/bin
version=$(go env GOVERSION)
newest=$(sed -n 's/^go //p' cluster/modules/*/go.mod | sort -V | tail -1)
oldest=$(printf '%s\n' "go$newest" "$version" | sort -V | head -1)
if [ "$oldest" = "go$newest" ]; then
  dirname "$(command -v go)"
  exit
fi

go=${XDG_CACHE_HOME:-$HOME/.cache}/polynet/go-$newest
if [ ! -x "$go/bin/go" ]; then
  echo "fetching Go $newest, as $version is older" >&2
  module="golang.org/toolchain@v0.0.1-go$newest.$(go env GOOS)-$(go env GOARCH)"
  from=$(cd /tmp && GO111MODULE=on GOFLAGS=-mod=mod go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
  rm -rf "$go.new"
  mkdir -p "$go.new"
  cp -R "$from/." "$go.new"
  chmod -R u+w "$go.new"
  # A module may hold neither another module nor programs.
  find "$go.new" -name _go.mod -execdir mv {} go.mod ';'
  chmod +x "$go.new"/bin/* "$go.new"/pkg/tool/*/*
  mv "$go.new" "$go"
fi
echo "$go/bin"
