// Rings jobs.enqueue for the jobs that are named, with celery-node instead of ring.ts.
import celery from "celery-node";

const { BROKER_URL } = process.env;
const jobIds = process.argv.slice(2);
if (!BROKER_URL || jobIds.length === 0) {
  console.error("BROKER_URL must be set, and a job be named.");
  process.exit(1);
}

// It wants a backend, though nobody answers there; and one client rings in one queue.
const client = celery.createClient(BROKER_URL, BROKER_URL, "dispatch");
await client.isReady();
client.sendTask("jobs.enqueue", [], { job_ids: jobIds });
// It does not say when the message is out: a turn later it is at least on its way, before the farewell.
await new Promise((resolve) => setImmediate(resolve));
await client.disconnect();
console.log(`Rang for ${jobIds.join(", ")}.`);
