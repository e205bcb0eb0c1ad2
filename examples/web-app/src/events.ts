import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

const POLL_MS = 2000; // a notification may be lost, and events that a long transaction held back come without one
const PAGE_ROWS = 500;
const LONGEST_PAUSE_MS = 5000;

const PAGE = `
  -- $1 cluster, $2 xid, $3 id: of the last event that was handled; $4: how many rows at most
  WITH edge AS (
      SELECT control.system_identifier::text AS cluster,
             COALESCE(trimmed_xid, '0') AS xid, COALESCE(trimmed_id, 0) AS id
        FROM pg_control_system() control
        LEFT JOIN event_edge ON trimmed_xid < pg_snapshot_xmax(pg_current_snapshot())
  ),
  gap AS (
      SELECT cluster <> $1 OR ($2::xid8, $3::bigint) < (xid, id)
             OR $2::xid8 >= pg_snapshot_xmax(pg_current_snapshot()) AS there_is
        FROM edge
  ),
  head AS (
      SELECT * FROM dispatch_event
       WHERE NOT (SELECT there_is FROM gap) AND (xid, id) > ($2::xid8, $3::bigint)
       ORDER BY xid, id LIMIT $4
  ),
  page AS (SELECT * FROM head WHERE xid < pg_snapshot_xmin(pg_current_snapshot()))
  SELECT gap.there_is AS gap, edge.cluster, edge.xid::text AS edge_xid, edge.id AS edge_id,
         page.xid::text AS xid, page.id, page.type, page.job_id, page.account_id, page.connection_id,
         page.payload, page.created_at
    FROM edge CROSS JOIN gap LEFT JOIN page ON true
   ORDER BY page.xid, page.id
`;

const END = `
  SELECT event.xid::text AS xid, event.id FROM dispatch_event event
   WHERE event.xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY event.xid DESC, event.id DESC LIMIT 1
`;

/** The last event that was handled. bigint and xid8 are strings here: a number would lose digits. */
export interface Cursor {
  cluster: string;
  xid: string;
  id: string;
}

export interface Event {
  type: string;
  job_id: string | null;
  account_id: string | null;
  connection_id: string | null;
  payload: Record<string, unknown>;
  created_at: Date;
}

/** An event, or null for a gap: events may have been missed, so read the tables. */
export type Item = Event | null;

interface Place {
  gap: boolean;
  cluster: string;
  edge_xid: string;
  edge_id: string;
  xid: string | null;
  id: string | null;
}

/** Yields events from now on, each once and in order, and reconnects if the connection is lost. */
export class EventStream {
  #url: string;
  #cursor: Cursor;
  #client: pg.Client | null;
  #notified = false;
  #wake = () => {};

  private constructor(url: string, client: pg.Client, cursor: Cursor) {
    this.#url = url;
    this.#client = client;
    this.#cursor = cursor;
    this.#listen(client);
  }

  /** Listens, and starts after the last event that exists now. Rejects if the database does not answer. */
  static async open(url: string): Promise<EventStream> {
    const client = await connected(url);
    return new EventStream(url, client, await endOf(client));
  }

  async *follow(signal: AbortSignal): AsyncGenerator<Item> {
    signal.addEventListener("abort", () => this.#wake());
    let pause = 100;
    while (!signal.aborted) {
      try {
        this.#client ??= await this.#reconnected();
        yield* this.#read(this.#client);
        await this.#notification(signal);
        pause = 100;
      } catch (error) {
        console.warn(`No events for the moment: ${error instanceof Error ? error.message : error}`);
        await this.close();
        await sleep(pause, undefined, { signal }).catch(() => {});
        pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
      }
    }
  }

  async close(): Promise<void> {
    await this.#client?.end().catch(() => {});
    this.#client = null;
  }

  /** Yields what can be read now. The cursor moves before an event is yielded, so that each comes once. */
  async *#read(client: pg.Client): AsyncGenerator<Item> {
    for (;;) {
      const { cluster, xid, id } = this.#cursor;
      const { rows } = await client.query<Place & Event>(PAGE, [cluster, xid, id, PAGE_ROWS]);
      for (const row of rows) {
        if (row.gap) {
          this.#cursor = { cluster: row.cluster, xid: row.edge_xid, id: row.edge_id };
          yield null;
        } else if (row.xid !== null && row.id !== null) {
          this.#cursor = { cluster: row.cluster, xid: row.xid, id: row.id };
          yield row;
        }
      }
      if (rows.length < PAGE_ROWS && !rows[0]?.gap) return;
    }
  }

  /** Waits for a NOTIFY, at most for POLL_MS. */
  async #notification(signal: AbortSignal): Promise<void> {
    if (!this.#notified && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, POLL_MS);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#notified = false;
  }

  async #reconnected(): Promise<pg.Client> {
    const client = await connected(this.#url);
    this.#listen(client);
    return client;
  }

  #listen(client: pg.Client): void {
    const wake = () => {
      this.#notified = true;
      this.#wake();
    };
    client.on("notification", wake);
    client.on("error", wake); // the next read fails, and reconnects
  }
}

/** Opens a session that is notified of events from now on. */
async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000, keepAlive: true });
  client.on("error", () => {}); // without a listener, an error would end the process
  await client.connect();
  await client.query("LISTEN crawlyard_event");
  return client;
}

async function endOf(client: pg.Client): Promise<Cursor> {
  const { rows: places } = await client.query<Place>(PAGE, ["", "0", "0", 1]);
  const { rows: ends } = await client.query<{ xid: string; id: string }>(END);
  const edge = places[0]!;
  return { cluster: edge.cluster, xid: ends[0]?.xid ?? edge.edge_xid, id: ends[0]?.id ?? edge.edge_id };
}
