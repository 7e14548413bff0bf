// Where the photo is: result, alpha matte or comparison, whole or at its own size, and the progress over it.
import { Divider } from "./divider.js";
import { say } from "./i18n.js";
import { Picture } from "./picture.js";

const WIDEST = 12; // a strip of 20000 x 1 px is still shown as a band that can be seen

export class Stage {
  #root;
  #divider;
  #pictures;
  #view = "result";
  #has = { result: false, alpha: false };
  #originalWidth = 0;

  constructor(root) {
    this.#root = root;
    this.#divider = new Divider(this.#part("frame"), this.#part("divider"));
    const names = ["original", "result", "alpha"];
    this.#pictures = Object.fromEntries(names.map((name) => [name, new Picture(this.#part(name))]));
  }

  #part(id) {
    return this.#root.querySelector(`#${id}`);
  }

  /** A new photo: everything of the one before goes. */
  async setPhoto(file) {
    for (const product of ["result", "alpha"]) {
      this.#pictures[product].clear();
      this.#has[product] = false;
    }
    this.#originalWidth = 0;
    this.#part("frame").style.removeProperty("--ratio");
    this.#divider.move(50);
    this.#part("no-preview").hidden = true;
    this.#part("original").hidden = false;
    this.#arrange();
    const shown = await this.#pictures.original.show(file);
    const image = this.#part("original");
    if (shown && !this.#originalWidth) this.#setSize(image.naturalWidth, image.naturalHeight);
    this.#part("original").hidden = !shown;
    this.#part("no-preview").hidden = shown;
    if (!shown) say(this.#part("no-preview"), "view.no-original", { name: file.name });
  }

  /** Shows an answer as `product` ("result" or "alpha"); false when this browser cannot display its type. */
  async setProduct(product, answer) {
    this.#setSize(answer.width, answer.height);
    const shown = await this.#pictures[product].show(answer.blob);
    this.#has[product] = shown;
    this.#arrange();
    return shown;
  }

  set view(name) {
    this.#view = name;
    this.#arrange();
  }

  /** True: one pixel of the photo is one of the screen, and the stage scrolls. */
  set actualSize(on) {
    const viewport = this.#part("viewport");
    viewport.classList.toggle("viewport-actual", on);
    viewport.tabIndex = on ? 0 : -1; // the keyboard scrolls what has the focus
    if (!on) return;
    viewport.scrollLeft = (viewport.scrollWidth - viewport.clientWidth) / 2;
    viewport.scrollTop = (viewport.scrollHeight - viewport.clientHeight) / 2;
  }

  /** After a change of language. */
  describe() {
    this.#divider.describe();
  }

  #setSize(width, height) {
    this.#originalWidth = width;
    const ratio = Math.min(WIDEST, Math.max(1 / WIDEST, width / height));
    const style = this.#part("frame").style;
    style.setProperty("--ratio", String(ratio));
    style.setProperty("--actual", `${width / devicePixelRatio}px`);
  }

  #arrange() {
    const compare = this.#view === "compare" && this.#has.result;
    this.#root.dataset.view = compare ? "compare" : this.#view;
    this.#part("result-layer").hidden = this.#view === "alpha" || !this.#has.result;
    this.#part("alpha-layer").hidden = this.#view !== "alpha" || !this.#has.alpha;
    const covered = this.#view === "alpha" ? this.#has.alpha : this.#has.result && !compare;
    this.#part("original-layer").hidden = covered;
    this.#divider.active = compare;
  }
}

/** The progress over the stage: nothing, an upload's share, or work of unknown length. */
export class Busy {
  #root;
  #announcer;

  constructor(root, announcer) {
    this.#root = root;
    this.#announcer = announcer;
  }

  uploading(share) {
    const percent = Math.floor(share * 100);
    this.#show("busy.uploading", { percent });
    const bar = this.#root.querySelector("#busy-bar");
    bar.setAttribute("aria-valuenow", String(percent));
    bar.classList.remove("busy-endless");
    this.#root.querySelector("#busy-fill").style.transform = `scaleX(${share})`;
  }

  working(key) {
    this.#show(key);
    this.announce(key);
    const bar = this.#root.querySelector("#busy-bar");
    bar.removeAttribute("aria-valuenow");
    bar.classList.add("busy-endless");
    this.#root.querySelector("#busy-fill").style.removeProperty("transform");
  }

  hide() {
    this.#root.hidden = true;
  }

  /** Tells a screen reader. */
  announce(key) {
    say(this.#announcer, key);
  }

  #show(key, values) {
    this.#root.hidden = false;
    say(this.#root.querySelector("#busy-text"), key, values);
  }
}
