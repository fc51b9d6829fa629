// Questions and orders to the daemon. The token goes in a header, which no other site can make a browser send.

const KEPT = "sluice-token";

export class ApiError extends Error {
  constructor(status, body) {
    super(body.message ?? `the daemon answered with status ${status}`);
    this.status = status;
    this.code = body.code;
    this.hint = body.hint;
    this.rules = body.rules ?? [];
    this.problems = body.problems ?? [];
  }
}

let token = sessionStorage.getItem(KEPT);
/**
 * Whether even a look takes a token: by what the first look, without one, was answered. Who may look without shows none with it, so that it does
 * not go to whoever has the daemon's port when that has gone; and it is not learned again from them.
 */
let look = "unknown";
const onToken = new Set();

export const hasToken = () => token !== null;

/** Kept for this tab alone, until it is closed. */
export function setToken(value) {
  token = value;
  if (value === null) sessionStorage.removeItem(KEPT);
  else sessionStorage.setItem(KEPT, value);
  for (const listener of onToken) listener();
}

export function whenTokenChanges(listener) {
  onToken.add(listener);
}

export function headers(method, more) {
  const isShown = token !== null && (method !== "GET" || look === "token");
  return isShown ? { ...more, Authorization: `Bearer ${token}` } : { ...more };
}

/** Takes in how a look was answered; whether it is to be asked again, with the token. */
export function looked(status, { Authorization }) {
  if (look === "unknown" && (status === 401 || status < 300)) look = status === 401 ? "token" : "open";
  return status === 401 && look === "token" && token !== null && Authorization === undefined;
}

/** Somebody has shown a token because a look took one. */
export function lookWithToken() {
  look = "token";
}

async function call(method, path, body, signal) {
  const options = { method, signal, cache: "no-store", headers: headers(method) };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "the daemon does not answer", hint: "packets are forwarded all the same; look at its log" });
  }
  if (method === "GET" && looked(response.status, options.headers)) return call(method, path, body, signal);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, answer);
  return answer;
}

export const get = (path, signal) => call("GET", path, undefined, signal);
export const post = (path, body) => call("POST", path, body);

/** The name of a token, null if it does not count. */
export async function tokenName(candidate) {
  const response = await fetch("/page/who", { cache: "no-store", headers: { Authorization: `Bearer ${candidate}` } });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, answer);
  return answer.token;
}
