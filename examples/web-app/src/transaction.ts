import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

const AGAIN = new Set(["40P01", "40001"]); // deadlock_detected, serialization_failure
const ATTEMPTS = 5;

/**
 * Does *work* in one transaction, from the start again where the database broke a deadlock.
 *
 * The dispatcher gives way where it waits for the web app's rows, but a deletion of jobs takes rows
 * of both: then either may be the one that PostgreSQL ends.
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
  client.on("error", () => {}); // told by the query that it breaks
  try {
    await client.connect();
    await client.query("BEGIN");
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } finally {
    await client.end(); // and what was not committed is rolled back
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}
