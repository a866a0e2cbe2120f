// Asana's own Node client, as it comes, for the API whose URL the command line names.
import Asana from "asana";

const url = process.argv[2];

export function clientFor(accessToken = "demo-token") {
  const client = new Asana.ApiClient();
  client.basePath = url;
  client.authentications.token.accessToken = accessToken;
  return client;
}

export const action = (method, relative_path, more = {}) => ({ method, relative_path, ...more });

export const batch = (client, ...actions) => new Asana.BatchAPIApi(client).createBatchRequest({ data: { actions } }, {});

// The status of a refusal, its message and its Retry-After.
export async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    if (!error.response) throw error;
    const { body, headers } = error.response;
    return { status: error.status, message: body.errors[0].message, retryAfter: headers["retry-after"] };
  }
  throw new Error("it was not refused");
}

export { Asana };
