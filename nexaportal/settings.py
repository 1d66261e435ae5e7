"""Settings of the coordinator (web, control, verify and conclude workers), read from the environment through nexaportal.environment."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

from nexaportal import environment
from people.sign_up import SignUp
from workers.protocol.version import SOFTWARE_VERSION

BASE_DIR = Path(__file__).resolve().parent.parent

NEXA_VERSION = SOFTWARE_VERSION
DEBUG = environment.boolean("NEXA_DEBUG", False)
SECRET_KEY = environment.text("NEXA_SECRET_KEY")
NEXA_ORIGIN = environment.text("NEXA_ORIGIN", "http://127.0.0.1:8000")
"""Scheme and authority under which hosts and browsers reach this portal; no trailing slash."""
ALLOWED_HOSTS = [*environment.listing("NEXA_ALLOWED_HOSTS"), urlsplit(NEXA_ORIGIN).hostname or ""]
CSRF_TRUSTED_ORIGINS = [NEXA_ORIGIN]

# --- what is installed -------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "nexaportal.moderation.apps.ModerationConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "channels",
    "csp",
    "django_htmx",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
    "people",
    "ledger",
    "nodes",
    "jobs",
    "nexaportal",
]

MIDDLEWARE = [
    "nexaportal.request_watch.RequestWatchMiddleware",  # around all, so that whatever they log is known to be of the request
    "nexaportal.problems.ProblemMiddleware",  # before the others, so that what any of them refuses is answered as a problem too
    "nexaportal.signed_out.SignedOutMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "nexaportal.static_files.StaticFilesMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "nexaportal.session_watch.SessionWatchMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]
NEXA_COOKIELESS_MIDDLEWARE = [
    "nexaportal.request_watch.RequestWatchMiddleware",
    "nexaportal.problems.ProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
"""Around asynchronous views that know no cookies (nexaportal/handling.py); none of them waits for anything."""

ROOT_URLCONF = "nexaportal.urls"
ASGI_APPLICATION = "nexaportal.asgi.application"
WSGI_APPLICATION = "nexaportal.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "nexaportal.places.frame",
            ],
        },
    }
]

# --- truth, speed and bytes --------------------------------------------------------------------------------------------

_database = conninfo_to_dict(environment.text("NEXA_DATABASE_URL"))
"""A libpq URI or keyword string, for example postgresql://nexapod@db.example/nexapod or one with `?host=` and a socket folder."""
_pool_size = environment.integer("NEXA_DATABASE_POOL", 16)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.get("dbname", "nexapod"),
        "USER": _database.get("user", ""),
        "PASSWORD": _database.get("password") or environment.text("NEXA_DATABASE_PASSWORD", ""),
        "HOST": _database.get("host", ""),
        "PORT": str(_database.get("port", "")),
        "OPTIONS": {
            # Values go beside a statement, not into its text: neither psycopg has to quote them nor PostgreSQL to read a thousand of them.
            "server_side_binding": True,
            # Web threads give their connection back between requests; a pool makes that cheap. 0: a connection per thread, no pool.
            **({"pool": {"min_size": 1, "max_size": _pool_size, "timeout": 10}} if _pool_size else {}),
        },
        "CONN_HEALTH_CHECKS": True,
    }
}
NEXA_APPLICATION_ROLE = environment.text("NEXA_APPLICATION_ROLE", "nexapod_application")
NEXA_VERIFY_ROLE = environment.text("NEXA_VERIFY_ROLE", "nexapod_verify")
"""The database users of web, control and conclude processes, and of verify workers. `manage.py database_roles` makes and grants them;
NEXA_DATABASE_URL says which one a process is. The owner of the tables is neither."""
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

NEXA_REDIS_URL = environment.text("NEXA_REDIS_URL")
"""For redis-py and channels-redis: redis://… or unix://…."""
NEXA_CHANNEL_PREFIX = "nexa"
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [NEXA_REDIS_URL], "prefix": NEXA_CHANNEL_PREFIX},
    }
}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": NEXA_REDIS_URL,
        "OPTIONS": {"socket_timeout": 2, "socket_connect_timeout": 2},
    }
}

