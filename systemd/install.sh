#!/bin/sh
# Installs and uninstalls backfilld for the whole system; the Makefile's install and uninstall call it.
#
# Owns the places of things: the program below PREFIX, the unit where systemd looks for it, the configuration in /etc.
# Must not overwrite a configuration, nor delete one, nor touch what the daemon has stored.
set -eu
# No module of the directory in which somebody called this may be imported: neither by a Python here nor by what it starts.
source=$(cd "$(dirname "$0")/.." && pwd)
cd /
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP
# What pip starts must not compile at the place where it is built.
export PYTHONDONTWRITEBYTECODE=1
# What the service's user cannot read, it cannot run.
umask 022

destdir=${DESTDIR:-}
prefix=${PREFIX:-/usr/local}
home=$prefix/lib/backfilld
doc=$prefix/share/doc/backfilld
# Where bash, zsh and fish look for completions of a program below this prefix.
completions="bash-completion/completions/backfilld zsh/site-functions/_backfilld fish/vendor_completions.d/backfilld.fish"
config=/etc/backfilld/backfilld.toml
# Of all prefixes systemd searches these two.
case $prefix in
/usr | /usr/local) unit=$prefix/lib/systemd/system/backfilld.service ;;
*) unit=/etc/systemd/system/backfilld.service ;;
esac

fail() {
    echo "backfilld: $*" >&2
    exit 1
}

# The system's Python before any other, because the service sees no home directory; PYTHON= chooses one.
choose_python() {
    for each in ${PYTHON:-/usr/bin/python3 python3}; do
        if "$each" -I -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$each"
            return
        fi
    done
    fail "${PYTHON:-python3} is not Python 3.11 or newer with venv (Debian: apt install python3-venv); name one by PYTHON="
}

refuse_hidden_python() {
    real=$("$1" -I -c 'import os, sys; print(os.path.realpath(sys.executable))')
    case $real in
    /root/* | /home/* | /run/user/*)
        fail "$real is in a home directory, which the service cannot see; name another Python by PYTHON="
        ;;
    esac
}

# Everything is built beside the old installation and takes its place by renames; a failure leaves the old one alone.
# What pip writes names the place where it was built; each mention becomes the place where it will stand.
build_program() {
    new=$destdir$home.new
    rm -rf "$new"
    mkdir -p "$destdir$prefix/lib"
    "$1" -I -m venv "$new"
    "$new/bin/python" -I -B -m pip install --quiet --no-compile --require-hashes -r "$source/requirements-service.txt"
    "$new/bin/python" -I -B -m pip install --quiet --no-compile --no-deps --no-build-isolation "$source"
    "$new/bin/python" -I -B -m pip uninstall --quiet --yes setuptools pip 2>/dev/null
    find "$new/bin" -name 'activate*' -o -name 'Activate*' -o -name 'pip*' | xargs -r rm -f
    for each in "$new"/bin/* "$new/pyvenv.cfg"; do
        [ -L "$each" ] || sed -i "s|$new|$home|g" "$each"
    done
    # Compiled here, because the service cannot write.
    "$new/bin/python" -I -m compileall -q -f -s "$new" -p "$home" "$new"/lib/python3*/site-packages
}

# Each shell's script, as the program itself prints it.
install_completions() {
    for each in $completions; do
        shell=${each%%/*}
        mkdir -p "$destdir$prefix/share/${each%/*}"
        _BACKFILLD_COMPLETE=${shell%-completion}_source "$destdir$home/bin/python" -I -B -c \
            'import sys; sys.argv = ["backfilld"]; from backfilld.__main__ import main; main()' \
            >"$destdir$prefix/share/$each"
        chmod 644 "$destdir$prefix/share/$each"
    done
}

install_all() {
    python=$(choose_python)
    [ -n "$destdir" ] || refuse_hidden_python "$python"
    build_program "$python"
    rm -rf "$destdir$home"
    mv "$destdir$home.new" "$destdir$home"
    mkdir -p "$destdir$prefix/bin"
    ln -sf "$home/bin/backfilld" "$destdir$prefix/bin/backfilld"
    install_completions
    install -D -m 644 "$source/README.md" "$destdir$doc/README.md"
    install -D -m 644 "$source/LICENSE" "$destdir$doc/LICENSE"
    install -D -m 644 "$source/systemd/backfilld.service" "$destdir$unit"
    install -D -m 644 "$source/systemd/backfilld.socket" "$destdir${unit%.service}.socket"
    sed -i "s|/usr/local/|$prefix/|g" "$destdir$unit"
    if [ -e "$destdir$config" ]; then
        echo "$destdir$config stays as it is"
    else
        install -D -m 644 "$source/config/backfilld.toml" "$destdir$config"
    fi
    echo "backfilld is in $destdir$prefix/bin, its unit is $destdir$unit"
    tell_systemd daemon-reload
    echo "Set instruments in $config, then: systemctl enable --now backfilld"
}

uninstall_all() {
    tell_systemd disable --now backfilld.service
    rm -rf "$destdir$home" "$destdir$home.new" "$destdir$doc"
    rm -f "$destdir$prefix/bin/backfilld" "$destdir$unit" "$destdir${unit%.service}.socket"
    for each in $completions; do rm -f "$destdir$prefix/share/$each"; done
    tell_systemd daemon-reload
    echo "backfilld is removed. What stays: ${config%/*} and the trades in /var/lib/backfilld; delete them by hand."
}

# Only where the tree is this machine's own and systemd runs it; a unit that is not there is nothing to disable.
tell_systemd() {
    if [ -z "$destdir" ] && [ -d /run/systemd/system ]; then
        systemctl "$@" || echo "backfilld: systemctl $* failed" >&2
    fi
}

case ${1:-} in
install) install_all ;;
uninstall) uninstall_all ;;
*) fail "usage: install.sh install|uninstall" ;;
esac
