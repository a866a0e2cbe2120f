// The client as TypeScript programs use it; nothing here runs.
import { createBatch, createBatchFetch, type Batch, type BatchFetchOptions } from "../../batchkit/client_js/batchkit.js";

const options: BatchFetchOptions = { url: new URL("https://example.com/api/1.0/batch"), dialect: "plain", maxActions: 20, window: 0 };
const batched: typeof fetch = createBatchFetch(options);
createBatchFetch({ url: "/batch", base: "/api", retries: 0, maxWait: 1000, fetch: batched });

export async function names(gids: string[], signal: AbortSignal): Promise<string[]> {
  const answers: Response[] = await Promise.all(gids.map((gid) => batched(`/tasks/${gid}`, { signal })));
  return Promise.all(answers.map(async (answer) => (await answer.json()).data.name as string));
}

export async function both(): Promise<number> {
  const batch: Batch = createBatch({ url: "/batch" });
  void batch.fetch(new Request("/tasks/1"));
  const [first, second] = await batch.send();
  return (first?.status ?? 0) + (second?.status ?? 0);
}

// @ts-expect-error: it needs a URL
createBatchFetch({});
// @ts-expect-error: there are two dialects
createBatchFetch({ url: "/batch", dialect: "jsonapi" });
// @ts-expect-error: a batch by hand has no window
createBatch({ url: "/batch", window: 5 });