NEXA_BLOB_ROOT = Path(environment.text("NEXA_BLOB_ROOT", str(BASE_DIR / "var" / "blobs")))
NEXA_POSTGRES_BIN = environment.text("NEXA_POSTGRES_BIN", "")
"""Folder of pg_dump and pg_restore, for backups; empty: the embedded PostgreSQL's where there is one, else those on the PATH."""
NEXA_LOG_ROOT = Path(environment.text("NEXA_LOG_ROOT", str(BASE_DIR / "var" / "log-tiles")))
"""The ledger's log as files (C2SP tlog-tiles), an epoch a folder; `current` is the present one. Conclude processes write, others read."""
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": NEXA_BLOB_ROOT}},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# --- Celery: names are prefixed by the queue that runs them ---------------------------------------------------------------

CELERY_BROKER_URL = environment.text("NEXA_BROKER_URL", NEXA_REDIS_URL.replace("unix://", "redis+socket://"))
CELERY_RESULT_BACKEND = CELERY_BROKER_URL
CELERY_TASK_ROUTES = {f"{queue}.*": {"queue": queue} for queue in ("control", "verify", "conclude")}
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_EXPIRES = 3600
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A nudge whose broker is away fails at once (beat makes up for it) rather than hold a request; workers reconnect by broker_connection_*.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
    "socket_connect_timeout": 2,
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
NEXA_PULSE_FILE = environment.text("NEXA_PULSE_FILE", "")
"""For a container's health check: a worker or beat touches this file while it lives (nexaportal/pulse.py)."""
NEXA_CHECKPOINT_SECONDS = environment.number("NEXA_CHECKPOINT_SECONDS", 0.5)
"""How often what was written enters the log, under a checkpoint."""
# Every periodic task is idempotent and cheap when there is nothing to do: it is the recovery path behind each on-commit nudge.
_PERIODIC = {
    "control.leases_reap": environment.number("NEXA_REAP_SECONDS", 2),
    "control.queue_deadlines_enforce": environment.number("NEXA_QUEUE_SWEEP_SECONDS", 10),
    "control.house_keep": environment.number("NEXA_HOUSEKEEPING_SECONDS", 600),
    "control.blobs_collect": 300.0,
    "control.disputes_rule": 60.0,
    "control.spot_keys_tend": 10.0,
    "control.verification_dispatch": environment.number("NEXA_DISPATCH_SECONDS", 1),
    "control.outbox_push": environment.number("NEXA_PUSH_SECONDS", 1),
    "control.clones_tell": 10.0,
    "control.standings_sum": environment.number("NEXA_STANDINGS_SECONDS", 10),
    "control.nodes_silent_tell": 60.0,
    "control.webhooks_deliver": 5.0,
    "control.mails_send": 5.0,
    "conclude.checkpoint_publish": NEXA_CHECKPOINT_SECONDS,
}
# A worker that was away for hours finds those of the last minutes, not all of them, before the work that waits behind them.
CELERY_BEAT_SCHEDULE = {
    task: {"task": task, "schedule": seconds, "options": {"expires": max(300.0, 2 * seconds)}} for task, seconds in _PERIODIC.items()
}

# --- rules of this portal ------------------------------------------------------------------------------------------------

