"""The settings of Celery and the schedule of beat, each with its reason unless it is obvious."""

import ssl
from datetime import timedelta

from kombu.entity import Queue

from persistence.exceptions import SettingsError
from persistence.settings import settings
from tasks.routes import DEFAULT_QUEUE, PUBLISH_POLICY, QUEUES, ROUTES

try:
    _settings = settings()
except SettingsError as error:
    # One line; Celery would print eighty for an exception in its configuration.
    raise SystemExit(str(error)) from None

# --- Time limits: database_wait < hard limit < visibility timeout ---

_hard_limit = _settings.database_wait + _settings.statement_timeout + timedelta(seconds=10)

# By then a unit that waited for the database in vain has requeued its message. The limit kills only units that hang
# where no timeout applies; tasks/worker/request.py runs their message again, and rejects it in the end.
# Only prefork can kill: the threads and solo pools rely on the timeouts of the database.
task_time_limit = _hard_limit.total_seconds()

# Only the memory of this task holds the new tokens: its limit covers two waits for the database, and the four steps
# of a call between them. If its message is redelivered meanwhile, the refresh token is already reserved.
task_annotations = {
    "credentials.refresh": {
        "time_limit": (_hard_limit + _settings.database_wait + 4 * _settings.http_timeout).total_seconds()
    }
}

# A message that is not acknowledged for this long is redelivered to another worker. It must exceed the hard limit, or
# a slow unit would run twice at the same time.
_visibility_timeout = max(timedelta(seconds=120), _hard_limit + timedelta(seconds=10))

# --- Broker ---

broker_url = _settings.broker_url
broker_transport_options = {
    "global_keyprefix": _settings.queue_prefix,
    "visibility_timeout": _visibility_timeout.total_seconds(),
    # Workers look for messages of dead workers every 5 s. The defaults are 100 s, and 300 s if the worker that looked
    # died while it did so.
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "unacked_mutex_expire": 30,
    # More than the 1 s that BRPOP waits. Without it, a server that stays silent blocks a worker forever.
    "socket_timeout": 3,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    # A half-open connection is given up after about twice this, plus the timeout of each connection that died with it.
    "health_check_interval": 5,
    # The publish policy retries already; the two would multiply, and publishing could take 20 s.
    "retry_on_timeout": False,
    "client_name": "crawlyard",
}
if broker_url.startswith("rediss://") and "ssl_cert_reqs" not in broker_url:
    # By default kombu accepts any certificate.
    broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}

# A worker waits for its broker without limit, also when it starts: compose starts both at once.
broker_connection_retry = True
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
# A Redis that is full, or has become a replica, answers with errors; the worker waits for it too.
broker_channel_error_retry = True

# --- Messages ---

accept_content = ["json"]
task_serializer = "json"
event_serializer = "json"
enable_utc = True
timezone = "UTC"

# Results are in the database.
result_backend = None
task_ignore_result = True

task_publish_retry = True
task_publish_retry_policy = PUBLISH_POLICY

# --- Queues ---

task_queues = [Queue(name, routing_key=name) for name in QUEUES]
task_default_queue = DEFAULT_QUEUE
# A misspelt queue raises an error instead of creating a list in Redis that no worker reads.
task_create_missing_queues = False
task_routes = ROUTES

# --- Acknowledgement: no message is lost ---

# A message is acknowledged after its unit has committed; if the worker dies before, the message is redelivered.
task_acks_late = True
# The task base handles every exception. What it could not handle, tasks/worker/request.py runs again, and keeps in the
# end: Celery acknowledges no failure.
task_acks_on_failure = True
# tasks/worker/request.py handles a message that kills its child or exceeds the hard limit: it is run again a bounded
# number of times, then rejected. Celery would repeat it forever, or acknowledge it first.
task_reject_on_worker_lost = False
task_retry_on_worker_lost = False
# If a task lacks that request class, a timeout must not drop the message.
task_acks_on_timeout = False

# --- Worker ---

worker_consumer = "tasks.worker.consumer:Consumer"
# It costs nothing here (994 messages per second; 991 with 4), and a stuck child holds only one message.
worker_prefetch_multiplier = 1
# No task has a rate limit; skipping the lookup makes messages cheaper.
worker_disable_rate_limits = True
# For RabbitMQ only.
worker_detect_quorum_queues = False
# A unit continues if the broker is lost: its COMMIT counts, and the redelivered message finds the rows changed.
# Killing the unit would only repeat the work.
worker_cancel_long_running_tasks_on_connection_loss = False
# After SIGQUIT running units get this long before they are killed and their messages requeued. SIGTERM waits for them
# in any case, and ends the waits for a database. An idle worker need not wait.
worker_soft_shutdown_timeout = 5.0
worker_enable_soft_shutdown_on_idle = False
# In KiB. A batch of large frames can leave a child with a large heap: it is replaced after its task. There is no
# limit by count, because nothing leaks.
worker_max_memory_per_child = 512 * 1024
worker_max_tasks_per_child = None
# On a busy machine children may need more than the default 4 s to start.
worker_proc_alive_timeout = 20.0
# tasks/worker/logs.py sets up logging.
worker_hijack_root_logger = False
# Nothing of ours prints.
worker_redirect_stdouts = False
# Events would send arguments to every listener. Remote control stays enabled for inspect and shutdown.
worker_send_task_events = False
task_send_sent_event = False
worker_enable_remote_control = True

# --- Beat: it only publishes. An extra message is harmless, and the next one replaces a lost one ---

# The default scheduler writes a file, and fails in a read-only directory.
beat_scheduler = "celery.beat:Scheduler"
# Beat checks its schedule at least this often, even if all intervals are long.
beat_max_loop_interval = 5
beat_schedule = {
    "sweep": {"task": "connections.expire_dead", "schedule": _settings.sweep_interval},
    "assign": {"task": "jobs.assign", "schedule": _settings.assign_interval},
    "reconcile": {"task": "upkeep.reconcile", "schedule": _settings.reconcile_interval},
    "clean up": {"task": "upkeep.clean_up", "schedule": _settings.clean_up_interval},
    "statistics": {"task": "upkeep.take_statistics", "schedule": _settings.statistics_interval},
}
