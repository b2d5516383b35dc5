#!/bin/sh
# Becomes process 1 of a box: systemd over an overlay of /, in namespaces of its own. `box.py` runs it, as process 1 of
# new pid, mount, uts, ipc and net namespaces, and moves it into a cgroup first.
#
#   boot.sh FOLDER SECONDS CGROUP [SOURCE:TARGET ...]
#
# FOLDER has two empty folders, root and layers. SECONDS: the box ends itself after them. Each SOURCE is to be seen at
# TARGET, read-only. What is changed in the box lies in memory and is gone with it.
set -eu

if [ "${IN_ITS_CGROUP:-}" = "" ]; then
    echo 0 >"$3/cgroup.procs"
    # a root of its own for cgroups, and nothing that reaches the kernel of the host
    exec env IN_ITS_CGROUP=yes unshare --cgroup setpriv --bounding-set \
        -sys_module,-sys_time,-sys_rawio,-syslog,-wake_alarm,-block_suspend,-mac_admin,-mac_override,-perfmon,-audit_control,-audit_read \
        sh "$0" "$@"
fi
folder=$1 seconds=$2 root=$1/root layers=$1/layers
shift 3

mount -t tmpfs -o mode=755 tmpfs "$layers"
mkdir "$layers/upper" "$layers/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" "$root"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
for bind in "$@"; do
    mkdir -p "$root${bind#*:}"
    mount --bind "${bind%%:*}" "$root${bind#*:}"
    mount -o remount,bind,ro "$root${bind#*:}"
done

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/full" c 1 7
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/tty" c 5 0
hostname gemmad-box

# nothing that the host has enabled, nothing that turns the kernel's knobs
rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/systemd/user/*.wants
units=$root/run/systemd/system
mkdir -p "$units" "$root/run/systemd/journald.conf.d"
for unit in dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount systemd-binfmt.service systemd-sysctl.service \
    systemd-modules-load.service kmod-static-nodes.service systemd-random-seed.service systemd-repart.service \
    systemd-firstboot.service systemd-remount-fs.service systemd-update-utmp.service systemd-udevd.service \
    systemd-machine-id-commit.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-clean.timer modprobe@.service \
    systemd-journald-audit.socket systemd-pstore.service systemd-timesyncd.service getty.target; do
    ln -s /dev/null "$units/$unit"
done
cat >"$root/run/systemd/journald.conf.d/box.conf" <<END
[Journal]
Storage=volatile
ReadKMsg=no
Audit=no
RateLimitBurst=0
END
cat >"$units/box.target" <<END
[Unit]
Description=what is up in the box
Requires=basic.target
After=basic.target
Wants=box-end.service ${BOX_WANTS:-}
AllowIsolate=yes
END
cat >"$units/box-end.service" <<END
[Unit]
Description=the end of the box, should its owner be gone
[Service]
ExecStart=/bin/sh -c "sleep $seconds; exec systemctl poweroff -ff"
END

mkdir "$root/run/host"
cd "$root"
pivot_root . run/host
umount -l /run/host
rmdir /run/host
mount --make-rshared / # a container's manager does this for its process 1; LoadCredential= needs it
exec env -i container=gemmad-box PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=box.target --log-target=journal --show-status=0