NEXA_COORDINATOR_KEY_FILE = environment.text("NEXA_COORDINATOR_KEY_FILE", "") and Path(environment.text("NEXA_COORDINATOR_KEY_FILE", ""))
"""Ed25519 private key (base64 of 32 bytes, mode 0600): signs orders and checkpoints. Verify workers run without it."""
NEXA_COORDINATOR_PREVIOUS_KEY_FILE = environment.text("NEXA_COORDINATOR_PREVIOUS_KEY_FILE", "")
"""The key before, for as long as readers may know no other: while this is set, checkpoints are signed by both."""
NEXA_COORDINATOR_PUBLIC_KEY = environment.text("NEXA_COORDINATOR_PUBLIC_KEY", "")
"""For processes without the private key; empty where the key file is given."""
NEXA_LEASE_SECONDS = environment.number("NEXA_LEASE_SECONDS", 60)
NEXA_DEADLINE_GRACE_SECONDS = environment.number("NEXA_DEADLINE_GRACE_SECONDS", 600)
"""What an order's deadline adds to the wall limit: pull, fetch, archive, upload."""
NEXA_ATTEMPTS_MAX = environment.integer("NEXA_ATTEMPTS_MAX", 8)
"""Replicas that a job may use up by expiry and failures, beside those that verification asks for."""
NEXA_FAULT_OWNERS = environment.integer("NEXA_FAULT_OWNERS", 2)
"""So many owners must have seen a job fail by its own fault before it is believed, unless the job asked for one copy only."""
NEXA_BREAKER_FAILURES = environment.integer("NEXA_BREAKER_FAILURES", 5)
NEXA_BREAKER_OWNERS = environment.integer("NEXA_BREAKER_OWNERS", 3)
NEXA_BREAKER_WINDOW_SECONDS = environment.number("NEXA_BREAKER_WINDOW_SECONDS", 600)
"""So many failures at nodes of so many owners within this time close an image."""
NEXA_BREAKER_SECONDS = environment.number("NEXA_BREAKER_SECONDS", 600)
"""For how long at first; doubled each time in a row, up to a day."""
NEXA_DISPUTE_SECONDS = environment.number("NEXA_DISPUTE_SECONDS", 14 * 86400)
"""How long a dispute waits for a moderator before the default ruling: failed, unpaid, refunded."""
NEXA_SPOT_KEY_SECONDS = environment.number("NEXA_SPOT_KEY_SECONDS", 86400)
"""How long one key draws which `spot` jobs run twice; it is revealed after that, when all of them are concluded."""
NEXA_TENURE_RECEIPTS = environment.integer("NEXA_TENURE_RECEIPTS", 10)
"""Accepted receipts after which a node's measurements feed the calibration."""
NEXA_VERIFY_CLAIM_SECONDS = environment.number("NEXA_VERIFY_CLAIM_SECONDS", 120)
"""How long a job is claimed for its checks, beside what its bytes take; then another worker may make them."""
NEXA_LARGE_ARCHIVE_BYTES = environment.integer("NEXA_LARGE_ARCHIVE_BYTES", 64 * 2**20)
"""A job with a larger archive is checked and settled apart from others."""
NEXA_CHECK_MEMORY_BYTES = environment.integer("NEXA_CHECK_MEMORY_BYTES", 2 * 2**30)
"""What a child that reads strangers' files may allocate. One runs for each process of a verify worker."""
NEXA_START_GRANT_MICRO = environment.integer("NEXA_START_GRANT_CREDITS", 10) * 1_000_000
NEXA_GRANT_DAY_MICRO = environment.integer("NEXA_GRANT_DAY_CREDITS", 1000) * 1_000_000
"""What one moderator may grant in 24 hours."""
NEXA_MODERATOR_SECOND_FACTOR = environment.boolean("NEXA_MODERATOR_SECOND_FACTOR", True)
"""Whether moderators and operators act only with an authenticator app or a passkey on their account."""
NEXA_PAYMENT_REVERSED = "jobs.services.reversals.payment_reversed"
"""Called with the entry of a payment in the transaction that reverses it: the ledger knows nothing of jobs and of the wall."""
NEXA_ERASURES = ("nodes.erasure", "jobs.erasure")
"""Modules that erase what is known of a person beyond people/erasure (people.erasure.services.Erasure says what is in one)."""
NEXA_JOIN_TOKEN_SECONDS = environment.number("NEXA_JOIN_TOKEN_SECONDS", 3600)
NEXA_HOST_VERSION = environment.version("NEXA_HOST_VERSION", SOFTWARE_VERSION)
"""The host software that is recommended: hosts with an older one, and their owners, are told. Empty: nobody is."""
NEXA_INPUT_HOSTS = environment.listing("NEXA_INPUT_HOSTS")
"""Hosts from which the coordinator may fetch `https://` inputs; empty: uploads only."""
NEXA_BLOB_INLINE_BYTES = environment.integer("NEXA_BLOB_INLINE_BYTES", 16 * 2**10)
"""Blobs of up to so many bytes are kept in the database, larger ones in the blob store."""
NEXA_INPUT_BYTES_MAX = environment.integer("NEXA_INPUT_BYTES_MAX", 256 * 2**20)
NEXA_UPLOAD_BYTES_MAX = environment.integer("NEXA_UPLOAD_BYTES_MAX", 20 * 2**30)

