#!/bin/sh
# Has the certificate of NEXA_HOSTNAME from an ACME authority, a month before it ends another one, and puts it where the proxy looks.
# The authority asks the proxy at port 80 (challenge.sh). The account's key is in a volume that no other service has.
set -eu
umask 077
account=/var/lib/acme-account
shown=/var/lib/acme/tls

# Whose authorities' own addresses are trusted: the world's, and whom the operator named besides (NEXA_ACME_CA). Where uacme looks.
cat /etc/ssl/certs/of-everybody.crt /run/secrets/acme-ca > /tmp/trusted.crt

acme() {
    uacme --confdir "$account" ${NEXA_ACME_DIRECTORY:+--acme-url "$NEXA_ACME_DIRECTORY"} --yes "$@"
}

# Once for each authority. Those that bind accounts to a customer want what the operator wrote into secrets/acme-eab.
account_ensure() {
    if [ "$(cat "$account/authority" 2>/dev/null)" = "authority $NEXA_ACME_DIRECTORY" ]; then return 0; fi
    binding=$(cat /run/secrets/acme-eab)
    acme ${binding:+--eab "$binding"} new ${NEXA_ACME_EMAIL:+"$NEXA_ACME_EMAIL"} || return 1
    echo "authority $NEXA_ACME_DIRECTORY" > "$account/authority"
}

certificate_ensure() {
    account_ensure || return 1
    acme --verbose --hook /etc/nexa/challenge.sh issue "$NEXA_HOSTNAME" || [ $? = 1 ] || return 1  # 1: the present one is good for longer
    mkdir -p "$shown"
    file_put "$account/private/$NEXA_HOSTNAME/key.pem" "$shown/key.pem"
    file_put "$account/$NEXA_HOSTNAME/cert.pem" "$shown/chain.pem"
}

file_put() {
    if cmp -s "$1" "$2"; then return 0; fi
    cp "$1" "$2.new"
    mv "$2.new" "$2"
}

while true; do
    # A failure is tried again in time, and seldom enough for authorities that count failures.
    if certificate_ensure; then
        rm -f /tmp/failed
        sleep 43200
    else
        echo "acme: no certificate for $NEXA_HOSTNAME; what is said above is why. Tried again in 20 minutes." >&2
        touch /tmp/failed
        sleep 1200
    fi
done
