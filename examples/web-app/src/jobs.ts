import { randomBytes } from "node:crypto";
import { inTransaction } from "./transaction.js";

export interface Job {
  accountId: string;
  command: string;
  path: string;
}

const HOST = "https://gitlab.example.org";

/** Inserts a job, and its account if that does not exist; returns the job's id. */
export async function insertJob(url: string, job: Job): Promise<string> {
  const id = ulid();
  await inTransaction(url, async (client) => {
    await client.query("INSERT INTO account (id, access_token) VALUES ($1, $2) ON CONFLICT DO NOTHING", [
      job.accountId,
      "a-token",
    ]);
    await client.query(
      `INSERT INTO job (id, command, full_path, "accountId", provider, "gitlabGraphQLUrl")
       VALUES ($1, $2, $3, $4, 'gitlab-onprem', $5)`,
      [id, job.command, job.path, job.accountId, `${HOST}/api/graphql`],
    );
  });
  return id;
}

/** Returns the job's status, or null if the job was deleted. */
export async function statusOf(url: string, id: string): Promise<string | null> {
  return inTransaction(url, async (client) => {
    const { rows } = await client.query<{ status: string }>("SELECT status::text FROM job WHERE id = $1", [id]);
    return rows[0]?.status ?? null;
  });
}

/** Returns a ULID: 26 characters that sort by time, of 48 bits of milliseconds and 80 random bits. */
function ulid(): string {
  let number = (BigInt(Date.now()) << 80n) | BigInt(`0x${randomBytes(10).toString("hex")}`);
  let text = "";
  for (let n = 0; n < 26; n++, number >>= 5n) text = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[Number(number & 31n)] + text;
  return text;
}