# --- what is kept, and how long: docs/operations.md. Days; 0 means for ever, but for uploads and what has ended ---------------

NEXA_RESULT_DAYS = environment.integer("NEXA_RESULT_DAYS", 180)
"""Inputs, accepted results and their logs, after a job's conclusion, unless its owner keeps them."""
NEXA_REJECTED_DAYS = environment.integer("NEXA_REJECTED_DAYS", 30)
"""Archives and logs of replicas that were not accepted."""
NEXA_UPLOAD_DAYS = environment.integer("NEXA_UPLOAD_DAYS", 30)
"""Files that people uploaded and no job uses."""
NEXA_BLOB_GRACE_HOURS = environment.number("NEXA_BLOB_GRACE_HOURS", 24)
"""How long nothing must want a blob before its bytes are removed."""
NEXA_STORED_BYTES_MAX = environment.integer("NEXA_STORED_BYTES_MAX", 100 * 2**30)
"""What is kept for one person: uploads, inputs and results. 0: as much as they like."""
NEXA_NOTIFICATION_DAYS = environment.integer("NEXA_NOTIFICATION_DAYS", 180)
NEXA_ENDED_DAYS = environment.integer("NEXA_ENDED_DAYS", 90)
"""Rows about what works no more: expired and revoked API tokens, used and expired join tokens."""

# --- people --------------------------------------------------------------------------------------------------------------

_https = NEXA_ORIGIN.startswith("https://")
_behind_proxy = environment.boolean("NEXA_BEHIND_PROXY", False)
AUTH_USER_MODEL = "people.User"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "allauth.account.auth_backends.AuthenticationBackend"]
LOGIN_REDIRECT_URL = "/"
ALLAUTH_TRUSTED_PROXY_COUNT = 1 if _behind_proxy else 0
"""Attempts are counted by address: without this all people behind the reverse proxy would share one."""
NEXA_SIGN_UP = environment.choice("NEXA_SIGN_UP", "open", tuple(SignUp))
"""Who may make an account: people.sign_up.SignUp."""
NEXA_INVITATION_DAYS = environment.integer("NEXA_INVITATION_DAYS", 7)
"""How long the link of an invitation is good."""
ACCOUNT_ADAPTER = "people.sign_in.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email", "username"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = environment.choice("NEXA_EMAIL_VERIFICATION", "mandatory", ("mandatory", "optional", "none"))
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[NEXAPod] "
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_MAX_EMAIL_ADDRESSES = 3
ACCOUNT_PREVENT_ENUMERATION = True
"""Sign-up and reset answer alike whether an address has an account; what differs is in the mail, which only its owner reads."""
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if _https else "http"
ACCOUNT_USERNAME_MIN_LENGTH = 2
ACCOUNT_FORMS = {
    "login": "people.sign_in_forms.SignInForm",
    "signup": "people.sign_in_forms.SignUpForm",
    "add_email": "people.sign_in_forms.EmailForm",
    "change_password": "people.sign_in_forms.PasswordChangeForm",  # nosec B105
    "set_password": "people.sign_in_forms.PasswordSetForm",  # nosec B105
    "reset_password": "people.sign_in_forms.PasswordForgottenForm",  # nosec B105
    "reset_password_from_key": "people.sign_in_forms.PasswordResetForm",  # nosec B105
}
ACCOUNT_USERNAME_BLACKLIST = ["admin", "coordinator", "escrow", "moderator", "nexapod", "operator", "root", "treasury"]
SOCIALACCOUNT_ADAPTER = "people.sign_in.ElsewhereAdapter"
SOCIALACCOUNT_FORMS = {"signup": "people.sign_in_forms.SignUpElsewhereForm"}
MFA_ADAPTER = "people.sign_in.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_TOTP_ISSUER = "NEXAPod"
MFA_TOTP_TOLERANCE = 1
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not _https
"""Browsers give passkeys to https:// and to http://localhost only; this lets the latter work."""

