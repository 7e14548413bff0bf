// Small pictures of kept results: asked for when they come into sight, few at a time, and kept no larger than shown.
import { ServiceError, keptPicture } from "./api.js";

const AT_ONCE = 3;
const WIDTH = 480; // twice a card's, for dense screens
const BYTES_MOST = 24e6; // a larger one is worth no waiting for a thumbnail

export class Thumbs {
  #waiting = [];
  #running = 0;
  #entries = new Map();
  #observer = new IntersectionObserver((seen) => this.#seen(seen), { rootMargin: "200px" });

  /** Shows the picture of `entry` in `item` once it is in sight. */
  watch(item, entry, name) {
    const [canvas, text] = item.querySelector(".history-thumb").children;
    const type = entry.content_type.replace(/^.*\//, "").toUpperCase();
    canvas.setAttribute("aria-label", name);
    text.textContent = type;
    if (!entry.content_type.startsWith("image/") || entry.size > BYTES_MOST) return;
    this.#entries.set(item, { id: entry.id, canvas, text });
    this.#observer.observe(item);
  }

  /** What was watched is not asked for any more. */
  forget() {
    this.#observer.disconnect();
    this.#entries.clear();
    this.#waiting = [];
  }

  #seen(changes) {
    for (const { target, isIntersecting } of changes) {
      if (!isIntersecting) continue;
      this.#observer.unobserve(target);
      this.#waiting.push(target);
    }
    this.#next();
  }

  #next() {
    while (this.#running < AT_ONCE && this.#waiting.length) {
      const entry = this.#entries.get(this.#waiting.shift());
      if (entry) this.#show(entry);
    }
  }

  async #show({ id, canvas, text }) {
    this.#running += 1;
    try {
      const picture = await createImageBitmap(await keptPicture(id, "image"), { resizeWidth: WIDTH });
      Object.assign(canvas, { width: picture.width, height: picture.height });
      canvas.getContext("2d").drawImage(picture, 0, 0);
      picture.close();
      canvas.hidden = false;
      text.hidden = true;
    } catch (error) {
      // gone meanwhile, or of a type that this browser does not show: its type stands there
      if (!(error instanceof ServiceError) && !(error instanceof DOMException)) throw error;
    } finally {
      this.#running -= 1;
      this.#next();
    }
  }
}
