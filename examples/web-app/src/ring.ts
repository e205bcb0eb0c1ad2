import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import type { Contract } from "./contract.js";

type Task = Exclude<keyof Contract, "frame">;

/**
 * Rings one task: a JSON text, pushed to the list that has its queue's name.
 *
 * Rejects within seconds where there is no Redis. A bell for jobs that are in the table may be lost:
 * the jobs are found some time later anyway.
 */
export async function ring<T extends Task>(brokerUrl: string, task: T, payload: Contract[T]): Promise<void> {
  const redis = new Redis(brokerUrl, {
    lazyConnect: true,
    connectTimeout: 2000,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  redis.on("error", () => {}); // what failed is told by the call that failed
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
  return area === "jobs" ? "dispatch" : area === "upkeep" ? "upkeep" : "crawler";
}
