/**
 * The first program of our guests: a BusyBox shell script that mounts what a shell needs, loads drivers for virtio
 * devices that are there, and then runs a command, hands over to a disk, or gives a shell on the console. It serves as
 * /init of the initial RAM file system and as /sbin/init of our disk images, which it tells apart by /etc/fstab.
 *
 * On the kernel command line it reads `root=<device>` (switch to that disk's /sbin/init), `rm.command=<base64>`,
 * `rm.rows=`, `rm.columns=` and `rm.term=`. A command may also come as the file /rm/command (`commandInitramfs`).
 */

/** Printed on the console just before a command starts: what came before is the kernel's and ours. */
export const commandBeginMarker = "\u001B]ringmaster;begin\u0007";

/** Matches what is printed on the console after a command has ended; the group `status` is its exit status. */
// oxlint-disable-next-line no-control-regex
export const commandExitPattern: RegExp = /\u001B\]ringmaster;exit=(?<status>\d{1,3})\u0007/u;

/** Where the command's text lies in the initial RAM file system. */
export const commandPath = "rm/command";

/** Where {@link sessionScript} lies. */
export const sessionPath = "lib/session";

export const initScript: string = `#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
[ -c /dev/null ] && [ -e /dev/kmsg ] || mount -t devtmpfs devtmpfs /dev
[ -e /proc/cmdline ] || mount -t proc proc /proc
[ -e /sys/class ] || mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
[ -e /dev/pts/ptmx ] || mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
hostname ringmaster
read -r cmdline < /proc/cmdline
root= term=vt220
export command= rows= columns=
for word in $cmdline; do
  case $word in
    root=*) root=\${word#root=} ;;
    rm.command=*) command=\${word#rm.command=} ;;
    rm.rows=*) rows=\${word#rm.rows=} ;;
    rm.columns=*) columns=\${word#rm.columns=} ;;
    rm.term=*) term=\${word#rm.term=} ;;
  esac
done
export TERM=$term
read -r consoles < /sys/class/tty/console/active
export console=/dev/\${consoles##* }
[ -c "$console" ] || console=/dev/console

load() {
  [ -e /lib/modules/$1.order ] || return 0
  while read -r module; do
    [ -e /sys/module/$module ] || insmod /lib/modules/$module.ko
  done < /lib/modules/$1.order
}
for device in /sys/bus/pci/devices/*; do
  [ -e $device/vendor ] || continue
  read -r vendor < $device/vendor
  [ $vendor = 0x1af4 ] || continue
  read -r id < $device/device
  case $id in
    0x1000|0x1041) load virtio_net ;;
    0x1001|0x1042) load virtio_blk ;;
    0x1003|0x1043) load virtio_console ;;
    0x1005|0x1044) load virtio_rng ;;
  esac
done

if [ -e /etc/fstab ]; then
  mount -o remount,rw /
elif [ -n "$root" ]; then
  tries=0
  until [ -b "$root" ] || [ $tries -ge 50 ]; do
    usleep 100000
    tries=$((tries + 1))
  done
  load ext4
  mkdir -p /newroot
  if mount -t ext4 -o ro "$root" /newroot; then
    mount --move /dev /newroot/dev
    mount --move /proc /newroot/proc
    mount --move /sys /newroot/sys
    umount /tmp
    exec switch_root /newroot /sbin/init
  fi
  echo "init: cannot mount root=$root; here is a shell instead" > $console
fi

finish() {
  sync
  [ -e /etc/fstab ] && mount -o remount,ro /
  # Setting the line's mode waits for its output to be sent.
  stty -F $console sane 2>/dev/null
  $1 -f
}
trap 'finish poweroff' USR2
trap 'finish halt' USR1
trap 'finish reboot' TERM
# Not with "&": that would make the session, and all that is started in it, ignore Ctrl-C.
start-stop-daemon -S -b -x /lib/session
while :; do
  sleep 1000000 &
  wait $!
done
`;

/** Runs the command or the shell on the console, then asks process 1 to power off. */
export const sessionScript: string = `#!/bin/sh
size=
[ -n "$rows" ] && size="rows $rows"
[ -n "$columns" ] && size="$size columns $columns"
[ -n "$command" ] && echo "$command" | base64 -d > /tmp/command
[ -e /rm/command ] && cp /rm/command /tmp/command
if [ -e /tmp/command ]; then
  unset command rows columns
  cd /root
  echo 0 > /proc/sys/kernel/printk
  # Output bytes pass unchanged, so that the host sees what the command wrote.
  stty -F $console sane -echo -opost $size
  printf '\\033]ringmaster;begin\\007' > $console
  setsid -c sh /tmp/command < $console > $console 2>&1
  status=$?
  printf '\\033]ringmaster;exit=%d\\007\\r\\n' $status > $console
else
  unset command rows columns
  cd /
  dmesg -n 4
  stty -F $console sane $size
  export PS1='\\w \\$ '
  setsid -c sh < $console > $console 2>&1
fi
echo 0 > /proc/sys/kernel/printk
kill -USR2 1
`;
