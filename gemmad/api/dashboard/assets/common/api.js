// Requests to the daemon that this page came from.

/** An answer that is no success. `status` is 0 where nothing answered. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = null, type = null, retryAfterSeconds = null } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.type = type;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Where `path` is, beside this page: also behind a proxy that has the daemon under a prefix. */
export function address(path) {
  return new URL(path.replace(/^\//, ""), document.baseURI).href;
}

/**
 * The response to a request, once it is known to be a success; its body is the caller's to read. `body`, if given, is
 * sent as JSON. Throws ApiError, and AbortError where `signal` says so.
 */
export async function request(path, { method = "GET", key = null, body, signal, accept = "application/json" } = {}) {
  const headers = { accept };
  if (key !== null) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(address(path), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
  } catch (error) {
    if (error.name === "AbortError" || signal?.aborted) throw error;
    throw new ApiError("The daemon does not answer.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** The answer to a request as a value. */
export async function requestJson(path, options = {}) {
  const response = await request(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The daemon's answer broke off.", { status: response.status });
  }
}

async function refusal(response) {
  let told = null;
  try {
    told = (await response.json()).error;
  } catch {
    // a proxy's page, or nothing
  }
  const retryAfter = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return new ApiError(told?.message ?? `The answer was ${response.status} ${response.statusText}.`, {
    status: response.status,
    code: told?.code ?? null,
    type: told?.type ?? null,
    retryAfterSeconds: Number.isNaN(retryAfter) ? null : retryAfter,
  });
}
