"""Celery's settings and beat's schedule; each setting that is not obvious says why."""

import ssl
from datetime import timedelta

from kombu.entity import Queue

from persistence.exceptions import SettingsError
from persistence.settings import settings
from tasks.routes import DEFAULT_QUEUE, PUBLISH_POLICY, QUEUES, ROUTES

try:
    _settings = settings()
except SettingsError as error:
    # One line for whoever starts it; an exception out of a configuration is eighty.
    raise SystemExit(str(error)) from None

# --- Time limits: wait for the database < hard limit < visibility timeout ---

_hard_limit = _settings.database_wait + _settings.statement_timeout + timedelta(seconds=10)

# A unit that waited for the database in vain has requeued its message by then. Who is killed by this
# hangs where no timeout reaches; tasks/worker/request.py runs the message again, and keeps it in the end.
# Only prefork can kill: under threads and solo the timeouts of the database are all there is.
task_time_limit = _hard_limit.total_seconds()

# The new tokens are in the memory of the task that got them alone: it has time for two waits, and for the
# four steps of a call between them. Delivered again meanwhile, its message finds the refresh token claimed.
task_annotations = {
    "credentials.refresh": {
        "time_limit": (_hard_limit + _settings.database_wait + 4 * _settings.http_timeout).total_seconds()
    }
}

# A message that is not acknowledged for so long is given to another worker. Above the hard limit,
# or a slow unit would be run twice at the same time.
_visibility_timeout = max(timedelta(seconds=120), _hard_limit + timedelta(seconds=10))

# --- Broker ---

broker_url = _settings.broker_url
broker_transport_options = {
    "visibility_timeout": _visibility_timeout.total_seconds(),
    # A dead worker's messages are looked for every 5 s. By default every 100 s, and by no one for
    # 300 s where the worker that looked died while it did.
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "unacked_mutex_expire": 30,
    # Above the second that BRPOP waits. Without it a silent server holds a worker for ever.
    "socket_timeout": 3,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    # A half-open connection is given up after about twice this, and the timeout for each that is dead with it.
    "health_check_interval": 5,
    # The publish policy retries already; both would multiply, and make a ring take 20 s.
    "retry_on_timeout": False,
    "client_name": "crawlyard",
}
if broker_url.startswith("rediss://") and "ssl_cert_reqs" not in broker_url:
    # kombu's default for TLS is to trust anybody.
    broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}

# A worker waits for its broker without end, at the start too: compose starts both at once.
broker_connection_retry = True
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
# A Redis that is full or became a replica answers with errors; the worker waits for it as well.
broker_channel_error_retry = True

# --- Messages ---

accept_content = ["json"]
task_serializer = "json"
event_serializer = "json"
enable_utc = True
timezone = "UTC"

# Nobody waits for a result: the database has it.
result_backend = None
task_ignore_result = True

task_publish_retry = True
task_publish_retry_policy = PUBLISH_POLICY

# --- Queues ---

task_queues = [Queue(name, routing_key=name) for name in QUEUES]
task_default_queue = DEFAULT_QUEUE
# A misspelt queue is an error of whoever named it, and no list in Redis that nobody reads.
task_create_missing_queues = False
task_routes = ROUTES

# --- Acknowledging: no message unhandled ---

# Acknowledged when its unit has committed; a worker that dies before gives it back.
task_acks_late = True
# What a task raises was dealt with by the Task base, which requeues where that is right.
task_acks_on_failure = True
# A message that kills its child or exceeds the hard limit is answered by tasks/worker/request.py: run again
# a bounded number of times, then kept. Celery's own ways are for ever, or acknowledge before.
task_reject_on_worker_lost = False
task_retry_on_worker_lost = False
# Should that class be missing from a task, a timeout must not drop the message.
task_acks_on_timeout = False

# --- Worker ---

worker_consumer = "tasks.worker.consumer:Consumer"
# It costs nothing here (994 messages a second, 991 at 4), and a stuck child hoards one message.
worker_prefetch_multiplier = 1
# No task has a rate limit; without the look-up a message costs less.
worker_disable_rate_limits = True
# RabbitMQ's; here it would only cost a look at every start.
worker_detect_quorum_queues = False
# A unit goes on when the broker is lost: its COMMIT is what counts, and the message that comes
# again meets rows that were changed already. Killing it would only repeat the work.
worker_cancel_long_running_tasks_on_connection_loss = False
# SIGQUIT gives running units this long before they are killed and their messages put back. SIGTERM
# waits for them anyway, and who waits for the database is told to stop. An idle worker need not wait.
worker_soft_shutdown_timeout = 5.0
worker_enable_soft_shutdown_on_idle = False
# A batch of large frames can leave a child with a large heap: it is replaced after its task, in KiB.
# By count never: there is nothing that leaks.
worker_max_memory_per_child = 512 * 1024
worker_max_tasks_per_child = None
# Children of a busy machine may need longer than 4 s to say that they are up.
worker_proc_alive_timeout = 20.0
# Logging is ours (tasks/worker/logs.py).
worker_hijack_root_logger = False
# What prints, prints: nothing of ours does.
worker_redirect_stdouts = False
# Events would repeat arguments to whoever listens; remote control stays, for inspect and shutdown.
worker_send_task_events = False
task_send_sent_event = False
worker_enable_remote_control = True

# --- Beat: only rings; a ring too many is harmless, one too few is the next one ---

# The default scheduler keeps a file, and dies in a read-only directory.
beat_scheduler = "celery.beat:Scheduler"
# Beat looks at its schedule at least this often, also where all intervals are long.
beat_max_loop_interval = 5
beat_schedule = {
    "sweep": {"task": "connections.expire_dead", "schedule": _settings.sweep_interval},
    "assign": {"task": "jobs.assign", "schedule": _settings.assign_interval},
    "reconcile": {"task": "upkeep.reconcile", "schedule": _settings.reconcile_interval},
    "clean up": {"task": "upkeep.clean_up", "schedule": _settings.clean_up_interval},
    "statistics": {"task": "upkeep.take_statistics", "schedule": _settings.statistics_interval},
}
