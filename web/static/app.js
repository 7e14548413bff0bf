// The page at `/`: a photo comes in, what the current view needs is asked for, the answer is shown and offered as a file.
// One request at a time; a change cancels it. The last result stays until the next is there.
import { ServiceError, postMatte } from "./api.js";
import { bindLanguageButton, initialLanguage, say, setLanguage } from "./i18n.js";
import { bindKeyForm } from "./key.js";
import { hideFacts, hideFailure, hideHint, showFacts, showFailure, showHint, watchReadiness } from "./messages.js";
import { OptionsForm } from "./options.js";
import { bindPhotoInput } from "./photo-input.js";
import { Busy, Stage } from "./stage.js";

const PAUSE_MS = 350; // a dragged slider sends once, when it rests
const SAVED_MS = 10_000; // browsers read the blob some time after the click
const SUFFIX = { "image/png": "png", "image/webp": "webp", "image/jpeg": "jpg", "image/avif": "avif" };

const part = (id) => document.getElementById(id);

setLanguage(initialLanguage());
const stage = new Stage(part("stage"));
const busy = new Busy(part("busy"), part("announce"));
const options = new OptionsForm(part("options"), part("background-file"), () => refresh(PAUSE_MS));
setLanguage(initialLanguage()); // once more, for what the form has built

let photo = null; // the File
let photoCount = 0; // tells one photo from the next of the same name
let answers = { result: null, alpha: null }; // {key, answer} of the last success
let running = null; // {key, controller}
let timer = 0;

const view = () => document.querySelector("input[name=view]:checked").value;
const product = () => (view() === "alpha" ? "alpha" : "result");
const keyOf = (request) => `${photoCount} ${request.key}`;

bindPhotoInput({
  input: part("file"),
  buttons: [part("pick"), part("pick-again"), part("pick-other")],
  veil: part("drop-veil"),
  take: takePhoto,
  none: () => showHint("hint.no-file"),
});
part("views").addEventListener("change", () => {
  stage.view = view();
  refresh(0);
});
part("zoom").addEventListener("click", () => zoom(part("zoom").getAttribute("aria-pressed") !== "true"));
part("retry").addEventListener("click", () => refresh(0));
bindKeyForm(part("key-form"), () => {
  options.fill();
  refresh(0);
});
part("hint-close").addEventListener("click", hideHint);
part("download").addEventListener("click", download);
say(part("paste-keys"), "start.or", { keys: navigator.platform.startsWith("Mac") ? "⌘V" : "Ctrl+V" });
bindLanguageButton(part("language"), () => stage.describe());
watchReadiness();

function takePhoto(files) {
  photo = files.find((file) => file.type.startsWith("image/")) ?? files[0]; // HEIC often comes without a type
  photoCount += 1;
  answers = { result: null, alpha: null };
  hideHint();
  if (files.length > 1) showHint("hint.several", { count: files.length, name: photo.name });
  hideFacts();
  zoom(false);
  part("main").dataset.phase = "photo";
  part("start").hidden = true;
  part("work").hidden = false;
  stage.setPhoto(photo);
  refresh(0);
}

/** Gets what the view needs, after a pause in which nothing changed; what runs for other wishes is cancelled. */
function refresh(pauseMs) {
  if (!photo) return;
  clearTimeout(timer);
  hideFailure();
  say(part("download-text"), product() === "alpha" ? "file.download-alpha" : "file.download");
  const request = options.request(product());
  const key = keyOf(request);
  if (running?.key === key) return;
  running?.controller.abort();
  running = null;
  if (!settle(key)) timer = setTimeout(() => run(product(), request, key), pauseMs);
}

/** Offers the answer that the view needs, where it is there; else false. */
function settle(key) {
  const known = answers[product()];
  const there = known?.key === key;
  part("download").disabled = !there;
  if (there) {
    busy.hide();
    showFacts(known.answer, known.cannotShow);
  }
  return there;
}

async function run(wanted, request, key) {
  const controller = new AbortController();
  running = { key, controller };
  const onUpload = (share) => (share < 1 ? busy.uploading(share) : busy.working(`busy.${wanted}`));
  onUpload(0);
  try {
    const answer = await postMatte({ photo, ...request, signal: controller.signal, onUpload });
    if (controller.signal.aborted) return;
    const entry = { key, answer, cannotShow: false };
    answers[wanted] = entry;
    const shown = await stage.setProduct(wanted, answer);
    entry.cannotShow = !shown && answers[wanted] === entry;
  } catch (error) {
    if (controller.signal.aborted) return;
    if (!(error instanceof ServiceError)) throw error; // a fault of this page, not an answer
    busy.hide();
    showFailure(error, answers[wanted] !== null);
    if (error.code === "network" || error.code === "unavailable") watchReadiness();
  }
  if (running?.key !== key) return; // other wishes came while the picture was decoded
  running = null;
  if (settle(key)) busy.announce("busy.done");
}

function zoom(on) {
  part("zoom").setAttribute("aria-pressed", String(on));
  stage.actualSize = on;
}

/** Saves what is on show, as `<stem>_matte.<ext>` or `<stem>_alpha.png`. */
function download() {
  const { answer } = answers[product()];
  const stem = photo.name.replace(/\.[^.]*$/, "") || "photo";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(answer.blob);
  link.download = `${stem}_${product() === "alpha" ? "alpha" : "matte"}.${SUFFIX[answer.type]}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), SAVED_MS);
}
