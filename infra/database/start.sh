# Starts PostgreSQL; makes the cluster, the tables' owner and the database where there are none. Options are handed on to the server.
set -eu
folder=/var/lib/postgresql/data

if [ ! -d "$PGDATA" ]; then
    # Beside its place until it is whole: a start that was cut off is begun again.
    rm -rf "$folder/new"
    initdb --pgdata="$folder/new" --auth-local=trust --auth-host=scram-sha-256 --username=postgres \
        --locale=C.UTF-8 --encoding=UTF8 --data-checksums >/dev/null
    pg_ctl start --pgdata="$folder/new" --silent --wait --options="-c listen_addresses='' -c unix_socket_directories=/tmp"
    # The server reads the password and hashes it: it is on no command line and in no log. This role makes those of the processes.
    psql --username=postgres --dbname=postgres --quiet --no-psqlrc --set=ON_ERROR_STOP=1 <<'SQL'
SET log_min_error_statement = 'panic';
CREATE ROLE nexapod LOGIN CREATEROLE;
SELECT format('ALTER ROLE nexapod PASSWORD %L', btrim(pg_read_file('/run/secrets/database-owner-password'), E' \r\n')) \gexec
CREATE DATABASE nexapod OWNER nexapod;
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
SQL
    pg_ctl stop --pgdata="$folder/new" --silent --wait --mode=fast
    sync
    mv "$folder/new" "$PGDATA"
fi
exec postgres -c jit=off -c hba_file=/usr/local/share/nexa/pg_hba.conf -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
