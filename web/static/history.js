// The history: what was kept, newest first, searched and page by page; each to be saved, run again or deleted. It asks
// for nothing before it is opened.
import { ServiceError, keptPicture, listResults, removeResult } from "./api.js";
import { say, t, tag } from "./i18n.js";
import { save } from "./save.js";
import { Thumbs } from "./thumbs.js";

const PAGE = 24;
const PAUSE_MS = 350; // a search is sent when the typing rests
const FURTHER = 3; // more pages that are asked for by themselves while a search finds nothing

export class History {
  #root;
  #again;
  #failed;
  #thumbs = new Thumbs();
  #cursor = null;
  #asked = 0; // tells the latest question from those before it
  #timer = 0;

  /** `root` is the details element. `again(file, id)` gets the photo of a result to run anew, `failed(error, retry)` a
   * ServiceError. */
  constructor(root, { again, failed }) {
    this.#root = root;
    this.#again = again;
    this.#failed = failed;
    root.addEventListener("toggle", () => this.load());
    this.#part("more").addEventListener("click", () => this.#fill());
    const search = this.#part("search");
    search.addEventListener("submit", (event) => event.preventDefault());
    search.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.load(), PAUSE_MS);
    });
  }

  #part(name) {
    return this.#root.querySelector(`#history-${name}`);
  }

  /** From the newest on, where it is open. */
  async load() {
    if (!this.#root.open) return;
    this.#cursor = null;
    await this.#fill(true);
  }

  async #fill(anew = false) {
    const asked = (this.#asked += 1);
    const found = [];
    this.#part("more").disabled = true;
    try {
      for (let pages = 0; pages <= FURTHER && !found.length; pages += 1) {
        const page = await listResults({ ...this.#query(), cursor: this.#cursor });
        if (asked !== this.#asked) return;
        this.#cursor = page.next_cursor;
        found.push(...page.results);
        if (!this.#cursor) break;
      }
    } catch (error) {
      if (asked === this.#asked) this.#tell(error, () => this.#fill(anew));
      return;
    } finally {
      this.#part("more").disabled = false;
    }
    if (anew) this.#clear();
    this.#part("list").append(...found.map((entry) => this.#shown(entry)));
    this.#arrange();
  }

  #query() {
    const { q, since, until } = this.#part("search").elements;
    return { limit: PAGE, q: q.value.trim(), since: dayBegins(since.value, 0), until: dayBegins(until.value, 1) };
  }

  #clear() {
    this.#thumbs.forget();
    this.#part("list").replaceChildren();
  }

  #arrange() {
    const { q, since, until } = this.#part("search").elements;
    const isEmpty = this.#part("list").childElementCount === 0;
    this.#part("more").hidden = !this.#cursor;
    const searches = q.value.trim() || since.value || until.value;
    const nothing = searches ? "history.nothing" : "history.empty";
    say(this.#part("note"), this.#cursor ? "history.not-yet" : nothing);
    this.#part("note").hidden = !isEmpty;
  }

  #shown(entry) {
    const item = this.#part("entry").content.cloneNode(true).firstElementChild;
    const name = entry.name ?? t("history.nameless");
    item.dataset.id = entry.id;
    item.querySelector(".history-name").textContent = [name, entry.sku].filter(Boolean).join(" · ");
    item.querySelector(".history-name").title = name;
    say(item.querySelector(".history-facts"), "history.facts", {
      when: () => new Intl.DateTimeFormat(tag(), { dateStyle: "medium", timeStyle: "short" }).format(new Date(entry.created_at)),
      width: entry.width,
      height: entry.height,
    });
    this.#bind(item, "download", () => this.#download(entry, name));
    this.#bind(item, "again", () => this.#runAgain(entry, name));
    this.#bind(item, "remove", () => this.#remove(item, entry, name));
    if (!entry.source_key) {
      item.querySelector("[data-do=again]").hidden = true; // its photo was not kept
    }
    this.#thumbs.watch(item, entry, name);
    return item;
  }

  #bind(item, name, act) {
    const button = item.querySelector(`[data-do=${name}]`);
    say(button, `history.${name}`);
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        await act();
      } catch (error) {
        this.#tell(error, () => button.click());
      } finally {
        button.disabled = false;
      }
    });
  }

  async #download(entry, name) {
    save(await keptPicture(entry.id, "image"), name, "matte", entry.content_type);
  }

  async #runAgain(entry, name) {
    const photo = await keptPicture(entry.id, "source");
    this.#again(new File([photo], name, { type: photo.type }), entry.id);
  }

  async #remove(item, entry, name) {
    if (!confirm(t("history.sure", { name }))) return;
    try {
      await removeResult(entry.id);
    } catch (error) {
      if (error.code !== "result_not_found") throw error; // somebody else has deleted it
    }
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    (next?.querySelector("[data-do=remove]") ?? this.#part("search").elements.q).focus();
    this.#arrange();
  }

  #tell(error, retry) {
    if (!(error instanceof ServiceError)) throw error; // a fault of this page, not an answer
    this.#failed(error, retry);
  }
}

/** The time at which the visitor's day `text` begins, `later` days on; empty for no day. */
function dayBegins(text, later) {
  const at = new Date(`${text}T00:00`);
  if (Number.isNaN(at.getTime())) return "";
  at.setDate(at.getDate() + later);
  return at.toISOString();
}
