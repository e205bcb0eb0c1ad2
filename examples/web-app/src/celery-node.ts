// Publishes jobs.enqueue for the given jobs, with celery-node instead of publish.ts.
import celery from "celery-node";

const { BROKER_URL } = process.env;
const jobIds = process.argv.slice(2);
if (!BROKER_URL || jobIds.length === 0) {
  console.error("Set BROKER_URL, and give at least one job id.");
  process.exit(1);
}

// celery-node requires a result backend, which nothing writes to; and a client publishes to one queue only.
const client = celery.createClient(BROKER_URL, BROKER_URL, "dispatch");
await client.isReady();
client.sendTask("jobs.enqueue", [], { job_ids: jobIds });
// sendTask does not report when the message is sent. After one turn of the event loop it is at least written to the
// socket, before we disconnect.
await new Promise((resolve) => setImmediate(resolve));
await client.disconnect();
console.log(`Published jobs.enqueue for ${jobIds.join(", ")}.`);
