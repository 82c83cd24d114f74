# The first process of a node: node.sh <disk> <name>. Its namespaces are there already.
set -e
mount --make-rslave /
echo "$2" > /proc/sys/kernel/hostname
mount -t proc proc /proc
for part in etc opt; do
  layers="lowerdir=/$part,upperdir=$1/overlay/$part/upper,workdir=$1/overlay/$part/work"
  mount -t overlay "$part" -o "$layers" "/$part"
  mkdir -p "/$part/cni"
done
for path in etc/cni opt/cni var/lib var/log; do mount --bind "$1/$path" "/$path"; done
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lock /run/netns /run/cgroup
# NICs in /sys are those of the namespace that mounts it; the control groups stay as they are.
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount --lazy /run/cgroup
rmdir /run/cgroup
# What this boot's kernel says.
(cd "$1/proc" && find . -type f) | while read -r path; do mount --bind "$1/proc/$path" "/proc/sys/$path"; done
# Pods may hand mounts to the node.
mount --make-rshared /
echo on
# It collects orphans, and does nothing else. It ends when whoever switched the node on does.
exec 4<&0
cat <&4 >/dev/null & wait $!
