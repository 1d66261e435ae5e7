# nginx, and beside it a look at the certificate every ten seconds: a renewed one is served from then on, without a restart.
# It is taken from the service `acme`, where that has got one, else from the operator's secrets/tls. Served is a copy that fits its key:
# one of which half is written does not take the portal down.
set -eu
umask 077
nginx="nginx -c /etc/nexa/nginx.conf -e stderr"
mkdir -p /tmp/tls

# True if there was another pair than the one that is served, and now that is.
certificate_take() {
    folder=/var/lib/acme/tls
    if [ ! -s "$folder/chain.pem" ]; then folder=/run/tls; fi
    if cmp -s "$folder/chain.pem" /tmp/tls/seen/chain.pem && cmp -s "$folder/key.pem" /tmp/tls/seen/key.pem; then return 1; fi
    rm -rf /tmp/tls/seen /tmp/tls/before
    mkdir /tmp/tls/seen /tmp/tls/before
    cp "$folder/chain.pem" "$folder/key.pem" /tmp/tls/seen/ || return 1
    if [ -e /tmp/tls/chain.pem ]; then cp /tmp/tls/*.pem /tmp/tls/before/; fi
    cp -f /tmp/tls/seen/*.pem /tmp/tls/  # what it replaces can only be read
    if $nginx -q -t; then
        echo "proxy: the certificate is that of $folder" >&2
        return 0
    fi
    echo "proxy: chain.pem and key.pem of $folder are not taken, since nginx refuses them; the certificate stays what it was" >&2
    if [ -e /tmp/tls/before/chain.pem ]; then cp -f /tmp/tls/before/*.pem /tmp/tls/; fi
    return 1
}

certificate_take || true
(while sleep 10; do if certificate_take; then $nginx -s reload; fi; done) &
exec $nginx
