// A crawler that speaks protocol 1 (docs/wire-protocol.md). `crawl` is yours to write; all else can stay.
//
//     CRAWLER_SECRET=cyc_… node crawler.ts 127.0.0.1 7433 crawler-1     (Node from 22.18 on, or Bun)
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

type Data = Record<string, any>;
type Order = { id: string; entityType: string; entityId: string; gitlabUrl: string; accessToken: string; resumeState?: Data };

class TokenIsDead extends Error {}

/** Crawls five pages, from where an earlier attempt stopped. Throws TokenIsDead if GitLab answers 401. */
async function crawl(order: Order, signal: AbortSignal, progress: (data: Data) => void): Promise<Data> {
  for (let page = (order.resumeState?.currentPage ?? 0) + 1; page <= 5; page++) {
    await sleep(200, undefined, { signal }); // ask order.gitlabUrl about order.entityId, with order.accessToken
    console.log(`crawled page ${page} of ${order.entityType} ${order.entityId}`);
    progress({ stage: "fetching", entityType: order.entityType, processed: page, resumeState: { currentPage: page } });
  }
  return { [order.entityType]: 5 };
}

const [host, port, name] = process.argv.slice(2);
const file = `${name}.session`;
const session: Data = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : { n: 0 };
const jobs = new Map<string, AbortController>(); // what it works on, until the end is acknowledged
const ends = new Map<string, string>(); // the ends that are not acknowledged yet
let link: Socket | null = null; // once it is welcome
let losses = 0;
let pause = 0; // milliseconds until it connects again

function remember(state: Data): void {
  writeFileSync(file, JSON.stringify(Object.assign(session, state)));
}

function send(type: string, data: Data, jobId?: string, id?: string): string {
  const line = JSON.stringify({ type, timestamp: new Date().toISOString(), jobId, id, data }) + "\n";
  link?.write(line);
  return line;
}

function beat(): void {
  send("heartbeat", { activeJobs: [...jobs.keys()], systemStatus: jobs.size ? "processing" : "idle" });
}

async function work(order: Order, signal: AbortSignal): Promise<void> {
  const end = (type: string, data: Data) => ends.set(order.id, send(type, data, order.id, order.id));
  send("job_started", {}, order.id);
  try {
    const finalCounts = await crawl(order, signal, (data) => send("job_progress", data, order.id));
    end("job_completed", { finalCounts });
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof TokenIsDead) end("token_refresh_request", {});
    else end("job_failed", { error: String(error), isRecoverable: true });
  }
}

function forget(id: string): void {
  jobs.get(id)?.abort();
  jobs.delete(id);
  ends.delete(id);
}

function receive(socket: Socket, { type, data, jobId }: { type: string; data: Data; jobId?: string }): void {
  if (type === "welcome") {
    [link, losses] = [socket, 0];
    remember({ session: data.session });
    const listed = new Set(data.jobs.map((order: Order) => order.id));
    for (const id of jobs.keys()) if (!listed.has(id)) forget(id);
    for (const line of ends.values()) socket.write(line);
    const beating = setInterval(beat, data.heartbeatInterval * 1000);
    socket.once("close", () => clearInterval(beating));
  }
  for (const order of data.jobs ?? []) { // of a welcome or a job_response
    if (jobs.has(order.id)) continue;
    jobs.set(order.id, new AbortController());
    void work(order, jobs.get(order.id)!.signal);
  }
  if (type === "ping") send("pong", data);
  if (!["ack", "job_revoked", "error", "shutdown"].includes(type)) return;
  console.log(type, jobId ?? data);
  forget(jobId ?? data.id);
  if (type === "job_revoked") beat(); // its slot is free
  pause = 1000 * (data.reconnectAfterSeconds ?? data.retryAfterSeconds ?? pause / 1000);
}

while (true) {
  pause = Math.random() * Math.min(2 ** losses++, 30) * 1000; // or all crawlers would come back at once
  remember({ n: session.n + 1 }); // before it is used: each link has another number
  const socket = connect(Number(port), host).setTimeout(90_000, () => socket.destroy()); // it is pinged every 30 s
  socket.on("error", (error) => console.log("no link:", error.message));
  const who = { protocol: 1, crawlerId: name, secret: process.env.CRAWLER_SECRET, activeJobs: [...jobs.keys()] };
  socket.write(send("hello", { ...who, ...session }));
  for await (const line of createInterface(socket)) receive(socket, JSON.parse(line));
  link = null;
  await sleep(pause);
}
