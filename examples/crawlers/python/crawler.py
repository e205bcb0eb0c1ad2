"""A crawler that speaks protocol 1 (docs/wire-protocol.md). `crawl` is yours to write; all else can stay.

CRAWLER_SECRET=cyc_… python crawler.py 127.0.0.1 7433 crawler-1
"""

import asyncio
import json
import os
import random
import sys
from datetime import UTC, datetime
from pathlib import Path


async def crawl(order, progress):
    """Crawl five pages, from where an earlier attempt stopped. Raise PermissionError if GitLab answers 401."""
    kind, begin = order["entityType"], (order.get("resumeState") or {}).get("currentPage", 0)
    for page in range(begin + 1, 6):
        await asyncio.sleep(0.2)  # ask order["gitlabUrl"] about order["entityId"], with order["accessToken"]
        print(f"crawled page {page} of {kind} {order['entityId']}", flush=True)
        progress(stage="fetching", entityType=kind, processed=page, resumeState={"currentPage": page})
    return {kind: 5}


class Crawler:
    def __init__(self, host, port, name):
        self.host, self.port, self.name, self.file = host, port, name, Path(f"{name}.session")
        self.session = json.loads(self.file.read_text()) if self.file.exists() else {"n": 0}
        self.jobs, self.ends = {}, {}  # by jobId: its work, and its end until that is acknowledged
        self.link, self.losses = None, 0

    async def run(self):
        while True:
            self.losses, self.pause = self.losses + 1, random.uniform(0, min(2**self.losses, 30))  # jitter
            self.session["n"] += 1
            self.file.write_text(json.dumps(self.session))  # at once: each link has another number
            try:
                reader, link = await asyncio.open_connection(self.host, self.port, limit=2**23)
                who = {"protocol": 1, "crawlerId": self.name, "secret": os.environ["CRAWLER_SECRET"]}
                link.write(self.send("hello", who | self.session | {"activeJobs": list(self.jobs)}))
                while line := await asyncio.wait_for(reader.readline(), 90):  # it is pinged every 30 s
                    self.receive(link, **json.loads(line))
            except OSError as error:
                print("no link:", error, flush=True)
            self.link = None
            await asyncio.sleep(self.pause)

    def receive(self, link, type, data, jobId=None, **_):
        if type == "welcome":
            self.link, self.losses = link, 0
            self.session["session"] = data["session"]
            self.file.write_text(json.dumps(self.session))
            for lost in self.jobs.keys() - {order["id"] for order in data["jobs"]}:
                self.forget(lost)
            link.writelines(self.ends.values())
            self.beat(link, data["heartbeatInterval"])
        for order in data.get("jobs", ()):  # of a welcome or a job_response
            if order["id"] not in self.jobs:
                self.jobs[order["id"]] = asyncio.create_task(self.work(order))
        if type == "ping":
            self.send("pong", data)
        elif type in ("ack", "job_revoked", "error", "shutdown"):
            print(type, jobId or data, flush=True)
            self.forget(jobId or data.get("id"))
            if type == "job_revoked":
                self.send("heartbeat", {"activeJobs": list(self.jobs)})  # its slot is free
            self.pause = data.get("reconnectAfterSeconds", data.get("retryAfterSeconds", self.pause))

    async def work(self, order):
        job = order["id"]
        self.send("job_started", {}, job)
        try:
            counts = await crawl(order, lambda **data: self.send("job_progress", data, job))
            self.ends[job] = self.send("job_completed", {"finalCounts": counts}, job, job)
        except PermissionError:
            self.ends[job] = self.send("token_refresh_request", {}, job, job)
        except Exception as error:
            self.ends[job] = self.send("job_failed", {"error": repr(error), "isRecoverable": True}, job, job)

    def forget(self, job):
        self.ends.pop(job, None)
        if task := self.jobs.pop(job, None):
            task.cancel()

    def beat(self, link, interval):
        if link is self.link:
            self.send("heartbeat", {"activeJobs": list(self.jobs)})
            asyncio.get_running_loop().call_later(interval, self.beat, link, interval)

    def send(self, kind, data, job=None, id=None):
        now = datetime.now(UTC).isoformat()
        frame = {"type": kind, "timestamp": now, "jobId": job, "id": id, "data": data}
        line = json.dumps(frame).encode() + b"\n"
        if self.link:  # there is one, and it is welcome
            self.link.write(line)
        return line


asyncio.run(Crawler(*sys.argv[1:]).run())
