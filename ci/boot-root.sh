#!/usr/bin/env bash
# Becomes systemd as the first process of a machine of its own: ci/boot.sh starts this in fresh namespaces for mounts,
# processes, the network, IPC, the host's name and cgroups.
#
#   ci/boot-root.sh ROOT SCRATCH
#
# ROOT stays as it is: what is written goes to a file system in memory, mounted at SCRATCH.
set -euo pipefail

lower=$1 scratch=$2

mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch/up" "$scratch/work" "$scratch/root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$scratch/up,workdir=$scratch/work" "$scratch/root"
cd "$scratch/root"

# The kernel is the machine's, so nothing but the network's settings, which are a namespace's own, can be written to.
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,rw proc/sys/net
mount -t sysfs -o ro sysfs sys
# Begins at this process's cgroup, which is the first of its namespace.
mount -t cgroup2 cgroup2 sys/fs/cgroup

mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp

mkdir before
pivot_root . before
umount -l /before
rmdir /before
exec env -i container=mmproxy PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system systemd.log_target=journal systemd.show_status=0 </dev/null
