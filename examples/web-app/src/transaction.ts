import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

const AGAIN = new Set(["40P01", "40001"]); // deadlock_detected, serialization_failure
const ATTEMPTS = 5;

/**
 * Runs *work* in one transaction, and repeats it from the start if PostgreSQL ended it because of a deadlock.
 *
 * The dispatcher gives way if it waits for rows that the web app has locked. But a deletion of jobs locks rows of
 * both: then PostgreSQL may end either transaction.
 */
export async function inTransaction<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await once(url, work);
    } catch (error) {
      if (attempt === ATTEMPTS || !AGAIN.has(codeOf(error))) throw error;
      await sleep(Math.random() * 50 * 2 ** attempt);
    }
  }
}

async function once<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 });
  client.on("error", () => {}); // the query that fails reports the error
  try {
    await client.connect();
    await client.query("BEGIN");
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } finally {
    await client.end(); // this rolls back what was not committed
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}
