// Inserts a job, publishes jobs.enqueue for it, and follows its events until it ends. Exit code 0 if it finished, else 1.
import { parseArgs } from "node:util";
import { EventStream } from "./events.js";
import { insertJob, statusOf } from "./jobs.js";
import { publish } from "./publish.js";

const ENDED = new Set(["finished", "failed", "cancelled"]);

const { values: options } = parseArgs({
  options: {
    account: { type: "string", default: "web-app-example" },
    command: { type: "string", default: "issues" },
    path: { type: "string", default: "group/project" },
    timeout: { type: "string", default: "60" },
  },
});

/** Follows the events until the job ends; returns its last status, or undefined after the timeout. */
async function ending(events: EventStream, url: string, id: string, signal: AbortSignal) {
  for await (const event of events.follow(signal)) {
    if (event === null) {
      console.warn("Events were missed; reading the job's status from the table.");
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
  if (!DATABASE_URL || !BROKER_URL) return "Set DATABASE_URL and BROKER_URL.";
  if (!(seconds > 0)) return "--timeout must be a number of seconds.";

  const events = await EventStream.open(DATABASE_URL); // before the job exists, so that none of its events is missed
  try {
    const job = { accountId: options.account, command: options.command, path: options.path };
    const id = await insertJob(DATABASE_URL, job);
    console.log(`Inserted job ${id}.`);
    await publish(BROKER_URL, "jobs.enqueue", { job_ids: [id] }).catch((error: Error) =>
      console.warn(`jobs.enqueue could not be published (${error.message}); the dispatcher will find the job later.`),
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
