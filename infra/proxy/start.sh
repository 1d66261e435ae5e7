# nginx, told twice a day to read its certificate anew: whoever renews it needs to tell nobody.
set -eu
(while sleep 43200; do nginx -c /etc/nexa/nginx.conf -e stderr -s reload; done) &
exec nginx -c /etc/nexa/nginx.conf -e stderr
