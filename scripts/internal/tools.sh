# shellcheck shell=bash
# What scripts/test and scripts/bench share: installing programs, and a throw-away PostgreSQL. Source it.

# $work is a directory that is removed at the end, together with everything started below
# and the process group $group.
work=$(mktemp -d)
postgres="" cluster="" group=""
cleanup() {
  if [ -n "$group" ]; then
    kill -- "-$group" 2>/dev/null || true
    wait "$group" 2>/dev/null || true
  fi
  if [ -n "$postgres" ]; then
    kill -INT "$postgres" 2>/dev/null || true
    while kill -0 "$postgres" 2>/dev/null; do sleep 0.1; done
  fi
  rm -rf "$work" ${cluster:+"$cluster"}
}
trap cleanup EXIT

# need COMMAND PACKAGE: remembers Debian's package if the command is missing.
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }

# need_postgres: Debian keeps initdb out of PATH.
need_postgres() { [ -n "$(postgres_bin)" ] || missing+=(postgresql); }

# postgres_bin prints the folder of PostgreSQL's programs: $PG_BINDIR, or Debian's newest, or that of initdb.
postgres_bin() {
  local bin=${PG_BINDIR:-} dir
  if [ -z "$bin" ]; then
    for dir in /usr/lib/postgresql/*/bin; do
      [ -x "$dir/initdb" ] && printf '%s\n' "$dir"
    done | sort -V | tail -n 1 | grep . && return
    bin=$(command -v initdb) && bin=$(dirname "$bin")
  fi
  printf '%s\n' "$bin"
}

# need_node: Node whose OpenSSL knows ML-DSA, 3.5 or later. Where there is none, npm brings the one of scripts/internal/judges.
need_node() {
  node=$(node -p 'const [major, minor] = process.versions.openssl.split("."); major * 100 + +minor >= 305 ? "here" : ""' 2>/dev/null) || node=""
  [ -n "$node" ] || need npm npm
}

# bring_node puts that one first in PATH, for this run.
bring_node() {
  [ -z "$node" ] || return 0
  mkdir "$work/judges"
  cp scripts/internal/judges/*.json "$work/judges"
  echo "installing: node, from npm"
  npm ci --prefix "$work/judges" --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
  PATH=$(echo "$work"/judges/node_modules/node-*/bin):$PATH
}

# bring_promtool puts Prometheus's checker in PATH, for this run. Debian has it beside the server, which nobody here wants to run: so the
# package is unpacked and not installed.
bring_promtool() {
  command -v promtool >/dev/null 2>&1 && return
  command -v apt-get >/dev/null 2>&1 || { echo "promtool is missing: it comes with Prometheus" >&2; exit 1; }
  echo "bringing: promtool, from the package prometheus"
  mkdir "$work/prometheus"
  (
    cd "$work/prometheus"
    apt-get download -qq prometheus >/dev/null 2>&1 || { [ "$(id -u)" != 0 ] || apt-get update -qq; apt-get download -qq prometheus >/dev/null; }
    dpkg-deb -x prometheus_*.deb .
  )
  PATH=$work/prometheus/usr/bin:$PATH
}

# install_missing SCRIPT: installs what need remembered where that can be done, and says what to install elsewhere.
install_missing() {
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # Only the programs: no cluster of Debian's own.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    return
  fi
  echo "$1 needs programs that are not here. On Debian or Ubuntu:" >&2
  echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  echo "Elsewhere install the same programs (PostgreSQL's server binaries may be named with PG_BINDIR)." >&2
  exit 1
}

# start_postgres [OPTION...] sets $database; options are those of postgres. fsync, full_page_writes and synchronous_commit
# stay on. PostgreSQL refuses to run as root, so root drops to the user that Debian made for it.
start_postgres() {
  local bin user=()
  bin=$(postgres_bin)
  cluster=$(mktemp -d -t signet-pg.XXXXXX) # a short name: the path of a socket has at most 107 octets
  if [ "$(id -u)" = 0 ]; then
    user=(setpriv --reuid postgres --regid postgres --init-groups)
    chown postgres "$cluster"
  fi
  (
    cd "$cluster"
    "${user[@]}" "$bin/initdb" -D "$cluster/data" -U postgres --auth=trust --no-locale -E UTF8 --no-instructions >"$work/initdb.log"
    "${user[@]}" "$bin/postgres" -D "$cluster/data" -k "$cluster" -c listen_addresses= "$@" >"$work/postgres.log" 2>&1 &
    echo $! >"$work/postgres.pid"
  )
  postgres=$(cat "$work/postgres.pid")
  # shellcheck disable=SC2034 # for whoever sources this
  database="postgres://postgres@/postgres?host=$cluster"
  for _ in $(seq 600); do
    "$bin/pg_isready" -q -h "$cluster" && return
    sleep 0.2
  done
  cat "$work/postgres.log" >&2
  return 1
}
