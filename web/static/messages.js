// What the page says: a failure with what to do, a hint, the facts of an answer, and whether the service is ready.
import { readiness } from "./api.js";
import { say, t, tag, texts } from "./i18n.js";

const ASK_AGAIN_MS = 4000; // a replica starts in some seconds; asking more often helps nobody
const KNOWN_AS = {
  unknown_option: "options",
  invalid_option: "options",
  conflicting_options: "options",
  model_loading: "unavailable",
  unsupported_media_type: "unsupported_image",
  missing_key: "key",
  invalid_key: "key",
  quota_exceeded: "rate_limited",
};

const ABOUT_THE_PHOTO = ["unsupported_image", "corrupt_image", "missing_image", "image_too_large", "body_too_large", "no_foreground", "result_not_found"];

const part = (id) => document.getElementById(id);

/** Shows a ServiceError. `kept`: a result is still on show behind it. */
export function showFailure(error, kept) {
  const known = KNOWN_AS[error.code] ?? error.code;
  const name = `failure.${known}` in texts.en ? known : "other";
  part("failure").dataset.code = error.code;
  say(part("failure-title"), `failure.${name}`);
  say(part("failure-advice"), "failure.sentences", {
    sentences: () =>
      [
        t(`failure.${name}.advice`),
        error.retryAfter ? t("failure.later", { seconds: error.retryAfter }) : "",
        kept ? t("failure.kept") : "",
      ].join(" "),
  });
  if (error.message) say(part("failure-detail"), "failure.detail", { message: error.message, id: error.requestId });
  part("failure-detail").hidden = !error.message;
  part("retry").hidden = ABOUT_THE_PHOTO.includes(name) || ["options", "key"].includes(name); // the same again would fail again
  part("key-form").hidden = name !== "key" && name !== "forbidden";
  part("pick-other").hidden = !ABOUT_THE_PHOTO.includes(name);
  part("failure").hidden = false;
}

export function hideFailure() {
  part("failure").hidden = true;
}

export function showHint(key, values) {
  say(part("hint-text"), key, values);
  part("hint").hidden = false;
}

export function hideHint() {
  part("hint").hidden = true;
}

/** The line under the photo. `cannotShow`: this browser does not display the answer's type. */
export function showFacts(answer, cannotShow) {
  const type = answer.type.replace("image/", "").replace("jpeg", "jpg").toUpperCase();
  say(part("fact-size"), "fact.size", { width: answer.width, height: answer.height });
  say(part("fact-file"), "fact.file", { type, size: () => bytes(answer.blob.size) });
  say(part("fact-quality"), "fact.quality", { percent: Math.round(answer.quality * 100) });
  say(part("fact-time"), "fact.time", { seconds: () => number(answer.seconds, 2) });
  part("fact-model").textContent = answer.model;
  const known = (group, code) => (`${group}.${code}` in texts.en ? t(`${group}.${code}`) : code);
  const notes = () => [
    ...(cannotShow ? [t("view.no-result", { type })] : []),
    ...answer.reasons.map((code) => known("quality", code)),
    ...answer.warnings.map((code) => known("warning", code)),
  ];
  say(part("fact-notes"), "fact.note", { notes: () => notes().join("; ") });
  part("fact-notes").hidden = notes().length === 0;
  part("facts").hidden = false;
}

export function hideFacts() {
  part("facts").hidden = true;
}

/** Asks until the service is ready, and shows what it says. */
export async function watchReadiness() {
  const state = await readiness();
  const place = part("readiness");
  place.dataset.level = state.level;
  say(place.firstElementChild, `ready.${state.level}`);
  place.title = [state.model, state.device].filter(Boolean).join(", ");
  if (state.level === "starting" || state.level === "away") setTimeout(watchReadiness, ASK_AGAIN_MS);
}

const number = (value, digits) => new Intl.NumberFormat(tag(), { maximumFractionDigits: digits }).format(value);

function bytes(size) {
  return size < 1e6 ? `${number(size / 1e3, 0)} kB` : `${number(size / 1e6, 1)} MB`;
}
