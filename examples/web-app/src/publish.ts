import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import type { Contract } from "./contract.js";

type Task = Exclude<keyof Contract, "frame">;

/**
 * Publishes one task: pushes a JSON text to the list that has the queue's name.
 *
 * Rejects within seconds if Redis does not answer. For jobs that are in the table this is no loss: the dispatcher
 * finds them a little later.
 */
export async function publish<T extends Task>(brokerUrl: string, task: T, payload: Contract[T]): Promise<void> {
  const redis = new Redis(brokerUrl, {
    lazyConnect: true,
    connectTimeout: 2000,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  redis.on("error", () => {}); // the call that fails reports the error
  try {
    await redis.connect();
    await redis.lpush(queueOf(task), JSON.stringify(envelope(task, payload)));
  } finally {
    redis.disconnect();
  }
}

function envelope(task: Task, payload: object) {
  return {
    body: Buffer.from(JSON.stringify([[], payload, {}])).toString("base64"),
    "content-type": "application/json",
    "content-encoding": "utf-8",
    headers: { task, id: randomUUID() },
    properties: { body_encoding: "base64" },
  };
}

function queueOf(task: Task): string {
  const area = task.split(".", 1)[0];
  if (area === "upkeep" || task === "credentials.refresh") return "upkeep";
  return area === "jobs" || area === "credentials" || task === "failures.resolve" ? "dispatch" : "crawler";
}
