#!/bin/sh
# uacme's hook: challenge.sh begin|done|failed TYPE NAME TOKEN AUTHORIZATION. What the authority asks for over HTTP; other challenges are declined.
set -eu
umask 022
folder=/var/lib/acme/.well-known/acme-challenge
[ "$2" = http-01 ]
case "$1" in
    begin)
        mkdir -p "$folder"
        printf %s "$5" > "$folder/$4"
        ;;
    *) rm -f "$folder/$4" ;;
esac
