// The line between original and result: by mouse, touch, pen and keyboard.
import { t } from "./i18n.js";

const STEP = 2; // percent for an arrow key
const PAGE = 10; // percent with Shift, PageUp or PageDown
const KEYS = { ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP, PageDown: -PAGE, PageUp: PAGE };

export class Divider {
  #frame;
  #handle;
  #percent = 50;
  #active = false;

  /** `frame` shows both pictures and gets the CSS property --split; `handle` has role=slider. */
  constructor(frame, handle) {
    this.#frame = frame;
    this.#handle = handle;
    frame.addEventListener("pointerdown", (event) => this.#grab(event));
    frame.addEventListener("pointermove", (event) => this.#drag(event));
    handle.addEventListener("keydown", (event) => this.#key(event));
    this.move(50);
  }

  set active(on) {
    this.#active = on;
    this.#handle.hidden = !on;
  }

  /** `percent` of the frame, from the left, show the original. */
  move(percent) {
    this.#percent = Math.min(100, Math.max(0, percent));
    this.#frame.style.setProperty("--split", `${this.#percent}%`);
    this.describe();
  }

  /** Tells assistive technology where it is, in the language shown. */
  describe() {
    const rounded = Math.round(this.#percent);
    this.#handle.setAttribute("aria-valuenow", String(rounded));
    this.#handle.setAttribute("aria-valuetext", t("view.divider-value", { percent: rounded }));
  }

  #grab(event) {
    if (!this.#active || event.button !== 0) return;
    event.preventDefault(); // no text or image drag
    this.#frame.setPointerCapture(event.pointerId);
    this.#handle.focus({ preventScroll: true });
    this.#follow(event);
  }

  #drag(event) {
    if (this.#active && this.#frame.hasPointerCapture(event.pointerId)) this.#follow(event);
  }

  #follow(event) {
    const box = this.#frame.getBoundingClientRect();
    this.move(((event.clientX - box.left) / box.width) * 100);
  }

  #key(event) {
    if (event.key === "Home") this.move(0);
    else if (event.key === "End") this.move(100);
    else if (event.key in KEYS) {
      const change = KEYS[event.key];
      this.move(this.#percent + (event.shiftKey ? Math.sign(change) * PAGE : change));
    } else return;
    event.preventDefault();
  }
}
