// The service over HTTP: one photo in, one picture out; what was kept; whether it is ready. Knows nothing of the page.
import { keyHeaders } from "./key.js";

/** What went wrong: `code` as in the API's errors, or "network" when no answer came. */
export class ServiceError extends Error {
  constructor(code, message, { retryAfter = null, requestId = "" } = {}) {
    super(message);
    this.code = code;
    this.retryAfter = retryAfter;
    this.requestId = requestId;
  }
}

/**
 * POST /v1/mattes. `fields` are text, `background` a File or null. `onUpload` gets 0..1 while the photo goes out. With
 * `resultId` it stays here: the service has it.
 * XMLHttpRequest, because fetch tells nothing of an upload's progress. Resolves to {blob, type, width, height, model,
 * quality, reasons, warnings, seconds}; rejects with ServiceError, or with an AbortError when `signal` fires.
 */
export function postMatte({ photo, resultId = null, fields, background, signal, onUpload = () => {} }) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  if (background) body.append("background_file", background, background.name);
  if (resultId) body.append("result_id", resultId);
  else body.append("file", photo, photo.name);

  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const started = performance.now();
    request.open("POST", "/v1/mattes");
    for (const [name, value] of Object.entries(keyHeaders())) request.setRequestHeader(name, value);
    request.responseType = "blob";
    request.upload.onprogress = (event) => event.lengthComputable && onUpload(event.loaded / event.total);
    request.upload.onload = () => onUpload(1);
    request.onerror = () => reject(new ServiceError("network", ""));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onload = () => {
      if (request.status === 200) resolve(answerOf(request, (performance.now() - started) / 1000));
      else errorOf(request).then(reject, reject);
    };
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}

/** GET /v1/results: {results, next_cursor}. `query` are its fields; empty ones are not sent. Rejects with ServiceError. */
export async function listResults(query) {
  const sent = Object.entries(query).filter(([, value]) => value);
  return (await asked(`/v1/results?${new URLSearchParams(sent)}`)).json();
}

/** A kept picture as a Blob: `part` is image, alpha or source. Rejects with ServiceError. */
export async function keptPicture(id, part) {
  return (await asked(`/v1/results/${id}/${part}`)).blob();
}

/** Rejects with ServiceError. */
export async function removeResult(id) {
  await asked(`/v1/results/${id}`, { method: "DELETE" });
}

/** {level: "ready" | "cold" | "starting" | "away", model, device}. */
export async function readiness() {
  try {
    const response = await fetch("/readyz", { cache: "no-store" });
    if (!response.ok) return { level: "starting" };
    const state = await response.json();
    const model = `${state.model.name}@${state.model.version}`;
    return { level: state.cold ? "cold" : "ready", model, device: state.device };
  } catch {
    return { level: "away" }; // no answer, or one that is not ours
  }
}

function answerOf(request, seconds) {
  const header = (name) => request.getResponseHeader(name);
  const list = (name) => (header(name) ?? "").split(",").filter(Boolean);
  return {
    blob: request.response,
    type: request.response.type.split(";")[0],
    width: Number(header("X-Width")),
    height: Number(header("X-Height")),
    model: header("X-Mattehorn-Model"),
    quality: Number(header("X-Mattehorn-Quality")),
    reasons: list("X-Mattehorn-Quality-Reasons"),
    warnings: list("X-Mattehorn-Warnings"),
    seconds,
  };
}

async function asked(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", headers: keyHeaders(), ...options });
  } catch {
    throw new ServiceError("network", "");
  }
  if (response.ok) return response;
  throw errorFrom(response.status, response.headers.get("X-Request-ID") ?? "", await response.text());
}

async function errorOf(request) {
  return errorFrom(request.status, request.getResponseHeader("X-Request-ID") ?? "", await request.response.text());
}

function errorFrom(status, requestId, text) {
  try {
    const { code, message, retry_after_s: retryAfter } = JSON.parse(text).error;
    return new ServiceError(code, message, { retryAfter, requestId });
  } catch {
    // a proxy in between answered in its own words
    const code = status === 503 || status === 502 ? "unavailable" : "other";
    return new ServiceError(code, `HTTP ${status}`, { requestId });
  }
}
