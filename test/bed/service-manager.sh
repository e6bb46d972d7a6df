#!/bin/bash
# systemd as the first process of namespaces of its own, with a root file system of its own: a tmpfs with /usr and this
# tree mounted read-only. The host's root is detached before systemd starts, so that nothing it does at boot, such as
# emptying /tmp, can reach the host. Started by service-manager.ts, which makes the namespaces; ends with its process.
#
#   service-manager.sh ROOT TREE NODE CONFIG
set -euo pipefail
root=$1 tree=$2 node=$3 config=$4

mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$root"
cd "$root"
mkdir -p dev etc/systemd/system/vxpipe.service.d etc/vxpipe mnt opt/node opt/vxpipe proc root run sys tmp usr var/lib var/tmp
chmod 1777 tmp var/tmp
mount -o bind,ro /usr usr
for name in bin sbin lib lib64; do
	[ ! -e "/$name" ] || ln -s "usr/$name" "$name"
done
mount -o bind,ro "$tree" opt/vxpipe
touch opt/node/node
mount -o bind,ro "$node" opt/node/node
cp /etc/ld.so.cache etc/
cp "$tree/deploy/vxpipe.service" etc/systemd/system/
cp "$config" etc/vxpipe/vxpipe.yaml
chmod 0644 etc/vxpipe/vxpipe.yaml
printf '[Service]\nStandardOutput=append:/run/vxpipe.log\nStandardError=append:/run/vxpipe.log\n' >etc/systemd/system/vxpipe.service.d/log.conf
printf '[Manager]\nDefaultEnvironment=PATH=/opt/node:/usr/sbin:/usr/bin\n' >etc/systemd/system.conf
echo root:x:0:0::/root:/bin/sh >etc/passwd
echo root:x:0: >etc/group
printf 'passwd: files\ngroup: files\n' >etc/nsswitch.conf
echo 00000000000000000000000000000001 >etc/machine-id
for name in default sysinit basic shutdown network-online multi-user; do
	printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$name" >"etc/systemd/system/$name.target"
done
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf -o mode=0700 bpf sys/fs/bpf
mount -t tmpfs -o mode=0755 tmpfs dev
for name in null zero full random urandom tty; do
	cp -a "/dev/$name" dev/
done
mkdir dev/shm dev/pts
mount -t devpts -o ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
pivot_root . mnt
umount -l /mnt
# The host's root must be out of reach before anything of systemd runs.
[ ! -e /mnt/usr ] && [ "$(stat -f -c %T /)" = tmpfs ] || exit 1
systemd-sysusers /opt/vxpipe/deploy/vxpipe.sysusers
systemd-tmpfiles --create /opt/vxpipe/deploy/vxpipe.tmpfiles
exec env -i container=vx SYSTEMD_UNIT_PATH=/etc/systemd/system /usr/lib/systemd/systemd --system --log-target=console --show-status=no
