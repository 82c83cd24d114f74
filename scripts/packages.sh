#!/bin/sh
# The packages of package-lock.json, Node 26 among them, where there are none or where the lock file is newer. A link leads to
# those of another work tree, which `npm ci` would empty.
[ -L node_modules ] && exit
[ node_modules/.package-lock.json -nt package-lock.json ] && exit
echo 'Downloading the packages, Node 26 among them. This happens once.'
exec npm ci --loglevel=error