NEXA_OPENID_PROVIDERS = environment.documents("NEXA_OPENID_PROVIDERS")
"""Sign-in with accounts from elsewhere: a JSON list of OpenID Connect providers, or its file by NEXA_OPENID_PROVIDERS_FILE. Each is
{"id": "orcid", "name": "ORCID", "server_url": "https://orcid.org", "client_id": "…", "secret": "…"}; `server_url` is what
/.well-known/openid-configuration is below. If the page where people sign in has another origin, `sign_in_origin` names it. The
redirect address to register there is NEXA_ORIGIN + /accounts/oidc/<id>/login/callback/. None set: nothing of it is shown."""
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [
            {
                "provider_id": one["id"],
                "name": one["name"],
                "client_id": one["client_id"],
                "secret": one.get("secret", ""),
                "settings": {"server_url": one["server_url"]},
            }
            for one in NEXA_OPENID_PROVIDERS
        ],
    }
}

EMAIL_TIMEOUT = 10
NEXA_EMAIL_FOLDER = environment.text("NEXA_EMAIL_FOLDER", "")
"""For development: mails are written here, a file each, instead of being sent."""
EMAIL_FILE_PATH = NEXA_EMAIL_FOLDER or None
EMAIL_HOST = environment.text("NEXA_EMAIL_HOST", "")
"""Empty: there is no mail server. Pages then say so, and `check --deploy`."""
_mail_backends = "django.core.mail.backends"
EMAIL_BACKEND = environment.text(
    "NEXA_EMAIL_BACKEND",
    f"{_mail_backends}.filebased.EmailBackend"
    if NEXA_EMAIL_FOLDER
    else f"{_mail_backends}.smtp.EmailBackend"
    if EMAIL_HOST
    else "people.mail.MissingServerBackend",
)
EMAIL_PORT = environment.integer("NEXA_EMAIL_PORT", 25)
EMAIL_HOST_USER = environment.text("NEXA_EMAIL_USER", "")
EMAIL_HOST_PASSWORD = environment.text("NEXA_EMAIL_PASSWORD", "")
EMAIL_USE_TLS = environment.boolean("NEXA_EMAIL_STARTTLS", False)
DEFAULT_FROM_EMAIL = SERVER_EMAIL = environment.text("NEXA_EMAIL_FROM", f"nexapod@{urlsplit(NEXA_ORIGIN).hostname}")
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# --- HTTP ----------------------------------------------------------------------------------------------------------------

SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _behind_proxy else None
SECURE_SSL_REDIRECT = False  # the reverse proxy redirects; a redirect here would break health checks behind it
SILENCED_SYSTEM_CHECKS = ["security.W008"]  # which wants that redirect
SECURE_HSTS_SECONDS = 31_536_000 if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _https
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_HTTPONLY = True


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        # Browsers hold redirects after a form against this too, and sign-in with an account from elsewhere is such a redirect.
        "form-action": ["'self'", *(one.get("sign_in_origin") or _origin_of(one["server_url"]) for one in NEXA_OPENID_PROVIDERS)],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
STATIC_URL = "/static/"
STATIC_ROOT = Path(environment.text("NEXA_STATIC_ROOT", str(BASE_DIR / "var" / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 2**20
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000  # the form of a job sends FIELDS_MAX and a few more

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "people.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["people.parsing.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "nexaportal.problems.drf_exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "NEXAPod coordinator",
    "DESCRIPTION": "Jobs, nodes and the public ledger. Errors are problem details (RFC 9457) with a stable `code`.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "jobs.gateway.openapi.gateway_paths_add",
    ],
}

# --- language, time, logs ------------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = "UTC"
_log_format = environment.choice("NEXA_LOG_FORMAT", "line", ("line", "json"))
"""`line` for people, `json` for programs: nexaportal/logs.py."""
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"one": {"()": "nexaportal.logs.Formatter", "as_json": _log_format == "json"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "one"}},
    "root": {"handlers": ["stderr"], "level": environment.text("NEXA_LOG_LEVEL", "INFO")},
    "loggers": {
        "uvicorn": {"handlers": ["stderr"], "propagate": False},  # else it has a format of its own
        "uvicorn.access": {"handlers": [], "propagate": False},  # the proxy's log has each request
        # A line for each task and sending, several a second, would bury the others.
        **{name: {"level": "WARNING"} for name in ("celery.app.trace", "celery.beat", "celery.worker.strategy")},
    },
}
NEXA_METRICS_FOLDER = environment.text("NEXA_METRICS_FOLDER", "")
"""Where the web processes of one machine add their counts up for /metrics; empty: each answers for itself. Emptied by a restart."""
