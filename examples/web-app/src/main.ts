// Inserts a job, rings for it, follows its events, and ends when it has ended: 0 if it is finished, else 1.
import { parseArgs } from "node:util";
import { EventStream } from "./events.js";
import { insertJob, statusOf } from "./jobs.js";
import { ring } from "./ring.js";

const ENDED = new Set(["finished", "failed", "cancelled"]);

const { values: options } = parseArgs({
  options: {
    account: { type: "string", default: "web-app-example" },
    command: { type: "string", default: "issues" },
    path: { type: "string", default: "group/project" },
    timeout: { type: "string", default: "60" },
  },
});

/** Follows the events until the job has ended; its last status, or undefined where time is over. */
async function ending(events: EventStream, url: string, id: string, signal: AbortSignal) {
  for await (const event of events.follow(signal)) {
    if (event === null) {
      console.warn("Events were missed; the table says the rest.");
      const status = await statusOf(url, id);
      if (status === null || ENDED.has(status)) return status ?? "deleted";
    } else if (event.job_id === id) {
      console.log(event.type, JSON.stringify(event.payload));
      if (event.type === "job_deleted") return "deleted";
      if (event.type === "job_updated" && ENDED.has(String(event.payload.status))) return event.payload.status;
    }
  }
  return undefined;
}

async function main(): Promise<string | null> {
  const { DATABASE_URL, BROKER_URL } = process.env;
  const seconds = Number(options.timeout);
  if (!DATABASE_URL || !BROKER_URL) return "DATABASE_URL and BROKER_URL must be set.";
  if (!(seconds > 0)) return "--timeout must be a number of seconds.";

  const events = await EventStream.open(DATABASE_URL); // before the job is there: nothing of it is missed
  try {
    const job = { accountId: options.account, command: options.command, path: options.path };
    const id = await insertJob(DATABASE_URL, job);
    console.log(`Inserted job ${id}.`);
    await ring(BROKER_URL, "jobs.enqueue", { job_ids: [id] }).catch((error: Error) =>
      console.warn(`The bell was not heard (${error.message}); the job is found some time later.`),
    );
    const status = await ending(events, DATABASE_URL, id, AbortSignal.timeout(seconds * 1000));
    if (status === undefined) return `Job ${id} has not ended within ${seconds} s.`;
    return status === "finished" ? null : `Job ${id} is ${status}.`;
  } finally {
    await events.close();
  }
}

try {
  const complaint = await main();
  if (complaint) console.error(complaint);
  else console.log("The job is finished.");
  process.exitCode = complaint ? 1 : 0;
} catch (error) {
  console.error(error instanceof Error ? error.message || String(error) : error);
  process.exitCode = 1;
}
