#!/bin/sh
# Install gemmad with the package tools of this machine, and start it as a service.
#
#   install.sh [--user] [--engine cuda|cpu] [--print] PACKAGE
#
# PACKAGE: a .deb, a wheel, or what pip takes. A .deb goes to apt; all else to pipx, or to uv where that is installed.
# --user: for you alone, without root. --engine: for a .deb, which has no torch (cuda). --print: only show the commands.
set -eu

usage() {
    sed -n 's/^# \{0,1\}//; 2,7p' "$0"
    exit "$1"
}

run() {
    echo "+ $*"
    [ "$show" = yes ] || "$@"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then run "$@"; else run sudo "$@"; fi
}

have() {
    command -v "$1" >/dev/null 2>&1
}

install_deb() {
    [ "$user" = no ] || { echo "install.sh: a .deb is for the whole machine" >&2; exit 2; }
    as_root apt-get install --yes "$(realpath "$1")"
    as_root gemmad engine install "$engine"
}

install_for_me() {
    if have uv; then
        run uv tool install "$1"
    else
        have pipx || as_root apt-get install --yes pipx
        run pipx install "$1"
    fi
    run "$HOME/.local/bin/gemmad" service install --user --now
}

install_for_all() {
    have pipx || as_root apt-get install --yes pipx
    as_root env PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install "$1"
    as_root /usr/local/bin/gemmad service install --now
}

user=no engine=cuda show=no
while [ $# -gt 0 ]; do
    case "$1" in
    --user) user=yes ;;
    --engine) engine=${2:?--engine needs cuda or cpu} && shift ;;
    --print) show=yes ;;
    -h | --help) usage 0 ;;
    -*) usage 2 >&2 ;;
    *) break ;;
    esac
    shift
done
[ $# = 1 ] || usage 2 >&2

case "$1" in
*.deb) install_deb "$1" ;;
*) if [ "$user" = yes ]; then install_for_me "$1"; else install_for_all "$1"; fi ;;
esac
