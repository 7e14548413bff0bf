// The page at `/`: a photo comes in, what the current view needs is asked for, the answer is shown and offered as a file.
// One request at a time; a change cancels it. The last result stays until the next is there.
import { ServiceError, postMatte } from "./api.js";
import { History } from "./history.js";
import { bindLanguageButton, initialLanguage, say, setLanguage } from "./i18n.js";
import { bindKeyForm } from "./key.js";
import { hideFacts, hideFailure, hideHint, showFacts, showFailure, showHint, watchReadiness } from "./messages.js";
import { OptionsForm } from "./options.js";
import { bindPhotoInput } from "./photo-input.js";
import { save } from "./save.js";
import { Busy, Stage } from "./stage.js";

const PAUSE_MS = 350; // a dragged slider sends once, when it rests
const KEPT = { store: "true", store_alpha: "true", store_source: "true" };

const part = (id) => document.getElementById(id);

setLanguage(initialLanguage());
const stage = new Stage(part("stage"));
const busy = new Busy(part("busy"), part("announce"));
const options = new OptionsForm(part("options"), part("background-file"), () => refresh(PAUSE_MS));
setLanguage(initialLanguage()); // once more, for what the form has built

const historyCard = new History(part("history"), {
  again: (file, id) => takePhoto([file], id),
  failed(error, retry) {
    failed(error, retry);
    part("failure").scrollIntoView({ block: "nearest" });
  },
});

let photo = null; // the File
let resultId = null; // of the kept result that the photo comes from
let retry = () => {}; // what the button of a failure does
let photoCount = 0; // tells one photo from the next of the same name
let answers = { result: null, alpha: null }; // {key, answer} of the last success
let running = null; // {key, controller}
let keeping = null; // the key of what is being kept, or is kept
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
part("retry").addEventListener("click", () => {
  hideFailure();
  retry();
});
bindKeyForm(part("key-form"), () => {
  hideFailure();
  options.fill();
  historyCard.load();
  refresh(0);
});
part("hint-close").addEventListener("click", hideHint);
part("download").addEventListener("click", download);
part("keep").addEventListener("click", keep);
say(part("paste-keys"), "start.or", { keys: navigator.platform.startsWith("Mac") ? "⌘V" : "Ctrl+V" });
bindLanguageButton(part("language"), () => stage.describe());
watchReadiness();

/** `id`: of the kept result that the one photo comes from. */
function takePhoto(files, id = null) {
  resultId = id;
  photo = files.find((file) => file.type.startsWith("image/")) ?? files[0]; // HEIC often comes without a type
  photoCount += 1;
  keeping = null;
  answers = { result: null, alpha: null };
  hideHint();
  if (files.length > 1) showHint("hint.several", { count: files.length, name: photo.name });
  hideFacts();
  zoom(false);
  part("main").dataset.phase = "photo";
  part("start").hidden = true;
  part("work").hidden = false;
  stage.setPhoto(photo);
  if (id) part("work").scrollIntoView({ block: "start" });
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
  offerKeeping();
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
    const answer = await postMatte({ photo, resultId, ...request, signal: controller.signal, onUpload });
    if (controller.signal.aborted) return;
    const entry = { key, answer, cannotShow: false };
    answers[wanted] = entry;
    const shown = await stage.setProduct(wanted, answer);
    entry.cannotShow = !shown && answers[wanted] === entry;
  } catch (error) {
    if (controller.signal.aborted) return;
    if (!(error instanceof ServiceError)) throw error; // a fault of this page, not an answer
    if (error.code === "result_not_found" && resultId) {
      resultId = running = null; // deleted meanwhile: the photo is still here, and goes out itself
      refresh(0);
      return;
    }
    busy.hide();
    failed(error, () => refresh(0), answers[wanted] !== null);
  }
  if (running?.key !== key) return; // other wishes came while the picture was decoded
  running = null;
  if (settle(key)) busy.announce("busy.done");
}

function failed(error, then, kept = false) {
  retry = then;
  showFailure(error, kept);
  if (error.code === "network" || error.code === "unavailable") watchReadiness();
}

function zoom(on) {
  part("zoom").setAttribute("aria-pressed", String(on));
  stage.actualSize = on;
}

/** Saves what is on show, as `<stem>_matte.<ext>` or `<stem>_alpha.png`. */
function download() {
  const { answer } = answers[product()];
  save(answer.blob, photo.name, product() === "alpha" ? "alpha" : "matte", answer.type);
}

/** Keeping is offered for a result on show, once. */
function offerKeeping() {
  const key = keyOf(options.request("result"));
  part("keep").disabled = answers.result?.key !== key || keeping === key;
  say(part("keep-text"), keeping === key ? "history.kept" : "history.keep");
}

/** Has the service keep the result, its matte and the photo. */
async function keep() {
  const request = options.request("result");
  const key = (keeping = keyOf(request));
  offerKeeping();
  const fields = { ...request.fields, ...KEPT, name: photo.name.slice(0, 200) };
  try {
    await postMatte({ photo, resultId, ...request, fields });
    busy.announce("history.kept");
    await historyCard.load();
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    if (keeping === key) keeping = null;
    offerKeeping();
    failed(error, keep, true);
  }
}
