export interface BatchFetchOptions {
  /** The batch endpoint's URL, without a query; in a browser it may be relative to the page. */
  url: string | URL;
  /** What actions are relative to, where the server sets `base_path`: of the same origin. Default: the parent of `url`. */
  base?: string | URL;
  /** As the server's. Default: `"asana"`. */
  dialect?: "asana" | "plain";
  /** The most calls in one batch, not above the server's `max_actions`. More are split, and sent side by side. Default: 10. */
  maxActions?: number;
  /** The milliseconds that a call waits for others. 0: until what runs now has ended. Default: 2. */
  window?: number;
  /** How many times a batch that was answered 429 is sent again, after its `Retry-After`; nothing of it had run. Default: 3. */
  retries?: number;
  /** The longest `Retry-After` that is waited for, in milliseconds; else the calls get the 429. Default: 60000. */
  maxWait?: number;
  /** What sends batches, and calls that cannot be in one. Default: the global `fetch`, as it is now. */
  fetch?: typeof globalThis.fetch;
}

/**
 * A `fetch` that batches: calls made in one moment become one POST, and each gets its Response, or rejects, as `fetch` has it.
 *
 * Calls share a batch if their credentials, mode, referrer and header fields are the same. What an action cannot say goes out as
 * it is: bodies that are no JSON objects, other origins, `keepalive`, `integrity`, fields such as `Range` or `If-Match` …
 * So does a lone call, one whose route the server keeps out of batches, and any where there is no batch endpoint: what a server
 * gives as its reason not to take a batch is a warning in the console, once for each status.
 *
 * A batch of GETs and HEADs is answered as its results come; an action that ends after the first then loses its cookies.
 *
 * Three things differ: what a batch answers goes by the browser's HTTP cache; of a JSON answer the Content-Type is
 * `application/json`, whatever it was, and that of a HEAD is not told; an empty body with a status that could have one is `{}`.
 *
 * @throws TypeError where an option is wrong.
 */
export function createBatchFetch(options: BatchFetchOptions): typeof globalThis.fetch;

export interface Batch {
  /** As `fetch`; the call waits for `send()`. After five seconds without it, a warning in the console says so. */
  fetch: typeof globalThis.fetch;
  /** Send what was called since the last time. Resolves to the Responses, in order, and rejects as the first that rejects. */
  send(): Promise<Response[]>;
}

/** A batch that is put together by hand: it takes all of `createBatchFetch` but `window`. */
export function createBatch(options: Omit<BatchFetchOptions, "window">): Batch;
